// Every registered operator through one boxed dispatcher call: find the schema by name, convert by the schema, call, convert back.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <algorithm>
#include <cmath>
#include <set>
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

// --- JavaScript to IValue: nothing for a value that does not fit -----------------------------------------------------------------------------

constexpr int64_t kMaxSafeInteger = 9007199254740991;  // 2^53 - 1

std::optional<int64_t> to_integer(const Napi::Value& value) {
  if (value.IsBigInt()) {
    bool lossless = false;
    int64_t integer = value.As<Napi::BigInt>().Int64Value(&lossless);
    return lossless ? std::optional(integer) : std::nullopt;
  }
  if (!value.IsNumber()) return {};
  double number = value.As<Napi::Number>().DoubleValue();
  if (number != std::trunc(number) || std::abs(number) > static_cast<double>(kMaxSafeInteger)) return {};
  return static_cast<int64_t>(number);
}

std::optional<double> to_double(const Napi::Value& value) {
  if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
  const auto integer = value.IsBigInt() ? to_integer(value) : std::nullopt;
  return integer ? std::optional(static_cast<double>(*integer)) : std::nullopt;
}

// A number without fraction becomes an integer scalar, as 2 in Python does: integer tensors stay integer under `mul(x, 2)`.
std::optional<at::Scalar> to_scalar(const Napi::Value& value) {
  if (value.IsBoolean()) return at::Scalar(value.As<Napi::Boolean>().Value());
  if (const auto integer = to_integer(value)) return at::Scalar(*integer);
  if (value.IsNumber()) return at::Scalar(value.As<Napi::Number>().DoubleValue());
  return {};
}

std::optional<bool> to_boolean(const Napi::Value& value) { return value.IsBoolean() ? std::optional(value.As<Napi::Boolean>().Value()) : std::nullopt; }
std::optional<std::string> to_string(const Napi::Value& value) { return value.IsString() ? std::optional(value.As<Napi::String>().Utf8Value()) : std::nullopt; }
std::optional<at::Tensor> to_tensor(const Napi::Value& value) { return value.IsExternal() ? std::optional(tensor_arg(value, "tensor")) : std::nullopt; }
std::optional<std::optional<at::Tensor>> to_tensor_or_null(const Napi::Value& value) {
  std::optional<std::optional<at::Tensor>> converted;
  if (value.IsUndefined() || value.IsNull()) converted.emplace();
  else if (auto tensor = to_tensor(value)) converted.emplace(std::move(tensor));
  return converted;
}

std::optional<int64_t> to_dtype(const Napi::Value& value) {
  const auto dtype = value.IsString() ? find_dtype(value.As<Napi::String>().Utf8Value()) : std::nullopt;
  return dtype ? std::optional(static_cast<int64_t>(*dtype)) : std::nullopt;
}

std::optional<int64_t> to_layout(const Napi::Value& value) {
  return to_string(value) == "strided" ? std::optional(static_cast<int64_t>(at::kStrided)) : std::nullopt;
}

std::optional<at::MemoryFormat> to_memory_format(const Napi::Value& value) {
  const auto name = to_string(value);
  if (name == "contiguous") return at::MemoryFormat::Contiguous;
  if (name == "channels_last") return at::MemoryFormat::ChannelsLast;
  if (name == "channels_last_3d") return at::MemoryFormat::ChannelsLast3d;
  if (name == "preserve") return at::MemoryFormat::Preserve;
  return {};
}

std::optional<c10::Device> to_device(const Napi::Value& value) {
  if (!value.IsString()) return {};
  const std::string name = value.As<Napi::String>().Utf8Value();
  try {
    (void)c10::Device(name);
  } catch (const c10::Error&) {
    return {};
  }
  return device_named(name);
}

template <auto convert>
std::optional<IValue> to_value(const Napi::Value& value) {
  auto converted = convert(value);
  return converted ? std::optional<IValue>(IValue(*std::move(converted))) : std::nullopt;
}

template <auto convert>
std::optional<IValue> to_list(const Napi::Value& value) {
  if (!value.IsArray()) return {};
  auto array = value.As<Napi::Array>();
  const uint32_t length = array.Length();
  c10::List<typename decltype(convert(value))::value_type> list;
  list.reserve(length);
  for (uint32_t i = 0; i < length; ++i) {
    auto item = convert(Napi::Value(array.Get(i)));
    if (!item) return {};
    list.push_back(*std::move(item));
  }
  return IValue(std::move(list));
}

/// How JavaScript passes a value of a schema's type.
struct Conversion {
  const char* expected;
  std::optional<IValue> (*convert)(const Napi::Value&);
};

