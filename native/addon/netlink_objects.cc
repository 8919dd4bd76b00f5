#include "netlink_objects.h"

#include <memory>
#include <vector>

#include "errors.h"
#include "netlink.h"

namespace flannel::addon {
namespace {

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

}  // namespace

Napi::Function define_netlink_socket(Napi::Env env) {
  return NetlinkObject::define(env);
}

Napi::Function define_netlink_events(Napi::Env env) {
  return NetlinkEventsObject::define(env);
}

}  // namespace flannel::addon
