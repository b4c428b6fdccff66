// What is found out on a device about its arguments, and when it is looked at.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <string>
#include <vector>

namespace a_infonce::ops {

/// To read what was found on a device is to wait for the device, which a loss called alone does at its end. While one of these lives, what its thread finds is left to
/// `settle` of the innermost: many steps wait once.
class DeferredChecks {
 public:
  /// Of numbers on the CPU; throws where they are not as they must be.
  using Check = std::function<void(const at::Tensor& numbers)>;
  struct Found {
    at::Tensor numbers;  // one-dimensional, mostly on a device
    Check check;
    std::string where;
  };

  DeferredChecks();
  ~DeferredChecks();
  DeferredChecks(const DeferredChecks&) = delete;
  DeferredChecks& operator=(const DeferredChecks&) = delete;

  /// Whether the thread has one.
  static bool active() { return active_; }
  /// Checks the numbers: now, or where the thread has one of these, when it settles. They are not written to any more.
  static void add(const at::Tensor& numbers, Check check);
  /// A scalar, once what the thread's one has to check is found right: one wait for both.
  static double read(const at::Tensor& scalar);
  /// What is added from now on comes from there: errors end with it.
  void enter(std::string where) { where_ = std::move(where); }
  /// Waits once for each device on which there is anything to check, and throws the error of the first that is wrong.
  void settle();
  /// Leaves what there is to check to the one around this, if there is one; settles it otherwise.
  void hand_over();

  /// Takes what work added that was recorded for a graph, and did nothing yet.
  std::vector<Found> take(size_t from);
  size_t size() const { return found_.size(); }
  /// Such work was done: its numbers, which it writes again the next time, are copied.
  void add_copies(const std::vector<Found>& recorded);

 private:
  static thread_local DeferredChecks* active_;
  DeferredChecks* const outer_;
  std::vector<Found> found_;
  std::string where_;
};

}  // namespace a_infonce::ops
