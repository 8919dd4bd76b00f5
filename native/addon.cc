// The JS surface, and the only file that knows Node-API. index.d.ts says what each member promises.
#include <arpa/inet.h>
#include <napi.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>

#include "address.h"
#include "dataplane.h"
#include "netlink.h"
#include "notify.h"
#include "privileges.h"
#include "succession.h"

namespace flannel {
namespace {

constexpr size_t kMaxQueues = 64;
constexpr size_t kMaxSourcePorts = 64;
constexpr size_t kWordsPerAddress = 4;
constexpr size_t kWordsPerRoute = 2 * kWordsPerAddress + 2;
constexpr size_t kWordsPerPeer = kWordsPerAddress + 2;
constexpr size_t kWordsPerRefusal = 2 * kWordsPerAddress;
constexpr size_t kFiguresPerPeer = 4;
/// Above a route's port.
constexpr uint32_t kAnswersProbes = 0x10000;

/// A SystemError as the JS Error that index.d.ts calls NativeError.
Napi::Error to_js(Napi::Env env, const SystemError& error) {
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

uint32_t number_field(const Napi::Object& object, const char* key, double most) {
  const Napi::Value value = object.Get(key);
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= most) ||
      number != static_cast<double>(static_cast<uint32_t>(number))) {
    throw Napi::RangeError::New(object.Env(), std::string(key) + " is out of range");
  }
  return static_cast<uint32_t>(number);
}

/// A number (IPv4, host order) or a text (IPv6).
Address read_address(const Napi::Value& value, const char* key) {
  const auto fail = [&] {
    return Napi::RangeError::New(value.Env(), std::string(key) + " is no IP address");
  };
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (!(number >= 0 && number <= UINT32_MAX)) throw fail();
    return Address::of_ipv4(static_cast<uint32_t>(number));
  }
  std::array<uint8_t, Address::kBytes> bytes{};
  if (!value.IsString() ||
      ::inet_pton(AF_INET6, value.As<Napi::String>().Utf8Value().c_str(), bytes.data()) != 1) {
    throw fail();
  }
  return Address::of_bytes(bytes);
}

/// From the words of a table.
Address address_of(const uint32_t* words) noexcept {
  return {uint64_t{words[0]} << 32 | words[1], uint64_t{words[2]} << 32 | words[3]};
}

/// Into the words of a table; returns the first one behind it.
uint32_t* put_address(uint32_t* words, const Address& address) noexcept {
  for (const uint64_t half : {address.high, address.low}) {
    *words++ = static_cast<uint32_t>(half >> 32);
    *words++ = static_cast<uint32_t>(half);
  }
  return words;
}

/// True for `yes`, false for `no`.
bool choice_field(const Napi::Object& object, const char* key, const char* yes, const char* no) {
  const std::string value = object.Get(key).ToString().Utf8Value();
  if (value != yes && value != no) {
    throw Napi::RangeError::New(object.Env(), std::string(key) + " must be " + yes + " or " + no);
  }
  return value == yes;
}

SourceCheck source_check_field(const Napi::Object& object) {
  const std::string value = object.Get("sourceCheck").ToString().Utf8Value();
  if (value == "none") return SourceCheck::none;
  if (value == "peer") return SourceCheck::peer;
  if (value == "subnet") return SourceCheck::subnet;
  throw Napi::RangeError::New(object.Env(), "sourceCheck must be none, peer or subnet");
}

FeatureSet features_field(const Napi::Object& object) {
  const Napi::Value value = object.Get("features");
  if (!value.IsArray())
    throw Napi::TypeError::New(object.Env(), "features must be an array of names");
  const auto names = value.As<Napi::Array>();
  FeatureSet features;
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string name = names.Get(i).ToString().Utf8Value();
    const auto* info = std::find_if(kFeatures.begin(), kFeatures.end(),
                                    [&](const FeatureInfo& known) { return known.name == name; });
    if (info == kFeatures.end())
      throw Napi::RangeError::New(object.Env(), "unknown feature " + name);
    features.add(info->feature);
  }
  return features;
}

Napi::Array feature_names(Napi::Env env, FeatureSet features) {
  auto names = Napi::Array::New(env);
  for (const FeatureInfo& info : kFeatures) {
    if (features.has(info.feature)) names.Set(names.Length(), std::string(info.name));
  }
  return names;
}

