#include "fib.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace flannel::test {
namespace {

NextHop hop(uint32_t n) {
  return {Address::of_ipv4(0xc0a80000 + n), htons(8285)};
}

/// Of either family, and one of few, most of them neighbours.
Address crowded(std::mt19937_64& random) {
  const auto near =
      static_cast<uint32_t>((random() % 4) << 30 | (random() % 2) << 20 | random() % (1 << 20));
  if (random() % 2 == 0) return Address::of_ipv4(near);
  return {0xfd00'0000'0000'0000 | near, uint64_t{near} << 32 | near >> 16};
}

/// Of any length, and of the address's family.
Prefix prefix_of(const Address& address, std::mt19937_64& random) {
  const uint8_t least = address.is_ipv4() ? Address::kMapped : 0;
  return {address, static_cast<uint8_t>(least + random() % (Prefix::kBits + 1U - least))};
}

/// Whether the first bits of two addresses are the same, bit by bit.
bool share_bits(const Address& a, const Address& b, uint8_t length) {
  const auto left = a.to_bytes();
  const auto right = b.to_bytes();
  for (unsigned bit = 0; bit < length; bit++) {
    if (((left[bit / 8] ^ right[bit / 8]) & (0x80U >> bit % 8)) != 0) return false;
  }
  return true;
}

/// The definition of longest-prefix match, word by word.
const NextHop* oracle(const std::vector<Route>& routes, const Address& destination) {
  const Route* best = nullptr;
  for (const Route& route : routes) {
    const bool covers = route.prefix.is_ipv4() == destination.is_ipv4() &&
                        share_bits(destination, route.prefix.network, route.prefix.length);
    if (covers && (best == nullptr || route.prefix.length >= best->prefix.length)) best = &route;
  }
  return best == nullptr ? nullptr : &best->next_hop;
}

std::string show(const NextHop* next_hop) {
  return next_hop == nullptr ? "none" : std::to_string(next_hop->address.ipv4());
}

void compare(const Fib& fib, const std::vector<Route>& routes, const Address& destination,
             uint64_t seed) {
  const NextHop* expected = oracle(routes, destination);
  const NextHop* found =
      destination.is_ipv4() ? fib.lookup(destination.ipv4()) : fib.lookup(destination);
  ASSERT_EQ(show(found), show(expected)) << "destination " << std::hex << destination.high << ' '
                                         << destination.low << ", seed " << std::dec << seed;
}

TEST(Fib, AgreesWithALinearSearchOver100SeedsOf10000Lookups) {
  for (uint64_t seed = 0; seed < 100; seed++) {
    std::mt19937_64 random(seed);
    // Prefixes of both families crowd into a few /12s, so that they nest, share borders and repeat.
    const auto address = [&] { return crowded(random); };
    std::vector<Route> routes;
    const size_t count = random() % 200;
    for (uint32_t i = 0; i < count; i++) {
      routes.push_back({prefix_of(address(), random), hop(i % 50)});
    }
    const auto fib = Fib::build(routes);
    for (int i = 0; i < 10'000; i++) {
      Address destination = address();
      if (!routes.empty() && i % 2 == 0) {
        // The borders of a prefix are where a table goes wrong.
        const Prefix& prefix = routes[random() % routes.size()].prefix;
        const Address first = prefix.masked().network;
        const Address last = prefix.network.last(prefix.length);
        const Address borders[] = {
            first, {first.high, first.low - 1}, last, {last.high, last.low + 1}};
        destination = borders[random() % 4];
      }
      compare(*fib, routes, destination, seed);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Fib, ChangesLeadToTheTableThatIsMadeAnew) {
  for (uint64_t seed = 0; seed < 100; seed++) {
    std::mt19937_64 random(seed);
    const auto address = [&] { return crowded(random); };
    RouteTable table;
    auto fib = Fib::build({});
    for (int round = 0; round < 200; round++) {
      std::vector<Route> changes;
      for (size_t count = 1 + random() % 4; count > 0; count--) {
        Route change{prefix_of(address(), random), hop(random() % 50)};
        const bool removes = random() % 3 == 0;
        if (removes && !table.routes().empty()) {
          change = table.routes()[random() % table.routes().size()];
        }
        if (removes)
          table.remove(change.prefix);
        else
          table.put(change);
        changes.push_back(change);
      }
      table.settle();
      fib = fib->after(changes, table);
      ASSERT_EQ(fib->size(), table.routes().size());
      for (int i = 0; i < 50; i++) {
        const Prefix& prefix = changes[random() % changes.size()].prefix;
        const Address last = prefix.network.last(prefix.length);
        const Address any = address();
        const Address inside{prefix.masked().network.high | (any.high & last.high),
                             prefix.masked().network.low | (any.low & last.low)};
        compare(*fib, table.routes(), i % 2 == 0 ? inside : address(), seed);
      }
    }
  }
}

TEST(Fib, ChangesDoNotPileUp) {
  RouteTable table;
  auto fib = Fib::build({});
  const Route route{{0x0a000000, 24}, hop(1)};
  for (uint32_t i = 0; i < 100'000; i++) {
    Route change = route;
    change.next_hop = hop(i);
    table.put(change);
    table.settle();
    fib = fib->after({&change, 1}, table);
  }
  EXPECT_EQ(show(fib->lookup(0x0a000001)), show(&table.routes().front().next_hop));
  EXPECT_LT(fib->bytes(), size_t{1} << 20);
}

TEST(Fib, AnEmptyTableFindsNothing) {
  const auto fib = Fib::build({});
  EXPECT_EQ(fib->lookup(0), nullptr);
  EXPECT_EQ(fib->lookup(0xffffffff), nullptr);
  EXPECT_EQ(fib->size(), 0U);
}

TEST(Fib, ADefaultRouteCoversEverything) {
  const std::vector<Route> routes{{{0U, 0}, hop(1)}};
  const auto fib = Fib::build(routes);
  EXPECT_EQ(*fib->lookup(0), hop(1));
  EXPECT_EQ(*fib->lookup(0x7fffffff), hop(1));
  EXPECT_EQ(*fib->lookup(0xffffffff), hop(1));
}

TEST(Fib, TheLongerPrefixWinsInWhicheverOrderTheyCome) {
  std::vector<Route> routes{
      {{0x0af40000, 16}, hop(16)}, {{0x0af40500, 24}, hop(24)}, {{0x0af40507, 32}, hop(32)}};
  do {
    const auto fib = Fib::build(routes);
    EXPECT_EQ(*fib->lookup(0x0af40507), hop(32));
    EXPECT_EQ(*fib->lookup(0x0af40506), hop(24));
    EXPECT_EQ(*fib->lookup(0x0af40601), hop(16));
  } while (std::next_permutation(routes.begin(), routes.end(), [](const Route& a, const Route& b) {
    return a.prefix.length < b.prefix.length;
  }));
}

TEST(Fib, TheLaterOfTwoEqualPrefixesWinsAndCountsOnce) {
  const std::vector<Route> routes{{{0x0af40500, 24}, hop(1)}, {{0x0af405ff, 24}, hop(2)}};
  const auto fib = Fib::build(routes);
  EXPECT_EQ(*fib->lookup(0x0af40501), hop(2));
  EXPECT_EQ(fib->size(), 1U);
}

TEST(Fib, PeersThatDifferOnlyInThePortAreDifferent) {
  const NextHop other{hop(1).address, htons(9000)};
  const std::vector<Route> routes{{{0x0af40500, 24}, hop(1)}, {{0x0af40600, 24}, other}};
  const auto fib = Fib::build(routes);
  EXPECT_EQ(*fib->lookup(0x0af40501), hop(1));
  EXPECT_EQ(*fib->lookup(0x0af40601), other);
}

TEST(Fib, RefusesAnImpossiblePrefixLength) {
  const std::vector<Route> routes{{{0U, 33}, hop(1)}};
  EXPECT_THROW(Fib::build(routes), std::invalid_argument);
}

TEST(Fib, Holds65536Routes) {
  std::vector<Route> routes;
  for (uint32_t i = 0; i < 65536; i++) routes.push_back({{0x0a000000 + (i << 8), 24}, hop(i)});
  const auto fib = Fib::build(routes);
  EXPECT_EQ(fib->size(), 65536U);
  for (uint32_t i = 0; i < 65536; i++) {
    ASSERT_EQ(*fib->lookup(0x0a000000 + (i << 8) + 7), hop(i));
  }
  EXPECT_EQ(fib->lookup(0x0b000000), nullptr);
}

}  // namespace
}  // namespace flannel::test
