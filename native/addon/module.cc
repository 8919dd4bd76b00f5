// All that the addon exports; index.d.ts says what each member promises. The files here are the
// only ones that know Node-API.
#include <napi.h>

#include <memory>
#include <string>

#include "claim.h"
#include "dataplane_object.h"
#include "environment.h"
#include "errors.h"
#include "metrics.h"
#include "netlink_objects.h"
#include "notify.h"
#include "privileges.h"

namespace flannel::addon {
namespace {

Napi::Value find_owner_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = info[0].ToString().Utf8Value();
  const Finding found = guarded(env, [&] { return find_owner(path); });
  auto result = Napi::Object::New(env);
  result.Set("alive", Napi::Boolean::New(env, found.alive));
  result.Set("device", found.device.empty() ? env.Null() : Napi::String::New(env, found.device));
  return result;
}

Napi::Value notify(const Napi::CallbackInfo& info) {
  const std::string state = info[0].ToString().Utf8Value();
  const bool sent = guarded(info.Env(), [&] { return notify_service_manager(state); });
  return Napi::Boolean::New(info.Env(), sent);
}

Napi::Value reduce_privileges_to(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  bool lossless = false;
  const CapabilitySet keep =
      info[0].IsBigInt() ? info[0].As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) throw Napi::TypeError::New(env, "capabilities must be a bigint of 64 bits");
  return Napi::BigInt::New(env, guarded(env, [&] { return reduce_privileges(keep); }));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto environment = std::make_shared<Environment>();
  env.SetInstanceData(new std::shared_ptr<Environment>(environment));
  env.AddCleanupHook([environment] { environment->close_all(); });
  exports.Set("Dataplane", define_dataplane(env));
  exports.Set("NetlinkSocket", define_netlink_socket(env));
  exports.Set("NetlinkEvents", define_netlink_events(env));
  exports.Set("findOwner", Napi::Function::New(env, find_owner_of, "findOwner"));
  exports.Set("notify", Napi::Function::New(env, notify, "notify"));
  exports.Set("reducePrivileges",
              Napi::Function::New(env, reduce_privileges_to, "reducePrivileges"));
  exports.Set("counters", counter_table(env));
  exports.Set("histograms", histogram_table(env));
  return exports;
}

}  // namespace
}  // namespace flannel::addon

namespace {
Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return flannel::addon::init(env, exports);
}
}  // namespace

NODE_API_MODULE(flannel_udp, init_addon)
