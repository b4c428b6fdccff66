#include "lock.h"
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include "../error.h"

namespace a_infonce::training {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& message) {
  Error error(ErrorKind::File, message);
  error.argument = path;
  throw error;
}

}  // namespace

FileLock::FileLock(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    char holder[32] = {};
    const ssize_t length = ::read(descriptor, holder, sizeof holder - 1);
    ::close(descriptor);
    if (reason != EWOULDBLOCK) fail(path, std::string("cannot be locked: ") + std::strerror(reason));
    fail(path, "another run writes this folder" + (length > 0 ? " (process " + std::string(holder, holder + length) + ")" : std::string()));
  }
  descriptor_ = descriptor;
  const std::string id = std::to_string(::getpid());
  // The id only serves the message above: the lock holds without it.
  if (::ftruncate(descriptor, 0) != 0 || ::pwrite(descriptor, id.data(), id.size(), 0) < 0) {
    const int reason = errno;
    release();
    fail(path, std::string("cannot be written: ") + std::strerror(reason));
  }
}

void FileLock::release() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace a_infonce::training