DataplaneOptions read_options(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsObject()) {
    throw Napi::TypeError::New(info.Env(), "options must be an object");
  }
  const auto object = info[0].As<Napi::Object>();
  DataplaneOptions options{};
  if (!object.Get("tunName").IsString())
    throw Napi::TypeError::New(info.Env(), "tunName must be a string");
  options.tun_name = object.Get("tunName").As<Napi::String>().Utf8Value();
  options.features = features_field(object);
  options.required = object.Get("required").ToBoolean();
  options.split_threads = choice_field(object, "threads", "split", "single");
  options.queues = number_field(object, "queues", kMaxQueues);
  options.source_ports = number_field(object, "sourcePorts", kMaxSourcePorts);
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

/// `removals`: whether a port may be 0, for a route that is to go.
std::vector<Route> read_routes(const Napi::CallbackInfo& info, bool removals) {
  const auto fail = [&] {
    return Napi::RangeError::New(info.Env(),
                                 "routes must be a Uint32Array of valid ten-word records");
  };
  if (info.Length() < 1 || !info[0].IsTypedArray()) throw fail();
  if (info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) throw fail();
  const auto words = info[0].As<Napi::Uint32Array>();
  if (words.ArrayBuffer().IsDetached() || words.ElementLength() % kWordsPerRoute != 0) throw fail();
  std::vector<Route> routes;
  routes.reserve(words.ElementLength() / kWordsPerRoute);
  for (size_t i = 0; i < words.ElementLength(); i += kWordsPerRoute) {
    const uint32_t* word = words.Data() + i;
    const uint32_t length = word[kWordsPerAddress];
    const uint32_t port = word[kWordsPerRoute - 1] & ~kAnswersProbes;
    const bool answers_probes = (word[kWordsPerRoute - 1] & kAnswersProbes) != 0;
    if (length > Prefix::kBits || (port == 0 && !removals) || port > UINT16_MAX) throw fail();
    const NextHop next_hop{address_of(word + kWordsPerAddress + 1),
                           htons(static_cast<uint16_t>(port))};
    routes.push_back({{address_of(word), static_cast<uint8_t>(length)}, next_hop, answers_probes});
  }
  return routes;
}

/// The dataplanes of one JS environment. When it ends (also by worker.terminate()), no finalizer of
/// JS objects is sure to have run, so the environment's clean-up hook joins every thread through
/// this.
class Environment {
 public:
  /// Something with threads of its own.
  class Member {
   public:
    virtual void close() = 0;

   protected:
    ~Member() = default;
  };

  static std::shared_ptr<Environment> of(Napi::Env env) {
    return *env.GetInstanceData<std::shared_ptr<Environment>>();
  }
  void add(Member* member) { members_.insert(member); }
  void remove(Member* member) { members_.erase(member); }
  void close_all() {
    for (Member* member : members_) member->close();
  }

 private:
  std::set<Member*> members_;
};

