// Work off the main thread: a Promise, a way to cancel, progress. One mechanism for attacks, steps, evaluation and loading.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <string>
#include <utility>
#include <vector>
#include "convert.h"
#include "napi_setup.h"

namespace a_infonce::addon {

/// What the work sees. Lives on the job thread; never touches JavaScript.
class JobContext {
 public:
  virtual ~JobContext() = default;
  virtual bool cancelled() const = 0;
  /// Throws Error{Cancelled} when the job was aborted. Call once a step.
  void check() const;
  /// Delivered to the job's progress callback as an object; dropped when there is no callback.
  virtual void progress(std::vector<std::pair<std::string, double>> values) = 0;
  /// Runs `call` on the JS thread and waits for it (for models written in JavaScript). `call` may return a Promise; `then` gets its value,
  /// on the JS thread too. Throws what they throw, or Error{Cancelled} when the environment goes away.
  virtual void call_javascript(std::function<Napi::Value(Napi::Env)> call, std::function<void(Napi::Value)> then) = 0;
  /// The JS function that `start_job` was given. On the JS thread only: inside `call_javascript`.
  virtual Napi::Function callback() const = 0;
};

/// Made by the work, run on the JS thread: turns the result into the value of the promise.
using Completion = std::function<Napi::Value(Napi::Env)>;
using Work = std::function<Completion(JobContext&)>;
Completion complete_with(at::Tensor tensor);
Completion complete_with(Fields fields);

/// Starts `work` on a job thread (grad mode on, the process's thread count) and returns { promise, cancel() }.
/// `progress` is a function or undefined. Tensors that the work needs must be captured as at::Tensor, JS objects never; the one JS function that it
/// may call (a model written in JavaScript) is `callback`.
Napi::Value start_job(Napi::Env env, const Napi::Value& progress, Work work, const Napi::Value& callback = {});

/// LibTorch keeps the thread count a thread: a job thread takes the one that was set last.
void apply_threads_to_this_thread();

}  // namespace a_infonce::addon
