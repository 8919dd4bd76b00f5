// DataplaneOptions of index.d.ts as those of dataplane.h.
#pragma once

#include <napi.h>

#include "dataplane.h"

namespace flannel::addon {

/// From the first argument, but for `controlSocket` and `generation`, which are not the
/// dataplane's. Throws a JS TypeError or RangeError for the first one that is not as it should be.
DataplaneOptions read_options(const Napi::CallbackInfo& info);

}  // namespace flannel::addon
