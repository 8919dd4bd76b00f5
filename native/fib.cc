#include "fib.h"

#include <algorithm>
#include <stdexcept>

namespace flannel {
namespace {

constexpr size_t kRootSize = 1U << 16;

/// More changes than this at once, and making all anew is no slower.
constexpr size_t kMostChanges = 4096;
/// Chunks that no route uses any more, which changes leave behind, beyond two a route.
constexpr size_t kMostWaste = 1024;

uint32_t mask_of(uint8_t length) noexcept {
  return length == 0 ? 0 : ~uint32_t{0} << (32 - length);
}

Route checked(Route route) {
  if (route.length > 32) throw std::invalid_argument("prefix length above 32");
  route.network &= mask_of(route.length);
  return route;
}

bool by_network(const Route& a, const Route& b) noexcept {
  return a.network != b.network ? a.network < b.network : a.length < b.length;
}

/// Sorts, and keeps of equal ones the last.
template <typename Before>
void sort_unique(std::vector<Route>& routes, Before before) {
  std::stable_sort(routes.begin(), routes.end(), before);
  // Of equal neighbours the last: the stable sort left them in the caller's order.
  size_t kept = 0;
  for (const Route& route : routes) {
    if (kept > 0 && !before(routes[kept - 1], route)) kept--;
    routes[kept++] = route;
  }
  routes.resize(kept);
}

/// The routes by rising prefix length, one per prefix: painting them in this order lets each longer
/// prefix overwrite the part of a shorter one that it covers, and a slot that turned into a chunk
/// is never painted over as a whole.
std::vector<Route> in_paint_order(std::span<const Route> routes) {
  std::vector<Route> sorted;
  sorted.reserve(routes.size());
  for (const Route& route : routes) sorted.push_back(checked(route));
  sort_unique(sorted, [](const Route& a, const Route& b) {
    return a.length != b.length ? a.length < b.length : a.network < b.network;
  });
  return sorted;
}

}  // namespace

void RouteTable::assign(std::span<const Route> routes) {
  std::vector<Route> next;
  next.reserve(routes.size());
  for (const Route& route : routes) next.push_back(checked(route));
  sort_unique(next, by_network);
  for (const Route& route : next) peers_.add(route.next_hop);
  for (const Route& route : routes_) peers_.drop(route.next_hop);
  routes_ = std::move(next);
}

void RouteTable::put(Route route) {
  route = checked(route);
  peers_.add(route.next_hop);
  const auto at = std::lower_bound(routes_.begin(), routes_.end(), route, by_network);
  if (at != routes_.end() && !by_network(route, *at)) {
    peers_.drop(at->next_hop);
    *at = route;
  } else {
    routes_.insert(at, route);
  }
}

void RouteTable::remove(uint32_t network, uint8_t length) {
  const Route route = checked({network, length, {}});
  const auto at = std::lower_bound(routes_.begin(), routes_.end(), route, by_network);
  if (at == routes_.end() || by_network(route, *at)) return;
  peers_.drop(at->next_hop);
  routes_.erase(at);
}

const Route* RouteTable::find(uint32_t network, uint8_t length) const noexcept {
  const Route route{network & mask_of(length), length, {}};
  const auto at = std::lower_bound(routes_.begin(), routes_.end(), route, by_network);
  return at != routes_.end() && !by_network(route, *at) ? &*at : nullptr;
}

const Route* RouteTable::covering(uint32_t network, uint8_t length) const noexcept {
  while (length-- > 0) {
    if (const Route* route = find(network, length)) return route;
  }
  return nullptr;
}

std::span<const Route> RouteTable::within(uint32_t network, uint8_t length) const noexcept {
  const uint32_t first = network & mask_of(length);
  const uint32_t last = first | ~mask_of(length);
  const auto begin =
      std::lower_bound(routes_.begin(), routes_.end(), Route{first, length, {}}, by_network);
  const auto end = std::upper_bound(begin, routes_.end(), Route{last, 32, {}}, by_network);
  return {begin, end};
}

Fib::Fib(const PeerSlots& peers)
    : root_(kRootSize, kNoRoute), peers_(peers.peers()), addresses_(peers.addresses()) {}

Fib::Fib(const Fib& prefixes, const PeerSlots& peers)
    : root_(prefixes.root_),
      chunks_(prefixes.chunks_),
      peers_(peers.peers()),
      addresses_(peers.addresses()) {}

std::unique_ptr<const Fib> Fib::build(std::span<const Route> routes) {
  RouteTable table;
  table.assign(routes);
  return of(table);
}

std::unique_ptr<const Fib> Fib::of(const RouteTable& table) {
  auto fib = std::unique_ptr<Fib>(new Fib(table.peers()));
  for (const Route& route : in_paint_order(table.routes())) {
    fib->insert(route, table.peers().find(route.next_hop) + 1);
  }
  fib->size_ = table.routes().size();
  return fib;
}

std::unique_ptr<const Fib> Fib::after(std::span<const Route> changed,
                                      const RouteTable& table) const {
  const PeerSlots& peers = table.peers();
  if (changed.size() > kMostChanges || chunks_.size() > 2 * table.routes().size() + kMostWaste) {
    return of(table);
  }
  auto fib = std::unique_ptr<Fib>(new Fib(*this, peers));
  for (const Route& change : changed) {
    // What lies below the prefix shows through where nothing longer covers it.
    const Route* below = table.covering(change.network, change.length);
    const auto inside = table.within(change.network, change.length);
    fib->insert(checked(change), below == nullptr ? kNoRoute : peers.find(below->next_hop) + 1);
    for (const Route& route : in_paint_order(inside)) {
      fib->insert(route, peers.find(route.next_hop) + 1);
    }
  }
  fib->size_ = table.routes().size();
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
