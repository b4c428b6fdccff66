#include "jobs.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include "../cancellation.h"
#include "../error.h"
#include "addon.h"
#include "convert.h"
#include "env_state.h"
#include "jobs_runner.h"

namespace a_infonce::addon {

namespace {

/// The exception in flight is the JavaScript one kept in Job::thrown.
struct JavaScriptThrew {};

}  // namespace

// JS references in here (deferred, on_progress, called, thrown) are touched on the JS thread only.
class Job final : public JobContext, public std::enable_shared_from_this<Job> {
 public:
  Job(Napi::Env env, Napi::Promise::Deferred deferred, std::shared_ptr<JobRunner> runner, Work work)
      : deferred(deferred), runner(std::move(runner)), work(std::move(work)) {}

  bool cancelled() const override { return cancel_requested.load(std::memory_order_relaxed); }

  void cancel() {
    cancel_requested = true;
    std::lock_guard lock(mutex);
    answered.notify_all();
  }

  void progress(std::vector<std::pair<std::string, double>> values) override {
    if (!wants_progress) return;
    runner->post([self = shared_from_this(), values = std::move(values)](Napi::Env env) {
      if (self->on_progress.IsEmpty()) return;
      try {
        self->on_progress.Call({wrap_fields(env, Fields(values.begin(), values.end()))});
      } catch (const Napi::Error& error) {  // a throwing callback ends the job with its own error
        self->keep_thrown(error);
        self->cancel();
      }
    });
  }

  void call_javascript(std::function<Napi::Value(Napi::Env)> call, std::function<void(Napi::Value)> then) override {
    struct Answer {
      bool done = false, threw = false;
      std::exception_ptr exception;
    };
    auto answer = std::make_shared<Answer>();
    auto self = shared_from_this();
    auto finish = [self, answer](bool threw, std::exception_ptr exception) {
      std::lock_guard lock(self->mutex);
      answer->done = true;
      answer->threw = threw;
      answer->exception = exception;
      self->answered.notify_all();
    };
    bool posted = runner->post([self, finish, call = std::move(call), then = std::move(then)](Napi::Env env) {
      auto settle = [self, finish, then](Napi::Value value) {
        try {
          then(value);
          finish(false, nullptr);
        } catch (const Napi::Error& error) {
          self->keep_thrown(error);
          finish(true, nullptr);
        } catch (...) {
          finish(true, std::current_exception());
        }
      };
      try {
        Napi::Value value = call(env);
        if (!value.IsPromise()) return settle(value);
        auto resolved = Napi::Function::New(env, [settle](const Napi::CallbackInfo& info) { settle(info[0]); });
        auto rejected = Napi::Function::New(env, [self, finish](const Napi::CallbackInfo& info) {
          self->keep_thrown(Napi::Error(info.Env(), info[0]));
          finish(true, nullptr);
        });
        value.As<Napi::Object>().Get("then").As<Napi::Function>().Call(value, {resolved, rejected});
      } catch (const Napi::Error& error) {
        self->keep_thrown(error);
        finish(true, nullptr);
      } catch (...) {
        finish(true, std::current_exception());
      }
    });
    if (posted) {
      runner->pause();
      std::unique_lock lock(mutex);
      answered.wait(lock, [&] { return answer->done || cancelled(); });
      lock.unlock();
      runner->resume();
    }
    std::lock_guard lock(mutex);
    if (!answer->done) throw Error(ErrorKind::Cancelled, "the job was cancelled");
    if (answer->exception) std::rethrow_exception(answer->exception);
    if (answer->threw) throw JavaScriptThrew{};
  }

  Napi::Function callback() const override { return called.Value(); }

  /// On the job thread: the work, then the settlement back on the JS thread.
  void run() {
    std::exception_ptr failure;
    Completion completion;
    try {
      check();
      c10::AutoGradMode grad_mode(true);
      CancellationScope scope([this] { check(); });
      completion = work(*this);
    } catch (...) {
      failure = std::current_exception();
    }
    const bool posted = runner->post([self = shared_from_this(), completion = std::move(completion), failure](Napi::Env env) {
      self->settle(env, completion, failure);
    });
    if (!posted) work = nullptr;
  }

  void settle(Napi::Env env, const Completion& completion, std::exception_ptr failure) {
    Napi::HandleScope scope(env);
    work = nullptr;  // what it captured is free before the promise settles, and not before this thread can know
    runner->finished(env, shared_from_this());
    on_progress.Reset();
    called.Reset();
    auto error = std::move(thrown);
    try {
      if (error) return deferred.Reject(error->Value());
      if (failure) std::rethrow_exception(failure);
      deferred.Resolve(completion(env));
    } catch (const Napi::Error& error) {
      deferred.Reject(error.Value());
    } catch (...) {
      deferred.Reject(to_javascript_error(env, std::current_exception()).Value());
    }
  }

  void keep_thrown(const Napi::Error& error) {
    if (!thrown) thrown = std::make_unique<Napi::Error>(error);
  }

  Napi::Promise::Deferred deferred;
  Napi::FunctionReference on_progress, called;
  bool wants_progress = false;
  std::unique_ptr<Napi::Error> thrown;
  std::shared_ptr<JobRunner> runner;
  Work work;
  std::atomic<bool> cancel_requested{false};
  std::mutex mutex;
  std::condition_variable answered;
};

void JobContext::check() const {
  if (cancelled()) throw Error(ErrorKind::Cancelled, "the job was cancelled");
}

std::shared_ptr<JobRunner> JobRunner::create(Napi::Env env) {
  auto runner = std::make_shared<JobRunner>();
  auto status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "a-infonce jobs"), 0, 1, nullptr, nullptr, runner.get(), &JobRunner::deliver, &runner->channel_);
  if (status != napi_ok) throw Napi::Error::New(env, "cannot create the job channel");
  napi_unref_threadsafe_function(env, runner->channel_);  // an idle channel must not keep the process alive
  env.AddCleanupHook([](JobRunner* self) { self->close(); }, runner.get());
  return runner;
}

