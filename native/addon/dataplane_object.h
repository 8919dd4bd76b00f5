// The class Dataplane of index.d.ts.
#pragma once

#include <napi.h>

namespace flannel::addon {

/// Its constructor. The environment has to have its Environment already.
Napi::Function define_dataplane(Napi::Env env);

}  // namespace flannel::addon
