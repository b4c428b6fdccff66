#include "objective/deferred.h"
#include <ATen/ops/cat.h>
#include <iterator>
#include <utility>
#include "error.h"

namespace a_infonce::objective {

thread_local DeferredChecks* DeferredChecks::active_ = nullptr;

DeferredChecks::DeferredChecks() : outer_(std::exchange(active_, this)) {}
DeferredChecks::~DeferredChecks() { active_ = outer_; }

void DeferredChecks::add(const at::Tensor& numbers, Check check) {
  if (active_) active_->found_.push_back({numbers, std::move(check), active_->where_});
  else check(numbers.cpu());
}

void DeferredChecks::settle() {
  if (found_.empty()) return;
  const auto found = std::exchange(found_, {});
  std::vector<at::Tensor> numbers;
  for (const auto& each : found) numbers.push_back(each.numbers);
  const at::Tensor here = at::cat(numbers).cpu();
  int64_t next = 0;
  for (const auto& [there, check, where] : found) try {
      check(here.narrow(0, std::exchange(next, next + there.size(0)), there.size(0)));
    } catch (const Error& error) {
      if (where.empty()) throw;
      const std::string place = " (" + where + ")";
      throw error.argument.empty() ? Error(error.kind, error.what() + place) : Error(error.kind, error.argument, error.expected, error.received + place);
    }
}

std::vector<DeferredChecks::Found> DeferredChecks::take(size_t from) {
  const auto first = found_.begin() + static_cast<std::ptrdiff_t>(from);
  std::vector<Found> taken(std::make_move_iterator(first), std::make_move_iterator(found_.end()));
  found_.erase(first, found_.end());
  return taken;
}

void DeferredChecks::add_copies(const std::vector<Found>& recorded) {
  for (const auto& [numbers, check, where] : recorded) found_.push_back({numbers.clone(), check, where_});
}

}  // namespace a_infonce::objective