void JobRunner::deliver(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<std::function<void(Napi::Env)>> closure(static_cast<std::function<void(Napi::Env)>*>(data));
  if (env == nullptr) return;  // the environment is going: drop it
  try {
    Napi::HandleScope scope(env);
    (*closure)(env);
  } catch (...) {  // only when the environment is being terminated: Node-API refuses every call then, and nobody is left to hear of it
  }
}

bool JobRunner::post(std::function<void(Napi::Env)> closure) {
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  auto* data = new std::function<void(Napi::Env)>(std::move(closure));
  if (napi_call_threadsafe_function(channel_, data, napi_tsfn_nonblocking) == napi_ok) return true;
  delete data;
  return false;
}

void JobRunner::spawn_if_needed() {
  if (closed_ || idle_ >= queue_.size() || working_ >= max_working) return;
  for (auto& thread : ended_) thread.join();
  ended_.clear();
  ++working_;
  threads_.emplace_back([self = shared_from_this()] { self->loop(); });
}

void JobRunner::start(Napi::Env env, std::shared_ptr<Job> job) {
  std::lock_guard lock(mutex_);
  if (closed_) throw Error(ErrorKind::Cancelled, "the process is ending");
  if (running_.empty()) napi_ref_threadsafe_function(env, channel_);
  running_.insert(job);
  queue_.push_back(std::move(job));
  spawn_if_needed();
  wake_.notify_one();
}

void JobRunner::finished(Napi::Env env, const std::shared_ptr<Job>& job) {
  std::lock_guard lock(mutex_);
  running_.erase(job);
  if (running_.empty() && !closed_) napi_unref_threadsafe_function(env, channel_);
}

void JobRunner::pause() {
  std::lock_guard lock(mutex_);
  --working_;
  spawn_if_needed();
  wake_.notify_one();
}

void JobRunner::resume() {
  std::lock_guard lock(mutex_);
  ++working_;  // may pass max_working for the rest of this job
}

// A thread counts as working from its birth, and gives that up while it waits for a job.
void JobRunner::loop() {
  std::unique_lock lock(mutex_);
  while (!closed_ && working_ <= max_working) {
    --working_, ++idle_;
    wake_.wait(lock, [&] { return closed_ || (!queue_.empty() && working_ < max_working); });
    ++working_, --idle_;
    if (closed_) break;
    auto job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    apply_threads_to_this_thread();
    job->run();
    job.reset();
    lock.lock();
  }
  --working_;
  const auto self = std::find_if(threads_.begin(), threads_.end(), [](const auto& thread) { return thread.get_id() == std::this_thread::get_id(); });
  ended_.push_back(std::move(*self));
  threads_.erase(self);
  wake_.notify_one();
  left_.notify_all();
}

bool JobRunner::stop(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  closed_ = true;
  for (const auto& job : running_) job->cancel();
  wake_.notify_all();
  if (!left_.wait_for(lock, patience, [&] { return threads_.empty(); })) return false;
  for (auto& thread : ended_) thread.join();
  ended_.clear();
  return true;
}

void JobRunner::close() {
  stop(std::chrono::hours(24));  // a job ends at its next step
  napi_release_threadsafe_function(channel_, napi_tsfn_abort);
  for (const auto& job : running_) {  // their references died with the environment: do not touch them again
    job->on_progress.SuppressDestruct();
    job->called.SuppressDestruct();
    if (job->thrown) (void)job->thrown.release();
  }
}

namespace {

// stop_jobs(milliseconds, code): for process.exit(), which runs no cleanup hooks but does run the destructors of libraries that a job may be in the
// middle of. When the jobs do not end in time, the process ends here, without those destructors.
Napi::Value stop_jobs(const Napi::CallbackInfo& info) {
  if (!EnvState::of(info.Env()).jobs->stop(std::chrono::milliseconds(integer_arg(info[0], "milliseconds")))) _exit(static_cast<int>(integer_arg(info[1], "code")));
  return info.Env().Undefined();
}

}  // namespace

void export_jobs(Napi::Env env, Napi::Object exports) { export_function(env, exports, "stop_jobs", stop_jobs); }

Completion complete_with(at::Tensor tensor) {
  return [tensor = std::move(tensor)](Napi::Env env) { return wrap_tensor(env, tensor); };
}

Completion complete_with(Fields fields) {
  return [fields = std::move(fields)](Napi::Env env) { return wrap_fields(env, fields); };
}

Napi::Value start_job(Napi::Env env, const Napi::Value& progress, Work work, const Napi::Value& callback) {
  auto deferred = Napi::Promise::Deferred::New(env);
  auto& runner = EnvState::of(env).jobs;
  auto job = std::make_shared<Job>(env, deferred, runner, std::move(work));
  if (progress.IsFunction()) {
    job->on_progress = Napi::Persistent(progress.As<Napi::Function>());
    job->wants_progress = true;
  }
  if (!callback.IsEmpty() && callback.IsFunction()) job->called = Napi::Persistent(callback.As<Napi::Function>());
  auto handle = Napi::Object::New(env);
  handle.Set("promise", deferred.Promise());
  std::weak_ptr<Job> weak = job;
  handle.Set("cancel", Napi::Function::New(env, [weak](const Napi::CallbackInfo&) {
    if (auto job = weak.lock()) job->cancel();
  }));
  runner->start(env, std::move(job));
  return handle;
}

}  // namespace a_infonce::addon
