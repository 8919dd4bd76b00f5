// The classes NetlinkSocket and NetlinkEvents of index.d.ts.
#pragma once

#include <napi.h>

namespace flannel::addon {

/// Their constructors.
Napi::Function define_netlink_socket(Napi::Env env);
Napi::Function define_netlink_events(Napi::Env env);

}  // namespace flannel::addon
