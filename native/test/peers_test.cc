// Who has which slot, against a plain map; and what is counted where.
#include "peers.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "fib.h"
#include "packets.h"

namespace flannel::test {
namespace {

NextHop hop(uint32_t address, uint16_t port = 8285) {
  return {Address::of_ipv4(address), htons(port)};
}

TEST(AddressTableTest, AnEmptyOneKnowsNobody) {
  EXPECT_EQ(AddressTable().find({}), Peer::kNone);
}

/// Of either family.
Address nth(uint32_t n) {
  if (n % 2 == 0) return Address::of_ipv4(ip(10, 0, 0, 0) + n / 2);
  return {0xfd00'0010'0244'0000 + n / 4, n % 4};
}

TEST(AddressTableTest, AgreesWithAMapUnderRandomChanges) {
  std::mt19937 random(1);
  AddressTable table;
  std::map<Address, uint32_t> expected;
  for (uint32_t step = 0; step < 200'000; step++) {
    // Few addresses, neighbours among them, so that they get in each other's way.
    const Address address = nth(static_cast<uint32_t>(random() % 600));
    if (random() % 2 == 0) {
      table.set(address, step);
      expected[address] = step;
    } else if (expected.erase(address) > 0) {
      table.remove(address);
    }
    if (step % 500 != 0) continue;
    for (uint32_t i = 0; i < 700; i++) {
      const auto known = expected.find(nth(i));
      const uint32_t want = known == expected.end() ? Peer::kNone : known->second;
      ASSERT_EQ(table.find(nth(i)), want) << step;
    }
  }
}

TEST(PeerSlotsTest, APeerKeepsItsSlotAsLongAsARouteLeadsToIt) {
  RouteTable table;
  const NextHop a = hop(ip(192, 0, 2, 1));
  const NextHop b = hop(ip(192, 0, 2, 2));
  const Route first[] = {{{ip(10, 1, 0, 0), 24}, a}, {{ip(10, 2, 0, 0), 24}, b}};
  table.assign(first);
  table.settle();
  const uint32_t slot = table.peers().find(b);

  // Another subnet in place of its only one, and a table without the other peer.
  table.remove({ip(10, 2, 0, 0), 24});
  table.put({{ip(10, 3, 0, 0), 24}, b});
  table.settle();
  EXPECT_EQ(table.peers().find(b), slot);
  const Route second[] = {{{ip(10, 4, 0, 0), 24}, b}};
  table.assign(second);
  table.settle();
  EXPECT_EQ(table.peers().find(b), slot);
  EXPECT_EQ(table.peers().find(a), Peer::kNone);
  EXPECT_EQ(table.peers().addresses().find(a.address), Peer::kNone);
}

TEST(PeerSlotsTest, PeersAtOneAddressShareItUntilOneIsLeft) {
  PeerSlots slots;
  const NextHop hops[] = {hop(1, 1), hop(1, 2), hop(1, 3)};
  for (const NextHop& next_hop : hops) slots.add(next_hop);
  EXPECT_EQ(slots.addresses().find(hops[0].address), Peer::kShared);
  slots.drop(hops[2]);
  slots.settle();
  EXPECT_EQ(slots.addresses().find(hops[0].address), Peer::kShared);
  slots.drop(hops[0]);
  slots.settle();
  EXPECT_EQ(slots.addresses().find(hops[0].address), slots.find(hops[1]));
  slots.drop(hops[1]);
  slots.settle();
  EXPECT_EQ(slots.addresses().find(hops[0].address), Peer::kNone);
}

TEST(PeerSlotsTest, ASlotRestsBeforeItIsGivenOutAgainAndTheyStayFew) {
  RouteTable table;
  std::map<uint32_t, uint32_t> freed_at;  // slot -> change
  for (uint32_t i = 0; i < 5000; i++) {
    const NextHop next_hop = hop(ip(172, 16, 0, 0) + i);
    table.put({{ip(10, 0, 0, 0), 24}, next_hop});
    table.settle();
    const uint32_t slot = table.peers().find(next_hop);
    if (freed_at.contains(slot)) {
      EXPECT_GT(i - freed_at[slot], 1000U);
    }
    freed_at[slot] = i + 1;
  }
  EXPECT_LT(table.peers().peers().size(), 1100U);
}

TEST(PeerSlotsTest, TheFibLeadsToPeersWithTheirSlots) {
  RouteTable table;
  const Route routes[] = {{{ip(10, 1, 0, 0), 24}, hop(ip(192, 0, 2, 1))},
                          {{ip(10, 2, 0, 0), 24}, hop(ip(192, 0, 2, 1), 9000)},
                          {{ip(10, 3, 0, 0), 24}, hop(ip(192, 0, 2, 3))}};
  table.assign(routes);
  auto fib = Fib::of(table);
  EXPECT_EQ(fib->lookup(ip(10, 2, 0, 9))->slot, table.peers().find(routes[1].next_hop));
  EXPECT_EQ(fib->peer_at(routes[0].next_hop.address), Peer::kShared);
  EXPECT_EQ(fib->peer_at(routes[2].next_hop.address), fib->lookup(ip(10, 3, 0, 9))->slot);

  const Route change{{ip(10, 2, 0, 0), 24}, {}};
  table.remove(change.prefix);
  table.settle();
  fib = fib->after({&change, 1}, table);
  EXPECT_EQ(fib->lookup(ip(10, 2, 0, 9)), nullptr);
  EXPECT_EQ(fib->peer_at(routes[0].next_hop.address), fib->lookup(ip(10, 1, 0, 9))->slot);
}

}  // namespace
}  // namespace flannel::test
