// Embeddings and what they are like, as jobs.
#include "../analysis/similarity.h"
#include "addon.h"
#include "jobs.h"
#include "model_handle.h"

namespace a_infonce::addon {
namespace {

Napi::Value embed(const Napi::CallbackInfo& info) {
  const at::Tensor images = tensor_arg(info[1], "images");
  const int64_t batch_size = integer_arg(info[2], "batchSize");
  return start_job(info.Env(), info.Env().Undefined(), [=, model = for_job(model_arg(info[0], "encoder"))](JobContext&) -> Completion {
    return complete_with(analysis::embed(*model, images, batch_size).cpu());
  });
}

Napi::Value similarity_pairs(const Napi::CallbackInfo& info) {
  const at::Tensor rows = tensor_arg(info[0], "rows"), gallery = tensor_arg(info[1], "gallery");
  const int64_t k = integer_arg(info[2], "k"), bins = integer_arg(info[3], "bins");
  const bool exclude_own = boolean_arg(info[4], "excludeOwn");
  return start_job(info.Env(), info.Env().Undefined(), [=](JobContext&) -> Completion {
    const auto found = analysis::pairs(rows, gallery, k, bins, exclude_own);
    return complete_with({{"own", found.own}, {"nearest", found.nearest}, {"nearestSimilarity", found.nearest_similarity}, {"counts", found.counts},
                          {"mean", found.mean}, {"uniformity", found.uniformity}});
  });
}

Napi::Value principal_axes(const Napi::CallbackInfo& info) {
  const at::Tensor fitted = tensor_arg(info[0], "fitted"), points = tensor_arg(info[1], "points");
  const int64_t k = integer_arg(info[2], "k");
  return start_job(info.Env(), info.Env().Undefined(), [=](JobContext&) -> Completion {
    const auto found = analysis::principal(fitted, points, k);
    return complete_with({{"coordinates", found.coordinates}, {"explained", found.explained}});
  });
}

}  // namespace

void export_analysis(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "embed", embed);
  export_function(env, exports, "similarity_pairs", similarity_pairs);
  export_function(env, exports, "principal_axes", principal_axes);
}

}  // namespace a_infonce::addon
