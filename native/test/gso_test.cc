#include "gso.h"

#include <gtest/gtest.h>

#include <random>

#include "transport.h"

namespace flannel::test {
namespace {

/// What the first packet has and what distinguishes the ones after it.
struct Spec {
  uint8_t protocol = 6;
  uint16_t fragment = 0x4000;
  uint16_t id = 0xfffe;  // wraps
  uint32_t sequence = 0xfffffc00;
  uint8_t flags = kAck;
  size_t ip_options = 0;
  size_t tcp_options = 12;
  size_t from = 0;  // the part of the stream that it carries
  size_t payload = 1000;
};

uint8_t stream(size_t i) {
  return static_cast<uint8_t>(i * 7 + i / 251);
}

Bytes make(const Spec& spec) {
  const size_t transport = spec.protocol == 6 ? 20 + spec.tcp_options : 8;
  Bytes packet = make_packet({.protocol = spec.protocol,
                              .fragment = spec.fragment,
                              .options = spec.ip_options,
                              .payload = transport + spec.payload});
  store_be16(&packet[4], spec.id);
  uint8_t* head = &packet[20 + spec.ip_options];
  store_be16(head, 1234);
  store_be16(head + 2, 80);
  if (spec.protocol == 6) {
    store_be32(head + 4, spec.sequence);
    store_be32(head + 8, 0x01020304);
    head[12] = static_cast<uint8_t>(transport * 4);  // length / 4 in the high nibble
    head[13] = spec.flags;
    store_be16(head + 14, 500);
    store_be16(head + 18, 0);
  } else {
    store_be16(head + 4, static_cast<uint16_t>(8 + spec.payload));
  }
  for (size_t i = 0; i < spec.payload; i++) head[transport + i] = stream(spec.from + i);
  fill_checksums(packet);
  return packet;
}

/// As the kernel hands it over: the checksum's field holds the pseudo-header's sum only.
VirtioHeader leave_checksum(Bytes& packet) {
  VirtioHeader header{.flags = VirtioHeader::kNeedsChecksum};
  header.csum_start = static_cast<uint16_t>(ip_length(packet));
  header.csum_offset = static_cast<uint16_t>(checksum_place(packet) - ip_length(packet));
  Bytes pseudo(12);
  std::copy_n(packet.begin() + 12, 8, pseudo.begin());
  pseudo[9] = packet[9];
  store_be16(&pseudo[10], static_cast<uint16_t>(packet.size() - ip_length(packet)));
  store_be16(&packet[checksum_place(packet)], static_cast<uint16_t>(~checksum(pseudo)));
  return header;
}

VirtioHeader super_header(Bytes& packet, uint16_t gso_size) {
  VirtioHeader header = leave_checksum(packet);
  header.gso_type = packet[9] == 6 ? VirtioHeader::kGsoTcp4 : VirtioHeader::kGsoUdpL4;
  header.gso_size = gso_size;
  return header;
}

std::vector<Bytes> split(const VirtioHeader& header, const Bytes& packet, size_t slots = 64) {
  HeaderArena arena(slots);
  Splitter splitter(arena);
  EXPECT_EQ(splitter.begin(header, packet), GsoFault::none);
  std::vector<Bytes> result;
  Segment segment;
  while (splitter.remaining() > 0) {
    while (splitter.next(segment)) {
      Bytes bytes(segment.header.begin(), segment.header.end());
      bytes.insert(bytes.end(), segment.payload.begin(), segment.payload.end());
      EXPECT_EQ(bytes.size(), segment.size());
      result.push_back(std::move(bytes));
    }
    arena.reset();
  }
  EXPECT_FALSE(splitter.next(segment));
  return result;
}

std::vector<Bytes> split(Spec spec, uint16_t gso_size, size_t slots = 64) {
  Bytes packet = make(spec);
  const VirtioHeader header = super_header(packet, gso_size);
  return split(header, packet, slots);
}

/// The packets that the sender would have built one by one.
std::vector<Bytes> one_by_one(const Spec& whole, size_t gso_size) {
  std::vector<Bytes> packets;
  for (size_t from = 0; from < whole.payload || packets.empty(); from += gso_size) {
    Spec spec = whole;
    spec.from = from;
    spec.payload = std::min(gso_size, whole.payload - from);
    spec.id = static_cast<uint16_t>(whole.id + packets.size());
    spec.sequence = whole.sequence + static_cast<uint32_t>(from);
    if (from > 0) spec.flags &= static_cast<uint8_t>(~kCwr);
    if (from + gso_size < whole.payload) spec.flags &= static_cast<uint8_t>(~(kFin | kPsh));
    packets.push_back(make(spec));
  }
  return packets;
}

TEST(Split, TcpGivesThePacketsThatTheSenderWouldHaveBuilt) {
  const Spec spec{.flags = kAck | kPsh | kFin | kEce | kCwr, .payload = 2500};
  const auto segments = split(spec, 1000);
  ASSERT_EQ(segments.size(), 3U);
  EXPECT_EQ(segments, one_by_one(spec, 1000));
  EXPECT_EQ(segments[0][33], kAck | kEce | kCwr);
  EXPECT_EQ(segments[1][33], kAck | kEce);
  EXPECT_EQ(segments[2][33], kAck | kEce | kPsh | kFin);
  EXPECT_EQ(load_be16(&segments[2][4]), 0);
  EXPECT_EQ(load_be32(&segments[2][24]), 0xfffffc00U + 2000);
}

TEST(Split, UdpGivesDatagramsOfTheirOwn) {
  const Spec spec{.protocol = 17, .payload = 2500};
  EXPECT_EQ(split(spec, 1000), one_by_one(spec, 1000));
}

TEST(Split, AllSizesAndHeaderLengths) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; i++) {
    Spec spec;
    spec.protocol = random() % 2 == 0 ? 6 : 17;
    spec.fragment = random() % 2 == 0 ? 0x4000 : 0;
    spec.id = static_cast<uint16_t>(random());
    spec.sequence = static_cast<uint32_t>(random());
    spec.flags = static_cast<uint8_t>(random() & ~0x26U);
    spec.ip_options = random() % 11 * 4;
    spec.tcp_options = random() % 11 * 4;
    spec.payload = random() % 5000;
    const auto gso_size = static_cast<uint16_t>(random() % 1500 + 10);
    ASSERT_EQ(split(spec, gso_size), one_by_one(spec, gso_size)) << i;
  }
}

