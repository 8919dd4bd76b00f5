#include "fib.h"

#include <algorithm>
#include <stdexcept>
#include <unordered_map>

namespace flannel {
namespace {

constexpr size_t kRootSize = 1U << 16;

uint32_t mask_of(uint8_t length) noexcept {
  return length == 0 ? 0 : ~uint32_t{0} << (32 - length);
}

/// The routes by rising prefix length, one per prefix: painting them in this order lets each longer
/// prefix overwrite the part of a shorter one that it covers, and a slot that turned into a chunk
/// is never painted over as a whole.
std::vector<Route> in_paint_order(std::span<const Route> routes) {
  std::vector<Route> sorted;
  sorted.reserve(routes.size());
  for (Route route : routes) {
    if (route.length > 32) throw std::invalid_argument("prefix length above 32");
    route.network &= mask_of(route.length);
    sorted.push_back(route);
  }
  const auto before = [](const Route& a, const Route& b) {
    return a.length != b.length ? a.length < b.length : a.network < b.network;
  };
  std::stable_sort(sorted.begin(), sorted.end(), before);
  // Of equal neighbours keep the last: the stable sort left them in the caller's order.
  std::vector<Route> unique;
  unique.reserve(sorted.size());
  for (const Route& route : sorted) {
    if (!unique.empty() && !before(unique.back(), route)) unique.pop_back();
    unique.push_back(route);
  }
  return unique;
}

}  // namespace

Fib::Fib() : root_(kRootSize, kNoRoute) {}

std::unique_ptr<const Fib> Fib::build(std::span<const Route> routes) {
  auto fib = std::unique_ptr<Fib>(new Fib);
  // Many prefixes may share a next hop; one copy each keeps the table small enough for the cache.
  std::unordered_map<uint64_t, Entry> leaves;
  for (const Route& route : in_paint_order(routes)) {
    const uint64_t key = uint64_t{route.next_hop.address} << 16 | route.next_hop.port;
    const auto [leaf, is_new] = leaves.try_emplace(key, fib->next_hops_.size() + 1);
    if (is_new) fib->next_hops_.push_back(route.next_hop);
    fib->insert(route, leaf->second);
    fib->size_++;
  }
  return fib;
}

void Fib::insert(const Route& route, Entry leaf) {
  const auto paint = [leaf](auto& slots, size_t first, size_t count) {
    std::fill_n(slots.begin() + static_cast<ptrdiff_t>(first), count, leaf);
  };
  Entry& high = root_[route.network >> 16];
  if (route.length <= 16) {
    return paint(root_, route.network >> 16, size_t{1} << (16 - route.length));
  }
  high = as_chunk(high);
  const size_t second = high & ~kIsChunk;
  const size_t middle = route.network >> 8 & 0xff;
  if (route.length <= 24) return paint(chunks_[second], middle, size_t{1} << (24 - route.length));

  // as_chunk may move the chunks, so no reference into them is held across it.
  const Entry below = as_chunk(chunks_[second][middle]);
  chunks_[second][middle] = below;
  const size_t low = route.network & 0xff;
  paint(chunks_[below & ~kIsChunk], low, size_t{1} << (32 - route.length));
}

/// `entry` itself where it is a chunk already, else a new chunk full of that leaf.
Fib::Entry Fib::as_chunk(Entry entry) {
  if (entry & kIsChunk) return entry;
  chunks_.emplace_back().fill(entry);
  return kIsChunk | static_cast<Entry>(chunks_.size() - 1);
}

}  // namespace flannel
