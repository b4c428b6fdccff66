// Element types by the names that the TypeScript side uses (src/tensor/dtype.ts).
#pragma once
#include <c10/core/ScalarType.h>
#include <optional>
#include <string>

namespace a_infonce {

struct DTypeName {
  c10::ScalarType type;
  const char* name;
};
inline constexpr DTypeName kDTypes[] = {
    {c10::kFloat, "float32"}, {c10::kDouble, "float64"}, {c10::kHalf, "float16"}, {c10::kBFloat16, "bfloat16"}, {c10::kChar, "int8"},
    {c10::kShort, "int16"},   {c10::kInt, "int32"},      {c10::kLong, "int64"},   {c10::kByte, "uint8"},        {c10::kBool, "bool"},
    {c10::kComplexFloat, "complex64"}, {c10::kComplexDouble, "complex128"}};  // complex: results of operators only

inline std::string dtype_name(c10::ScalarType type) {
  for (const auto& entry : kDTypes)
    if (entry.type == type) return entry.name;
  return c10::toString(type);
}

inline std::optional<c10::ScalarType> find_dtype(const std::string& name) {
  for (const auto& entry : kDTypes)
    if (name == entry.name) return entry.type;
  return std::nullopt;
}

}  // namespace a_infonce