class DataplaneObject : public Napi::ObjectWrap<DataplaneObject>, public Environment::Member {
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
      if (succession_)
        succession_->set_routes(routes);
      else
        core_->set_routes(routes);
    });
  }
  void change_routes(const Napi::CallbackInfo& info) {
    const std::vector<Route> changes = read_routes(info, true);
    guarded(info.Env(), [&] {
      if (succession_)
        succession_->change_routes(changes);
      else
        core_->change_routes(changes);
    });
  }
  void rebind(const Napi::CallbackInfo& info) {
    const Address address = read_address(info[0], "address");
    const double port = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : -1;
    if (!(port >= 0 && port <= UINT16_MAX)) {
      throw Napi::RangeError::New(info.Env(), "port is out of range");
    }
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
    const Napi::Env env = info.Env();
    const std::vector<PeerFigures> peers = guarded(env, [&] { return core_->peers(); });
    auto words = Napi::Uint32Array::New(env, peers.size() * kWordsPerPeer);
    auto figures = Napi::Float64Array::New(env, peers.size() * kFiguresPerPeer);
    uint32_t* word = words.Data();
    double* figure = figures.Data();
    for (const PeerFigures& each : peers) {
      word = put_address(word, each.peer.address);
      *word++ = ntohs(each.peer.port);
      *word++ = static_cast<uint32_t>(each.path_mtu);
      for (const uint64_t value :
           {each.out.packets, each.out.bytes, each.in.packets, each.in.bytes}) {
        *figure++ = static_cast<double>(value);
      }
    }
    auto result = Napi::Object::New(env);
    result.Set("words", words);
    result.Set("figures", figures);
    return result;
  }

  void clamp_mss(const Napi::CallbackInfo& info) {
    const double mtu = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    if (!(mtu >= 0 && mtu <= UINT16_MAX)) {
      throw Napi::RangeError::New(info.Env(), "clampMss takes an MTU");
    }
    core_->clamp_mss(static_cast<uint16_t>(mtu));
  }

  void learn_path_mtus(const Napi::CallbackInfo& info) {
    const double link_mtu = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    if (!(link_mtu >= 0 && link_mtu <= UINT32_MAX)) {
      throw Napi::RangeError::New(info.Env(), "learnPathMtus takes an MTU");
    }
    guarded(info.Env(), [&] { core_->learn_path_mtus(static_cast<size_t>(link_mtu)); });
  }

  Napi::Value take_refusals(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Dataplane::Refusals refusals = guarded(env, [&] { return core_->take_refusals(); });
    const auto words = [&](const std::vector<Refusal>& sources) {
      auto array = Napi::Uint32Array::New(env, kWordsPerRefusal * sources.size());
      uint32_t* word = array.Data();
      for (const Refusal& refusal : sources) {
        word = put_address(word, refusal.source);
        word = put_address(word, refusal.inner_source);
      }
      return array;
    };
    auto result = Napi::Object::New(env);
    result.Set("unknownPeers", words(refusals.unknown_peers));
    result.Set("wrongSubnets", words(refusals.wrong_subnets));
    return result;
  }

  std::shared_ptr<Environment> environment_;
  DataplaneOptions options_{};
  std::unique_ptr<Dataplane> core_;
  std::unique_ptr<Succession> succession_;  // borrows the core
  bool inherited_ = false;
};

Napi::Array to_buffers(Napi::Env env, const std::vector<Bytes>& messages) {
  auto buffers = Napi::Array::New(env, messages.size());
  for (uint32_t i = 0; i < messages.size(); i++) {
    buffers[i] = Napi::Buffer<uint8_t>::Copy(env, messages[i].data(), messages[i].size());
  }
  return buffers;
}

class NetlinkObject : public Napi::ObjectWrap<NetlinkObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NetlinkSocket",
                       {InstanceMethod<&NetlinkObject::request>("request"),
                        InstanceMethod<&NetlinkObject::close>("close")});
  }

  explicit NetlinkObject(const Napi::CallbackInfo& info)
      : ObjectWrap(info),
        core_(guarded(info.Env(), [] { return std::make_unique<NetlinkSocket>(); })) {}

 private:
  Napi::Value request(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsTypedArray() ||
        info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
      throw Napi::TypeError::New(env, "message must be a Uint8Array");
    }
    const auto message = info[0].As<Napi::Uint8Array>();
    const auto answer = guarded(env, [&] {
      return core_->request({message.Data(), message.ElementLength()});
    });
    return to_buffers(env, answer);
  }
  void close(const Napi::CallbackInfo& /*info*/) { core_->close(); }

  std::unique_ptr<NetlinkSocket> core_;
};