TEST(Split, OneSegmentAndNoPayload) {
  for (uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
    for (size_t payload : {0U, 1U, 999U, 1000U}) {
      const Spec spec{.protocol = protocol, .flags = kAck | kPsh | kCwr, .payload = payload};
      EXPECT_EQ(split(spec, 1000), one_by_one(spec, 1000));
      EXPECT_EQ(split(spec, 1000).size(), 1U);
    }
  }
}

TEST(Split, TheLargestSuperPacketsInPortions) {
  for (uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
    const size_t headers = protocol == 6 ? 20 + 20 + 12 : 20 + 8;
    const Spec spec{.protocol = protocol, .payload = 65535 - headers};
    for (uint16_t gso_size : {1, 8, 1448, 65535}) {
      EXPECT_EQ(split(spec, gso_size, 7), one_by_one(spec, gso_size)) << gso_size;
    }
  }
  EXPECT_EQ(split({.protocol = 17, .payload = 65535 - 28}, 1, 7).size(), 65535U - 28);
}

TEST(Split, AComputedZeroOfUdpIsSentAsAllOnes) {
  // The last two bytes are the complement of all the others' sum.
  Bytes packet = make({.protocol = 17, .payload = 10});
  store_be16(&packet[36], 0);
  store_be16(&packet[26], 0);
  store_be16(&packet[36], transport_checksum(packet));
  const VirtioHeader header = super_header(packet, 10);
  const auto segments = split(header, packet);
  ASSERT_EQ(segments.size(), 1U);
  EXPECT_EQ(load_be16(&segments[0][26]), 0xffff);
}

TEST(Split, LeavesAWrongIpChecksumWrong) {
  Bytes packet = make({.payload = 3000});
  packet[10] ^= 0x10;
  const VirtioHeader header = super_header(packet, 1000);
  for (const auto& segment : split(header, packet)) EXPECT_FALSE(header_checksum_holds(segment));
}

TEST(Split, TakesNoNoticeOfTheHeaderLengthHint) {
  const Spec spec{.payload = 3000};
  Bytes packet = make(spec);
  VirtioHeader header = super_header(packet, 1000);
  header.hdr_len = 0xffff;
  header.gso_type |= VirtioHeader::kGsoEcn;
  EXPECT_EQ(split(header, packet), one_by_one(spec, 1000));
}

TEST(Split, AVerifiedChecksumMayBeReplaced) {
  const Spec spec{.payload = 3000};
  Bytes packet = make(spec);
  VirtioHeader header{.flags = VirtioHeader::kDataValid, .gso_type = VirtioHeader::kGsoTcp4};
  header.gso_size = 1000;
  EXPECT_EQ(split(header, packet), one_by_one(spec, 1000));
}

