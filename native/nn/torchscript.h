// Models scripted or traced by PyTorch. A TorchScript file is a program, run by LibTorch's interpreter: it computes, it is not a pickle of Python.
#pragma once
#include <memory>
#include <string>
#include "model.h"

namespace a_infonce::nn {

/// Loads an archive saved by torch.jit.save, on the CPU and in the mode it was saved in. Throws Error{File} naming `name` when the bytes are damaged or something else.
std::shared_ptr<Model> load_torchscript(const std::string& bytes, const std::string& name);

}  // namespace a_infonce::nn
