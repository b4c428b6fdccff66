// Every registered operator through one boxed dispatcher call: find the schema by name, convert by the schema, call, convert back.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <algorithm>
#include <cmath>
#include <sstream>
#include "../device.h"
#include "../dtype.h"
#include "../error.h"
#include "addon.h"
#include "convert.h"
#include "env_state.h"

namespace a_infonce::addon {

namespace {

using c10::IValue;
using c10::TypeKind;

// --- JavaScript to IValue ------------------------------------------------------------------------------------------------------------------

struct Mismatch {
  std::string expected;
};

constexpr int64_t kMaxSafeInteger = 9007199254740991;  // 2^53 - 1

bool is_integral(const Napi::Value& value) {
  if (value.IsBigInt()) return true;
  if (!value.IsNumber()) return false;
  double number = value.As<Napi::Number>().DoubleValue();
  return number == std::trunc(number) && std::abs(number) <= static_cast<double>(kMaxSafeInteger);
}

int64_t to_integer(const Napi::Value& value) {
  if (value.IsBigInt()) {
    bool lossless = false;
    int64_t integer = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (!lossless) throw Mismatch{"a 64-bit integer"};
    return integer;
  }
  if (!is_integral(value)) throw Mismatch{"an integer (number or bigint)"};
  return value.As<Napi::Number>().Int64Value();
}

double to_double(const Napi::Value& value) {
  if (value.IsBigInt()) return static_cast<double>(to_integer(value));
  if (!value.IsNumber()) throw Mismatch{"a number"};
  return value.As<Napi::Number>().DoubleValue();
}

// A number without fraction becomes an integer scalar, as 2 in Python does: integer tensors stay integer under `mul(x, 2)`.
at::Scalar to_scalar(const Napi::Value& value) {
  if (value.IsBoolean()) return at::Scalar(value.As<Napi::Boolean>().Value());
  if (is_integral(value)) return at::Scalar(to_integer(value));
  if (value.IsNumber()) return at::Scalar(value.As<Napi::Number>().DoubleValue());
  throw Mismatch{"a number, bigint or boolean"};
}

at::Tensor to_tensor(const Napi::Value& value) {
  if (!value.IsExternal()) throw Mismatch{"a Tensor"};
  return tensor_arg(value, "tensor");
}

template <typename T, typename F>
c10::List<T> to_list(const Napi::Value& value, const char* expected, F convert) {
  if (!value.IsArray()) throw Mismatch{expected};
  auto array = value.As<Napi::Array>();
  c10::List<T> list;
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(convert(Napi::Value(array.Get(i))));
  return list;
}

IValue to_memory_format(const Napi::Value& value) {
  std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "contiguous") return at::MemoryFormat::Contiguous;
  if (name == "channels_last") return at::MemoryFormat::ChannelsLast;
  if (name == "channels_last_3d") return at::MemoryFormat::ChannelsLast3d;
  if (name == "preserve") return at::MemoryFormat::Preserve;
  throw Mismatch{"'contiguous', 'channels_last', 'channels_last_3d' or 'preserve'"};
}

IValue to_ivalue(const Napi::Value& value, const c10::Type& type, std::optional<int32_t> fixed_size) {
  switch (type.kind()) {
    case TypeKind::OptionalType:
      if (value.IsUndefined() || value.IsNull()) return IValue();
      return to_ivalue(value, *type.castRaw<c10::OptionalType>()->getElementType(), fixed_size);
    case TypeKind::TensorType: return to_tensor(value);
    case TypeKind::IntType:
    case TypeKind::SymIntType: return to_integer(value);
    case TypeKind::FloatType: return to_double(value);
    case TypeKind::NumberType: return to_scalar(value);
    case TypeKind::BoolType:
      if (!value.IsBoolean()) throw Mismatch{"a boolean"};
      return value.As<Napi::Boolean>().Value();
    case TypeKind::StringType:
      if (!value.IsString()) throw Mismatch{"a string"};
      return value.As<Napi::String>().Utf8Value();
    case TypeKind::ScalarTypeType: {
      auto dtype = value.IsString() ? find_dtype(value.As<Napi::String>().Utf8Value()) : std::nullopt;
      if (!dtype) throw Mismatch{"a dtype such as 'float32'"};
      return static_cast<int64_t>(*dtype);
    }
    case TypeKind::LayoutType:
      if (!value.IsString() || value.As<Napi::String>().Utf8Value() != "strided") throw Mismatch{"'strided'"};
      return static_cast<int64_t>(at::kStrided);
    case TypeKind::MemoryFormatType: return to_memory_format(value);
    case TypeKind::DeviceObjType:
      if (!value.IsString()) throw Mismatch{"a device such as 'cpu'"};
      try {
        (void)c10::Device(value.As<Napi::String>().Utf8Value());
      } catch (const c10::Error&) {
        throw Mismatch{"a device such as 'cpu'"};
      }
      return device_named(value.As<Napi::String>().Utf8Value());
    case TypeKind::ListType: {
      const auto& element = *type.castRaw<c10::ListType>()->getElementType();
      switch (element.kind()) {
        case TypeKind::TensorType: return to_list<at::Tensor>(value, "an array of Tensors", to_tensor);
        case TypeKind::IntType:
        case TypeKind::SymIntType:
          if (fixed_size && is_integral(value)) return c10::List<int64_t>(std::vector<int64_t>(*fixed_size, to_integer(value)));
          return to_list<int64_t>(value, "an array of integers", to_integer);
        case TypeKind::FloatType:
          if (fixed_size && value.IsNumber()) return c10::List<double>(std::vector<double>(*fixed_size, to_double(value)));
          return to_list<double>(value, "an array of numbers", to_double);
        case TypeKind::NumberType: return to_list<at::Scalar>(value, "an array of numbers", to_scalar);
        case TypeKind::BoolType:
          return to_list<bool>(value, "an array of booleans", [](const Napi::Value& item) {
            if (!item.IsBoolean()) throw Mismatch{"an array of booleans"};
            return item.As<Napi::Boolean>().Value();
          });
        case TypeKind::StringType:
          return to_list<std::string>(value, "an array of strings", [](const Napi::Value& item) {
            if (!item.IsString()) throw Mismatch{"an array of strings"};
            return item.As<Napi::String>().Utf8Value();
          });
        case TypeKind::OptionalType:
          if (element.castRaw<c10::OptionalType>()->getElementType()->kind() == TypeKind::TensorType)
            return to_list<std::optional<at::Tensor>>(value, "an array of Tensors or nulls", [](const Napi::Value& item) {
              return item.IsUndefined() || item.IsNull() ? std::nullopt : std::optional<at::Tensor>(to_tensor(item));
            });
          break;
        default: break;
      }
      break;
    }
    default: break;
  }
  throw Mismatch{"a value of type " + type.str() + ", which JavaScript cannot pass"};
}

// --- IValue to JavaScript ------------------------------------------------------------------------------------------------------------------

Napi::Value integer_value(Napi::Env env, int64_t value) {
  if (-kMaxSafeInteger <= value && value <= kMaxSafeInteger) return Napi::Number::New(env, static_cast<double>(value));
  return Napi::BigInt::New(env, value);
}

Napi::Value from_ivalue(Napi::Env env, const IValue& value) {
  if (value.isNone()) return env.Null();
  if (value.isTensor()) return wrap_tensor(env, value.toTensor());
  if (value.isInt()) return integer_value(env, value.toInt());
  if (value.isDouble()) return Napi::Number::New(env, value.toDouble());
  if (value.isBool()) return Napi::Boolean::New(env, value.toBool());
  if (value.isString()) return Napi::String::New(env, value.toStringRef());
  if (value.isDevice()) return Napi::String::New(env, value.toDevice().str());
  if (value.isList()) {
    const auto list = value.toListRef();
    auto array = Napi::Array::New(env, list.size());
    for (size_t i = 0; i < list.size(); ++i) array.Set(static_cast<uint32_t>(i), from_ivalue(env, list[i]));
    return array;
  }
  throw Error(ErrorKind::Operator, "the operator returned a " + value.tagKind() + ", which JavaScript cannot hold");
}

// A returned dtype, layout or memory format is an int to the dispatcher; the schema tells.
Napi::Value from_return(Napi::Env env, const IValue& value, const c10::Argument& declared) {
  if (value.isInt() && declared.real_type()->kind() == TypeKind::ScalarTypeType)
    return Napi::String::New(env, dtype_name(static_cast<c10::ScalarType>(value.toInt())));
  return from_ivalue(env, value);
}

// --- overloads -----------------------------------------------------------------------------------------------------------------------------

bool has_keyword_out(const c10::FunctionSchema& schema) {
  for (const auto& argument : schema.arguments())
    if (argument.is_out()) return true;
  return false;
}

bool callable(const c10::FunctionSchema& schema) {
  for (const auto& argument : schema.arguments()) {
    auto text = argument.real_type()->str();
    bool needed = !argument.default_value().has_value();
    if (needed && (text.find("Dimname") != std::string::npos || text == "Generator" || text == "Storage" || text == "Stream")) return false;
  }
  return true;
}

// Deterministic order: results before out-variants, the unnamed overload first, then fewer arguments, then the name.
const std::vector<c10::OperatorHandle>& overloads_of(Napi::Env env, const std::string& name) {
  auto& cache = EnvState::of(env).overloads;
  if (auto found = cache.find(name); found != cache.end()) return found->second;
  std::vector<c10::OperatorHandle> handles;
  for (const auto& full : c10::Dispatcher::singleton().getAllOpNames()) {
    if (full.name != name) continue;
    if (auto handle = c10::Dispatcher::singleton().findSchema(full)) handles.push_back(*handle);
  }
  if (handles.empty()) throw Error(ErrorKind::ArgumentRange, "operator", "the name of a registered operator", "'" + name + "'");
  auto key = [](const c10::OperatorHandle& handle) {
    const auto& schema = handle.schema();
    return std::make_tuple(has_keyword_out(schema), !schema.overload_name().empty(), schema.arguments().size(), schema.overload_name());
  };
  std::sort(handles.begin(), handles.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  return cache.emplace(name, std::move(handles)).first->second;
}

struct Arguments {
  Napi::Array positional;
  Napi::Object keywords;
  std::vector<std::string> keyword_names;
};

// Fills the stack, or says why these arguments do not fit this schema.
std::optional<std::string> try_bind(const c10::FunctionSchema& schema, const Arguments& given, std::vector<IValue>& stack) {
  stack.clear();
  const auto& arguments = schema.arguments();
  size_t positional = given.positional.Length(), used = 0, keywords_used = 0;
  for (const auto& argument : arguments) {
    Napi::Value value;
    bool present = false;
    if (!argument.kwarg_only() && used < positional) {
      value = given.positional.Get(static_cast<uint32_t>(used++));
      present = !value.IsUndefined() || !argument.default_value();
    } else if (std::find(given.keyword_names.begin(), given.keyword_names.end(), argument.name()) != given.keyword_names.end()) {
      value = given.keywords.Get(argument.name());
      ++keywords_used;
      present = !value.IsUndefined() || !argument.default_value();
    }
    if (!present) {
      if (!argument.default_value()) return argument.name() + ": missing (" + argument.real_type()->str() + ")";
      stack.push_back(*argument.default_value());
      continue;
    }
    try {
      stack.push_back(to_ivalue(value, *argument.real_type(), argument.N()));
    } catch (const Mismatch& mismatch) {
      return argument.name() + ": expected " + mismatch.expected + ", got " + (value.IsExternal() ? "a Tensor" : describe_value(value));
    }
  }
  if (used < positional) return "takes at most " + std::to_string(used) + " positional arguments, got " + std::to_string(positional);
  if (keywords_used < given.keyword_names.size()) {
    for (const auto& name : given.keyword_names)
      if (!std::any_of(arguments.begin(), arguments.end(), [&](const auto& argument) { return argument.name() == name; }))
        return "no argument is called '" + name + "'";
    return "an argument is given twice";
  }
  return std::nullopt;
}

std::string summary(const IValue& value) {
  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    if (!tensor.defined()) return "none";
    std::ostringstream text;
    text << dtype_name(tensor.scalar_type()) << tensor.sizes();
    return text.str();
  }
  if (value.isTensorList()) {
    std::string text = "[";
    for (const at::Tensor& tensor : value.toTensorVector()) text += (text.size() > 1 ? ", " : "") + summary(tensor);
    return text + "]";
  }
  std::ostringstream text;
  text << value;
  return text.str();
}

// call_operator(name, overload | null, positional, keywords)
Napi::Value call_operator(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto name = string_arg(info[0], "operator");
  std::optional<std::string> wanted;
  if (info[1].IsString()) wanted = info[1].As<Napi::String>().Utf8Value();
  Arguments given{info[2].As<Napi::Array>(), info[3].As<Napi::Object>(), {}};
  auto names = given.keywords.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) given.keyword_names.push_back(Napi::Value(names.Get(i)).ToString().Utf8Value());

