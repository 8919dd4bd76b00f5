// Offloads change how packets travel through this process, never the packets: one seeded stream
// through the plain path and through the offloaded one gives the same packets, in the same order
// within each flow.
#include <cstdlib>
#include <random>

#include "checksum.h"
#include "flows.h"
#include "gro.h"
#include "gso.h"
#include "pipeline.h"

namespace flannel::test {
namespace {

constexpr uint32_t kTunnel = ip(10, 244, 1, 0);

/// Traffic of a few hosts: TCP flows that send in order, UDP flows, fragments, options, and broken
/// packets.
class Traffic {
 public:
  explicit Traffic(uint64_t seed) : random_(seed) {
    for (size_t i = 0; i < kFlows; i++) {
      Flow& flow = flows_[i];
      flow.source = ip(10, 244, 2, static_cast<uint8_t>(1 + random_() % 3));
      flow.destination = ip(10, 244, 3, static_cast<uint8_t>(1 + random_() % 3));
      flow.ports =
          static_cast<uint32_t>(random_() % 4) << 16 | static_cast<uint32_t>(random_() % 4);
      flow.tcp = random_() % 2 == 0;
      flow.sequence = static_cast<uint32_t>(random_());
      flow.size = std::array<size_t, 5>{1, 36, 536, 1400, 1432}[random_() % 5];
      flow.dont_fragment = random_() % 4 != 0;
      flow.timestamps = random_() % 2 == 0;
    }
  }

  Bytes next() {
    // Rows of packets of one flow, as a sender's bursts make them.
    if (burst_ == 0) {
      current_ = random_() % kFlows;
      burst_ = 1 + random_() % 30;
    }
    burst_--;
    Flow& flow = flows_[current_];
    const uint64_t dice = random_() % 200;
    const size_t payload = random_() % 8 == 0 ? random_() % (flow.size + 1) : flow.size;
    Bytes packet = flow.tcp ? tcp(flow, payload) : udp(flow, payload);
    if (dice < 4) packet[8] = static_cast<uint8_t>(dice % 2);  // TTL 0 or 1
    if (dice == 4) store_be16(&packet[6], 0x2000);             // a first fragment
    if (dice == 5) store_be16(&packet[6], 0x0010);             // a later one
    if (dice == 6) packet[1] = 0x03;                           // congestion experienced
    store_be16(&packet[10], 0);
    store_be16(&packet[10], checksum({packet.data(), 20}));
    if (dice == 7) packet[random_() % packet.size()] ^= 0x10;  // anything may be broken
    if (dice == 8) packet.resize(random_() % packet.size());
    return packet;
  }

 private:
  static constexpr size_t kFlows = 12;
  struct Flow {
    uint32_t source, destination, ports, sequence = 0;
    uint16_t id = 0;
    size_t size;
    bool tcp, dont_fragment, timestamps;
  };

