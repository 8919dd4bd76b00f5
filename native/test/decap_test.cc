#include <optional>

#include "pipeline.h"

namespace flannel::test {
namespace {

class DecapTest : public PipelineTest {
 protected:
  DecapTest() { check_sources(SourceCheck::none); }

  void check_sources(SourceCheck check) {
    decap_.emplace(udp(), tun(), fib_.reader(0), TunnelAddresses{kTunnelAddress}, GetParam(),
                   features_, counters_, check);
  }

  std::optional<Decap> decap_;

  CounterDifference after(Bytes datagram) {
    kernel_.udp_in.push_back(std::move(datagram));
    EXPECT_EQ(decap_->turn(), Turn::drained);
    EXPECT_EQ(unaccounted(counters_, "decap"), 0);
    return counted(counters_);
  }
};

INSTANTIATE_TEST_SUITE_P(Tiers, DecapTest, ::testing::Values(1, kBatchSize),
                         [](const auto& info) { return info.param == 1 ? "basic" : "batch"; });

CounterDifference drop(const std::string& name) {
  return {{"decap_packets_in", 1}, {name, 1}};
}

Bytes changed(size_t at, uint8_t value) {
  Bytes packet = make_packet({});
  packet[at] = value;
  return packet;
}

TEST_P(DecapTest, WritesTheInnerPacketWithTtlLessOne) {
  EXPECT_EQ(after(make_packet({.ttl = 63})),
            (CounterDifference{{"decap_packets_in", 1}, {"decap_packets_out", 1}}));
  ASSERT_EQ(kernel_.tun_out.size(), 1U);
  EXPECT_EQ(kernel_.tun_out[0], make_packet({.ttl = 62}));
  EXPECT_TRUE(header_checksum_holds(kernel_.tun_out[0]));
}

TEST_P(DecapTest, KeepsTheOrder) {
  for (size_t i = 0; i < 150; i++) {
    kernel_.udp_in.push_back(make_packet({.first_payload_byte = static_cast<uint8_t>(i)}));
  }
  EXPECT_EQ(decap_->turn(), Turn::drained);
  ASSERT_EQ(kernel_.tun_out.size(), 150U);
  for (size_t i = 0; i < 150; i++) EXPECT_EQ(kernel_.tun_out[i][20], static_cast<uint8_t>(i));
}

TEST_P(DecapTest, TakesTheLargestPacketThatADatagramHolds) {
  const Bytes packet = make_packet({.payload = 65507 - 20});
  after(packet);
  ASSERT_EQ(kernel_.tun_out.size(), 1U);
  EXPECT_EQ(kernel_.tun_out[0].size(), packet.size());
}

TEST_P(DecapTest, NeverPassesOnATruncatedDatagram) {
  EXPECT_EQ(after(Bytes(kMaxPacket + 1, 0x45)), drop("decap_oversized"));
  EXPECT_TRUE(kernel_.tun_out.empty());
}

struct BadDatagram {
  const char* description;
  Bytes bytes;
  const char* counter;
};

TEST_P(DecapTest, CountsEachKindOfBadDatagram) {
  Bytes trailing = make_packet({});
  trailing.push_back(0);
  Bytes cut = make_packet({});
  cut.pop_back();
  const BadDatagram cases[] = {
      {"an empty datagram", {}, "decap_short"},
      {"one byte short of a header", Bytes(19, 0x45), "decap_short"},
      {"version 0", changed(0, 0x05), "decap_bad_version"},
      {"IPv6", changed(0, 0x65), "decap_bad_version"},
      {"version 15", changed(0, 0xf5), "decap_bad_version"},
      {"a header of 0 bytes", changed(0, 0x40), "decap_bad_ihl"},
      {"a header of 16 bytes", changed(0, 0x44), "decap_bad_ihl"},
      {"a header beyond the datagram", changed(0, 0x4f), "decap_bad_ihl"},
      {"a total length of 0", changed(3, 0), "decap_bad_length"},
      {"a total length below the header", changed(3, 19), "decap_bad_length"},
      {"a total length beyond the datagram", cut, "decap_bad_length"},
      {"bytes behind the packet", trailing, "decap_bad_length"},
  };
  for (const BadDatagram& bad : cases) {
    SCOPED_TRACE(bad.description);
    const auto before = counted(counters_);
    const auto now = after(bad.bytes);
    CounterDifference difference;
    for (const auto& [name, value] : now) {
      const uint64_t old = before.contains(name) ? before.at(name) : 0;
      if (value != old) difference[name] = value - old;
    }
    EXPECT_EQ(difference, drop(bad.counter));
  }
  EXPECT_TRUE(kernel_.tun_out.empty());
  EXPECT_TRUE(kernel_.udp_out.empty());
}

TEST_P(DecapTest, ABadDatagramDoesNotHurtItsNeighbours) {
  for (int i = 0; i < 3; i++) {
    kernel_.udp_in.push_back(make_packet({.first_payload_byte = static_cast<uint8_t>(i)}));
    kernel_.udp_in.push_back(Bytes(7, 0xff));
  }
  EXPECT_EQ(decap_->turn(), Turn::drained);
  EXPECT_EQ(kernel_.tun_out.size(), 3U);
  EXPECT_EQ(counters_.get(Counter::decap_short), 3U);
}

TEST_P(DecapTest, AnswersTtlZeroLikeTtlOne) {
  EXPECT_EQ(after(make_packet({.source = ip(10, 244, 3, 7), .ttl = 0})), drop("decap_ttl_zero"));
  ASSERT_EQ(kernel_.udp_out.size(), 1U);
  EXPECT_EQ(kernel_.udp_out[0].payload[20], 11);
}

TEST_P(DecapTest, SendsTimeExceededBackToThePeerOfTheSender) {
  const Bytes packet =
      make_packet({.source = ip(10, 244, 3, 7), .destination = ip(10, 244, 1, 5), .ttl = 1});
  EXPECT_EQ(after(packet), drop("decap_ttl_expired"));
  ASSERT_EQ(kernel_.udp_out.size(), 1U);
  EXPECT_EQ(kernel_.udp_out[0].to.address(), peer(3).address);
  const Bytes& error = kernel_.udp_out[0].payload;
  EXPECT_TRUE(header_checksum_holds(error));
  EXPECT_EQ(error[20], 11);
  EXPECT_EQ(load_be32(&error[12]), kTunnelAddress);
  EXPECT_EQ(load_be32(&error[16]), ip(10, 244, 3, 7));
  EXPECT_EQ(counters_.get(Counter::decap_icmp_sent), 1U);
}

TEST_P(DecapTest, SendsNoErrorToASenderNobodyAnnounced) {
  EXPECT_EQ(after(make_packet({.source = ip(172, 16, 0, 1), .ttl = 1})), drop("decap_ttl_expired"));
  EXPECT_TRUE(kernel_.udp_out.empty());
  EXPECT_EQ(counters_.get(Counter::decap_icmp_failed), 1U);
}

TEST_P(DecapTest, RefusesWhatNoPeerHasSent) {
  check_sources(SourceCheck::peer);
  kernel_.udp_from = SocketAddress::of(Address::of_ipv4(ip(203, 0, 113, 9)), htons(8285));
  EXPECT_EQ(after(make_packet({.source = ip(10, 244, 2, 7)})), drop("decap_unknown_peer"));
  EXPECT_TRUE(kernel_.tun_out.empty());
  // Not even with an error, and whatever is wrong with it besides.
  after(make_packet({.source = ip(10, 244, 2, 7), .ttl = 1}));
  after(Bytes{});
  EXPECT_EQ(after(Bytes(kMaxPacket + 1, 0x45)).at("decap_unknown_peer"), 4U);
  EXPECT_TRUE(kernel_.udp_out.empty());

  std::vector<Refusal> refused;
  counters_.unknown_peers.take(refused);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].source, Address::of_ipv4(ip(203, 0, 113, 9)));
  EXPECT_EQ(refused[0].inner_source, Address::of_ipv4(ip(10, 244, 2, 7)));
  counters_.unknown_peers.take(refused);
  EXPECT_EQ(refused.size(), 1U);
}

