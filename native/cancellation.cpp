#include "cancellation.h"
#include <utility>

namespace a_infonce {

namespace {
thread_local std::function<void()> current;
}

void check_cancelled() {
  if (current) current();
}

CancellationScope::CancellationScope(std::function<void()> check) : before_(std::exchange(current, std::move(check))) {}
CancellationScope::~CancellationScope() { current = std::move(before_); }

}  // namespace a_infonce
