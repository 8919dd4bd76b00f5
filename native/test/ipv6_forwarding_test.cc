// IPv6 inside the tunnel, over either family, where it differs from IPv4.
#include <netinet/in.h>

#include <algorithm>

#include "pipeline.h"
#include "udp.h"

namespace flannel::test {
namespace {

Address address6(const char* text) {
  return Address::of_bytes(ip6(text));
}

Prefix prefix6(const char* text) {
  return {address6(text), 64};
}

/// The parameter is the batch size.
class Ipv6ForwardingTest : public PipelineTest {
 protected:
  static inline const TunnelAddresses kAddresses{kTunnelAddress, address6("fd00:10:244:1::")};
  static inline const NextHop kOuter6{address6("2001:db8::3"), htons(8285)};

  Ipv6ForwardingTest() {
    set_routes({{prefix6("fd00:10:244:2::"), peer(2)}, {prefix6("fd00:10:244:3::"), kOuter6}});
  }

  void encap(Bytes packet, const TunnelAddresses& addresses = kAddresses) {
    Encap encap(tun(), udp(), fib_.reader(0), {ScriptedKernel::kIcmp, ScriptedKernel::kIcmpv6},
                addresses, GetParam(), counters_, kernel_);
    kernel_.tun_in.push_back(std::move(packet));
    EXPECT_EQ(encap.turn(), Turn::drained);
    EXPECT_EQ(unaccounted(counters_, "encap"), 0);
  }
  void decap(Bytes packet, SourceCheck check = SourceCheck::none,
             const TunnelAddresses& addresses = kAddresses) {
    Decap decap(udp(), tun(), fib_.reader(0), addresses, GetParam(), features_, counters_, check);
    kernel_.udp_in.push_back(std::move(packet));
    EXPECT_EQ(decap.turn(), Turn::drained);
    EXPECT_EQ(unaccounted(counters_, "decap"), 0);
  }
  /// Type and code of the only ICMPv6 error that went to this host.
  std::pair<int, int> error_here() {
    if (kernel_.icmp_out.size() != 1) return {-1, -1};
    const Bytes& error = kernel_.icmp_out[0].payload;
    EXPECT_EQ(Ipv6Packet::check(error), Ipv6Fault::none);
    EXPECT_TRUE(
        std::equal(error.begin() + 8, error.begin() + 24, kAddresses.ipv6.to_bytes().begin()));
    return {error[40], error[41]};
  }
};

INSTANTIATE_TEST_SUITE_P(Tiers, Ipv6ForwardingTest, ::testing::Values(1, kBatchSize));

TEST_P(Ipv6ForwardingTest, LeavesOneHopOlderAndOtherwiseAsItWas) {
  Bytes packet = make_packet6({});
  encap(packet);
  ASSERT_EQ(kernel_.udp_out.size(), 1U);
  packet[7]--;
  EXPECT_EQ(kernel_.udp_out[0].payload, packet);
  EXPECT_EQ(kernel_.udp_out[0].to.address(), peer(2).address);
}

TEST_P(Ipv6ForwardingTest, ATunnelOverIpv6SendsToIpv6Addresses) {
  encap(make_packet6({.destination = ip6("fd00:10:244:3::7")}));
  ASSERT_EQ(kernel_.udp_out.size(), 1U);
  const SocketAddress& to = kernel_.udp_out[0].to;
  EXPECT_EQ(to.v6.sin6_family, AF_INET6);
  EXPECT_EQ(to.v6.sin6_port, kOuter6.port);
  EXPECT_EQ(to.address(), kOuter6.address);
}

TEST_P(Ipv6ForwardingTest, EncapEndsEachFaultInItsCounterAndAnswersWhatItMay) {
  Bytes truncated = make_packet6({});
  truncated.pop_back();
  Bytes too_short = make_packet6({});
  too_short.resize(39);
  const struct {
    Bytes packet;
    const char* counter;
    std::pair<int, int> error;
  } cases[] = {
      {too_short, "encap_short", {-1, -1}},
      {truncated, "encap_bad_length", {-1, -1}},
      {make_packet6({.hop_limit = 0}), "encap_ttl_zero", {3, 0}},
      {make_packet6({.hop_limit = 1}), "encap_ttl_expired", {3, 0}},
      {make_packet6({.destination = ip6("fd00:10:245::1")}), "encap_no_route", {1, 0}},
      // The own chatter of a link, which nobody may be told anything about.
      {make_packet6({.source = ip6("fe80::1"), .destination = ip6("ff02::2")}),
       "encap_no_route",
       {-1, -1}},
      {make_packet6({.source = ip6("::"), .destination = ip6("ff02::16")}),
       "encap_no_route",
       {-1, -1}},
  };
  for (const auto& [packet, counter, error] : cases) {
    const auto before = counted(counters_);
    kernel_.icmp_out.clear();
    encap(packet);
    auto expected = before;
    expected["encap_packets_in"]++;
    expected[counter]++;
    EXPECT_EQ(counted(counters_), expected) << counter;
    EXPECT_EQ(error_here(), error) << counter;
  }
}

TEST_P(Ipv6ForwardingTest, WhatIsTooLargeIsAnsweredWithThePathsMtuButNeverBelow1280) {
  set_path_mtu(2, 1400);
  encap(make_packet6({.payload = 1373 - 40}));
  EXPECT_EQ(error_here(), (std::pair{2, 0}));
  EXPECT_EQ(load_be32(&kernel_.icmp_out[0].payload[44]), 1372U);
  EXPECT_EQ(counters_.get(Counter::encap_frag_needed), 1U);

  set_path_mtu(2, 1000);
  encap(make_packet6({.payload = 1280 - 40}));
  EXPECT_EQ(kernel_.udp_out.size(), 1U);
  encap(make_packet6({.payload = 1281 - 40}));
  EXPECT_EQ(load_be32(&kernel_.icmp_out[1].payload[44]), 1280U);
}

TEST_P(Ipv6ForwardingTest, ThePathOfATunnelOverIpv6Carries48BytesLess) {
  PeerSlots& slots = table_.peers();
  slots.set_path_mtu(slots.find(kOuter6), 1400);
  EXPECT_EQ(slots.peers()[slots.find(kOuter6)].largest, 1352);
}

TEST_P(Ipv6ForwardingTest, ANetworkWithoutIpv6DropsItBothWays) {
  const TunnelAddresses ipv4_only{kTunnelAddress, {}};
  encap(make_packet6({}), ipv4_only);
  decap(make_packet6({}), SourceCheck::none, ipv4_only);
  EXPECT_EQ(counters_.get(Counter::encap_bad_version), 1U);
  EXPECT_EQ(counters_.get(Counter::decap_bad_version), 1U);
  EXPECT_TRUE(kernel_.udp_out.empty());
  EXPECT_TRUE(kernel_.tun_out.empty());
}

TEST_P(Ipv6ForwardingTest, ArrivesOneHopOlder) {
  Bytes packet = make_packet6({});
  decap(packet);
  packet[7]--;
  ASSERT_EQ(kernel_.tun_out.size(), 1U);
  EXPECT_EQ(kernel_.tun_out[0], packet);
}

TEST_P(Ipv6ForwardingTest, ASenderBehindAPeerIsToldThroughTheTunnel) {
  decap(make_packet6({.source = ip6("fd00:10:244:3::9"), .hop_limit = 1}));
  ASSERT_EQ(kernel_.udp_out.size(), 1U);
  EXPECT_EQ(kernel_.udp_out[0].to.address(), kOuter6.address);
  EXPECT_EQ(kernel_.udp_out[0].payload[40], 3);
  EXPECT_EQ(counters_.get(Counter::decap_ttl_expired), 1U);
  EXPECT_EQ(counters_.get(Counter::decap_icmp_sent), 1U);
}

TEST_P(Ipv6ForwardingTest, TheSourceHasToLieInASubnetOfThePeer) {
  kernel_.udp_from = kOuter6.to_sockaddr();
  decap(make_packet6({.source = ip6("fd00:10:244:3::9")}), SourceCheck::subnet);
  EXPECT_EQ(kernel_.tun_out.size(), 1U);
  decap(make_packet6({.source = ip6("fd00:10:244:2::9")}), SourceCheck::subnet);
  EXPECT_EQ(counters_.get(Counter::decap_wrong_subnet), 1U);
  std::vector<Refusal> refused;
  counters_.wrong_subnets.take(refused);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].source, kOuter6.address);
  EXPECT_EQ(refused[0].inner_source, address6("fd00:10:244:2::9"));