  Bytes headed(Flow& flow, size_t transport, uint8_t protocol) {
    Bytes packet(20 + transport);
    packet[0] = 0x45;
    store_be16(&packet[2], static_cast<uint16_t>(packet.size()));
    store_be16(&packet[4], flow.id++);
    store_be16(&packet[6], flow.dont_fragment ? 0x4000 : 0);
    packet[8] = 64;
    packet[9] = protocol;
    store_be32(&packet[12], flow.source);
    store_be32(&packet[16], flow.destination);
    store_be32(&packet[20], flow.ports);
    return packet;
  }
  void fill(Bytes& packet, size_t from) {
    for (size_t i = from; i < packet.size(); i++) packet[i] = static_cast<uint8_t>(random_());
  }
  static void seal(Bytes& packet, size_t at, uint8_t protocol) {
    const auto transport = std::span<const uint8_t>(packet).subspan(20);
    const uint64_t pseudo = checksum_pseudo_ipv4(load_be32(&packet[12]), load_be32(&packet[16]),
                                                 protocol, static_cast<uint32_t>(transport.size()));
    const uint64_t sum = checksum_add(transport, pseudo);
    store_be16(&packet[at], protocol == 17 ? checksum_finish_udp(sum) : checksum_finish(sum));
  }
  Bytes tcp(Flow& flow, size_t payload) {
    const size_t header = flow.timestamps ? 32 : 20;
    Bytes packet = headed(flow, header + payload, 6);
    store_be32(&packet[24], flow.sequence);
    store_be32(&packet[28], 0x01020304);
    packet[32] = static_cast<uint8_t>(header / 4 << 4);
    const uint64_t dice = random_() % 100;
    packet[33] = dice < 85 ? 0x10 : dice < 95 ? 0x18 : static_cast<uint8_t>(random_());
    store_be16(&packet[34], 1000);
    if (flow.timestamps) {
      store_be32(&packet[40], 0x0101080a);
      store_be32(&packet[44], flow.sequence >> 14);
      store_be32(&packet[48], 7);
    }
    fill(packet, 20 + header);
    flow.sequence += static_cast<uint32_t>(payload);
    seal(packet, 36, 6);
    return packet;
  }
  Bytes udp(Flow& flow, size_t payload) {
    Bytes packet = headed(flow, 8 + payload, 17);
    store_be16(&packet[24], static_cast<uint16_t>(8 + payload));
    fill(packet, 28);
    if (random_() % 30 != 0) seal(packet, 26, 17);  // else without a checksum
    return packet;
  }

  std::mt19937_64 random_;
  std::array<Flow, kFlows> flows_{};
  size_t current_ = 0;
  size_t burst_ = 0;
};

size_t packets_to_try() {
  const char* wanted = std::getenv("FLANNEL_DIFFERENTIAL_PACKETS");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 200'000;
}

constexpr size_t kPortion = 400;

class OffloadTest : public ::testing::Test {
 protected:
  struct Side {
    explicit Side(FeatureSet features)
        : active(features),
          udp(ScriptedKernel::kUdp, active, kernel),
          tun(ScriptedKernel::kTun, features.has(Feature::tso) || features.has(Feature::uso),
              kernel),
          encap(tun, udp, fib.reader(0), {}, {kTunnel}, kBatchSize, counters, kernel),
          decap(udp, tun, fib.reader(1), {kTunnel}, kBatchSize, active, counters) {}

    ScriptedKernel kernel;
    Counters counters;
    Snapshot<Fib> fib{
        Fib::build(std::vector<Route>{
            {{ip(10, 244, 3, 0), 24}, {Address::of_ipv4(ip(192, 0, 2, 3)), htons(8285)}}}),
        2};
    ActiveFeatures active;
    UdpSocket udp;
    TunQueue tun;
    Encap encap;
    Decap decap;
  };

  static constexpr FeatureSet kPlain{Feature::batch};
  static constexpr FeatureSet kAll{Feature::batch, Feature::gso, Feature::gro, Feature::tso,
                                   Feature::uso};

  /// What a TUN device with offloads hands over: super-packets, as the other direction would have
  /// made them.
  static void feed_super(std::deque<Bytes>& tun, std::vector<Bytes>& packets, Merger& merger) {
    const auto put = [&](const VirtioHeader& header, std::span<const iovec> pieces) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
      Bytes whole(bytes, bytes + sizeof header);
      for (const iovec& piece : pieces) {
        const auto* data = static_cast<const uint8_t*>(piece.iov_base);
        whole.insert(whole.end(), data, data + piece.iov_len);
      }
      tun.push_back(std::move(whole));
    };
    for (Bytes& packet : packets) {
      if (Ipv4Packet::check(packet) == Ipv4Fault::none) {
        ASSERT_TRUE(merger.add(packet));
      } else {
        const iovec piece{packet.data(), packet.size()};
        put({}, {&piece, 1});
      }
    }
    for (const Merger::Group& group : merger.finish()) put(group.header, group.packet());
    merger.clear();
  }

