// The core's exceptions as JS ones.
#pragma once

#include <napi.h>

#include <cerrno>
#include <new>
#include <stdexcept>

#include "syscalls.h"

namespace flannel::addon {

/// A SystemError as the JS Error that index.d.ts calls NativeError.
inline Napi::Error to_js(Napi::Env env, const SystemError& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  js.Set("errno", Napi::Number::New(env, error.code().value()));
  js.Set("syscall", Napi::String::New(env, error.call()));
  return js;
}

/// Runs `body` and turns the core's exceptions into JS ones.
template <typename Body>
auto guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const SystemError& error) {
    throw to_js(env, error);
  } catch (const std::invalid_argument& error) {
    throw Napi::RangeError::New(env, error.what());
  } catch (const std::bad_alloc&) {
    throw to_js(env, SystemError(ENOMEM, "allocate"));
  }
}

}  // namespace flannel::addon
