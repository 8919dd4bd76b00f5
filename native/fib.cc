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

Route checked(Route route) {
  if (!route.prefix.valid()) throw std::invalid_argument("prefix length beyond the address");
  route.prefix = route.prefix.masked();
  return route;
}

bool by_prefix(const Route& a, const Route& b) noexcept {
  return a.prefix < b.prefix;
}

/// Sorts, and keeps of those with one prefix the last.
void sort_unique(std::vector<Route>& routes) {
  std::stable_sort(routes.begin(), routes.end(), by_prefix);
  // Of equal neighbours the last: the stable sort left them in the caller's order.
  size_t kept = 0;
  for (const Route& route : routes) {
    if (kept > 0 && routes[kept - 1].prefix == route.prefix) kept--;
    routes[kept++] = route;
  }
  routes.resize(kept);
}

/// IPv4 prefixes by rising length: painting them in this order lets each longer one overwrite the
/// part of a shorter one that it covers, and a slot that turned into a chunk is never painted over
/// as a whole.
std::vector<Route> in_paint_order(std::span<const Route> routes) {
  std::vector<Route> sorted(routes.begin(), routes.end());
  std::ranges::stable_sort(sorted, {}, [](const Route& route) { return route.prefix.length; });
  return sorted;
}

}  // namespace

void RouteTable::assign(std::span<const Route> routes) {
  std::vector<Route> next;
  next.reserve(routes.size());
  for (const Route& route : routes) next.push_back(checked(route));
  sort_unique(next);
  for (const Route& route : next) peers_.add(route.next_hop, route.answers_probes);
  for (const Route& route : routes_) peers_.drop(route.next_hop);
  routes_ = std::move(next);
}

void RouteTable::put(Route route) {
  route = checked(route);
  peers_.add(route.next_hop, route.answers_probes);
  const auto at = std::lower_bound(routes_.begin(), routes_.end(), route, by_prefix);
  if (at != routes_.end() && at->prefix == route.prefix) {
    peers_.drop(at->next_hop);
    *at = route;
  } else {
    routes_.insert(at, route);
  }
}

void RouteTable::remove(const Prefix& prefix) {
  const Route route = checked({prefix, {}});
  const auto at = std::lower_bound(routes_.begin(), routes_.end(), route, by_prefix);
  if (at == routes_.end() || at->prefix != route.prefix) return;
  peers_.drop(at->next_hop);
  routes_.erase(at);
}

const Route* RouteTable::find(const Prefix& prefix) const noexcept {
  const Route route{prefix.masked(), {}};
  const auto at = std::lower_bound(routes_.begin(), routes_.end(), route, by_prefix);
  return at != routes_.end() && at->prefix == route.prefix ? &*at : nullptr;
}

const Route* RouteTable::covering(const Prefix& prefix) const noexcept {
  const uint8_t least = prefix.is_ipv4() ? Address::kMapped : 0;
  for (uint8_t length = prefix.length; length-- > least;) {
    if (const Route* route = find({prefix.network, length})) return route;
  }
  return nullptr;
}

std::span<const Route> RouteTable::within(const Prefix& prefix) const noexcept {
  const Route first{prefix.masked(), {}};
  const Route last{{prefix.network.last(prefix.length), Prefix::kBits}, {}};
  const auto begin = std::lower_bound(routes_.begin(), routes_.end(), first, by_prefix);
  const auto end = std::upper_bound(begin, routes_.end(), last, by_prefix);
  return {begin, end};
}

Fib::Fib(const PeerSlots& peers)
    : root_(kRootSize, kNoRoute), peers_(peers.peers()), addresses_(peers.addresses()) {}

Fib::Fib(const Fib& prefixes, const PeerSlots& peers)
    : root_(prefixes.root_),
      chunks_(prefixes.chunks_),
      ipv6_(prefixes.ipv6_),
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
    const uint32_t slot = table.peers().find(route.next_hop);
    if (route.prefix.is_ipv4()) {
      fib->insert(route.prefix, slot + 1);
    } else {
      fib->ipv6_.set(route.prefix, slot);
    }
  }
  fib->size_ = table.routes().size();
  return fib;
}

std::unique_ptr<const Fib> Fib::after(std::span<const Route> changed,
                                      const RouteTable& table) const {
  if (changed.size() > kMostChanges || chunks_.size() > 2 * table.routes().size() + kMostWaste) {
    return of(table);
  }
  auto fib = std::unique_ptr<Fib>(new Fib(*this, table.peers()));
  for (const Route& change : changed) {
    const Prefix prefix = checked(change).prefix;
    if (prefix.is_ipv4()) {
      fib->change_ipv4(prefix, table);
    } else if (const Route* route = table.find(prefix)) {
      fib->ipv6_.set(prefix, table.peers().find(route->next_hop));
    } else {
      fib->ipv6_.remove(prefix);
    }
  }
  fib->size_ = table.routes().size();
  return fib;
}

void Fib::change_ipv4(const Prefix& prefix, const RouteTable& table) {
  const auto leaf = [&](const Route& route) { return table.peers().find(route.next_hop) + 1; };
  // What lies below the prefix shows through where nothing longer covers it.
  const Route* below = table.covering(prefix);
  insert(prefix, below == nullptr ? kNoRoute : leaf(*below));
  for (const Route& route : in_paint_order(table.within(prefix))) {
    insert(route.prefix, leaf(route));
  }
}

void Fib::insert(const Prefix& ipv4, Entry leaf) {
  const auto paint = [leaf](auto& slots, size_t first, size_t count) {
    std::fill_n(slots.begin() + static_cast<ptrdiff_t>(first), count, leaf);
  };
  const uint32_t network = ipv4.network.ipv4();
  const uint8_t length = ipv4.ipv4_length();
  Entry& high = root_[network >> 16];
  if (length <= 16) return paint(root_, network >> 16, size_t{1} << (16 - length));
  high = as_chunk(high);
  const size_t second = high & ~kIsChunk;
  const size_t middle = network >> 8 & 0xff;
  if (length <= 24) return paint(chunks_[second], middle, size_t{1} << (24 - length));

  // as_chunk may move the chunks, so no reference into them is held across it.
  const Entry below = as_chunk(chunks_[second][middle]);
  chunks_[second][middle] = below;
  const size_t low = network & 0xff;
  paint(chunks_[below & ~kIsChunk], low, size_t{1} << (32 - length));
}

/// `entry` itself where it is a chunk already, else a new chunk full of that leaf.
Fib::Entry Fib::as_chunk(Entry entry) {
  if (entry & kIsChunk) return entry;
  chunks_.emplace_back().fill(entry);
  return kIsChunk | static_cast<Entry>(chunks_.size() - 1);
}

}  // namespace flannel
