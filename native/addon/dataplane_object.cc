#include "dataplane_object.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "dataplane.h"
#include "environment.h"
#include "errors.h"
#include "options.h"
#include "succession.h"
#include "tables.h"
#include "values.h"

namespace flannel::addon {
namespace {

const char* standing_name(Standing standing) {
  switch (standing) {
    case Standing::owner:
      return "owner";
    case Standing::parked:
      return "parked";
    case Standing::handed_over:
      return "handed over";
    case Standing::deposed:
      return "deposed";
  }
  return "";
}

class DataplaneObject final : public Napi::ObjectWrap<DataplaneObject>, public Environment::Member {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Dataplane",
                       {InstanceAccessor<&DataplaneObject::tun_name>("tunName"),
                        InstanceAccessor<&DataplaneObject::multi_queue>("multiQueue"),
                        InstanceAccessor<&DataplaneObject::can_send_icmp>("canSendIcmp"),
                        InstanceAccessor<&DataplaneObject::inherited>("inherited"),
                        InstanceMethod<&DataplaneObject::start>("start"),
                        InstanceMethod<&DataplaneObject::set_routes>("setRoutes"),
                        InstanceMethod<&DataplaneObject::change_routes>("changeRoutes"),
                        InstanceMethod<&DataplaneObject::stats>("stats"),
                        InstanceMethod<&DataplaneObject::peers>("peers"),
                        InstanceMethod<&DataplaneObject::clamp_mss>("clampMss"),
                        InstanceMethod<&DataplaneObject::learn_path_mtus>("learnPathMtus"),
                        InstanceMethod<&DataplaneObject::take_refusals>("takeRefusals"),
                        InstanceMethod<&DataplaneObject::rebind>("rebind"),
                        InstanceMethod<&DataplaneObject::reopen_device>("reopenDevice"),
                        InstanceMethod<&DataplaneObject::restart>("restart"),
                        InstanceMethod<&DataplaneObject::close>("close")});
  }

  explicit DataplaneObject(const Napi::CallbackInfo& info)
      : ObjectWrap(info), environment_(Environment::of(info.Env())) {
    const Napi::Env env = info.Env();
    options_ = read_options(info);
    const auto object = info[0].As<Napi::Object>();
    const Napi::Value control_socket = object.Get("controlSocket");
    const uint32_t generation = number_field(object, "generation", UINT32_MAX);
    if (control_socket.IsNull()) {
      core_ = guarded(env, [&] { return std::make_unique<Dataplane>(options_); });
    } else if (control_socket.IsString()) {
      const std::string path = control_socket.As<Napi::String>().Utf8Value();
      auto opened = guarded(env, [&] { return Succession::open(options_, path, generation); });
      core_ = std::move(opened.dataplane);
      succession_ = std::move(opened.succession);
    } else {
      throw Napi::TypeError::New(env, "controlSocket must be a string or null");
    }
    inherited_ = succession_ && succession_->standing() == Standing::parked;
    environment_->add(this);
  }

  ~DataplaneObject() override {
    if (!core_) return;
    environment_->remove(this);
    close();
  }
  DataplaneObject(const DataplaneObject&) = delete;
  DataplaneObject& operator=(const DataplaneObject&) = delete;

  void close() override {
    if (succession_) succession_->close();
    core_->close();
  }

