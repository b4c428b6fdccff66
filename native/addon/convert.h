// JavaScript values to C++ and back. Every reader names the argument it reads in the error it throws.
#pragma once
#include <ATen/core/Tensor.h>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>
#include "napi_setup.h"

namespace a_infonce::addon {

// Tensors travel as type-tagged externals; the TypeScript class Tensor owns one each.
Napi::Value wrap_tensor(Napi::Env env, at::Tensor tensor);
at::Tensor tensor_arg(const Napi::Value& value, const char* name);                          // throws on disposed or foreign handles
std::optional<at::Tensor> optional_tensor_arg(const Napi::Value& value, const char* name);  // undefined and null are none
std::vector<at::Tensor> tensors_arg(const Napi::Value& value, const char* name);

/// A JavaScript object of tensors, numbers and lists of numbers.
using Field = std::variant<at::Tensor, double, std::vector<double>>;
using Fields = std::vector<std::pair<std::string, Field>>;
Napi::Value wrap_fields(Napi::Env env, const Fields& fields);

std::string string_arg(const Napi::Value& value, const char* name);
double number_arg(const Napi::Value& value, const char* name);     // finite
int64_t integer_arg(const Napi::Value& value, const char* name);   // number without fraction, or bigint that fits
bool boolean_arg(const Napi::Value& value, const char* name);
std::vector<int64_t> integers_arg(const Napi::Value& value, const char* name);
std::vector<std::string> strings_arg(const Napi::Value& value, const char* name);

/// A short text of a value for the `received` part of an error.
std::string describe_value(const Napi::Value& value);

/// An options object: options.number("epsilon") throws a TypeError naming "epsilon"; with a fallback, undefined takes it.
class Options {
 public:
  Options(const Napi::Value& value, const char* name);
  bool has(const char* key) const;  // present, not undefined and not null
  Napi::Value value(const char* key) const;
  double number(const char* key) const;
  int64_t integer(const char* key) const;
  bool boolean(const char* key, bool fallback) const;
  std::string string(const char* key) const;
  std::optional<at::Tensor> tensor(const char* key) const;

 private:
  Napi::Object object_;
};

/// A shared C++ object behind a type-tagged external; a handle of another kind throws a TypeError instead of corrupting memory.
/// Specialise `HandleTag<T>` once per T:  template <> struct HandleTag<Foo> { static constexpr napi_type_tag tag{hi, lo}; static constexpr const char* name = "Foo"; };
template <typename T>
struct HandleTag;

template <typename T>
Napi::Value wrap_handle(Napi::Env env, std::shared_ptr<T> object) {
  auto* box = new std::shared_ptr<T>(std::move(object));
  auto external = Napi::External<std::shared_ptr<T>>::New(env, box, [](Napi::BasicEnv, std::shared_ptr<T>* box) { delete box; });
  external.TypeTag(&HandleTag<T>::tag);
  return external;
}

[[noreturn]] void throw_wrong_handle(const char* argument, const char* kind, const Napi::Value& value);

template <typename T>
std::shared_ptr<T> handle_arg(const Napi::Value& value, const char* name) {
  if (!value.IsExternal() || !value.As<Napi::External<std::shared_ptr<T>>>().CheckTypeTag(&HandleTag<T>::tag))
    throw_wrong_handle(name, HandleTag<T>::name, value);
  return *value.As<Napi::External<std::shared_ptr<T>>>().Data();
}

}  // namespace a_infonce::addon
