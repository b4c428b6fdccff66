// Opens shared libraries by their paths. A library of the same SONAME that is loaded later is then this one: so the addon, which finds LibTorch beside it, takes
// another LibTorch that was opened before it. No LibTorch here, and nothing of the addon.
#define NAPI_VERSION 9
#include <dlfcn.h>
#include <limits.h>
#include <node_api.h>

/// open(path): undefined, or throws what the system's loader says.
static napi_value open_library(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  char path[PATH_MAX];
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != napi_ok || count != 1 ||
      napi_get_value_string_utf8(env, argument, path, sizeof path, NULL) != napi_ok) {
    napi_throw_type_error(env, NULL, "path: expected a string");
  } else if (!dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    napi_throw_error(env, NULL, dlerror());
  }
  return NULL;
}

NAPI_MODULE_INIT() {
  napi_value function;
  if (napi_create_function(env, "open", NAPI_AUTO_LENGTH, open_library, NULL, &function) == napi_ok) napi_set_named_property(env, exports, "open", function);
  return exports;
}
