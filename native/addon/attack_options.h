// What every attack takes from JavaScript.
#pragma once
#include "../attack/pgd.h"
#include "convert.h"

namespace a_infonce::addon {

/// The ball, the steps and the start. The facades have checked and completed them: `steps`, `stepSize` and `epsilon` are there.
inline attack::PgdOptions pgd_options(const Options& given) {
  attack::PgdOptions options;
  options.epsilon = given.number("epsilon");
  options.step_size = given.number("stepSize");
  options.steps = given.integer("steps");
  options.random_start = given.boolean("randomStart", true);
  options.clamp_start = given.boolean("clampStart", true);
  options.clamp_then_project = given.boolean("clampThenProject", false);
  return options;
}

}  // namespace a_infonce::addon
