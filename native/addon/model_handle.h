// How the addon's areas hand models to one another.
#pragma once
#include "convert.h"
#include "../nn/model.h"

namespace a_infonce::addon {

template <>
struct HandleTag<nn::Model> {
  static constexpr napi_type_tag tag{0x6131f2b7c0de4d0dULL, 0x9a1e0f5b7d3c2e41ULL};
  static constexpr const char* name = "Model";
};

}  // namespace a_infonce::addon
