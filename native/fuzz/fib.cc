// Forwarding tables, made anew and by changes, against a search through all routes.
#include <map>
#include <stdexcept>

#include "fib.h"
#include "fuzz.h"

namespace flannel::fuzz {
namespace {

constexpr int kMostRounds = 8;

/// Routes by prefix; the definition of longest-prefix match is a walk over them.
using Prefix = std::pair<uint8_t, uint32_t>;
using Table = std::map<Prefix, NextHop>;

uint32_t mask_of(unsigned length) {
  return length == 0 ? 0 : 0xffffffffU << (32 - length);
}

const NextHop* find(const Table& table, uint32_t destination) {
  for (auto route = table.rbegin(); route != table.rend(); ++route) {
    const auto& [length, network] = route->first;
    if ((destination & mask_of(length)) == network) return &route->second;
  }
  return nullptr;
}

void compare(const Fib& fib, const Table& table, uint32_t destination) {
  const NextHop* expected = find(table, destination);
  const NextHop* found = fib.lookup(destination);
  ASSERT_EQ(found == nullptr, expected == nullptr) << destination;
  if (expected != nullptr) {
    EXPECT_EQ(*found, *expected) << destination;
  }
}

/// The borders of every prefix, where mistakes are.
void compare_all(const Fib& fib, const Table& table) {
  EXPECT_EQ(fib.size(), table.size());
  compare(fib, table, 0);
  compare(fib, table, ~0U);
  for (const auto& [prefix, unused] : table) {
    const auto& [length, network] = prefix;
    const uint32_t last = network | ~mask_of(length);
    for (const uint32_t destination : {network, last, network - 1, last + 1}) {
      compare(fib, table, destination);
    }
  }
}

/// Prefixes that crowd together, so that they nest, share borders and repeat.
Route route_from(Input& input) {
  const uint8_t length = input.byte() % 34;
  const uint8_t where = input.byte();
  const uint32_t network = (where & 0x80) != 0
                               ? input.be32()
                               : uint32_t{10} << 24 | (where & 3U) << 16 | (where >> 2 & 3U) << 8 |
                                     (where >> 4 & 7U) << 5;
  const uint8_t hop = input.byte();
  return {network, length, {hop, static_cast<in_port_t>(hop % 8 == 0 ? 0 : 8285)}};
}

bool is_removal(const Route& route) {
  return route.next_hop.port == 0;
}

void change(Table& table, const Route& route) {
  const Prefix prefix{route.length, route.network & mask_of(route.length)};
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
    valid &= route.length <= 32;
    if (route.length <= 32) change(expected, route);
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
      if (route.length > 32) continue;
      change(expected, route);
      changes.push_back(route);
      if (is_removal(route)) {
        table.remove(route.network, route.length);
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
  for (const uint8_t length : {0, 8, 16, 17, 24, 25, 31, 32, 33}) {
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
