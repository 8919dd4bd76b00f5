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
  return {htonl(0xc0a80000 + n), htons(8285)};
}

uint32_t mask(uint8_t length) {
  return length == 0 ? 0 : 0xffffffffU << (32 - length);
}

/// The definition of longest-prefix match, word by word.
const NextHop* oracle(const std::vector<Route>& routes, uint32_t destination) {
  const Route* best = nullptr;
  for (const Route& route : routes) {
    const bool covers = ((destination ^ route.network) & mask(route.length)) == 0;
    if (covers && (best == nullptr || route.length >= best->length)) best = &route;
  }
  return best == nullptr ? nullptr : &best->next_hop;
}

std::string show(const NextHop* next_hop) {
  return next_hop == nullptr ? "none" : std::to_string(ntohl(next_hop->address));
}

void compare(const Fib& fib, const std::vector<Route>& routes, uint32_t destination,
             uint64_t seed) {
  const NextHop* expected = oracle(routes, destination);
  const NextHop* found = fib.lookup(destination);
  ASSERT_EQ(show(found), show(expected)) << "destination " << destination << ", seed " << seed;
}

TEST(Fib, AgreesWithALinearSearchOver100SeedsOf10000Lookups) {
  for (uint64_t seed = 0; seed < 100; seed++) {
    std::mt19937_64 random(seed);
    // Prefixes crowd into a few /12s, so that they nest, share borders and repeat.
    const auto address = [&] {
      return static_cast<uint32_t>((random() % 4) << 30 | (random() % 2) << 20 |
                                   random() % (1 << 20));
    };
    std::vector<Route> routes;
    const size_t count = random() % 200;
    for (uint32_t i = 0; i < count; i++) {
      routes.push_back({address(), static_cast<uint8_t>(random() % 33), hop(i % 50)});
    }
    const auto fib = Fib::build(routes);
    for (int i = 0; i < 10'000; i++) {
      uint32_t destination = address();
      if (!routes.empty() && i % 2 == 0) {
        // The borders of a prefix are where a table goes wrong.
        const Route& route = routes[random() % routes.size()];
        const uint32_t first = route.network & mask(route.length);
        const uint32_t borders[] = {first, first - 1, first | ~mask(route.length),
                                    (first | ~mask(route.length)) + 1};
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
    const auto address = [&] {
      return static_cast<uint32_t>((random() % 2) << 31 | random() % (1 << 20));
    };
    RouteTable table;
    auto fib = Fib::build({});
    for (int round = 0; round < 200; round++) {
      std::vector<Route> changes;
      for (size_t count = 1 + random() % 4; count > 0; count--) {
        Route change{address(), static_cast<uint8_t>(random() % 33), hop(random() % 50)};
        const bool removes = random() % 3 == 0;
        if (removes && !table.routes().empty()) {
          change = table.routes()[random() % table.routes().size()];
        }
        if (removes)
          table.remove(change.network, change.length);
        else
          table.put(change);
        changes.push_back(change);
      }
      table.settle();
      fib = fib->after(changes, table);
      ASSERT_EQ(fib->size(), table.routes().size());
      for (int i = 0; i < 50; i++) {
        const Route& change = changes[random() % changes.size()];
        const uint32_t inside =
            (change.network & mask(change.length)) | (address() & ~mask(change.length));
        compare(*fib, table.routes(), i % 2 == 0 ? inside : address(), seed);
      }
    }
  }
}

TEST(Fib, ChangesDoNotPileUp) {
  RouteTable table;
  auto fib = Fib::build({});
  const Route route{0x0a000000, 24, hop(1)};
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
  const std::vector<Route> routes{{0, 0, hop(1)}};
  const auto fib = Fib::build(routes);
  EXPECT_EQ(*fib->lookup(0), hop(1));
  EXPECT_EQ(*fib->lookup(0x7fffffff), hop(1));
  EXPECT_EQ(*fib->lookup(0xffffffff), hop(1));
}

TEST(Fib, TheLongerPrefixWinsInWhicheverOrderTheyCome) {
  std::vector<Route> routes{
      {0x0af40000, 16, hop(16)}, {0x0af40500, 24, hop(24)}, {0x0af40507, 32, hop(32)}};
  do {
    const auto fib = Fib::build(routes);
    EXPECT_EQ(*fib->lookup(0x0af40507), hop(32));
    EXPECT_EQ(*fib->lookup(0x0af40506), hop(24));
    EXPECT_EQ(*fib->lookup(0x0af40601), hop(16));
  } while (std::next_permutation(routes.begin(), routes.end(), [](const Route& a, const Route& b) {
    return a.length < b.length;
  }));
}

TEST(Fib, TheLaterOfTwoEqualPrefixesWinsAndCountsOnce) {
  const std::vector<Route> routes{{0x0af40500, 24, hop(1)}, {0x0af405ff, 24, hop(2)}};
  const auto fib = Fib::build(routes);
  EXPECT_EQ(*fib->lookup(0x0af40501), hop(2));
  EXPECT_EQ(fib->size(), 1U);
}

TEST(Fib, PeersThatDifferOnlyInThePortAreDifferent) {
  const NextHop other{hop(1).address, htons(9000)};
  const std::vector<Route> routes{{0x0af40500, 24, hop(1)}, {0x0af40600, 24, other}};
  const auto fib = Fib::build(routes);
  EXPECT_EQ(*fib->lookup(0x0af40501), hop(1));
  EXPECT_EQ(*fib->lookup(0x0af40601), other);
}

TEST(Fib, RefusesAnImpossiblePrefixLength) {
  const std::vector<Route> routes{{0, 33, hop(1)}};
  EXPECT_THROW(Fib::build(routes), std::invalid_argument);
}

TEST(Fib, Holds65536Routes) {
  std::vector<Route> routes;
  for (uint32_t i = 0; i < 65536; i++) routes.push_back({0x0a000000 + (i << 8), 24, hop(i)});
  const auto fib = Fib::build(routes);
  EXPECT_EQ(fib->size(), 65536U);
  for (uint32_t i = 0; i < 65536; i++) {
    ASSERT_EQ(*fib->lookup(0x0a000000 + (i << 8) + 7), hop(i));
  }
  EXPECT_EQ(fib->lookup(0x0b000000), nullptr);
}

}  // namespace
}  // namespace flannel::test
