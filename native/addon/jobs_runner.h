// One environment's job threads and its way back to the JS thread.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>
#include "jobs.h"

namespace a_infonce::addon {

class Job;

/// Threads are kept and reused: LibTorch's OpenMP pool belongs to the thread that calls it, so a fresh thread a job would build a pool a job.
class JobRunner : public std::enable_shared_from_this<JobRunner> {
 public:
  static std::shared_ptr<JobRunner> create(Napi::Env env);

  void start(Napi::Env env, std::shared_ptr<Job> job);
  /// From any thread. False when the environment is gone (the closure is dropped).
  bool post(std::function<void(Napi::Env)> closure);
  bool closed() const;
  void finished(Napi::Env env, const std::shared_ptr<Job>& job);

 private:
  void loop();
  void close();
  static void deliver(napi_env env, napi_value, void* context, void* data);

  napi_threadsafe_function channel_ = nullptr;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Job>> queue_;
  std::vector<std::thread> threads_;
  std::unordered_set<std::shared_ptr<Job>> running_;
  size_t idle_ = 0;
  bool closed_ = false;
};

}  // namespace a_infonce::addon
