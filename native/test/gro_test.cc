#include "gro.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>

#include "gso.h"
#include "packets.h"

namespace flannel::test {
namespace {

constexpr uint8_t kFin = 0x01;
constexpr uint8_t kSyn = 0x02;
constexpr uint8_t kRst = 0x04;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kAck = 0x10;
constexpr uint8_t kUrg = 0x20;
constexpr uint8_t kEce = 0x40;
constexpr uint8_t kCwr = 0x80;
constexpr uint16_t kDontFragment = 0x4000;

struct Spec {
  uint8_t protocol = 6;
  uint32_t source = ip(10, 244, 1, 2);
  uint16_t source_port = 1234;
  uint8_t ttl = 63;
  uint8_t tos = 0;
  uint16_t fragment = kDontFragment;
  uint16_t id = 0xfffe;
  uint32_t sequence = 0xffffff00;
  uint32_t acknowledgement = 7;
  uint8_t flags = kAck;
  uint16_t window = 500;
  uint16_t urgent = 0;
  uint32_t timestamp = 9;  // in 12 bytes of TCP options
  size_t ip_options = 0;
  size_t payload = 100;
  uint8_t fill = 0;
};

size_t ip_length(const Bytes& packet) {
  return size_t{4} * (packet[0] & 15U);
}
size_t checksum_place(const Bytes& packet) {
  return ip_length(packet) + (packet[9] == 6 ? 16 : 6);
}

/// With the pseudo-header put in front, summed by the tests' own arithmetic.
uint16_t transport_checksum(const Bytes& packet) {
  const size_t header = ip_length(packet);
  Bytes all(12);
  std::copy_n(packet.begin() + 12, 8, all.begin());
  all[9] = packet[9];
  store_be16(&all[10], static_cast<uint16_t>(packet.size() - header));
  all.insert(all.end(), packet.begin() + static_cast<ptrdiff_t>(header), packet.end());
  return checksum(all);
}

void fill_ip_checksum(Bytes& packet) {
  store_be16(&packet[10], 0);
  store_be16(&packet[10], checksum({packet.data(), ip_length(packet)}));
}

void fill_checksums(Bytes& packet) {
  store_be16(&packet[checksum_place(packet)], 0);
  const uint16_t sum = transport_checksum(packet);
  store_be16(&packet[checksum_place(packet)], sum == 0 && packet[9] == 17 ? 0xffff : sum);
  fill_ip_checksum(packet);
}

Bytes make(const Spec& spec) {
  const size_t transport = spec.protocol == 6 ? 32 : 8;
  Bytes packet = make_packet({.source = spec.source,
                              .ttl = spec.ttl,
                              .protocol = spec.protocol,
                              .fragment = spec.fragment,
                              .options = spec.ip_options,
                              .payload = transport + spec.payload,
                              .first_payload_byte = spec.fill});
  packet[1] = spec.tos;
  store_be16(&packet[4], spec.id);
  uint8_t* head = &packet[20 + spec.ip_options];
  store_be16(head, spec.source_port);
  store_be16(head + 2, 80);
  if (spec.protocol == 6) {
    store_be32(head + 4, spec.sequence);
    store_be32(head + 8, spec.acknowledgement);
    store_be16(head + 12, static_cast<uint16_t>(0x8000 | spec.flags));
    store_be16(head + 14, spec.window);
    store_be16(head + 18, spec.urgent);
    store_be32(head + 20, 0x0101080a);  // NOP, NOP, timestamps (RFC 7323)
    store_be32(head + 24, spec.timestamp);
    store_be32(head + 28, 8);
  } else {
    store_be16(head + 4, static_cast<uint16_t>(8 + spec.payload));
  }
  fill_checksums(packet);
  return packet;
}

/// The packet that follows in the same stream.
Spec after(Spec spec) {
  spec.sequence += static_cast<uint32_t>(spec.payload);
  spec.id++;
  spec.fill += 50;
  return spec;
}

struct Written {
  VirtioHeader header;
  Bytes packet;
  size_t segments;
  bool fixed_id;
};

/// One batch; the packets are copied first, since merging changes them.
std::vector<Written> merge(std::vector<Bytes> packets, MergeOptions options = {}) {
  Merger merger(packets.size(), options);
  size_t total = 0;
  for (auto& packet : packets) {
    packet.shrink_to_fit();
    EXPECT_TRUE(merger.add(packet));
    total += packet.size();
  }
  std::vector<Written> result;
  for (const auto& group : merger.finish()) {
    Written written{group.header, {}, group.segments, group.fixed_id};
    EXPECT_EQ(group.message[0].iov_base, static_cast<const void*>(&group.header));
    EXPECT_EQ(group.message[0].iov_len, sizeof(VirtioHeader));
    EXPECT_EQ(group.packet().size(), group.segments);
    for (const auto& piece : group.packet()) {
      const auto* bytes = static_cast<const uint8_t*>(piece.iov_base);
      written.packet.insert(written.packet.end(), bytes, bytes + piece.iov_len);
    }
    total -= group.bytes;
    result.push_back(std::move(written));
  }
  EXPECT_EQ(total, 0U);
  return result;
}

using Sizes = std::vector<size_t>;

Sizes sizes(const std::vector<Written>& groups) {
  Sizes result;
  for (const auto& group : groups) result.push_back(group.segments);
  return result;
}
Sizes merged_sizes(const std::vector<Bytes>& packets, MergeOptions options = {}) {
  return sizes(merge(packets, options));
}

std::vector<Bytes> row(Spec spec, size_t count) {
  std::vector<Bytes> packets;
  for (size_t i = 0; i < count; i++, spec = after(spec)) packets.push_back(make(spec));
  return packets;
}

/// What the kernel does with a super-packet when it needs the single packets again.
std::vector<Bytes> split(const Written& written) {
  if (written.segments == 1) return {written.packet};
  HeaderArena arena(Merger::kMaxSegments);
  Splitter splitter(arena);
  EXPECT_EQ(splitter.begin(written.header, written.packet), GsoFault::none);
  std::vector<Bytes> result;
  Segment segment;
  while (splitter.next(segment)) {
    Bytes bytes(segment.header.begin(), segment.header.end());
    bytes.insert(bytes.end(), segment.payload.begin(), segment.payload.end());
    if (written.fixed_id) {
      std::copy_n(written.packet.begin() + 4, 2, bytes.begin() + 4);
      fill_ip_checksum(bytes);
    }
    result.push_back(std::move(bytes));
  }
  EXPECT_EQ(result.size(), written.segments);
  return result;
}

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

TEST(Merge, ASinglePacketIsUntouched) {
  for (uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
    const Bytes packet = make({.protocol = protocol});
    const auto groups = merge({packet});
    ASSERT_EQ(sizes(groups), (Sizes{1}));
    EXPECT_EQ(groups[0].packet, packet);
    EXPECT_EQ(groups[0].header.flags, VirtioHeader::kDataValid);
    EXPECT_EQ(groups[0].header.gso_type, VirtioHeader::kGsoNone);
    EXPECT_EQ(groups[0].header.gso_size, 0);
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
};

/// Four packets in a row, the third one changed.
std::vector<Bytes> with_third(const Case& test) {
  Spec spec{.protocol = test.protocol};
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
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    auto packets = row({.protocol = test.protocol}, 4);
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
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.name);
    std::vector<Bytes> packets;
    Spec spec{.protocol = test.protocol};
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
  std::vector<Spec> flows(4);
  flows[1].source_port++;
  flows[2].source++;
  flows[3].protocol = 17;
  std::vector<Bytes> packets;
  for (int i = 0; i < 3; i++) {
    for (auto& flow : flows) {
      packets.push_back(make(flow));
      flow = after(flow);
    }
  }
  const auto groups = merge(packets);
  ASSERT_EQ(sizes(groups), (Sizes{3, 3, 3, 3}));
  for (size_t i = 0; i < flows.size(); i++) {
    EXPECT_EQ(split(groups[i]), (std::vector<Bytes>{packets[i], packets[i + 4], packets[i + 8]}));
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

/// Flows of all kinds, with whatever can happen to a packet now and then.
class Traffic {
 public:
  Traffic(uint64_t seed, size_t flows) : random_(seed) {
    for (size_t i = 0; i < flows; i++) {
      Spec spec{.protocol = static_cast<uint8_t>(chance(2) ? 6 : 17)};
      spec.source = ip(10, 244, 1, static_cast<uint8_t>(random_() % 4));
      spec.source_port = static_cast<uint16_t>(i);
      spec.fragment = chance(3) ? 0 : kDontFragment;
      spec.id = static_cast<uint16_t>(random_());
      spec.sequence = static_cast<uint32_t>(random_());
      spec.payload = random_() % 1400 + 1;
      flows_.push_back(spec);
      fixed_id_.push_back(chance(3));
    }
  }

  Bytes next() {
    if (chance(3)) current_ = random_() % flows_.size();
    Spec& flow = flows_[current_];
    Spec sent = flow;
    sent.fill = static_cast<uint8_t>(random_());
    if (chance(40)) sent.payload = random_() % 1400;
    if (chance(60)) sent.ttl = static_cast<uint8_t>(random_() % 3 + 60);
    if (chance(60)) sent.fragment = static_cast<uint16_t>(random_());
    if (chance(60)) sent.ip_options = random_() % 3 * 4;
    if (chance(30)) sent.flags = static_cast<uint8_t>(random_());
    if (chance(30)) sent.flags |= kPsh;
    if (chance(40)) flow.timestamp = sent.timestamp = static_cast<uint32_t>(random_() % 2);
    if (chance(40)) flow.window = sent.window = static_cast<uint16_t>(random_() % 2);
    Bytes packet = make(sent);
    if (chance(50)) packet[10 + random_() % (packet.size() - 10)] ^= 1U << random_() % 8;

    const uint16_t id = flow.id;
    flow.sequence += static_cast<uint32_t>(sent.payload);
    if (chance(50)) flow.sequence += 10;
    flow.id = fixed_id_[current_] ? id : static_cast<uint16_t>(id + (chance(50) ? 2 : 1));
    return packet;
  }

  bool chance(uint64_t one_in) { return random_() % one_in == 0; }

 private:
  std::mt19937_64 random_;
  std::vector<Spec> flows_;
  std::vector<bool> fixed_id_;
  size_t current_ = 0;
};

/// What may not be reordered: addresses, protocol, and ports where there are any.
Bytes flow_of(const Bytes& packet) {
  Bytes flow(packet.begin() + 9, packet.begin() + 10);
  flow.insert(flow.end(), packet.begin() + 12, packet.begin() + 20);
  const auto transport = packet.begin() + static_cast<ptrdiff_t>(ip_length(packet));
  const bool fragment = (load_be16(&packet[6]) & 0x3fff) != 0;
  if (!fragment && packet.end() - transport >= 4) flow.insert(flow.end(), transport, transport + 4);
  return flow;
}

std::map<Bytes, std::vector<Bytes>> by_flow(const std::vector<Bytes>& packets) {
  std::map<Bytes, std::vector<Bytes>> flows;
  for (const auto& packet : packets) flows[flow_of(packet)].push_back(packet);
  return flows;
}

TEST(RoundTrip, SplittingGivesBackWhatWasMerged) {
  size_t total = 0;
  size_t groups = 0;
  for (uint64_t seed = 0; seed < 400; seed++) {
    SCOPED_TRACE(seed);
    Traffic traffic(seed, seed % 50 + 1);
    std::vector<Bytes> packets;
    while (packets.size() < 64 + seed) {
      Bytes packet = traffic.next();
      if (Ipv4Packet::check(packet) == Ipv4Fault::none) packets.push_back(std::move(packet));
    }
    std::vector<Bytes> back;
    for (const auto& written : merge(packets)) {
      groups++;
      for (auto& packet : split(written)) back.push_back(std::move(packet));
    }
    ASSERT_EQ(back.size(), packets.size());
    ASSERT_EQ(by_flow(back), by_flow(packets));
    total += packets.size();
  }
  EXPECT_LT(groups, total * 2 / 3) << "the traffic is too wild to test merging";
}

/// More flows than the table of groups has room for: less is merged, nothing is lost.
TEST(RoundTrip, ManyFlows) {
  std::vector<Spec> flows(1000);
  for (size_t i = 0; i < flows.size(); i++) flows[i].source_port = static_cast<uint16_t>(i);
  std::vector<Bytes> packets;
  for (int i = 0; i < 3; i++) {
    for (auto& flow : flows) {
      packets.push_back(make(flow));
      flow = after(flow);
    }
  }
  std::vector<Bytes> back;
  for (const auto& written : merge(packets)) {
    for (auto& packet : split(written)) back.push_back(std::move(packet));
  }
  EXPECT_EQ(by_flow(back), by_flow(packets));
}

TEST(RoundTrip, MostOf64InterleavedFlowsFindTheirGroup) {
  std::vector<Spec> flows(64);
  for (size_t i = 0; i < flows.size(); i++) flows[i].source_port = static_cast<uint16_t>(40000 + i);
  std::vector<Bytes> packets;
  for (int i = 0; i < 8; i++) {
    for (auto& flow : flows) {
      packets.push_back(make(flow));
      flow = after(flow);
    }
  }
  EXPECT_LE(merge(packets).size(), 70U);
}

/// Random bytes behind a valid IPv4 header; AddressSanitizer watches the borders.
TEST(Merge, SurvivesAnyPacket) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 2000; round++) {
    std::vector<Bytes> packets;
    for (int i = 0; i < 50; i++) {
      Bytes packet = make_packet({.protocol = static_cast<uint8_t>(random() % 2 == 0 ? 6 : 17),
                                  .fragment = static_cast<uint16_t>(random() % 4 << 13),
                                  .options = random() % 11 * 4,
                                  .payload = random() % 64});
      for (size_t at = ip_length(packet); at < packet.size(); at++) {
        if (random() % 4 == 0) packet[at] = static_cast<uint8_t>(random());
      }
      const size_t transport = packet.size() - ip_length(packet);
      if (random() % 2 == 0 && transport >= 20) fill_checksums(packet);
      packets.push_back(std::move(packet));
    }
    size_t segments = 0;
    for (const auto& written : merge(packets)) segments += written.segments;
    ASSERT_EQ(segments, packets.size());
  }
}

}  // namespace
}  // namespace flannel::test
