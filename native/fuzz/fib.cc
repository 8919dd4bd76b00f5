// Forwarding tables, made anew and by changes, against a search through all routes.
#include <map>
#include <stdexcept>

#include "fib.h"
#include "fuzz.h"

namespace flannel::fuzz {
namespace {

constexpr int kMostRounds = 8;

/// Longer prefixes later; the definition of longest-prefix match is a walk over them.
struct ByLength {
  bool operator()(const Prefix& a, const Prefix& b) const {
    return a.length != b.length ? a.length < b.length : a.network < b.network;
  }
};
using Table = std::map<Prefix, NextHop, ByLength>;

const NextHop* find(const Table& table, const Address& destination) {
  for (auto route = table.rbegin(); route != table.rend(); ++route) {
    const Prefix& prefix = route->first;
    if (prefix.is_ipv4() == destination.is_ipv4() &&
        destination.prefix(prefix.length) == prefix.network) {
      return &route->second;
    }
  }
  return nullptr;
}

void compare(const Fib& fib, const Table& table, const Address& destination) {
  const NextHop* expected = find(table, destination);
  const NextHop* found =
      destination.is_ipv4() ? fib.lookup(destination.ipv4()) : fib.lookup(destination);
  ASSERT_EQ(found == nullptr, expected == nullptr) << destination.high << ' ' << destination.low;
  if (expected != nullptr) {
    EXPECT_EQ(*found, *expected) << destination.high << ' ' << destination.low;
  }
}

/// The borders of every prefix, where mistakes are.
void compare_all(const Fib& fib, const Table& table) {
  EXPECT_EQ(fib.size(), table.size());
  for (const Address& end : {Address::of_ipv4(0), Address::of_ipv4(~0U), Address{0, 1},
                             Address{~uint64_t{0}, ~uint64_t{0}}}) {
    compare(fib, table, end);
  }
  for (const auto& [prefix, unused] : table) {
    const Address first = prefix.network;
    const Address last = first.last(prefix.length);
    for (const Address& destination :
         {first, last, Address{first.high, first.low - 1}, Address{last.high, last.low + 1}}) {
      compare(fib, table, destination);
    }
  }
}

/// Prefixes of both families that crowd together, so that they nest, share borders and repeat. A
/// length of 129 is none.
Route route_from(Input& input) {
  const uint8_t length = input.byte();
  const uint8_t where = input.byte();
  const uint32_t network = (where & 0x80) != 0
                               ? input.be32()
                               : uint32_t{10} << 24 | (where & 3U) << 16 | (where >> 2 & 3U) << 8 |
                                     (where >> 4 & 7U) << 5;
  const uint8_t hop = input.byte();
  const NextHop next_hop{Address::of_ipv4(hop), static_cast<in_port_t>(hop % 8 == 0 ? 0 : 8285)};
  if ((length & 0x80) == 0) return {{network, static_cast<uint8_t>(length % 34)}, next_hop};
  const Address ipv6{0xfd00'0000'0000'0000 | network, uint64_t{network} << 32 | network};
  return {{ipv6, static_cast<uint8_t>(where % 2 == 0 ? (length & 0x7fU) + 1U : 64U)}, next_hop};
}

bool is_removal(const Route& route) {
  return route.next_hop.port == 0;
}

void change(Table& table, const Route& route) {
  const Prefix prefix = route.prefix.masked();
  if (is_removal(route)) {
    table.erase(prefix);
  } else {
    table[prefix] = route.next_hop;
  }
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  std::vector<Route> routes;
  Table expected;
  bool valid = true;
  for (size_t count = input.byte(); count > 0 && !input.empty(); count--) {
    Route route = route_from(input);
    route.next_hop.port = 8285;
    valid &= route.prefix.valid();
    if (route.prefix.valid()) change(expected, route);
    routes.push_back(route);
  }
  RouteTable table;
  if (!valid) {
    EXPECT_THROW(table.assign(routes), std::invalid_argument);
    EXPECT_THROW(Fib::build(routes), std::invalid_argument);
    return;
  }
  table.assign(routes);
  auto fib = Fib::build(routes);
  compare_all(*fib, expected);

  for (int round = 0; round < kMostRounds && !input.empty(); round++) {
    std::vector<Route> changes;
    for (size_t count = 1 + input.byte() % 8U; count > 0; count--) {
      const Route route = route_from(input);
      if (!route.prefix.valid()) continue;
      change(expected, route);
      changes.push_back(route);
      if (is_removal(route)) {
        table.remove(route.prefix);
      } else {
        table.put(route);
      }
    }
    fib = fib->after(changes, table);
    ASSERT_EQ(table.routes().size(), expected.size());
    compare_all(*fib, expected);
  }
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  // With the upper bit set it is IPv6.
  for (const uint8_t length : {0, 8, 16, 17, 24, 25, 31, 32, 33, 0x80, 0xaf, 0xbf, 0xff}) {
    Seed seed = Seed().byte(3);
    for (const uint8_t where : {0x00, 0x15, 0x7f}) seed.byte(length).byte(where).byte(where + 1U);
    for (int i = 0; i < 3; i++)
      seed.byte(1).byte(24).byte(0x15).byte(i == 1 ? 8 : 9).byte(length).byte(0).byte(0);
    result.push_back(seed);
    result.push_back(Seed().byte(1).byte(length).byte(0x80).be32(0xfffffffe).byte(5));
  }
  return result;
}

}  // namespace flannel::fuzz
