#include "tables.h"

#include <arpa/inet.h>

namespace flannel::addon {
namespace {

constexpr size_t kWordsPerAddress = 4;
constexpr size_t kWordsPerRoute = 2 * kWordsPerAddress + 2;
constexpr size_t kWordsPerPeer = kWordsPerAddress + 2;
constexpr size_t kWordsPerRefusal = 2 * kWordsPerAddress;
constexpr size_t kFiguresPerPeer = 4;
/// Above a route's port.
constexpr uint32_t kAnswersProbes = 0x10000;

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

Napi::Uint32Array refused_sources(Napi::Env env, const std::vector<Refusal>& sources) {
  auto words = Napi::Uint32Array::New(env, kWordsPerRefusal * sources.size());
  uint32_t* word = words.Data();
  for (const Refusal& refusal : sources) {
    word = put_address(word, refusal.source);
    word = put_address(word, refusal.inner_source);
  }
  return words;
}

}  // namespace

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

Napi::Object peers_to_js(Napi::Env env, const std::vector<PeerFigures>& peers) {
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

Napi::Object refusals_to_js(Napi::Env env, const Dataplane::Refusals& refusals) {
  auto result = Napi::Object::New(env);
  result.Set("unknownPeers", refused_sources(env, refusals.unknown_peers));
  result.Set("wrongSubnets", refused_sources(env, refusals.wrong_subnets));
  return result;
}

}  // namespace flannel::addon
