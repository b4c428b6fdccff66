// The only file that includes torch/script.h.
#include "torchscript.h"
#include <torch/script.h>
#include <sstream>
#include "../error.h"

namespace a_infonce::nn {
namespace {

/// LibTorch's messages carry stack traces and the script's source; the first line says what happened.
std::string reason(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = c10_error ? c10_error->what_without_backtrace() : error.what();
  // An exception inside the interpreter ends with "RuntimeError: <reason>" below the traceback of the script.
  if (const auto at = text.rfind("RuntimeError: "); at != std::string::npos) text = text.substr(at + 14);
  return text.substr(0, text.find('\n'));
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
    std::ostringstream out;
    out << tensor.sizes() << " " << c10::toString(tensor.scalar_type());
    return out.str();
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
