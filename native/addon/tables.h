// Tables as they cross between JavaScript and the core: arrays of words and of figures, so that
// thousands of rows cost no thousands of objects. index.d.ts says what a row of each is.
#pragma once

#include <napi.h>

#include <vector>

#include "dataplane.h"

namespace flannel::addon {

/// From the first argument. `removals`: whether a port may be 0, for a route that is to go. Throws
/// a JS RangeError.
std::vector<Route> read_routes(const Napi::CallbackInfo& info, bool removals);
/// What Dataplane.peers() of index.d.ts returns.
Napi::Object peers_to_js(Napi::Env env, const std::vector<PeerFigures>& peers);
/// What Dataplane.takeRefusals() of index.d.ts returns.
Napi::Object refusals_to_js(Napi::Env env, const Dataplane::Refusals& refusals);

}  // namespace flannel::addon
