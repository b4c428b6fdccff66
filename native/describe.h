// Shapes in messages: one spelling for every floor.
#pragma once
#include <c10/util/ArrayRef.h>
#include <cstdint>
#include <string>

namespace a_infonce {

/// "[2, 3]"
inline std::string shape_text(c10::IntArrayRef sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i) text.append(i ? ", " : "").append(std::to_string(sizes[i]));
  return text.append("]");
}

}  // namespace a_infonce
