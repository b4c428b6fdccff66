#include "ops/deferred.h"
#include <ATen/ops/cat.h>
#include <iterator>
#include <unordered_map>
#include <utility>
#include "error.h"

namespace a_infonce::ops {

thread_local DeferredChecks* DeferredChecks::active_ = nullptr;

DeferredChecks::DeferredChecks() : outer_(std::exchange(active_, this)) {}
DeferredChecks::~DeferredChecks() { active_ = outer_; }

void DeferredChecks::add(const at::Tensor& numbers, Check check) {
  if (active_) active_->found_.push_back({numbers, std::move(check), active_->where_});
  else check(numbers.cpu());
}

double DeferredChecks::read(const at::Tensor& scalar) {
  double value = 0;
  add(scalar.reshape({1}), [&](const at::Tensor& here) { value = here.item<double>(); });
  if (active_) active_->settle();
  return value;
}

void DeferredChecks::settle() {
  const auto found = std::exchange(found_, {});
  // As bytes, so that numbers of all types come in one copy.
  std::unordered_map<c10::Device, std::vector<at::Tensor>> there;
  for (const auto& each : found) there[each.numbers.device()].push_back(each.numbers.contiguous().view(at::kByte));
  std::unordered_map<c10::Device, at::Tensor> here;
  for (const auto& [device, bytes] : there) here[device] = (bytes.size() == 1 ? bytes.front() : at::cat(bytes)).cpu();
  for (const auto& [numbers, check, where] : found) try {
      at::Tensor& rest = here[numbers.device()];
      const auto bytes = static_cast<int64_t>(numbers.nbytes());
      const at::Tensor own = rest.narrow(0, 0, bytes).clone().view(numbers.scalar_type());  // copied: aligned
      rest = rest.narrow(0, bytes, rest.size(0) - bytes);
      check(own);
    } catch (const Error& error) {
      if (where.empty()) throw;
      const std::string place = " (" + where + ")";
      throw error.argument.empty() ? Error(error.kind, error.what() + place) : Error(error.kind, error.argument, error.expected, error.received + place);
    }
}

void DeferredChecks::hand_over() {
  if (!outer_) return settle();
  outer_->found_.insert(outer_->found_.end(), std::make_move_iterator(found_.begin()), std::make_move_iterator(found_.end()));
  found_.clear();
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

}  // namespace a_infonce::ops