const Conversion* conversion_of_list(const c10::Type& element) {
  static constexpr Conversion tensors{"an array of Tensors", to_list<to_tensor>}, integers{"an array of integers", to_list<to_integer>}, numbers{"an array of numbers", to_list<to_double>},
      scalars{"an array of numbers", to_list<to_scalar>}, booleans{"an array of booleans", to_list<to_boolean>}, strings{"an array of strings", to_list<to_string>},
      tensors_or_nulls{"an array of Tensors or nulls", to_list<to_tensor_or_null>};
  switch (element.kind()) {
    case TypeKind::TensorType: return &tensors;
    case TypeKind::IntType:
    case TypeKind::SymIntType: return &integers;
    case TypeKind::FloatType: return &numbers;
    case TypeKind::NumberType: return &scalars;
    case TypeKind::BoolType: return &booleans;
    case TypeKind::StringType: return &strings;
    case TypeKind::OptionalType: return element.castRaw<c10::OptionalType>()->getElementType()->kind() == TypeKind::TensorType ? &tensors_or_nulls : nullptr;
    default: return nullptr;
  }
}

/// Null for what JavaScript cannot pass. Of an optional type: for what is not null.
const Conversion* conversion_of(const c10::Type& type) {
  static constexpr Conversion tensor{"a Tensor", to_value<to_tensor>}, integer{"a 64-bit integer (number or bigint)", to_value<to_integer>}, number{"a number", to_value<to_double>},
      scalar{"a number, bigint or boolean", to_value<to_scalar>}, boolean{"a boolean", to_value<to_boolean>}, string{"a string", to_value<to_string>},
      dtype{"a dtype such as 'float32'", to_value<to_dtype>}, layout{"'strided'", to_value<to_layout>},
      memory_format{"'contiguous', 'channels_last', 'channels_last_3d' or 'preserve'", to_value<to_memory_format>}, device{"a device such as 'cpu'", to_value<to_device>};
  switch (type.kind()) {
    case TypeKind::OptionalType: return conversion_of(*type.castRaw<c10::OptionalType>()->getElementType());
    case TypeKind::TensorType: return &tensor;
    case TypeKind::IntType:
    case TypeKind::SymIntType: return &integer;
    case TypeKind::FloatType: return &number;
    case TypeKind::NumberType: return &scalar;
    case TypeKind::BoolType: return &boolean;
    case TypeKind::StringType: return &string;
    case TypeKind::ScalarTypeType: return &dtype;
    case TypeKind::LayoutType: return &layout;
    case TypeKind::MemoryFormatType: return &memory_format;
    case TypeKind::DeviceObjType: return &device;
    case TypeKind::ListType: return conversion_of_list(*type.castRaw<c10::ListType>()->getElementType());
    default: return nullptr;
  }
}

/// fixed_size: of a list, for which one number may stand then.
std::optional<IValue> to_ivalue(const Napi::Value& value, const c10::Type& type, std::optional<int32_t> fixed_size) {
  if (type.kind() == TypeKind::OptionalType) {
    if (value.IsUndefined() || value.IsNull()) return IValue();
    return to_ivalue(value, *type.castRaw<c10::OptionalType>()->getElementType(), fixed_size);
  }
  if (fixed_size && !value.IsArray() && type.kind() == TypeKind::ListType) {
    const auto kind = type.castRaw<c10::ListType>()->getElementType()->kind();
    const auto integer = kind == TypeKind::IntType || kind == TypeKind::SymIntType ? to_integer(value) : std::nullopt;
    const auto number = kind == TypeKind::FloatType ? to_double(value) : std::nullopt;
    if (integer) return IValue(std::vector<int64_t>(*fixed_size, *integer));
    if (number) return IValue(std::vector<double>(*fixed_size, *number));
  }
  const auto* conversion = conversion_of(type);
  return conversion ? conversion->convert(value) : std::nullopt;
}

std::string expected_of(const c10::Type& type) {
  const auto* conversion = conversion_of(type);
  return conversion ? conversion->expected : "a value of type " + type.str() + ", which JavaScript cannot pass";
}

/// Why a call does not fit a schema.
struct Refusal {
  std::string argument, expected, received;  // the argument is empty where it is about all of them
  size_t fitting = 0;  // arguments before it
  bool missing = false;
  std::string text() const { return argument + (argument.empty() ? "" : ": ") + "expected " + expected + ", got " + received; }
};