  kernel_.udp_from = SocketAddress::of(address6("2001:db8::9"), htons(8285));
  decap(make_packet6({}), SourceCheck::peer);
  EXPECT_EQ(counters_.get(Counter::decap_unknown_peer), 1U);
}

TEST(Ipv6Routes, Holds65536RoutesAndChangesThemOneByOne) {
  const NextHop hop{address6("2001:db8::3"), htons(8285)};
  const auto network = [](uint64_t i) { return Address{0xfd00'0010'0000'0000 + (i << 8), 0}; };
  std::vector<Route> routes;
  for (uint64_t i = 0; i < 65536; i++) routes.push_back({{network(i), 64}, hop});
  RouteTable table;
  table.assign(routes);
  auto fib = Fib::of(table);
  EXPECT_EQ(fib->size(), 65536U);
  for (uint64_t i = 0; i < 65536; i++) {
    ASSERT_NE(fib->lookup(Address{network(i).high, 7}), nullptr) << i;
  }
  for (const uint64_t i : {0, 4711, 65535}) {
    const Route gone{{network(i), 64}, {}};
    table.remove(gone.prefix);
    fib = fib->after({&gone, 1}, table);
    EXPECT_EQ(fib->lookup(Address{network(i).high, 7}), nullptr);
  }
  EXPECT_NE(fib->lookup(Address{network(1).high, 7}), nullptr);
}

TEST(Ipv6Udp, SendsAndReceivesOverTheKernel) {
  const Address loopback = address6("::1");
  UniqueFd fd;
  try {
    fd = open_udp(loopback, 0, {}, false);
  } catch (const SystemError& error) {
    GTEST_SKIP() << "no IPv6 here: " << error.what();
  }
  SocketAddress bound;
  ASSERT_EQ(::getsockname(fd.get(), bound.get(), &bound.length), 0);
  const NextHop self{loopback, bound.v6.sin6_port};
  ActiveFeatures features(
      enable_udp_offloads(fd.get(), {Feature::batch, Feature::gso, Feature::gro}));
  UdpSocket udp(fd.get(), features, kernel());
  SendBatch batch;
  Counters counters;
  const Bytes packet = make_packet6({.payload = 1000});
  for (int i = 0; i < 5; i++) batch.push({{}, packet}, {self}, {1, false}, udp.max_segments());
  ASSERT_TRUE(udp.send(batch, counters));
  EXPECT_EQ(counters.get(Counter::encap_packets_out), 5U);
  PacketPool pool(kBatchSize);
  ReceiveBatch received(pool);
  size_t bytes = 0;
  while (udp.receive(received).count > 0) {
    for (const auto& row : received.datagrams()) {
      EXPECT_EQ(row.source, loopback);
      bytes += row.payload.size();
    }
  }
  EXPECT_EQ(bytes, 5 * packet.size());
}

}  // namespace
}  // namespace flannel::test
