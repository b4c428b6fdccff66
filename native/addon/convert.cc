#include "convert.h"

#include <cmath>
#include "../error.h"
#include "env_state.h"
#include "tensor_box.h"

namespace a_infonce::addon {

std::string describe_value(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return value.As<Napi::Boolean>() ? "true" : "false";
    case napi_number:
    case napi_bigint: return value.ToString().Utf8Value();
    case napi_string: return std::string("'").append(value.As<Napi::String>().Utf8Value(), 0, 60).append("'");
    case napi_function: return "a function";
    case napi_external: return "a native handle of another kind";
    default: return value.IsArray() ? "an array of " + std::to_string(value.As<Napi::Array>().Length()) : "an object";
  }
}

[[noreturn]] static void wrong_type(const char* name, const char* expected, const Napi::Value& value) {
  throw Error(ErrorKind::ArgumentType, name, expected, describe_value(value));
}

void throw_wrong_handle(const char* argument, const char* kind, const Napi::Value& value) { wrong_type(argument, kind, value); }

TensorBox::TensorBox(Napi::BasicEnv env, std::shared_ptr<Accounting> accounting_, at::Tensor tensor_)
    : accounting(std::move(accounting_)), tensor(std::move(tensor_)) {
  ++accounting->tensors;
  if (tensor.has_storage()) {
    storage = tensor.storage().unsafeGetStorageImpl();
    auto& held = accounting->storages[storage];
    if (held.handles++ == 0) {
      held.bytes = static_cast<int64_t>(storage->nbytes());
      accounting->bytes += held.bytes;
      Napi::MemoryManagement::AdjustExternalMemory(env, held.bytes);
    }
  }
}

void TensorBox::dispose(Napi::BasicEnv env) {
  if (disposed()) return;
  --accounting->tensors;
  if (auto held = accounting->storages.find(storage); held != accounting->storages.end() && --held->second.handles == 0) {
    accounting->bytes -= held->second.bytes;
    Napi::MemoryManagement::AdjustExternalMemory(env, -held->second.bytes);
    accounting->storages.erase(held);
  }
  tensor = at::Tensor();
  accounting.reset();
}

Napi::Value wrap_tensor(Napi::Env env, at::Tensor tensor) {
  if (!tensor.defined()) return env.Null();
  auto* box = new TensorBox(env, EnvState::of(env).accounting, std::move(tensor));
  auto external = Napi::External<TensorBox>::New(env, box, [](Napi::BasicEnv env, TensorBox* box) {
    box->dispose(env);
    delete box;
  });
  external.TypeTag(&kTensorTag);
  return external;
}

Napi::Value wrap_fields(Napi::Env env, const Fields& fields) {
  auto object = Napi::Object::New(env);
  for (const auto& [name, field] : fields) {
    if (const auto* tensor = std::get_if<at::Tensor>(&field)) {
      object.Set(name, wrap_tensor(env, *tensor));
    } else if (const auto* number = std::get_if<double>(&field)) {
      object.Set(name, *number);
    } else {
      const auto& numbers = std::get<std::vector<double>>(field);
      auto list = Napi::Array::New(env, numbers.size());
      for (uint32_t i = 0; i < numbers.size(); ++i) list.Set(i, numbers[i]);
      object.Set(name, list);
    }
  }
  return object;
}

TensorBox& tensor_box_arg(const Napi::Value& value, const char* name) {
  if (!value.IsExternal() || !value.As<Napi::External<TensorBox>>().CheckTypeTag(&kTensorTag)) wrong_type(name, "a Tensor", value);
  return *value.As<Napi::External<TensorBox>>().Data();
}

at::Tensor tensor_arg(const Napi::Value& value, const char* name) {
  auto& box = tensor_box_arg(value, name);
  if (box.disposed()) throw Error(ErrorKind::ArgumentType, name, "a live Tensor", "a disposed Tensor");
  return box.tensor;
}

std::optional<at::Tensor> optional_tensor_arg(const Napi::Value& value, const char* name) {
  if (value.IsUndefined() || value.IsNull()) return std::nullopt;
  return tensor_arg(value, name);
}

std::string string_arg(const Napi::Value& value, const char* name) {
  if (!value.IsString()) wrong_type(name, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

double number_arg(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) wrong_type(name, "a number", value);
  double number = value.As<Napi::Number>().DoubleValue();
  if (!std::isfinite(number)) throw Error(ErrorKind::ArgumentRange, name, "a finite number", describe_value(value));
  return number;
}

int64_t integer_arg(const Napi::Value& value, const char* name) {
  if (value.IsBigInt()) {
    bool lossless = false;
    int64_t integer = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (!lossless) throw Error(ErrorKind::ArgumentRange, name, "a 64-bit integer", describe_value(value));
    return integer;
  }
  if (!value.IsNumber()) wrong_type(name, "an integer", value);
  double number = value.As<Napi::Number>().DoubleValue();
  if (std::trunc(number) != number || std::abs(number) > 9007199254740991.0)
    throw Error(ErrorKind::ArgumentRange, name, "an integer", describe_value(value));
  return static_cast<int64_t>(number);
}

bool boolean_arg(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) wrong_type(name, "a boolean", value);
  return value.As<Napi::Boolean>();
}

// "shape" and 2 -> "shape[2]"
static std::string item_name(const char* name, uint32_t index) {
  std::string text(name);
  text.append("[").append(std::to_string(index)).append("]");
  return text;
}

template <auto item>
static auto list_arg(const Napi::Value& value, const char* name, const char* expected) {
  if (!value.IsArray()) wrong_type(name, expected, value);
  const auto array = value.As<Napi::Array>();
  std::vector<decltype(item(value, name))> result(array.Length());
  for (uint32_t i = 0; i < result.size(); ++i) result[i] = item(array.Get(i), item_name(name, i).c_str());
  return result;
}
std::vector<int64_t> integers_arg(const Napi::Value& value, const char* name) { return list_arg<integer_arg>(value, name, "an array of integers"); }
std::vector<std::string> strings_arg(const Napi::Value& value, const char* name) { return list_arg<string_arg>(value, name, "an array of strings"); }
std::vector<at::Tensor> tensors_arg(const Napi::Value& value, const char* name) { return list_arg<tensor_arg>(value, name, "an array of Tensors"); }

Options::Options(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) wrong_type(name, "an object", value);
  object_ = value.As<Napi::Object>();
}
Napi::Value Options::value(const char* key) const { return object_.Get(key); }
bool Options::has(const char* key) const {
  auto found = value(key);
  return !found.IsUndefined() && !found.IsNull();
}
double Options::number(const char* key) const { return number_arg(value(key), key); }
int64_t Options::integer(const char* key) const { return integer_arg(value(key), key); }
bool Options::boolean(const char* key, bool fallback) const { return has(key) ? boolean_arg(value(key), key) : fallback; }
std::string Options::string(const char* key) const { return string_arg(value(key), key); }
std::optional<at::Tensor> Options::tensor(const char* key) const { return optional_tensor_arg(value(key), key); }

}  // namespace a_infonce::addon