/// What the value, or the first item of the list, has against the type.
Refusal misfit(const std::string& name, const Napi::Value& value, const c10::Type& type) {
  if (type.kind() == TypeKind::OptionalType) return misfit(name, value, *type.castRaw<c10::OptionalType>()->getElementType());
  const auto* conversion = conversion_of(type);
  if (conversion && type.kind() == TypeKind::ListType && value.IsArray()) {
    const auto& element = *type.castRaw<c10::ListType>()->getElementType();
    const auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i)
      if (const Napi::Value item = array.Get(i); !to_ivalue(item, element, {})) return misfit(name + "[" + std::to_string(i) + "]", item, element);
  }
  return {name, expected_of(type), value.IsExternal() ? "a Tensor" : describe_value(value)};
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
bool try_bind(const c10::FunctionSchema& schema, const Arguments& given, std::vector<IValue>& stack, Refusal* why = nullptr) {
  stack.clear();
  const auto& arguments = schema.arguments();
  size_t positional = given.positional.Length(), used = 0, keywords_used = 0, fitting = 0;
  const auto refuse = [&](const auto& reason) {
    if (why) *why = reason(), why->fitting = fitting;
    return false;
  };
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
      if (!argument.default_value()) return refuse([&] { return Refusal{.argument = argument.name(), .expected = expected_of(*argument.real_type()), .received = "nothing", .missing = true}; });
      stack.push_back(*argument.default_value());
      continue;
    }
    auto converted = to_ivalue(value, *argument.real_type(), argument.N());
    if (!converted) return refuse([&] { return misfit(argument.name(), value, *argument.real_type()); });
    stack.push_back(*std::move(converted));
    ++fitting;
  }
  while (used < positional && given.positional.Get(static_cast<uint32_t>(positional - 1)).IsUndefined()) --positional;  // as if left out
  if (used < positional)
    return refuse([&] { return Refusal{"", "at most " + std::to_string(used) + " positional argument" + (used == 1 ? "" : "s"), std::to_string(positional)}; });
  if (keywords_used < given.keyword_names.size())
    return refuse([&] {
      std::string names;
      for (const auto& argument : arguments) names += (names.empty() ? "" : ", ") + argument.name();
      for (const auto& name : given.keyword_names)
        if (!std::any_of(arguments.begin(), arguments.end(), [&](const auto& argument) { return argument.name() == name; })) return Refusal{name, "a known argument (" + names + ")", "'" + name + "'"};
      return Refusal{"", "each argument once", "one by its place and by its name"};
    });
  return true;
}

/// Of the overload that came nearest, what it has against the arguments; then what each has, a line each.
Error refusal_of(const std::string& name, const std::vector<c10::OperatorHandle>& overloads, const std::optional<std::string>& wanted, const Arguments& given) {
  std::vector<IValue> stack;
  std::vector<Refusal> refusals;
  std::string all;
  for (const auto& handle : overloads) {
    const auto& schema = handle.schema();
    if (wanted ? schema.overload_name() != *wanted : has_keyword_out(schema) && !refusals.empty()) continue;  // without out the same has been said
    try_bind(schema, given, stack, &refusals.emplace_back());
    std::ostringstream text;
    text << "\n  " << schema << "\n    " << refusals.back().text();
    all += text.str();
  }
  if (refusals.empty()) return Error(ErrorKind::ArgumentRange, "operator", "an overload of " + name, "'" + *wanted + "'");
  const auto rank = [](const Refusal& refusal) { return std::make_tuple(refusal.fitting, !refusal.argument.empty(), !refusal.missing); };
  const Refusal nearest = *std::max_element(refusals.begin(), refusals.end(), [&](const Refusal& a, const Refusal& b) { return rank(a) < rank(b); });
  std::set<std::string> expected;
  for (const Refusal& each : refusals)
    if (rank(each) == rank(nearest) && each.argument == nearest.argument) expected.insert(each.expected);
  std::string text;
  for (const std::string& each : expected) text += (text.empty() ? "" : " or ") + each;
  Error error(ErrorKind::ArgumentType, name + (nearest.argument.empty() ? "" : "." + nearest.argument), text, nearest.received);
  error.more = "\nOverloads:" + all;
  return error;
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

// The arguments that have shapes or are some.
std::string summary(const c10::FunctionSchema& schema, const std::vector<IValue>& stack) {
  std::string text;
  for (size_t i = 0; i < stack.size(); ++i)
    if (stack[i].isTensor() || stack[i].isTensorList() || stack[i].isIntList())
      text += (text.empty() ? "" : ", ") + schema.arguments()[i].name() + ": " + summary(stack[i]);
  return text;
}

// call_operator(name, overload | null, positional, keywords | null)
Napi::Value call_operator(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto name = string_arg(info[0], "operator");
  std::optional<std::string> wanted;
  if (info[1].IsString()) wanted = info[1].As<Napi::String>().Utf8Value();
  Arguments given{info[2].As<Napi::Array>(), {}, {}};
  if (info[3].IsObject()) {
    given.keywords = info[3].As<Napi::Object>();
    auto names = given.keywords.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); ++i) given.keyword_names.push_back(Napi::Value(names.Get(i)).ToString().Utf8Value());
  }

  std::vector<IValue> stack;
  const auto& overloads = overloads_of(env, name);
  for (const auto& handle : overloads) {
    const auto& schema = handle.schema();
    if ((wanted && schema.overload_name() != *wanted) || !try_bind(schema, given, stack)) continue;
    try {
      handle.callBoxed(stack);
    } catch (const c10::Error& error) {
      try_bind(schema, given, stack);  // the call has used them up
      throw Error(kind_of(error), name + "(" + summary(schema, stack) + "): " + message_of(error));
    }
    if (stack.size() == 1) return from_return(env, stack[0], schema.returns()[0]);
    if (stack.empty()) return env.Undefined();
    auto tuple = Napi::Array::New(env, stack.size());
    for (size_t i = 0; i < stack.size(); ++i) tuple.Set(static_cast<uint32_t>(i), from_return(env, stack[i], schema.returns()[i]));
    return tuple;
  }
  throw refusal_of(name, overloads, wanted, given);
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