TEST_P(DecapTest, CountsEveryPacketOfARefusedRow) {
  if (GetParam() == 1) GTEST_SKIP() << "rows come with batches";
  ActiveFeatures rows({Feature::batch, Feature::gro});
  decap_.emplace(UdpSocket(ScriptedKernel::kUdp, rows, kernel_), tun(), fib_.reader(0),
                 TunnelAddresses{kTunnelAddress}, GetParam(), rows, counters_, SourceCheck::peer);
  kernel_.udp_from = SocketAddress::of(Address::of_ipv4(ip(203, 0, 113, 9)), htons(8285));
  const Bytes packet = make_packet({});
  Bytes row;
  for (int i = 0; i < 3; i++) row.insert(row.end(), packet.begin(), packet.end());
  row.resize(row.size() - 5);
  kernel_.gro_size = static_cast<int>(packet.size());
  EXPECT_EQ(after(row), (CounterDifference{{"decap_packets_in", 3}, {"decap_unknown_peer", 3}}));
}

TEST_P(DecapTest, TakesPacketsOfAPeerFromAnyPortAndWithAnyInnerSource) {
  check_sources(SourceCheck::peer);
  kernel_.udp_from.v4.sin_port = htons(1);
  EXPECT_EQ(after(make_packet({.source = ip(172, 16, 0, 1)})),
            (CounterDifference{{"decap_packets_in", 1}, {"decap_packets_out", 1}}));
}

