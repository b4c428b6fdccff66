// One environment's job threads and its way back to the JS thread.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
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
/// At most `max_working` jobs compute at once, the others queue; a job that waits for JavaScript does not count, so that what it calls can run.
class JobRunner : public std::enable_shared_from_this<JobRunner> {
 public:
  static std::shared_ptr<JobRunner> create(Napi::Env env);

  void start(Napi::Env env, std::shared_ptr<Job> job);
  /// From any thread. False when the environment is gone (the closure is dropped).
  bool post(std::function<void(Napi::Env)> closure);
  void finished(Napi::Env env, const std::shared_ptr<Job>& job);
  /// Around a wait for the JS thread.
  void pause();
  void resume();
  /// Cancels every job and waits for the threads up to `patience`; false when some still compute. Nothing is accepted afterwards.
  bool stop(std::chrono::milliseconds patience);

 private:
  static constexpr size_t max_working = 4;

  void loop();
  void spawn_if_needed();
  void close();
  static void deliver(napi_env env, napi_value, void* context, void* data);

  napi_threadsafe_function channel_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_, left_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::vector<std::thread> threads_, ended_;  // ended_: left the loop, to be joined
  std::unordered_set<std::shared_ptr<Job>> running_;  // started and not yet settled
  size_t idle_ = 0, working_ = 0;
  bool closed_ = false;
};

}  // namespace a_infonce::addon
