#include "merging.h"

#include <functional>
#include <map>
#include <random>

namespace flannel::test {
namespace {

TEST(Merge, TcpBecomesWhatTheKernelExpects) {
  std::vector<Bytes> packets = row({}, 2);
  packets.push_back(make([] {
    Spec last = after(after({}));
    last.flags = kAck | kPsh;
    last.payload = 30;
    return last;
  }()));
  const auto groups = merge(packets);
  ASSERT_EQ(sizes(groups), (Sizes{3}));
  const auto& [header, packet, segments, fixed_id] = groups[0];
  EXPECT_EQ(header.flags, VirtioHeader::kNeedsChecksum);
  EXPECT_EQ(header.gso_type, VirtioHeader::kGsoTcp4);
  EXPECT_EQ(header.hdr_len, 52);
  EXPECT_EQ(header.gso_size, 100);
  EXPECT_EQ(header.csum_start, 20);
  EXPECT_EQ(header.csum_offset, 16);
  EXPECT_FALSE(fixed_id);

  ASSERT_EQ(packet.size(), 52U + 230);
  EXPECT_EQ(Ipv4Packet::check(packet), Ipv4Fault::none);
  EXPECT_TRUE(header_checksum_holds(packet));
  EXPECT_EQ(packet[33], kAck | kPsh);
  EXPECT_EQ(load_be16(&packet[4]), 0xfffe);
  EXPECT_EQ(load_be32(&packet[24]), 0xffffff00U);
  Bytes completed = packet;
  EXPECT_EQ(complete_checksum(header, completed), GsoFault::none);
  EXPECT_EQ(transport_checksum(completed), 0);
  EXPECT_EQ(split(groups[0]), packets);
}

TEST(Merge, UdpBecomesWhatTheKernelExpects) {
  const auto packets = row({.protocol = 17}, 3);
  const auto groups = merge(packets);
  ASSERT_EQ(sizes(groups), (Sizes{3}));
  const auto& [header, packet, segments, fixed_id] = groups[0];
  EXPECT_EQ(header.flags, VirtioHeader::kNeedsChecksum);
  EXPECT_EQ(header.gso_type, VirtioHeader::kGsoUdpL4);
  EXPECT_EQ(header.hdr_len, 28);
  EXPECT_EQ(header.gso_size, 100);
  EXPECT_EQ(header.csum_start, 20);
  EXPECT_EQ(header.csum_offset, 6);
  EXPECT_EQ(Ipv4Packet::check(packet), Ipv4Fault::none);
  EXPECT_TRUE(header_checksum_holds(packet));
  EXPECT_EQ(load_be16(&packet[24]), 308);
  Bytes completed = packet;
  EXPECT_EQ(complete_checksum(header, completed), GsoFault::none);
  EXPECT_EQ(transport_checksum(completed), 0);
  EXPECT_EQ(split(groups[0]), packets);
}

TEST(Merge, TcpOverIpv6BecomesWhatTheKernelExpects) {
  std::vector<Bytes> packets = row({.v6 = true}, 2);
  Spec last = after(after({.v6 = true}));
  last.flags = kAck | kPsh;
  last.payload = 30;
  packets.push_back(make(last));
  const auto groups = merge(packets);
  ASSERT_EQ(sizes(groups), (Sizes{3}));
  const auto& [header, packet, segments, fixed_id] = groups[0];
  EXPECT_EQ(header.flags, VirtioHeader::kNeedsChecksum);
  EXPECT_EQ(header.gso_type, VirtioHeader::kGsoTcp6);
  EXPECT_EQ(header.hdr_len, 72);
  EXPECT_EQ(header.gso_size, 100);
  EXPECT_EQ(header.csum_start, 40);
  EXPECT_EQ(header.csum_offset, 16);
  EXPECT_FALSE(fixed_id);

  ASSERT_EQ(packet.size(), 72U + 230);
  EXPECT_EQ(Ipv6Packet::check(packet), Ipv6Fault::none);
  EXPECT_EQ(packet[53], kAck | kPsh);
  EXPECT_EQ(load_be32(&packet[44]), 0xffffff00U);
  Bytes completed = packet;
  EXPECT_EQ(complete_checksum(header, completed), GsoFault::none);
  EXPECT_EQ(transport_checksum(completed), 0);
  EXPECT_EQ(split(groups[0]), packets);
}

TEST(Merge, UdpOverIpv6BecomesWhatTheKernelExpects) {
  const auto packets = row({.v6 = true, .protocol = 17}, 3);
  const auto groups = merge(packets);
  ASSERT_EQ(sizes(groups), (Sizes{3}));
  const auto& [header, packet, segments, fixed_id] = groups[0];
  EXPECT_EQ(header.flags, VirtioHeader::kNeedsChecksum);
  EXPECT_EQ(header.gso_type, VirtioHeader::kGsoUdpL4);
  EXPECT_EQ(header.hdr_len, 48);
  EXPECT_EQ(header.gso_size, 100);
  EXPECT_EQ(header.csum_start, 40);
  EXPECT_EQ(header.csum_offset, 6);
  EXPECT_EQ(Ipv6Packet::check(packet), Ipv6Fault::none);
  EXPECT_EQ(load_be16(&packet[44]), 308);
  Bytes completed = packet;
  EXPECT_EQ(complete_checksum(header, completed), GsoFault::none);
  EXPECT_EQ(transport_checksum(completed), 0);
  EXPECT_EQ(split(groups[0]), packets);
}

TEST(Merge, ASinglePacketIsUntouched) {
  for (bool v6 : {false, true}) {
    for (uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
      const Bytes packet = make({.v6 = v6, .protocol = protocol});
      const auto groups = merge({packet});
      ASSERT_EQ(sizes(groups), (Sizes{1}));
      EXPECT_EQ(groups[0].packet, packet);
      EXPECT_EQ(groups[0].header.flags, VirtioHeader::kDataValid);
      EXPECT_EQ(groups[0].header.gso_type, VirtioHeader::kGsoNone);
      EXPECT_EQ(groups[0].header.gso_size, 0);
    }
  }
}

TEST(Merge, EachProtocolOnlyWhereTheDeviceTakesIt) {
  std::vector<Bytes> packets = row({}, 2);
  for (auto& packet : row({.protocol = 17}, 2)) packets.push_back(packet);
  EXPECT_EQ(merged_sizes(packets), (Sizes{2, 2}));
  EXPECT_EQ(merged_sizes(packets, {.tcp = false}), (Sizes{1, 1, 2}));
  EXPECT_EQ(merged_sizes(packets, {.udp = false}), (Sizes{2, 1, 1}));
  const auto none = merge(packets, {.tcp = false, .udp = false});
  ASSERT_EQ(sizes(none), (Sizes{1, 1, 1, 1}));
  for (size_t i = 0; i < none.size(); i++) {
    EXPECT_EQ(none[i].packet, packets[i]);
    EXPECT_EQ(none[i].header.flags, 0);
  }
}

struct Case {
  const char* name;
  uint8_t protocol;
  std::function<void(Spec&)> change;
  bool v6 = false;
};

/// Four packets in a row, the third one changed.
std::vector<Bytes> with_third(const Case& test) {
  Spec spec{.v6 = test.v6, .protocol = test.protocol};
  std::vector<Bytes> packets;
  for (int i = 0; i < 4; i++, spec = after(spec)) {
    Spec changed = spec;
    if (i == 2) test.change(changed);
    packets.push_back(make(changed));
  }
  return packets;
}

TEST(Merge, NeverThesePackets) {
  const Case cases[] = {
      {"IP options", 6, [](Spec& s) { s.ip_options = 4; }},
      {"IP options", 17, [](Spec& s) { s.ip_options = 4; }},
      {"first fragment", 17, [](Spec& s) { s.fragment = 0x2000; }},
      {"last fragment", 17, [](Spec& s) { s.fragment = 0x0010; }},
      {"reserved IP flag", 17, [](Spec& s) { s.fragment = 0xc000; }},
      {"SYN", 6, [](Spec& s) { s.flags |= kSyn; }},
      {"RST", 6, [](Spec& s) { s.flags |= kRst; }},
      {"URG", 6, [](Spec& s) { s.flags |= kUrg; }},
      {"ECE", 6, [](Spec& s) { s.flags |= kEce; }},
      {"CWR", 6, [](Spec& s) { s.flags |= kCwr; }},
      {"no ACK", 6, [](Spec& s) { s.flags = 0; }},
      {"no payload", 6, [](Spec& s) { s.payload = 0; }},
      {"no payload", 17, [](Spec& s) { s.payload = 0; }},
      {"IPv6 extension header", 6, [](Spec& s) { s.ip_options = 8; }, true},
      {"IPv6 extension header", 17, [](Spec& s) { s.ip_options = 16; }, true},
      {"first IPv6 fragment", 17, [](Spec& s) { s.fragment = 0x2000; }, true},
      {"last IPv6 fragment", 6, [](Spec& s) { s.fragment = 0x0010; }, true},
      {"IPv6, SYN", 6, [](Spec& s) { s.flags |= kSyn; }, true},
      {"IPv6, CWR", 6, [](Spec& s) { s.flags |= kCwr; }, true},
      {"IPv6, no payload", 6, [](Spec& s) { s.payload = 0; }, true},
      {"IPv6, no payload", 17, [](Spec& s) { s.payload = 0; }, true},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    const auto packets = with_third(test);
    const auto groups = merge(packets);
    ASSERT_EQ(sizes(groups), (Sizes{2, 1, 1}));
    EXPECT_EQ(groups[1].packet, packets[2]);
    EXPECT_EQ(groups[1].header.flags, 0);
    EXPECT_EQ(groups[2].packet, packets[3]);
  }
}

/// Bytes of the third packet changed after its checksums were made.
TEST(Merge, NeverWithAWrongOrMissingChecksumOrLength) {
  const struct {
    const char* name;
    uint8_t protocol;
    std::function<void(Bytes&)> spoil;
    bool v6 = false;
  } cases[] = {
      {"payload", 6, [](Bytes& p) { p.back() ^= 1; }},
      {"payload", 17, [](Bytes& p) { p.back() ^= 1; }},
      {"IP header", 6, [](Bytes& p) { p[10] ^= 1; }},
      {"IP header", 17, [](Bytes& p) { p[11] ^= 1; }},
      {"no UDP checksum", 17, [](Bytes& p) { store_be16(&p[26], 0); }},
      {"no UDP checksum, though 0 would be right", 17,
       [](Bytes& p) {
         store_be16(&p[26], 0);
         store_be16(&p[126], 0);
         store_be16(&p[126], transport_checksum(p));
       }},
      {"UDP length below the packet's", 17,
       [](Bytes& p) {
         p[25]--;
         fill_checksums(p);
       }},
      {"TCP data offset below 20", 6,
       [](Bytes& p) {
         p[32] = 0x40;
         fill_checksums(p);
       }},
      {"TCP data offset beyond the packet", 6,
       [](Bytes& p) {
         p.resize(60);
         store_be16(&p[2], 60);
         p[32] = 0xf0;
         fill_checksums(p);
       }},
      {"reserved TCP bit", 6,
       [](Bytes& p) {
         p[32] |= 1;
         fill_checksums(p);
       }},
      {"IPv6 payload", 6, [](Bytes& p) { p.back() ^= 1; }, true},
      {"IPv6 payload", 17, [](Bytes& p) { p.back() ^= 1; }, true},
      {"no UDP checksum, which IPv6 forbids", 17, [](Bytes& p) { store_be16(&p[46], 0); }, true},
      {"no UDP checksum over IPv6, though 0 would be right", 17,
       [](Bytes& p) {
         store_be16(&p[46], 0);
         store_be16(&p[146], 0);
         store_be16(&p[146], transport_checksum(p));
       },
       true},
      {"UDP length below the IPv6 packet's", 17,
       [](Bytes& p) {
         p[45]--;
         fill_checksums(p);
       },
       true},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    auto packets = row({.v6 = test.v6, .protocol = test.protocol}, 4);
    test.spoil(packets[2]);
    const auto groups = merge(packets);
    ASSERT_EQ(sizes(groups), (Sizes{2, 1, 1}));
    EXPECT_EQ(groups[1].packet, packets[2]);
    EXPECT_EQ(groups[1].header.flags, 0);
  }
}

/// The third packet may be merged, but not with those before it; the fourth follows the second.
TEST(Merge, StartsAnewWhereSomethingDiffers) {
  const Case cases[] = {
      {"TTL", 6, [](Spec& s) { s.ttl--; }},
      {"TTL", 17, [](Spec& s) { s.ttl--; }},
      {"TOS", 6, [](Spec& s) { s.tos = 3; }},
      {"TOS", 17, [](Spec& s) { s.tos = 3; }},
      {"DF", 6, [](Spec& s) { s.fragment = 0; }},
      {"DF", 17, [](Spec& s) { s.fragment = 0; }},
      {"id", 6, [](Spec& s) { s.id += 5; }},
      {"id of the packet before", 6, [](Spec& s) { s.id--; }},
      {"id", 17, [](Spec& s) { s.id += 5; }},
      {"gap", 6, [](Spec& s) { s.sequence += 100; }},
      {"repetition", 6, [](Spec& s) { s.sequence -= 100; }},
      {"acknowledgement", 6, [](Spec& s) { s.acknowledgement++; }},
      {"window", 6, [](Spec& s) { s.window++; }},
      {"urgent pointer", 6, [](Spec& s) { s.urgent++; }},
      {"options", 6, [](Spec& s) { s.timestamp++; }},
      {"hop limit", 6, [](Spec& s) { s.ttl--; }, true},
      {"hop limit", 17, [](Spec& s) { s.ttl--; }, true},
      {"traffic class", 6, [](Spec& s) { s.tos = 0x80; }, true},
      {"congestion experienced", 17, [](Spec& s) { s.tos = 3; }, true},
      {"flow label", 6, [](Spec& s) { s.flow_label++; }, true},
      {"flow label", 17, [](Spec& s) { s.flow_label ^= 0x80000; }, true},
      {"gap", 6, [](Spec& s) { s.sequence += 100; }, true},
      {"acknowledgement", 6, [](Spec& s) { s.acknowledgement++; }, true},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    const auto packets = with_third(test);
    const auto groups = merge(packets);
    ASSERT_EQ(sizes(groups), (Sizes{2, 1, 1}));
    EXPECT_EQ(groups[1].packet, packets[2]);
    EXPECT_EQ(groups[1].header.flags, VirtioHeader::kDataValid);
  }
}

TEST(Merge, TheOptionsHaveToBeOfOneLength) {
  auto packets = row({}, 2);
  packets[1][32] = 0x50;  // the options become payload
  fill_checksums(packets[1]);
  EXPECT_EQ(merged_sizes(packets), (Sizes{1, 1}));
}

TEST(Merge, EndsWithAShorterPacketOrPshOrFin) {
  const Case cases[] = {
      {"shorter", 6, [](Spec& s) { s.payload = 99; }},
      {"shorter", 17, [](Spec& s) { s.payload = 1; }},
      {"PSH", 6, [](Spec& s) { s.flags |= kPsh; }},
      {"FIN", 6, [](Spec& s) { s.flags |= kFin; }},
      {"shorter", 6, [](Spec& s) { s.payload = 99; }, true},
      {"shorter", 17, [](Spec& s) { s.payload = 1; }, true},
      {"PSH", 6, [](Spec& s) { s.flags |= kPsh; }, true},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    std::vector<Bytes> packets;
    Spec spec{.v6 = test.v6, .protocol = test.protocol};
    for (int i = 0; i < 5; i++, spec = after(spec)) {
      if (i == 2) test.change(spec);
      packets.push_back(make(spec));
      spec.flags = kAck;
    }
    const auto groups = merge(packets);
    ASSERT_EQ(sizes(groups), (Sizes{3, 2}));
    EXPECT_EQ(split(groups[0]), std::vector<Bytes>(packets.begin(), packets.begin() + 3));
  }
}

TEST(Merge, NothingJoinsAFirstPacketWithPsh) {
  Spec first{.flags = kAck | kPsh};
  Spec second = after(first);
  second.flags = kAck;
  EXPECT_EQ(merged_sizes({make(first), make(second)}), (Sizes{1, 1}));
}

TEST(Merge, ALongerPacketStartsAnew) {
  for (uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
    Spec spec{.protocol = protocol};
    std::vector<Bytes> packets;
    for (size_t payload : {100, 100, 101, 101}) {
      spec.payload = payload;
      packets.push_back(make(spec));
      spec = after(spec);
    }
    EXPECT_EQ(merged_sizes(packets), (Sizes{2, 2}));
  }
}

TEST(Merge, AConstantIdOnlyWithDontFragment) {
  for (uint16_t fragment : {kDontFragment, uint16_t{0}}) {
    Spec spec{.protocol = 17, .fragment = fragment, .id = 0};
    std::vector<Bytes> packets;
    for (int i = 0; i < 3; i++, spec = after(spec)) {
      spec.id = 0;
      packets.push_back(make(spec));
    }
    const auto groups = merge(packets);
    ASSERT_EQ(sizes(groups), fragment == 0 ? (Sizes{1, 1, 1}) : (Sizes{3}));
    EXPECT_EQ(groups[0].fixed_id, fragment != 0);
  }
}

TEST(Merge, IdsCountUpOrStayButNotBoth) {
  const auto with_ids = [](std::vector<uint16_t> ids) {
    Spec spec{};
    std::vector<Bytes> packets;
    for (uint16_t id : ids) {
      spec.id = id;
      packets.push_back(make(spec));
      spec = after(spec);
    }
    return merged_sizes(packets);
  };
  EXPECT_EQ(with_ids({0xffff, 0, 1}), (Sizes{3}));
  EXPECT_EQ(with_ids({5, 5, 6}), (Sizes{2, 1}));
  EXPECT_EQ(with_ids({5, 6, 6}), (Sizes{2, 1}));
  EXPECT_EQ(with_ids({5, 6, 5}), (Sizes{2, 1}));
}

TEST(Merge, FlowsInterleavedAndInOrderOfTheirFirstPackets) {
  std::vector<Spec> flows(7);
  flows[1].source_port++;
  flows[2].source++;
  flows[3].protocol = 17;
  flows[4].v6 = true;
  flows[5].v6 = true;
  flows[5].source++;
  flows[6].v6 = true;
  flows[6].protocol = 17;
  std::vector<Bytes> packets;
  for (int i = 0; i < 3; i++) {
    for (auto& flow : flows) {
      packets.push_back(make(flow));
      flow = after(flow);
    }
  }
  const auto groups = merge(packets);
  ASSERT_EQ(sizes(groups), (Sizes{3, 3, 3, 3, 3, 3, 3}));
  for (size_t i = 0; i < flows.size(); i++) {
    EXPECT_EQ(split(groups[i]), (std::vector<Bytes>{packets[i], packets[i + 7], packets[i + 14]}));
  }
}

TEST(Merge, AFragmentEndsAllGroupsOtherProtocolsNone) {
  const auto tcp = row({}, 2);
  const auto udp = row({.protocol = 17}, 2);
  const Bytes fragment = make({.protocol = 17, .source_port = 9, .fragment = 0x2000});
  const Bytes stump = make_packet({.protocol = 17, .payload = 3});
  const Bytes icmp = make({.protocol = 1, .fragment = 0x2000});
  EXPECT_EQ(merged_sizes({tcp[0], udp[0], fragment, tcp[1], udp[1]}), (Sizes{1, 1, 1, 1, 1}));
  EXPECT_EQ(merged_sizes({tcp[0], udp[0], stump, tcp[1], udp[1]}), (Sizes{1, 1, 1, 1, 1}));
  EXPECT_EQ(merged_sizes({tcp[0], udp[0], icmp, tcp[1], udp[1]}), (Sizes{2, 2, 1}));
}

TEST(Merge, WhatHidesItsFlowEndsAllGroupsOverIpv6Too) {
  const auto tcp = row({.v6 = true}, 2);
  const auto udp = row({}, 2);
  const auto behind = [&](const Bytes& packet) {
    return merged_sizes({tcp[0], udp[0], packet, tcp[1], udp[1]});
  };
  const Bytes options = extension_header(17);
  EXPECT_EQ(behind(make({.v6 = true, .source_port = 9, .fragment = 0x2000})),
            (Sizes{1, 1, 1, 1, 1}));
  EXPECT_EQ(behind(make_packet6({.extension = 44, .extensions = fragment_header(60, 8)})),
            (Sizes{1, 1, 1, 1, 1}))
      << "a later fragment of who knows what";
  EXPECT_EQ(behind(make_packet6({.protocol = 60, .payload = 7})), (Sizes{1, 1, 1, 1, 1}))
      << "an extension header that leaves the packet";
  EXPECT_EQ(behind(make_packet6({.payload = 3})), (Sizes{1, 1, 1, 1, 1}));
  EXPECT_EQ(behind(make_packet6({.protocol = 58})), (Sizes{2, 2, 1}));
  EXPECT_EQ(behind(make_packet6({.extension = 60, .extensions = options})), (Sizes{2, 2, 1}))
      << "of another flow";
}

/// Flows of IPv6 are told apart by a hash; the packets of two that share one stay apart.
TEST(Merge, OneAddressBitMakesAnotherFlow) {
  for (size_t at = 8; at < 40; at++) {
    for (int bit = 0; bit < 8; bit++) {
      auto packets = row({.v6 = true}, 2);
      packets[1][at] ^= static_cast<uint8_t>(1U << bit);
      fill_checksums(packets[1]);
      ASSERT_EQ(merged_sizes(packets), (Sizes{1, 1})) << at;
    }
  }
}

TEST(Merge, UpToTheLimits) {
  EXPECT_EQ(merged_sizes(row({.protocol = 17, .payload = 1}, 130)), (Sizes{64, 64, 2}));
  EXPECT_EQ(merged_sizes(row({.payload = 1}, 130), {.max_segments = 1000}), (Sizes{128, 2}));
  EXPECT_EQ(merged_sizes(row({}, 3), {.max_segments = 1}), (Sizes{1, 1, 1}));
  EXPECT_EQ(merged_sizes(row({}, 3), {.max_segments = 0}), (Sizes{1, 1, 1}));
  EXPECT_EQ(merged_sizes(row({.payload = 1420}, 50)), (Sizes{46, 4}));

  // Exactly 65535 bytes, and one more.
  for (size_t last : {10915U, 10916U}) {
    const size_t count = 5;
    Spec spec{.payload = 10920};
    auto packets = row(spec, count);
    for (size_t i = 0; i < count; i++) spec = after(spec);
    spec.payload = last - 32;
    packets.push_back(make(spec));
    const bool fits = 52 + count * 10920 + spec.payload <= 65535;
    EXPECT_EQ(merged_sizes(packets), fits ? (Sizes{6}) : (Sizes{5, 1}));
  }
}

TEST(Merge, ASuperPacketOf65535Bytes) {
  Spec spec{.protocol = 17, .payload = 21836};
  auto packets = row(spec, 2);
  spec = after(after(spec));
  for (size_t last : {21835U, 21836U}) {
    spec.payload = last;
    auto all = packets;
    all.push_back(make(spec));
    const auto groups = merge(all);
    if (last == 21835) {
      ASSERT_EQ(sizes(groups), (Sizes{3}));
      EXPECT_EQ(groups[0].packet.size(), 65535U);
      EXPECT_EQ(split(groups[0]), all);
    } else {
      EXPECT_EQ(sizes(groups), (Sizes{2, 1}));
    }
  }
}

TEST(Merge, ASuperPacketOfIpv6IsNoLargerThanOneOfIpv4) {
  Spec spec{.v6 = true, .protocol = 17, .payload = 21830};
  auto packets = row(spec, 2);
  spec = after(after(spec));
  for (size_t last : {21827U, 21828U}) {
    spec.payload = last;
    auto all = packets;
    all.push_back(make(spec));
    const auto groups = merge(all);
    if (last == 21827) {
      ASSERT_EQ(sizes(groups), (Sizes{3}));
      EXPECT_EQ(groups[0].packet.size(), 65535U);
      EXPECT_EQ(split(groups[0]), all);
    } else {
      EXPECT_EQ(sizes(groups), (Sizes{2, 1}));
    }
  }
}

TEST(Merge, AFullBatchTakesNoMoreAndAClearedOneBeginsAnew) {
  auto packets = row({}, 6);
  Merger merger(2);
  EXPECT_TRUE(merger.add(packets[0]));
  EXPECT_TRUE(merger.add(packets[1]));
  EXPECT_FALSE(merger.add(packets[2]));
  EXPECT_EQ(merger.packets(), 2U);
  EXPECT_EQ(merger.finish().size(), 1U);
  merger.clear();
  EXPECT_TRUE(merger.finish().empty());
  EXPECT_TRUE(merger.add(packets[2]));
  EXPECT_TRUE(merger.add(packets[3]));
  ASSERT_EQ(merger.finish().size(), 1U);
  EXPECT_EQ(merger.finish()[0].segments, 2U);
}

TEST(Merge, SurvivesAnyPacket) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 2000; round++) {
    std::vector<Bytes> packets;
    for (int i = 0; i < 50; i++) {
      const auto protocol = static_cast<uint8_t>(random() % 2 == 0 ? 6 : 17);
      Bytes packet = random() % 2 == 0
                         ? make_packet({.protocol = protocol,
                                        .fragment = static_cast<uint16_t>(random() % 4 << 13),
                                        .options = random() % 11 * 4,
                                        .payload = random() % 64})
                         : make_packet6({.protocol = protocol, .payload = random() % 64});
      if (is_v6(packet) && random() % 8 == 0) packet[6] = static_cast<uint8_t>(random() % 64);
      for (size_t at = ip_length(packet); at < packet.size(); at++) {
        if (random() % 4 == 0) packet[at] = static_cast<uint8_t>(random());
      }
      const size_t header = ip_length(packet);
      if (random() % 2 == 0 && packet.size() >= header + 20) fill_checksums(packet);
      packet.shrink_to_fit();
      packets.push_back(std::move(packet));
    }
    size_t segments = 0;
    for (const auto& written : merge(packets)) segments += written.segments;
    ASSERT_EQ(segments, packets.size());
  }
}

}  // namespace
}  // namespace flannel::test