struct Malformed {
  const char* name;
  GsoFault fault;
  uint8_t protocol;
  void (*spoil)(VirtioHeader&, Bytes&);
};

const Malformed kMalformed[] = {
    {"no type", GsoFault::unsupported_type, 6,
     [](auto& header, auto&) { header.gso_type = VirtioHeader::kGsoNone; }},
    {"TCP over IPv6", GsoFault::wrong_protocol, 6,
     [](auto& header, auto&) { header.gso_type = VirtioHeader::kGsoTcp6; }},
    {"UDP with ECN", GsoFault::unsupported_type, 17,
     [](auto& header, auto&) { header.gso_type |= VirtioHeader::kGsoEcn; }},
    {"size 0", GsoFault::zero_size, 6, [](auto& header, auto&) { header.gso_size = 0; }},
    {"fragment", GsoFault::fragment, 17, [](auto&, auto& packet) { packet[6] = 0x20; }},
    {"offset", GsoFault::fragment, 6, [](auto&, auto& packet) { packet[7] = 1; }},
    {"UDP named TCP", GsoFault::wrong_protocol, 17,
     [](auto& header, auto&) { header.gso_type = VirtioHeader::kGsoTcp4; }},
    {"TCP named UDP", GsoFault::wrong_protocol, 6,
     [](auto& header, auto&) { header.gso_type = VirtioHeader::kGsoUdpL4; }},
    {"data offset too small", GsoFault::bad_transport, 6,
     [](auto&, auto& packet) { packet[32] = 0x40; }},
    {"half a TCP header", GsoFault::bad_transport, 6,
     [](auto&, auto& packet) {
       packet.resize(39);
       store_be16(&packet[2], 39);
     }},
    {"TCP options beyond the packet", GsoFault::bad_transport, 6,
     [](auto&, auto& packet) {
       packet.resize(51);
       store_be16(&packet[2], 51);
     }},
    {"half a UDP header", GsoFault::bad_transport, 17,
     [](auto&, auto& packet) {
       packet.resize(27);
       store_be16(&packet[2], 27);
     }},
    {"UDP length", GsoFault::bad_transport, 17, [](auto&, auto& packet) { packet[25] ^= 1; }},
    {"checksum start", GsoFault::bad_checksum_place, 6,
     [](auto& header, auto&) { header.csum_start += 2; }},
    {"checksum offset", GsoFault::bad_checksum_place, 17,
     [](auto& header, auto&) { header.csum_offset = 16; }},
    {"no checksum", GsoFault::no_checksum, 6, [](auto& header, auto&) { header.flags = 0; }},
};

TEST(Split, RefusesWhatDoesNotBelongTogether) {
  for (const auto& [name, fault, protocol, spoil] : kMalformed) {
    SCOPED_TRACE(name);
    Bytes packet = make({.protocol = protocol, .payload = 3000});
    VirtioHeader header = super_header(packet, 1000);
    spoil(header, packet);
    HeaderArena arena(4);
    Splitter splitter(arena);
    EXPECT_EQ(splitter.begin(header, packet), fault);
    EXPECT_EQ(splitter.remaining(), 0U);
    Segment segment;
    EXPECT_FALSE(splitter.next(segment));
  }
}

TEST(CompleteChecksum, OfTcpAndUdp) {
  for (uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
    for (size_t payload : {0U, 1U, 999U, 1400U}) {
      const Bytes original = make({.protocol = protocol, .ip_options = 8, .payload = payload});
      Bytes packet = original;
      const VirtioHeader header = leave_checksum(packet);
      ASSERT_NE(packet, original);
      EXPECT_EQ(complete_checksum(header, packet), GsoFault::none);
      EXPECT_EQ(packet, original);
    }
  }
}

TEST(CompleteChecksum, OnlyWhereItWasLeftToUs) {
  Bytes packet = make({});
  packet[36] ^= 1;
  const Bytes original = packet;
  EXPECT_EQ(complete_checksum({.flags = VirtioHeader::kDataValid}, packet), GsoFault::none);
  EXPECT_EQ(packet, original);
}

TEST(CompleteChecksum, AComputedZeroIsSentAsAllOnes) {
  Bytes packet = make({.protocol = 17, .payload = 10});
  store_be16(&packet[36], 0);
  store_be16(&packet[26], 0);
  store_be16(&packet[36], transport_checksum(packet));
  const VirtioHeader header = leave_checksum(packet);
  EXPECT_EQ(complete_checksum(header, packet), GsoFault::none);
  EXPECT_EQ(load_be16(&packet[26]), 0xffff);
}