  std::vector<IValue> stack;
  std::string reasons;
  for (const auto& handle : overloads_of(env, name)) {
    const auto& schema = handle.schema();
    if (wanted && schema.overload_name() != *wanted) continue;
    if (auto reason = try_bind(schema, given, stack)) {
      if (has_keyword_out(schema) && !wanted && !reasons.empty()) continue;  // the plain overloads have said it already
      std::ostringstream text;
      text << "\n  " << schema << "\n    " << *reason;
      reasons += text.str();
      continue;
    }
    std::string call = name + "(";
    for (size_t i = 0; i < stack.size(); ++i)
      if (stack[i].isTensor() || stack[i].isTensorList() || stack[i].isIntList())
        call += (call.back() == '(' ? "" : ", ") + schema.arguments()[i].name() + ": " + summary(stack[i]);
    try {
      handle.callBoxed(stack);
    } catch (const c10::Error& error) {
      throw Error(kind_of(error), call + "): " + message_of(error));
    }
    if (stack.size() == 1) return from_return(env, stack[0], schema.returns()[0]);
    if (stack.empty()) return env.Undefined();
    auto tuple = Napi::Array::New(env, stack.size());
    for (size_t i = 0; i < stack.size(); ++i) tuple.Set(static_cast<uint32_t>(i), from_return(env, stack[i], schema.returns()[i]));
    return tuple;
  }
  if (reasons.empty()) throw Error(ErrorKind::ArgumentRange, "operator", "an overload of " + name, "'" + wanted.value_or("") + "'");
  throw Error(ErrorKind::ArgumentType, name, "arguments that fit an overload", "arguments that fit none:" + reasons);
}

