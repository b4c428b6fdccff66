// Who works on a model, or on models that share an encoder, whose mode is that of them all.
#pragma once
#include <atomic>
#include <mutex>

namespace a_infonce::nn {

struct InUse {
  InUse() = default;
  InUse(const InUse&) {}  // a copy of a model is another one

  /// Held by whoever depends on the mode (an attack, an evaluation, a training step): jobs take turns.
  std::recursive_timed_mutex turn;
  /// Jobs that were started and have not ended, those that wait for their turn among them.
  std::atomic<int> jobs = 0;
};

}  // namespace a_infonce::nn