TEST(CompleteChecksum, RefusesPlacesOutsideThePayload) {
  const auto fault = [](uint16_t start, uint16_t offset, uint16_t fragment = 0x4000) {
    Bytes packet = make({.protocol = 17, .fragment = fragment, .payload = 10});  // 38 bytes
    const Bytes original = packet;
    VirtioHeader header{.flags = VirtioHeader::kNeedsChecksum};
    header.csum_start = start;
    header.csum_offset = offset;
    const GsoFault result = complete_checksum(header, packet);
    if (result != GsoFault::none) {
      EXPECT_EQ(packet, original);
    }
    return result;
  };
  EXPECT_EQ(fault(20, 16), GsoFault::none);
  EXPECT_EQ(fault(36, 0), GsoFault::none);
  EXPECT_EQ(fault(20, 18), GsoFault::bad_checksum_place);
  EXPECT_EQ(fault(37, 0), GsoFault::bad_checksum_place);
  EXPECT_EQ(fault(18, 6), GsoFault::bad_checksum_place);
  EXPECT_EQ(fault(20, 5), GsoFault::bad_checksum_place);
  EXPECT_EQ(fault(0xffff, 0xfffe), GsoFault::bad_checksum_place);
  EXPECT_EQ(fault(20, 6, 0x2000), GsoFault::fragment);
}

/// Random headers, near to right ones or not at all, over valid IPv4. Whatever is accepted has to
/// become valid packets that carry the payload; AddressSanitizer watches the borders.
TEST(Gso, SurvivesAnyVirtioHeader) {
  std::mt19937_64 random(7);
  size_t accepted = 0;
  HeaderArena arena(16);
  Splitter splitter(arena);
  for (int round = 0; round < 100'000; round++) {
    Spec spec{.protocol = static_cast<uint8_t>(random() % 2 == 0 ? 6 : 17)};
    spec.ip_options = random() % 4 == 0 ? random() % 11 * 4 : 0;
    spec.tcp_options = random() % 11 * 4;
    spec.payload = random() % 300;
    Bytes packet = make(spec);
    VirtioHeader header = super_header(packet, static_cast<uint16_t>(random() % 200));
    for (uint64_t n = random() % 4; n > 0; n--) {
      reinterpret_cast<uint8_t*>(&header)[random() % sizeof header] =
          static_cast<uint8_t>(random() % 2 == 0 ? random() : random() % 64);
    }
    if (random() % 4 == 0) packet[ip_length(packet) + random() % 8] ^= 1U << random() % 8;
    if (random() % 4 == 0 && spec.protocol == 6) {
      packet[ip_length(packet) + 12] = static_cast<uint8_t>(random());  // data offset
    }
    if (random() % 4 == 0) {
      packet.resize(ip_length(packet) + random() % (packet.size() - ip_length(packet)));
      store_be16(&packet[2], static_cast<uint16_t>(packet.size()));
      store_be16(&packet[10], 0);
      store_be16(&packet[10], checksum({packet.data(), ip_length(packet)}));
    }
    packet.shrink_to_fit();
    ASSERT_EQ(Ipv4Packet::check(packet), Ipv4Fault::none);

    if (splitter.begin(header, packet) == GsoFault::none) {
      accepted++;
      size_t payload = 0;
      Segment segment;
      while (splitter.remaining() > 0) {
        while (splitter.next(segment)) {
          Bytes bytes(segment.header.begin(), segment.header.end());
          bytes.insert(bytes.end(), segment.payload.begin(), segment.payload.end());
          ASSERT_EQ(Ipv4Packet::check(bytes), Ipv4Fault::none);
          ASSERT_TRUE(header_checksum_holds(bytes));
          ASSERT_EQ(transport_checksum(bytes), 0);
          ASSERT_LE(segment.payload.size(), header.gso_size);
          payload += segment.payload.size();
        }
        arena.reset();
      }
      const size_t transport = packet[9] == 6 ? packet[ip_length(packet) + 12] / 16 * 4 : 8;
      ASSERT_EQ(payload, packet.size() - ip_length(packet) - transport);
    }
    complete_checksum(header, packet);
    ASSERT_EQ(Ipv4Packet::check(packet), Ipv4Fault::none);
  }
  EXPECT_GT(accepted, 20'000U);
  EXPECT_LT(accepted, 80'000U);
}

}  // namespace
}  // namespace flannel::test