  /// The packets that the kernel behind the TUN device ends up with.
  static void collect_tun(Flows& flows, const std::vector<Bytes>& written) {
    HeaderArena headers(Merger::kMaxSegments);
    Splitter splitter(headers);
    for (const Bytes& bytes : written) {
      VirtioHeader header;
      ASSERT_GE(bytes.size(), sizeof header);
      std::memcpy(&header, bytes.data(), sizeof header);
      const std::span<const uint8_t> packet = std::span(bytes).subspan(sizeof header);
      if (header.gso_type == VirtioHeader::kGsoNone) {
        file(flows, {packet.begin(), packet.end()});
        continue;
      }
      headers.reset();
      ASSERT_EQ(splitter.begin(header, packet), GsoFault::none);
      for (Segment segment; splitter.next(segment);) {
        Bytes whole(segment.header.begin(), segment.header.end());
        whole.insert(whole.end(), segment.payload.begin(), segment.payload.end());
        file(flows, std::move(whole));
      }
      ASSERT_EQ(splitter.remaining(), 0U);
    }
  }
};

TEST_F(OffloadTest, EncapGivesTheSamePackets) {
  Traffic traffic(1);
  Merger merger(kPortion);
  size_t runs = 0;
  for (size_t done = 0; done < packets_to_try(); done += kPortion) {
    Side plain(kPlain);
    Side full(kAll);
    std::vector<Bytes> packets;
    for (size_t i = 0; i < kPortion; i++) packets.push_back(traffic.next());
    plain.kernel.tun_in.assign(packets.begin(), packets.end());
    feed_super(full.kernel.tun_in, packets, merger);
    Flows expected;
    Flows found;
    for (Side* side : {&plain, &full}) {
      while (side->encap.turn() == Turn::more) {
      }
      EXPECT_EQ(unaccounted(side->counters, "encap"), 0);
      for (auto& sent : side->kernel.udp_out)
        file(side == &plain ? expected : found, std::move(sent.payload));
    }
    ASSERT_EQ(difference(expected, found), "") << "after " << done << " packets";
    ASSERT_EQ(counted(full.counters), counted(plain.counters)) << "after " << done << " packets";
    runs += full.kernel.runs.size();
  }
  EXPECT_GT(runs, 0U);
}

TEST_F(OffloadTest, DecapGivesTheSamePackets) {
  Traffic traffic(2);
  size_t written = 0;
  for (size_t done = 0; done < packets_to_try(); done += kPortion) {
    Side plain(kPlain);
    Side full(kAll);
    for (size_t i = 0; i < kPortion; i++) {
      Bytes packet = traffic.next();
      plain.kernel.udp_in.push_back(packet);
      full.kernel.udp_in.push_back(std::move(packet));
    }
    for (Side* side : {&plain, &full}) {
      while (side->decap.turn() == Turn::more) {
      }
      EXPECT_EQ(unaccounted(side->counters, "decap"), 0);
    }
    Flows expected;
    Flows found;
    for (Bytes& packet : plain.kernel.tun_out) file(expected, std::move(packet));
    collect_tun(found, full.kernel.tun_out);
    ASSERT_EQ(difference(expected, found), "") << "after " << done << " packets";
    ASSERT_EQ(counted(full.counters), counted(plain.counters)) << "after " << done << " packets";
    written += full.kernel.tun_out.size();
  }
  EXPECT_LT(written, packets_to_try() / 2) << "packets of a flow were joined";
}

TEST_F(OffloadTest, AWriteThatTheDeviceRefusesIsRepeatedPacketByPacket) {
  Traffic traffic(3);
  Side plain(kPlain);
  Side full(kAll);
  full.kernel.write_outcome = [](const Bytes& message) {
    return message[1] == VirtioHeader::kGsoNone ? 0 : EINVAL;
  };
  for (size_t i = 0; i < 4000; i++) {
    Bytes packet = traffic.next();
    plain.kernel.udp_in.push_back(packet);
    full.kernel.udp_in.push_back(std::move(packet));
  }
  for (Side* side : {&plain, &full}) {
    while (side->decap.turn() == Turn::more) {
    }
  }
  Flows expected;
  Flows found;
  for (Bytes& packet : plain.kernel.tun_out) file(expected, std::move(packet));
  collect_tun(found, full.kernel.tun_out);
  EXPECT_EQ(difference(expected, found), "");
  EXPECT_EQ(counted(full.counters), counted(plain.counters));
  EXPECT_EQ(full.active.get(), (FeatureSet{Feature::batch, Feature::gso, Feature::gro}));
}

TEST_F(OffloadTest, ASuperPacketThatIsDroppedCountsForAllItsPackets) {
  Traffic traffic(4);
  Side plain(kPlain);
  Side full(kAll);
  plain.fib.publish(Fib::build({}));
  full.fib.publish(Fib::build({}));
  std::vector<Bytes> packets;
  for (size_t i = 0; i < kPortion; i++) packets.push_back(traffic.next());
  plain.kernel.tun_in.assign(packets.begin(), packets.end());
  Merger merger(kPortion);
  feed_super(full.kernel.tun_in, packets, merger);
  for (Side* side : {&plain, &full}) {
    while (side->encap.turn() == Turn::more) {
    }
  }
  EXPECT_EQ(counted(full.counters), counted(plain.counters));
  EXPECT_GT(full.counters.get(Counter::encap_no_route), kPortion / 2);
}

TEST_F(OffloadTest, AnOffloadHeaderThatDoesNotFitIsCounted) {
  Side full(kAll);
  VirtioHeader header;
  header.gso_type = VirtioHeader::kGsoTcp4;
  header.gso_size = 100;
  Bytes bytes(sizeof header);
  std::memcpy(bytes.data(), &header, sizeof header);
  const Bytes packet = make_packet({.destination = ip(10, 244, 3, 1)});  // UDP
  bytes.insert(bytes.end(), packet.begin(), packet.end());
  full.kernel.tun_in.push_back(bytes);
  full.kernel.tun_in.push_back(Bytes(5));
  EXPECT_EQ(full.encap.turn(), Turn::drained);
  EXPECT_EQ(
      counted(full.counters),
      (CounterDifference{{"encap_packets_in", 2}, {"encap_bad_offload", 1}, {"encap_short", 1}}));
}

/// A UDP datagram to 10.244.3.1 with a mark in its first four bytes, as a TUN device with offloads
/// hands it over: of `gso_size` bytes each, or as one packet where that is 0.
Bytes from_tun(size_t payload, uint16_t port, uint32_t mark, uint16_t gso_size = 0,
               uint16_t fragment = 0x4000) {
  Bytes packet =
      make_packet({.destination = ip(10, 244, 3, 1), .fragment = fragment, .payload = 8 + payload});
  store_be16(&packet[20], port);
  store_be16(&packet[22], 9);
  store_be16(&packet[24], static_cast<uint16_t>(8 + payload));
  store_be32(&packet[28], mark);
  VirtioHeader header;
  if (gso_size > 0) {
    header.flags = VirtioHeader::kNeedsChecksum;
    header.gso_type = VirtioHeader::kGsoUdpL4;
    header.gso_size = gso_size;
    header.csum_start = 20;
    header.csum_offset = 6;
  }
  Bytes whole(sizeof header + packet.size());
  std::memcpy(whole.data(), &header, sizeof header);
  std::copy(packet.begin(), packet.end(), whole.begin() + sizeof header);
  return whole;
}

TEST_F(OffloadTest, AFullSocketLosesNothingHoweverMuchWasRead) {
  const FeatureSet without_gso{Feature::batch, Feature::tso, Feature::uso};
  const FeatureSet without_batch{Feature::tso, Feature::uso};
  for (const FeatureSet features : {kAll, without_gso, without_batch}) {
    Side side(features);
    uint32_t budget = 1;
    // Takes a few at a time, and is full in between.
    const auto outcome = [&] { return budget-- % 7 == 0 ? EAGAIN : 0; };
    side.kernel.run_outcome = [&](const Bytes&, size_t) { return outcome(); };
    side.kernel.send_outcome = [&](const Bytes&) { return outcome(); };
    constexpr uint32_t kMarks = 40;
    for (uint32_t mark = 0; mark < kMarks; mark++) {
      side.kernel.tun_in.push_back(from_tun(500, 1000, mark));
      side.kernel.tun_in.push_back(from_tun(6400, 2000, mark, 64));
    }
    while (side.encap.turn() != Turn::drained) {
    }
    EXPECT_EQ(unaccounted(side.counters, "encap"), 0);
    EXPECT_EQ(side.counters.get(Counter::encap_packets_out), kMarks + kMarks * 100);
    EXPECT_GT(side.counters.get(Counter::encap_blocked), 0U);
    uint32_t next = 0;
    for (const auto& sent : side.kernel.udp_out) {
      if (load_be16(&sent.payload[20]) != 1000) continue;
      EXPECT_EQ(load_be32(&sent.payload[28]), next++);
    }
    EXPECT_EQ(next, kMarks);
  }
}

TEST_F(OffloadTest, WhatWaitsAtTheEndIsCountedToTheLastSegment) {
  Side side(kAll);
  side.kernel.run_outcome = [](const Bytes&, size_t) { return EAGAIN; };
  for (uint32_t mark = 0; mark < 20; mark++)
    side.kernel.tun_in.push_back(from_tun(6400, 2000, mark, 64));
  EXPECT_EQ(side.encap.turn(), Turn::blocked);
  side.encap.abandon();
  EXPECT_EQ(unaccounted(side.counters, "encap"), 0);
  EXPECT_EQ(side.counters.get(Counter::encap_stopped), 2000U);
}

TEST_F(OffloadTest, OnePeerWhoseRouteRefusesEverythingSpoilsNothingForTheOthers) {
  Side side(kAll);
  side.kernel.run_outcome = [](const Bytes&, size_t) { return EIO; };
  side.kernel.send_outcome = [](const Bytes&) { return EINVAL; };
  for (uint32_t mark = 0; mark < 4; mark++) side.kernel.tun_in.push_back(from_tun(500, 1000, mark));
  EXPECT_EQ(side.encap.turn(), Turn::drained);
  EXPECT_EQ(side.counters.get(Counter::encap_send_error), 4U);
  EXPECT_TRUE(side.active.has(Feature::gso));
}

TEST_F(OffloadTest, FragmentsAndTheirFlowKeepTheirOrder) {
  Side side(kAll);
  side.kernel.tun_in.push_back(from_tun(500, 7, 0));
  side.kernel.tun_in.push_back(from_tun(1400, 1000, 1, 0, 0x2000));
  side.kernel.tun_in.push_back(from_tun(300, 1000, 2, 0, 0x00b2));
  side.kernel.tun_in.push_back(from_tun(500, 1000, 3));
  EXPECT_EQ(side.encap.turn(), Turn::drained);
  std::vector<uint32_t> marks;
  for (const auto& sent : side.kernel.udp_out) marks.push_back(load_be32(&sent.payload[28]));
  EXPECT_EQ(marks, (std::vector<uint32_t>{0, 1, 2, 3}));
}

TEST_F(OffloadTest, AFeatureThatAnotherQueueLostIsNotTriedHere) {
  Side side(kAll);
  size_t refused = 0;
  side.kernel.write_outcome = [&](const Bytes& message) {
    if (message[1] == VirtioHeader::kGsoNone) return 0;
    refused++;
    return EINVAL;
  };
  side.active.remove(Feature::uso);
  side.active.remove(Feature::tso);
  Traffic traffic(5);
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 50; i++) side.kernel.udp_in.push_back(traffic.next());
    while (side.decap.turn() == Turn::more) {
    }
  }
  // The first batch may still be joined as the merger was made.
  EXPECT_LE(refused, 50U);
  const size_t after_first = refused;
  for (int i = 0; i < 500; i++) side.kernel.udp_in.push_back(traffic.next());
  while (side.decap.turn() == Turn::more) {
  }
  EXPECT_EQ(refused, after_first);
}

}  // namespace
}  // namespace flannel::test