/// The waiting thread hands over nothing but the word that there is news, through a queue of one:
/// as long as the event loop has not taken it, further words say nothing new.
class NetlinkEventsObject : public Napi::ObjectWrap<NetlinkEventsObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NetlinkEvents",
                       {InstanceMethod<&NetlinkEventsObject::read>("read"),
                        InstanceMethod<&NetlinkEventsObject::close>("close")});
  }

  explicit NetlinkEventsObject(const Napi::CallbackInfo& info)
      : ObjectWrap(info), env_(info.Env()) {
    if (!info[0].IsNumber()) throw Napi::TypeError::New(env_, "family must be a number");
    const int family = info[0].ToNumber().Int32Value();
    const std::vector<uint32_t> groups = read_groups(info);
    if (!info[2].IsFunction()) throw Napi::TypeError::New(env_, "readable must be a function");
    readable_ = Napi::ThreadSafeFunction::New(env_, info[2].As<Napi::Function>(), "netlink", 1, 1);
    readable_.Unref(env_);
    try {
      core_ = guarded(env_, [&] {
        return std::make_unique<NetlinkEvents>(
            family, groups, [readable = readable_] { readable.NonBlockingCall(); });
      });
    } catch (...) {
      readable_.Abort();
      throw;
    }
    // Registered after the function's own hook, hence run before it: the thread ends first.
    napi_add_env_cleanup_hook(env_, &end_with_environment, this);
  }

  ~NetlinkEventsObject() override { end(); }
  NetlinkEventsObject(const NetlinkEventsObject&) = delete;
  NetlinkEventsObject& operator=(const NetlinkEventsObject&) = delete;

 private:
  static std::vector<uint32_t> read_groups(const Napi::CallbackInfo& info) {
    if (!info[1].IsArray())
      throw Napi::TypeError::New(info.Env(), "groups must be an array of numbers");
    const auto numbers = info[1].As<Napi::Array>();
    std::vector<uint32_t> groups;
    for (uint32_t i = 0; i < numbers.Length(); i++) {
      groups.push_back(numbers.Get(i).ToNumber().Uint32Value());
    }
    return groups;
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const NetlinkNews fetched = core_ ? guarded(env, [&] { return core_->read(); }) : NetlinkNews{};
    auto news = Napi::Object::New(env);
    news.Set("messages", to_buffers(env, fetched.messages));
    news.Set("overrun", Napi::Boolean::New(env, fetched.overrun));
    return news;
  }

  void close(const Napi::CallbackInfo& /*info*/) { end(); }

  static void end_with_environment(void* self) { static_cast<NetlinkEventsObject*>(self)->end(); }

  void end() {
    if (!core_) return;
    core_.reset();
    readable_.Abort();
    napi_remove_env_cleanup_hook(env_, &end_with_environment, this);
  }

  napi_env env_;
  Napi::ThreadSafeFunction readable_;
  std::unique_ptr<NetlinkEvents> core_;
};

Napi::Array counter_table(Napi::Env env) {
  auto table = Napi::Array::New(env, kCounterCount);
  const auto text = [env](std::string_view view) {
    return Napi::String::New(env, view.data(), view.size());
  };
  for (uint32_t i = 0; i < kCounterCount; i++) {
    auto row = Napi::Object::New(env);
    row.Set("name", text(kCounters[i].name));
    row.Set("direction", text(kCounters[i].direction));
    row.Set("role", text(kCounters[i].role));
    row.Set("help", text(kCounters[i].help));
    table[i] = row;
  }
  return table;
}

Napi::Array histogram_table(Napi::Env env) {
  auto table = Napi::Array::New(env, kHistogramCount);
  for (uint32_t i = 0; i < kHistogramCount; i++) {
    const HistogramInfo& info = kHistograms[i];
    auto bounds = Napi::Array::New(env, info.buckets);
    for (uint32_t bucket = 0; bucket < info.buckets; bucket++) {
      bounds[bucket] = std::ldexp(info.unit, static_cast<int>(info.first + bucket));
    }
    auto row = Napi::Object::New(env);
    row.Set("name", std::string(info.name));
    row.Set("direction", std::string(info.direction));
    row.Set("help", std::string(info.help));
    row.Set("bounds", bounds);
    table[i] = row;
  }
  return table;
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

Napi::Value find_owner_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = info[0].ToString().Utf8Value();
  const Finding found = guarded(env, [&] { return find_owner(path); });
  auto result = Napi::Object::New(env);
  result.Set("alive", Napi::Boolean::New(env, found.alive));
  result.Set("device", found.device.empty() ? env.Null() : Napi::String::New(env, found.device));
  return result;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto environment = std::make_shared<Environment>();
  env.SetInstanceData(new std::shared_ptr<Environment>(environment));
  env.AddCleanupHook([environment] { environment->close_all(); });
  exports.Set("Dataplane", DataplaneObject::define(env));
  exports.Set("NetlinkSocket", NetlinkObject::define(env));
  exports.Set("findOwner", Napi::Function::New(env, find_owner_of, "findOwner"));
  exports.Set("NetlinkEvents", NetlinkEventsObject::define(env));
  exports.Set("notify", Napi::Function::New(env, notify, "notify"));
  exports.Set("reducePrivileges",
              Napi::Function::New(env, reduce_privileges_to, "reducePrivileges"));
  exports.Set("counters", counter_table(env));
  exports.Set("histograms", histogram_table(env));
  return exports;
}

}  // namespace
}  // namespace flannel

namespace {
Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return flannel::init(env, exports);
}
}  // namespace

NODE_API_MODULE(flannel_udp, init_addon)
