// How a wait deep below hears that the job it belongs to was aborted.
#pragma once
#include <functional>

namespace a_infonce {

/// Throws Error{Cancelled} once the job that this thread runs was aborted; does nothing on other threads.
void check_cancelled();

/// Sets what check_cancelled() calls on this thread, for a block.
class CancellationScope {
 public:
  explicit CancellationScope(std::function<void()> check);
  ~CancellationScope();
  CancellationScope(const CancellationScope&) = delete;
  CancellationScope& operator=(const CancellationScope&) = delete;

 private:
  std::function<void()> before_;
};

}  // namespace a_infonce
