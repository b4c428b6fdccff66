// The rooms of the addon: each .cc exports the native functions of one area. No numerics here, only conversion.
#pragma once
#include <c10/util/Exception.h>
#include "../error.h"
#include "napi_setup.h"

namespace a_infonce::addon {

void export_runtime(Napi::Env env, Napi::Object exports);    // versions, threads, seeds, grad mode, instruction set
void export_jobs(Napi::Env env, Napi::Object exports);       // the end of the process while jobs run
void export_tensor(Napi::Env env, Napi::Object exports);     // data in and out, views of a tensor's state, backward, memory()
void export_operators(Napi::Env env, Napi::Object exports);  // every registered operator through the dispatcher
void export_model(Napi::Env env, Napi::Object exports);      // encoders, classifiers, TorchScript modules
void export_attack(Napi::Env env, Napi::Object exports);     // pgd
void export_data(Napi::Env env, Napi::Object exports);       // augmentation, procedural images
void export_training(Napi::Env env, Napi::Object exports);   // training steps, optimizers
void export_analysis(Napi::Env env, Napi::Object exports);   // embeddings and their similarities
void export_files(Napi::Env env, Napi::Object exports);      // the lock on a run folder

using NativeFunction = Napi::Value (*)(const Napi::CallbackInfo&);

/// exports.<name> = fn, with every C++ exception turned into the typed JavaScript error.
void export_function(Napi::Env env, Napi::Object exports, const char* name, NativeFunction fn);

/// OutOfMemory where LibTorch found no memory, else Operator.
ErrorKind kind_of(const c10::Error& error);

/// What LibTorch says of it, without its advice and its traces.
std::string message_of(const c10::Error& error);

/// The JavaScript error object for the exception in flight (call inside a catch block, on the JS thread).
Napi::Error to_javascript_error(Napi::Env env, std::exception_ptr error);

}  // namespace a_infonce::addon