 private:
  Napi::Value tun_name(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), core_->tun_name());
  }
  Napi::Value multi_queue(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), core_->multi_queue());
  }
  Napi::Value can_send_icmp(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), core_->can_send_icmp());
  }
  // NOLINTNEXTLINE(readability-make-member-function-const): InstanceAccessor takes no const one.
  Napi::Value inherited(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), inherited_);
  }
  void start(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      if (!succession_) return core_->start();
      succession_->start();
      // The owner before may have been bound elsewhere.
      if (inherited_) core_->rebind(options_.bind_address, options_.port);
    });
  }
  void set_routes(const Napi::CallbackInfo& info) {
    const std::vector<Route> routes = read_routes(info, false);
    guarded(info.Env(), [&] {
      if (succession_) return succession_->set_routes(routes);
      core_->set_routes(routes);
    });
  }
  void change_routes(const Napi::CallbackInfo& info) {
    const std::vector<Route> changes = read_routes(info, true);
    guarded(info.Env(), [&] {
      if (succession_) return succession_->change_routes(changes);
      core_->change_routes(changes);
    });
  }
  void rebind(const Napi::CallbackInfo& info) {
    const Address address = read_address(info[0], "address");
    const double port = read_number(info[1], UINT16_MAX, "port is out of range");
    guarded(info.Env(), [&] { core_->rebind(address, static_cast<uint16_t>(port)); });
  }
  void reopen_device(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { core_->reopen_device(succession_ != nullptr); });
  }
  void restart(const Napi::CallbackInfo& /*info*/) { core_->restart(); }
  void close(const Napi::CallbackInfo& /*info*/) { close(); }

  Napi::Value stats(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto sums = core_->counters();
    auto counters = Napi::Float64Array::New(env, sums.size());
    for (size_t i = 0; i < sums.size(); i++) counters[i] = static_cast<double>(sums[i]);
    auto stats = Napi::Object::New(env);
    stats.Set("counters", counters);
    stats.Set("histograms", histograms(env));
    stats.Set("features", feature_names(env, core_->features()));
    stats.Set("routes", Napi::Number::New(env, static_cast<double>(core_->routes().size())));
    stats.Set("restarts", Napi::Number::New(env, static_cast<double>(core_->restarts())));
    const auto standing = succession_ ? succession_->standing() : Standing::owner;
    stats.Set("standing", Napi::String::New(env, standing_name(standing)));
    const std::string reason = succession_ ? succession_->reason() : "";
    stats.Set("standingReason", reason.empty() ? env.Null() : Napi::String::New(env, reason));
    stats.Set("stoodBy", Napi::Boolean::New(env, succession_ && succession_->stood_by()));
    const int failure = core_->failure();
    stats.Set("failure",
              failure == 0 ? env.Null() : Napi::String::New(env, std::strerror(failure)));
    return stats;
  }
  Napi::Array histograms(Napi::Env env) {
    auto result = Napi::Array::New(env, kHistogramCount);
    for (uint32_t i = 0; i < kHistogramCount; i++) {
      const std::vector<double> values = core_->histogram(static_cast<Histogram>(i));
      auto array = Napi::Float64Array::New(env, values.size());
      std::ranges::copy(values, array.Data());
      result[i] = array;
    }
    return result;
  }

  Napi::Value peers(const Napi::CallbackInfo& info) {
    return peers_to_js(info.Env(), guarded(info.Env(), [&] { return core_->peers(); }));
  }
  Napi::Value take_refusals(const Napi::CallbackInfo& info) {
    return refusals_to_js(info.Env(), guarded(info.Env(), [&] { return core_->take_refusals(); }));
  }

  void clamp_mss(const Napi::CallbackInfo& info) {
    const double mtu = read_number(info[0], UINT16_MAX, "clampMss takes an MTU");
    core_->clamp_mss(static_cast<uint16_t>(mtu));
  }
  void learn_path_mtus(const Napi::CallbackInfo& info) {
    const double link_mtu = read_number(info[0], UINT32_MAX, "learnPathMtus takes an MTU");
    guarded(info.Env(), [&] { core_->learn_path_mtus(static_cast<size_t>(link_mtu)); });
  }

  std::shared_ptr<Environment> environment_;
  DataplaneOptions options_{};
  std::unique_ptr<Dataplane> core_;
  std::unique_ptr<Succession> succession_;  // borrows the core
  bool inherited_ = false;
};

}  // namespace

Napi::Function define_dataplane(Napi::Env env) {
  return DataplaneObject::define(env);
}

}  // namespace flannel::addon
