// Augmentation and corruption off the main thread. Everything else of the data room goes through the dispatcher.
#include "addon.h"
#include "convert.h"
#include "jobs.h"
#include "../ops/augment.h"
#include "../ops/corruption.h"

namespace a_infonce::addon {
namespace {

using kernels::augment::Pipeline;

void pair_option(const Options& options, const char* key, double (&out)[2]) {
  const Options pair(options.value(key), key);
  out[0] = pair.number("0"), out[1] = pair.number("1");
}

/// augment(pixels, indices, { size, scale?, ratio, padding, flip, jitter: { brightness, ... }, ... }, progress) -> job of a tensor.
Napi::Value augment(const Napi::CallbackInfo& info) {
  const at::Tensor pixels = tensor_arg(info[0], "pixels"), indices = tensor_arg(info[1], "indices");
  const Options options(info[2], "options");
  Pipeline pipeline{};
  pipeline.size = options.integer("size");
  pipeline.resized = options.has("scale");
  pipeline.scale[0] = pipeline.scale[1] = 1;
  if (pipeline.resized) pair_option(options, "scale", pipeline.scale);
  pair_option(options, "ratio", pipeline.ratio);
  pipeline.padding = options.integer("padding");
  pipeline.flip = options.number("flip");
  pipeline.jitter = options.number("jitter");
  pipeline.brightness = options.number("brightness");
  pipeline.contrast = options.number("contrast");
  pipeline.saturation = options.number("saturation");
  pipeline.hue = options.number("hue");
  pipeline.gray = options.number("gray");
  pipeline.color_first = options.boolean("colorFirst", false);
  const int64_t seed = options.integer("seed"), epoch = options.integer("epoch"), view = options.integer("view");
  return start_job(info.Env(), info.Env().Undefined(), [=](JobContext&) -> Completion {
    return complete_with(ops::augment(pixels, indices, pipeline, seed, epoch, view));
  });
}

/// corrupt(pixels, samples, { type, severity, seed }) -> job of a tensor.
Napi::Value corrupt(const Napi::CallbackInfo& info) {
  const at::Tensor pixels = tensor_arg(info[0], "pixels"), samples = tensor_arg(info[1], "samples");
  const Options options(info[2], "options");
  const std::string type = options.string("type");
  const int64_t severity = options.integer("severity"), seed = options.integer("seed");
  return start_job(info.Env(), info.Env().Undefined(), [=](JobContext&) -> Completion {
    return complete_with(ops::corrupt(pixels, samples, type, severity, seed));
  });
}

}  // namespace

void export_data(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "augment", augment);
  export_function(env, exports, "corrupt", corrupt);
}

}  // namespace a_infonce::addon
