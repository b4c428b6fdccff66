// The only file that includes torch/script.h.
#include "torchscript.h"
#include <torch/script.h>
#include <algorithm>
#include <sstream>
#include "../describe.h"
#include "../dtype.h"
#include "../error.h"

namespace a_infonce::nn {
namespace {

/// LibTorch's messages carry stack traces and the script's source. What says why: the first line; of an exception inside the interpreter the line below
/// the traceback ("RuntimeError: <reason>", "builtins.ValueError: <reason>"), with the innermost frame.
std::string reason(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = c10_error ? c10_error->what_without_backtrace() : error.what();
  const std::string first = text.substr(0, text.find('\n')), marker = "<--- HERE\n";
  const auto here = text.rfind(marker);
  if (here == std::string::npos) return first;
  auto at = here + marker.size();
  while (at < text.size() && (text[at] == ' ' || text[at] == '\n')) at = std::min(text.find('\n', at), text.size() - 1) + 1;  // the rest of the frame's source is indented
  std::string raised = text.substr(at, text.find('\n', at) - at);
  for (const std::string prefix : {"builtins.", "RuntimeError: "})
    if (raised.starts_with(prefix)) raised.erase(0, prefix.size());
  const auto frame = text.rfind("\n  File ", here);
  return (raised.empty() ? first : raised) + (frame == std::string::npos ? "" : text.substr(frame, here + marker.size() - 1 - frame));
}

class TorchScriptModel final : public Model {
 public:
  explicit TorchScriptModel(torch::jit::Module module) : module_(std::move(module)) {
    training_ = module_.hasattr("training") && module_.is_training();  // frozen modules have no mode: they are in eval mode for good
  }

  at::Tensor forward(const at::Tensor& images) override {
    const torch::jit::GraphOptimizerEnabledGuard unoptimised(false);  // no profiling runs, no fusion: the first call gives the same bits as the tenth
    torch::jit::IValue output;
    try {
      output = module_.forward({images});
    } catch (const std::exception& error) {
      throw Error(ErrorKind::Operator, "TorchScript module on images " + text(images) + ": " + reason(error));
    }
    if (!output.isTensor())
      throw Error(ErrorKind::Operator, "TorchScript module on images " + text(images) + ": expected a tensor from forward, got " + output.tagKind());
    return output.toTensor();
  }

  void set_training(bool training) override {
    module_.train(training);
    training_ = training;
  }
  bool training() const override { return training_; }

  std::vector<NamedTensor> state() const override {
    std::vector<NamedTensor> result;
    for (const auto& [name, tensor] : module_.named_parameters()) result.push_back({name, tensor, true});
    for (const auto& [name, tensor] : module_.named_buffers()) result.push_back({name, tensor, false});
    return result;
  }

 private:
  static std::string text(const at::Tensor& tensor) {
    return shape_text(tensor.sizes()) + " " + dtype_name(tensor.scalar_type());
  }

  mutable torch::jit::Module module_;
  bool training_;
};

}  // namespace

std::shared_ptr<Model> load_torchscript(const std::string& bytes, const std::string& name) {
  const auto fail = [&](const std::string& message) -> Error {
    Error error(ErrorKind::File, message);
    error.argument = name;
    return error;
  };
  if (bytes.compare(0, 4, "PK\x03\x04") != 0) throw fail("not a TorchScript archive (save it in Python with torch.jit.script(model).save(path))");
  try {
    std::istringstream stream(bytes);
    auto module = torch::jit::load(stream, at::kCPU);
    if (!module.find_method("forward")) throw fail("a TorchScript module without a forward method");
    return std::make_shared<TorchScriptModel>(std::move(module));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw fail("not a TorchScript module that LibTorch can load (" + reason(error) + ")");
  }
}

}  // namespace a_infonce::nn
