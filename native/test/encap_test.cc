#include "pipeline.h"

namespace flannel::test {
namespace {

class EncapTest : public PipelineTest {
 protected:
  Encap encap_{tun(),      udp(),     fib_.reader(0), {ScriptedKernel::kIcmp}, {kTunnelAddress},
               GetParam(), counters_, kernel_};

  /// Runs one turn over `packet` alone and returns the counters that changed.
  CounterDifference after(Bytes packet) {
    kernel_.tun_in.push_back(std::move(packet));
    EXPECT_EQ(encap_.turn(), Turn::drained);
    EXPECT_EQ(unaccounted(counters_, "encap"), 0);
    return counted(counters_);
  }
};

INSTANTIATE_TEST_SUITE_P(Tiers, EncapTest, ::testing::Values(1, kBatchSize),
                         [](const auto& info) { return info.param == 1 ? "basic" : "batch"; });

CounterDifference drop(const std::string& name) {
  return {{"encap_packets_in", 1}, {name, 1}};
}

TEST_P(EncapTest, SendsTheInnerPacketAsTheWholeDatagramWithTtlLessOne) {
  const Bytes packet = make_packet({.ttl = 64});
  EXPECT_EQ(after(packet), (CounterDifference{{"encap_packets_in", 1}, {"encap_packets_out", 1}}));
  ASSERT_EQ(kernel_.udp_out.size(), 1U);
  EXPECT_EQ(kernel_.udp_out[0].payload, make_packet({.ttl = 63}));
  EXPECT_EQ(kernel_.udp_out[0].to.address(), peer(2).address);
  EXPECT_EQ(kernel_.udp_out[0].to.v4.sin_port, htons(8285));
  EXPECT_EQ(counters_.get(Counter::encap_bytes), packet.size());
}

TEST_P(EncapTest, KeepsTheChecksumRightForEveryTtl) {
  for (int ttl = 2; ttl < 256; ttl++) {
    for (uint16_t fragment : {0x0000, 0x4000, 0x1fff}) {
      kernel_.tun_in.push_back(
          make_packet({.ttl = static_cast<uint8_t>(ttl), .fragment = fragment}));
    }
  }
  while (encap_.turn() == Turn::more) {
  }
  ASSERT_EQ(kernel_.udp_out.size(), 254U * 3);
  for (const auto& sent : kernel_.udp_out) EXPECT_TRUE(header_checksum_holds(sent.payload));
}

TEST_P(EncapTest, LeavesAWrongChecksumWrong) {
  Bytes packet = make_packet({});
  packet[10] ^= 0x40;
  after(packet);
  ASSERT_EQ(kernel_.udp_out.size(), 1U);
  EXPECT_FALSE(header_checksum_holds(kernel_.udp_out[0].payload));
}

TEST_P(EncapTest, KeepsTheOrderAcrossBatchesAndNextHops) {
  constexpr size_t kPackets = 200;
  for (size_t i = 0; i < kPackets; i++) {
    kernel_.tun_in.push_back(make_packet({.destination = ip(10, 244, i % 2 == 0 ? 2 : 3, 9),
                                          .first_payload_byte = static_cast<uint8_t>(i)}));
  }
  EXPECT_EQ(encap_.turn(), Turn::drained);
  ASSERT_EQ(kernel_.udp_out.size(), kPackets);
  for (size_t i = 0; i < kPackets; i++) {
    EXPECT_EQ(kernel_.udp_out[i].payload[20], static_cast<uint8_t>(i));
    EXPECT_EQ(kernel_.udp_out[i].to.address(), peer(i % 2 == 0 ? 2 : 3).address);
  }
}

TEST_P(EncapTest, EndsATurnWhenTheBudgetIsSpent) {
  for (size_t i = 0; i < kTurnBudget + 10; i++) kernel_.tun_in.push_back(make_packet({}));
  EXPECT_EQ(encap_.turn(), Turn::more);
  EXPECT_EQ(kernel_.udp_out.size(), kTurnBudget);
  EXPECT_EQ(encap_.turn(), Turn::drained);
  EXPECT_EQ(kernel_.udp_out.size(), kTurnBudget + 10);
}

TEST_P(EncapTest, AnswersNoRouteWithNetUnreachable) {
  const Bytes packet = make_packet({.destination = ip(10, 244, 9, 9)});
  EXPECT_EQ(after(packet), drop("encap_no_route"));
  ASSERT_EQ(kernel_.icmp_out.size(), 1U);
  const Bytes& error = kernel_.icmp_out[0].payload;
  EXPECT_EQ(error[20], 3);
  EXPECT_EQ(error[21], 0);
  EXPECT_EQ(load_be32(&error[12]), kTunnelAddress);
  EXPECT_EQ(kernel_.icmp_out[0].to.address().ipv4(), ip(10, 244, 1, 2));
  EXPECT_EQ(counters_.get(Counter::encap_icmp_sent), 1U);
  EXPECT_TRUE(kernel_.tun_out.empty());
}

TEST_P(EncapTest, AnswersTtlOneWithTimeExceededThatQuotesThePacketAsItCame) {
  const Bytes packet = make_packet({.ttl = 1});
  EXPECT_EQ(after(packet), drop("encap_ttl_expired"));
  ASSERT_EQ(kernel_.icmp_out.size(), 1U);
  const Bytes& error = kernel_.icmp_out[0].payload;
  EXPECT_EQ(error[20], 11);
  EXPECT_EQ(error[21], 0);
  EXPECT_EQ(Bytes(error.begin() + 28, error.end()), packet);
}

constexpr uint16_t kDontFragment = 0x4000;

TEST_P(EncapTest, AnswersWhatIsTooLargeForThePathWithTheSizeThatPasses) {
  set_path_mtu(2, 1400);
  const Bytes packet = make_packet({.fragment = kDontFragment, .payload = 1373 - 20});
  EXPECT_EQ(after(packet), drop("encap_frag_needed"));
  EXPECT_TRUE(kernel_.udp_out.empty());
  ASSERT_EQ(kernel_.icmp_out.size(), 1U);
  const Bytes& error = kernel_.icmp_out[0].payload;
  EXPECT_EQ(load_be16(&error[20]), 0x0304);
  EXPECT_EQ(load_be16(&error[26]), 1372);
  EXPECT_EQ(kernel_.icmp_out[0].to.address().ipv4(), ip(10, 244, 1, 2));
  EXPECT_TRUE(std::equal(error.begin() + 28, error.end(), packet.begin()))
      << "with the TTL that it came with";
}

TEST_P(EncapTest, FollowsThePathAsItBecomesNarrowAndWideAgain) {
  const Bytes packet = make_packet({.fragment = kDontFragment, .payload = 1452});
  const auto sent = [&] {
    kernel_.udp_out.clear();
    after(packet);
    return kernel_.udp_out.size();
  };
  EXPECT_EQ(sent(), 1U) << "nothing is known";
  set_path_mtu(2, 1499);
  EXPECT_EQ(sent(), 0U);
  set_path_mtu(2, 1500);
  EXPECT_EQ(sent(), 1U);
  set_path_mtu(2, 576);
  EXPECT_EQ(sent(), 0U);
  set_path_mtu(3, 9000);
  EXPECT_EQ(sent(), 0U) << "that was another peer's";
  set_path_mtu(2, 0);
  EXPECT_EQ(sent(), 1U);
}

TEST_P(EncapTest, CountsAnErrorItCannotSend) {
  kernel_.icmp_error = EPERM;
  EXPECT_EQ(after(make_packet({.ttl = 1})), drop("encap_ttl_expired"));
  EXPECT_EQ(counters_.get(Counter::encap_icmp_failed), 1U);
}

TEST_P(EncapTest, AnswersTtlZeroLikeTtlOne) {
  EXPECT_EQ(after(make_packet({.ttl = 0})), drop("encap_ttl_zero"));
  ASSERT_EQ(kernel_.icmp_out.size(), 1U);
  EXPECT_EQ(kernel_.icmp_out[0].payload[20], 11);
}

TEST_P(EncapTest, CountsTheKernelsOwnIpv6ChatterAsNotIpv4) {
  Bytes solicitation(48);
  solicitation[0] = 0x60;
  EXPECT_EQ(after(solicitation), drop("encap_bad_version"));
}

TEST_P(EncapTest, RefusesMalformedHeaders) {
  Bytes low_ihl = make_packet({});
  low_ihl[0] = 0x44;
  EXPECT_EQ(after(low_ihl), drop("encap_bad_ihl"));
  Bytes long_total = make_packet({});
  store_be16(&long_total[2], 1000);
  after(long_total);
  EXPECT_EQ(counters_.get(Counter::encap_bad_length), 1U);
  after(Bytes(19, 0x45));
  EXPECT_EQ(counters_.get(Counter::encap_short), 1U);
  after(Bytes{});
  EXPECT_EQ(counters_.get(Counter::encap_short), 2U);
  EXPECT_TRUE(kernel_.udp_out.empty());
}

TEST_P(EncapTest, StopsReadingWhileTheSocketIsFullAndLosesNothing) {
  bool full = true;
  kernel_.send_outcome = [&](const Bytes&) { return full ? EAGAIN : 0; };
  for (int i = 0; i < 3; i++)
    kernel_.tun_in.push_back(make_packet({.first_payload_byte = static_cast<uint8_t>(i)}));
  EXPECT_EQ(encap_.turn(), Turn::blocked);
  const size_t unread = kernel_.tun_in.size();
  EXPECT_EQ(encap_.turn(), Turn::blocked);
  EXPECT_EQ(kernel_.tun_in.size(), unread);
  full = false;
  EXPECT_EQ(encap_.turn(), Turn::drained);
  ASSERT_EQ(kernel_.udp_out.size(), 3U);
  for (uint8_t i = 0; i < 3; i++) EXPECT_EQ(kernel_.udp_out[i].payload[20], i);
  EXPECT_EQ(unaccounted(counters_, "encap"), 0);
}

TEST_P(EncapTest, CountsTheTrafficThatTheKernelAcceptedForEachPeer) {
  const Address refused = peer(3).address;
  after(make_packet({.payload = 80}));
  after(make_packet({.payload = 30}));
  kernel_.send_outcome = [](const Bytes&) { return EPERM; };
  after(make_packet({.destination = ip(10, 244, 3, 2)}));
  ASSERT_NE(fib_.current().peer_at(refused), Peer::kNone);
  EXPECT_EQ(traffic_with(ip(10, 244, 2, 1)).packets, 2U);
  EXPECT_EQ(traffic_with(ip(10, 244, 2, 1)).bytes, 150U);
  EXPECT_EQ(traffic_with(ip(10, 244, 3, 1)).packets, 0U);
}

TEST_P(EncapTest, RecordsTurnsAndCalls) {
  constexpr size_t kPackets = 9;
  for (size_t i = 0; i < kPackets; i++) kernel_.tun_in.push_back(make_packet({}));
  EXPECT_EQ(encap_.turn(), Turn::drained);
  EXPECT_EQ(counters_.count(Histogram::encap_turn_packets, 4), 1U);
  const bool batched = GetParam() > 1;
  EXPECT_EQ(counters_.count(Histogram::encap_call_packets, 0), batched ? 0 : kPackets);
  EXPECT_EQ(counters_.count(Histogram::encap_call_packets, 4), batched ? 1 : 0);
  uint64_t timed = 0;
  for (size_t i = 0; i < kMostBuckets; i++) {
    timed += counters_.count(Histogram::encap_latency_seconds, i);
  }
  EXPECT_EQ(timed, batched ? kPackets : 1);
}

TEST_P(EncapTest, CountsWhatStillWaitsAtTheEnd) {
  kernel_.send_outcome = [](const Bytes&) { return EAGAIN; };
  kernel_.tun_in.push_back(make_packet({}));
  EXPECT_EQ(encap_.turn(), Turn::blocked);
  EXPECT_EQ(unaccounted(counters_, "encap"), 1);
  encap_.abandon();
  EXPECT_EQ(counted(counters_), drop("encap_stopped"));
}

TEST_P(EncapTest, FailsForGoodWhenTheDeviceIsGone) {
  kernel_.read_error = EBADFD;
  EXPECT_EQ(encap_.turn(), Turn::failed);
  EXPECT_EQ(encap_.failure(), EBADFD);
  EXPECT_EQ(counters_.get(Counter::encap_read_errors), 1U);
}

TEST_P(EncapTest, OutlivesAShortageOfMemory) {
  kernel_.read_error = ENOMEM;
  EXPECT_EQ(encap_.turn(), Turn::drained);
  EXPECT_EQ(counters_.get(Counter::encap_read_errors), 1U);
}

}  // namespace
}  // namespace flannel::test
