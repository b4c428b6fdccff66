#include "objective/a_infonce.h"
#include <torch/library.h>
#include <cmath>
#include <string>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "objective/algebra.h"
#include "objective/backend.h"
#include "objective/fused.h"
#include "objective/supervised.h"
#include "objective/terms.h"
#include "ops/similarity.h"

namespace a_infonce {

using at::Tensor;
using objective::Form;
using objective::Options;

namespace {

std::string text_of(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", x);
  return text;
}
std::string text_of(int64_t x) { return std::to_string(x); }
std::string text_of(std::string text) { return text; }

template <typename Received>
void require(bool ok, const char* argument, const char* expected, const Received& received) {
  if (!ok) throw Error(ErrorKind::ArgumentRange, argument, expected, text_of(received));
}

void check_options(const Tensor& features, int64_t rows, const Options& options) {
  const int64_t views = options.views, minimum = options.labels ? 1 : 2;
  require(views >= minimum, "options.views", options.labels ? "at least 1" : "at least 2 (1 with labels)", views);
  if (rows % views != 0) throw Error(ErrorKind::ArgumentRange, "features", "rows that divide by options.views", text_of(rows) + " rows and " + text_of(views) + " views");
  require(options.precision == kernels::Precision::Full || !options.labels, "options.precision", "'full' with labels", options.precision == kernels::Precision::Bf16 ? "'bf16'" : "'bf16x3'");
  objective::check_weights(options);
  if (options.alpha) require(*options.alpha >= 0 && *options.alpha <= 1, "options.inferiorPositive.alpha", "a number from 0 to 1", *options.alpha);
  require(std::isfinite(options.weight) && options.weight >= 0, "options.weight", "a finite number of at least 0", options.weight);
  require(std::isfinite(options.positive_weight) && options.positive_weight > 0, "options.inferiorPositive.positiveWeight", "a finite number above 0",
          options.positive_weight);
  if (options.hard_negative && !options.labels)
    require(rows > views, "options.hardNegative", "a batch of at least two images (negatives)", "a batch of one");
  if (options.adversarial_view)
    require(*options.adversarial_view >= 0 && *options.adversarial_view < views, "options.adversarialView", "a view", *options.adversarial_view);
  if (options.labels) {
    const Tensor& labels = *options.labels;
    require(options.form == Form::Paper, "options.labels", "none in the released forms (form 'paper' takes them)", "labels");
    if (labels.scalar_type() != at::kInt && labels.scalar_type() != at::kLong)
      throw Error(ErrorKind::ArgumentType, "options.labels", "an int32 or int64 tensor (pass { dtype: 'int64' } to tensor())", dtype_name(labels.scalar_type()));
    objective::require_device(labels, "options.labels");
    if (!labels.is_cpu()) objective::require_same_device(labels, "options.labels", features, "the features");
    if (labels.dim() != 1 || labels.size(0) != rows / views)
      throw Error(ErrorKind::ArgumentRange, "options.labels", "shape [" + text_of(rows / views) + "], a label an image", shape_text(labels.sizes()));
  }
  if (options.form != Form::AdvCL && options.weight != 1 && !options.alpha)
    require(options.form == Form::Paper && options.adversarial_view.has_value(), "options.weight",
            options.form == Form::Paper ? "1 without options.adversarialView" : "1 in form 'rocl' without options.inferiorPositive", options.weight);
  if (options.form == Form::Paper) {
    if (options.alpha) require(options.adversarial_view.has_value(), "options.adversarialView", "a view (options.inferiorPositive needs one)", "undefined");
    return;
  }
  if (options.hard_negative)
    require(objective::hard_depth(options, rows) <= objective::hard_range_double, "options.temperature",
            "one at which the released hard negatives' powers stay in the range of float64 (higher, or with a smaller beta)",
            text_of(options.temperature) + " with beta " + text_of(options.hard_negative->beta));
  require(options.positive_weight == 1, "options.inferiorPositive.positiveWeight", "1 in the released forms (form 'paper' takes others)", options.positive_weight);
  if (options.form == Form::AdvCL) {
    require(views >= 2 && options.adversarial_view.value_or(0) == 0, "options.adversarialView", "0 in form 'advcl'", options.adversarial_view.value_or(0));
    return;
  }
  require(views == 2 || views == 3, "options.views", "3, or 2 for the attack's loss, in form 'rocl'", views);
  require(options.normalize.value_or(true), "options.normalize", "true in form 'rocl'", "false");
  if (views == 3)
    require(options.adversarial_view.value_or(2) == 2, "options.adversarialView", "2 in form 'rocl'", options.adversarial_view.value_or(2));
  else {
    require(!options.adversarial_view, "options.adversarialView", "undefined in form 'rocl' with two views", options.adversarial_view.value_or(0));
    require(!options.alpha, "options.inferiorPositive", "undefined in form 'rocl' with two views", "an object");
    require(!options.hard_negative, "options.hardNegative", "undefined in form 'rocl' with two views", "an object");
  }
}

}  // namespace

std::optional<objective::HardNegative> objective::hard_negative_of(std::optional<double> beta, double tau_plus) {
  if (beta) return HardNegative{*beta, tau_plus};
  require(tau_plus == 0, "tau_plus", "0 where there is no beta", tau_plus);
  return {};
}

void objective::check_weights(const Options& options) {
  require(std::isfinite(options.temperature) && options.temperature > 0, "options.temperature", "a finite number above 0", options.temperature);
  if (!options.hard_negative) return;
  const double beta = options.hard_negative->beta, tau = options.hard_negative->tau_plus;
  require(std::isfinite(beta) && beta >= 0, "options.hardNegative.beta", "a finite number of at least 0", beta);
  require(tau >= 0 && tau < 1, "options.hardNegative.tauPlus", "a number of at least 0 and below 1", tau);
}

Tensor a_infonce(const Tensor& features, const Options& options) {
  ops::check_rows(features, "features"), objective::require_device(features, "features");
  check_options(features, features.size(0), options);
  return options.labels ? objective::supervised(features, options) : objective::fused(features, options);
}

namespace {
void check_clean(const Tensor& clean, const Options& options) {
  ops::check_rows(clean, "clean"), objective::require_device(clean, "clean");
  require(options.views >= 2 && clean.size(0) % (options.views - 1) == 0, "clean", "rows of options.views - 1 views, of as many images each",
          std::to_string(clean.size(0)) + " rows for " + std::to_string(options.views - 1) + " views");
  check_options(clean, clean.size(0) / (options.views - 1) * options.views, options);
  require(!options.labels, "options.labels", "none with fixed views", "labels");
  require(!options.hard_negative || options.form == Form::Paper, "options.hardNegative", "none in the released forms with fixed views, whose attacks have none", "an object");
}
}  // namespace

Tensor clean_sums(const Tensor& clean, const Options& options) {
  check_clean(clean, options);
  return objective::fused_clean_sums(clean, options);
}

Tensor adversarial_loss(const Tensor& adversaries, const Tensor& clean, const Tensor& sums, const Options& options) {
  check_clean(clean, options);
  ops::check_rows(adversaries, "adversaries"), objective::require_device(adversaries, "adversaries"), objective::require_same_device(adversaries, "adversaries", clean, "the clean rows");
  require_range(adversaries.size(0) * (options.views - 1) == clean.size(0) && adversaries.size(1) == clean.size(1), "adversaries", "one view beside clean rows of shape " + shape_text(clean.sizes()),
          "shape " + shape_text(adversaries.sizes()));
  if (adversaries.scalar_type() != clean.scalar_type())
    throw Error(ErrorKind::ArgumentType, "adversaries", dtype_name(clean.scalar_type()) + ", as the clean rows are", dtype_name(adversaries.scalar_type()));
  const auto moments = static_cast<int64_t>(objective::powers_of(options).size());
  objective::require_same_device(sums, "sums", clean, "the clean rows");
  require_range(sums.scalar_type() == at::kDouble && sums.dim() == 2 && sums.size(0) == moments && sums.size(1) == clean.size(0), "sums",
          "float64 [" + std::to_string(moments) + ", " + std::to_string(clean.size(0)) + "] from clean_sums with the same options", dtype_name(sums.scalar_type()) + " " + shape_text(sums.sizes()));
  return objective::fused_adversaries(adversaries, clean, sums, options);
}

namespace {
Options options_of(int64_t views, const std::string& form, double temperature, std::optional<int64_t> adversarial_view, std::optional<double> alpha, double weight, double positive_weight,
                   std::optional<double> beta, double tau_plus, std::optional<bool> normalize, const std::string& precision) {
  Options options{views, adversarial_view, temperature, alpha, weight, positive_weight, {}, {}, normalize, Form::Paper};
  require(precision == "full" || precision == "bf16" || precision == "bf16x3", "options.precision", "'full', 'bf16' or 'bf16x3'", "'" + precision + "'");
  options.precision = precision == "full" ? kernels::Precision::Full : precision == "bf16" ? kernels::Precision::Bf16 : kernels::Precision::Bf16x3;
  options.hard_negative = objective::hard_negative_of(beta, tau_plus);
  require(form == "paper" || form == "advcl" || form == "rocl", "options.form", "'paper', 'advcl' or 'rocl'", "'" + form + "'");
  options.form = form == "paper" ? Form::Paper : form == "advcl" ? Form::AdvCL : Form::RoCL;
  return options;
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def(
      "loss(Tensor features, int views, *, str form='paper', float temperature=0.5, int? adversarial_view=None, float? alpha=None, float weight=1, "
      "float positive_weight=1, float? beta=None, float tau_plus=0, Tensor? labels=None, bool? normalize=None, str precision='full') -> Tensor",
      [](const Tensor& features, int64_t views, std::string form, double temperature, std::optional<int64_t> adversarial_view, std::optional<double> alpha, double weight,
         double positive_weight, std::optional<double> beta, double tau_plus, const std::optional<Tensor>& labels, std::optional<bool> normalize, std::string precision) {
        Options options = options_of(views, form, temperature, adversarial_view, alpha, weight, positive_weight, beta, tau_plus, normalize, precision);
        options.labels = labels;
        return a_infonce(features, options);
      });
  m.def(
      "clean_sums(Tensor clean, int views, *, str form='paper', float temperature=0.5, float? beta=None, float tau_plus=0, bool? normalize=None) -> Tensor",
      [](const Tensor& clean, int64_t views, std::string form, double temperature, std::optional<double> beta, double tau_plus, std::optional<bool> normalize) {
        return clean_sums(clean, options_of(views, form, temperature, {}, {}, 1, 1, beta, tau_plus, normalize, "full"));
      });
  m.def(
      "adversarial_loss(Tensor adversaries, Tensor clean, Tensor sums, int views, *, str form='paper', float temperature=0.5, int? adversarial_view=None, float? alpha=None, "
      "float weight=1, float positive_weight=1, float? beta=None, float tau_plus=0, bool? normalize=None, str precision='full') -> Tensor",
      [](const Tensor& adversaries, const Tensor& clean, const Tensor& sums, int64_t views, std::string form, double temperature, std::optional<int64_t> adversarial_view,
         std::optional<double> alpha, double weight, double positive_weight, std::optional<double> beta, double tau_plus, std::optional<bool> normalize,
         std::string precision) {
        return adversarial_loss(adversaries, clean, sums, options_of(views, form, temperature, adversarial_view, alpha, weight, positive_weight, beta, tau_plus, normalize, precision));
      });
}

}  // namespace a_infonce