TEST_P(DecapTest, RefusesEverybodyWhileThereAreNoRoutes) {
  check_sources(SourceCheck::peer);
  set_routes({});
  EXPECT_EQ(after(make_packet({})), drop("decap_unknown_peer"));
}

TEST_P(DecapTest, RefusesAnInnerSourceThatIsNotItsPeers) {
  check_sources(SourceCheck::subnet);
  EXPECT_EQ(after(make_packet({.source = ip(10, 244, 3, 7)})), drop("decap_wrong_subnet"));
  after(make_packet({.source = ip(172, 16, 0, 1)}));
  EXPECT_EQ(counters_.get(Counter::decap_wrong_subnet), 2U);
  EXPECT_TRUE(kernel_.tun_out.empty());
  after(make_packet({.source = ip(10, 244, 2, 7)}));
  EXPECT_EQ(kernel_.tun_out.size(), 1U);
  std::vector<Refusal> refused;
  counters_.wrong_subnets.take(refused);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].source, Address::of_ipv4(ip(192, 168, 77, 2)));
  EXPECT_EQ(refused[0].inner_source, Address::of_ipv4(ip(10, 244, 3, 7)));
}

TEST_P(DecapTest, CountsTheTrafficOfEachPeerByItsAddress) {
  after(make_packet({.payload = 80}));
  kernel_.udp_from.v4.sin_port = htons(40'000);  // as behind a NAT
  after(make_packet({.payload = 100}));
  kernel_.udp_from = peer(3).to_sockaddr();
  after(make_packet({.payload = 30}));
  kernel_.udp_from = peer(9).to_sockaddr();
  after(make_packet({.payload = 30}));
  EXPECT_EQ(traffic_with(ip(10, 244, 2, 1)).packets, 2U);
  EXPECT_EQ(traffic_with(ip(10, 244, 2, 1)).bytes, 220U);
  EXPECT_EQ(traffic_with(ip(10, 244, 3, 1)).packets, 1U);
  EXPECT_EQ(traffic_with(ip(10, 244, 3, 1)).bytes, 50U);
}

TEST_P(DecapTest, TellsPeersBehindOneAddressApartByTheirSubnets) {
  const auto nat = Address::of_ipv4(ip(203, 0, 113, 1));
  set_routes({{{ip(10, 244, 2, 0), 24}, {nat, htons(8285)}},
              {{ip(10, 244, 3, 0), 24}, {nat, htons(8286)}},
              {{ip(10, 244, 4, 0), 24}, peer(4)}});
  kernel_.udp_from = SocketAddress::of(nat, htons(8285));
  after(make_packet({.source = ip(10, 244, 3, 7), .payload = 80}));
  after(make_packet({.source = ip(10, 244, 4, 7), .payload = 80}));
  EXPECT_EQ(traffic_with(ip(10, 244, 2, 1)).packets, 0U);
  EXPECT_EQ(traffic_with(ip(10, 244, 3, 1)).packets, 1U);
  EXPECT_EQ(traffic_with(ip(10, 244, 4, 1)).packets, 0U);
}

TEST_P(DecapTest, CountsWhatTheDeviceRefuses) {
  const std::pair<int, const char*> cases[] = {
      {EAGAIN, "decap_tun_full"}, {ENOBUFS, "decap_tun_full"},   {EIO, "decap_tun_down"},
      {EBADFD, "decap_tun_down"}, {EINVAL, "decap_write_error"},
  };
  for (const auto& [error, name] : cases) {
    kernel_.write_error = error;
    const auto before = counted(counters_)[name];
    EXPECT_EQ(after(make_packet({}))[name], before + 1) << name;
  }
}

TEST_P(DecapTest, GoesOnAfterAnErrorOfTheNetwork) {
  uint64_t errors = 0;
  for (int error : {ECONNREFUSED, ECONNABORTED, EHOSTUNREACH, ENETDOWN, ENOMEM}) {
    kernel_.receive_error = error;
    EXPECT_EQ(decap_->turn(), Turn::drained) << error;
    EXPECT_EQ(counters_.get(Counter::decap_receive_errors), ++errors);
  }
}

TEST_P(DecapTest, FailsOnAnErrorThatWouldComeForEver) {
  for (int error : {EBADF, EACCES, EINVAL, ENOSYS}) {
    kernel_.receive_error = error;
    EXPECT_EQ(decap_->turn(), Turn::failed) << error;
    EXPECT_EQ(decap_->failure(), error);
  }
}

}  // namespace
}  // namespace flannel::test
