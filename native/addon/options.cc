#include "options.h"

#include "values.h"

namespace flannel::addon {
namespace {

SourceCheck source_check_field(const Napi::Object& object) {
  const std::string value = object.Get("sourceCheck").ToString().Utf8Value();
  if (value == "none") return SourceCheck::none;
  if (value == "peer") return SourceCheck::peer;
  if (value == "subnet") return SourceCheck::subnet;
  throw Napi::RangeError::New(object.Env(), "sourceCheck must be none, peer or subnet");
}

}  // namespace

DataplaneOptions read_options(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsObject()) {
    throw Napi::TypeError::New(info.Env(), "options must be an object");
  }
  const auto object = info[0].As<Napi::Object>();
  DataplaneOptions options{};
  if (!object.Get("tunName").IsString())
    throw Napi::TypeError::New(info.Env(), "tunName must be a string");
  options.tun_name = object.Get("tunName").As<Napi::String>().Utf8Value();
  options.features = read_features(object.Get("features"));
  options.required = object.Get("required").ToBoolean();
  options.split_threads = choice_field(object, "threads", "split", "single");
  options.queues = number_field(object, "queues", DataplaneOptions::kMostQueues);
  options.source_ports = number_field(object, "sourcePorts", DataplaneOptions::kMostSourcePorts);
  if (options.queues == 0 || options.source_ports == 0) {
    throw Napi::RangeError::New(info.Env(), "queues and sourcePorts must be at least 1");
  }
  options.bind_address = read_address(object.Get("bindAddress"), "bindAddress");
  options.port = static_cast<uint16_t>(number_field(object, "port", UINT16_MAX));
  options.buffers.receive = static_cast<int>(number_field(object, "receiveBuffer", INT32_MAX));
  options.buffers.send = static_cast<int>(number_field(object, "sendBuffer", INT32_MAX));
  options.tunnel_addresses.ipv4 = number_field(object, "tunnelAddress", UINT32_MAX);
  const Napi::Value tunnel_address6 = object.Get("tunnelAddress6");
  if (!tunnel_address6.IsNull()) {
    options.tunnel_addresses.ipv6 = read_address(tunnel_address6, "tunnelAddress6");
  }
  options.source_check = source_check_field(object);
  options.clamp_mtu = static_cast<uint16_t>(number_field(object, "clampMtu", UINT16_MAX));
  options.probe_mtu = object.Get("probeMtu").ToBoolean();
  return options;
}

}  // namespace flannel::addon
