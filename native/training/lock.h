// One process to a run folder: an advisory lock that the kernel gives back when its holder dies, however it dies.
#pragma once
#include <optional>
#include <string>

namespace a_infonce::training {

class FileLock {
 public:
  /// Creates the file if needed, locks it and writes this process's id into it. Throws File where the file cannot be opened, and where another
  /// holder (of this process or another) has the lock; the message then names the holder's process id. The file stays: removing it would race.
  explicit FileLock(const std::string& path);
  ~FileLock() { release(); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  void release();

 private:
  int descriptor_ = -1;
};

}  // namespace a_infonce::training