// --- listing -------------------------------------------------------------------------------------------------------------------------------

Napi::Value operator_names(const Napi::CallbackInfo& info) {
  std::vector<std::string> names;
  for (const auto& full : c10::Dispatcher::singleton().getAllOpNames())
    if (c10::Dispatcher::singleton().findSchema(full)) names.push_back(full.name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  auto array = Napi::Array::New(info.Env(), names.size());
  for (size_t i = 0; i < names.size(); ++i) array.Set(static_cast<uint32_t>(i), names[i]);
  return array;
}

// operator_schemas(name): what the generator of the types needs, in the order in which overloads are tried.
Napi::Value operator_schemas(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto result = Napi::Array::New(env);
  for (const auto& handle : overloads_of(env, string_arg(info[0], "operator"))) {
    const auto& schema = handle.schema();
    auto entry = Napi::Object::New(env);
    std::ostringstream text;
    text << schema;
    entry.Set("schema", text.str());
    entry.Set("overload", schema.overload_name());
    entry.Set("callable", callable(schema));
    auto arguments = Napi::Array::New(env);
    for (const auto& argument : schema.arguments()) {
      auto item = Napi::Object::New(env);
      item.Set("name", argument.name());
      item.Set("type", argument.real_type()->str());
      item.Set("keywordOnly", argument.kwarg_only());
      item.Set("optional", argument.default_value().has_value());
      item.Set("fixedSize", argument.N().has_value());
      arguments.Set(arguments.Length(), item);
    }
    entry.Set("arguments", arguments);
    auto returns = Napi::Array::New(env);
    for (const auto& value : schema.returns()) returns.Set(returns.Length(), value.real_type()->str());
    entry.Set("returns", returns);
    result.Set(result.Length(), entry);
  }
  return result;
}

}  // namespace

void export_operators(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "operator_names", operator_names);
  export_function(env, exports, "operator_schemas", operator_schemas);
  export_function(env, exports, "call_operator", call_operator);
}

}  // namespace a_infonce::addon
