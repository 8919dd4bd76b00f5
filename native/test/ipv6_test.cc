#include "ipv6.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "packets.h"

namespace flannel::test {
namespace {

TEST(Ipv6, TheLengthHasToMatchExactly) {
  const Bytes packet = make_packet6({.payload = 100});
  EXPECT_EQ(Ipv6Packet::check(packet), Ipv6Fault::none);
  EXPECT_EQ(Ipv6Packet::check(make_packet6({.payload = 0})), Ipv6Fault::none);
  for (size_t size = 0; size < packet.size(); size++) {
    const Bytes cut(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(Ipv6Packet::check(cut), size < 40 ? Ipv6Fault::too_short : Ipv6Fault::bad_length);
  }
  Bytes longer = packet;
  longer.push_back(0);
  EXPECT_EQ(Ipv6Packet::check(longer), Ipv6Fault::bad_length);
  Bytes other = packet;
  other[0] = 0x45;
  EXPECT_EQ(Ipv6Packet::check(other), Ipv6Fault::bad_version);
  Bytes longest = make_packet6({.payload = 65535});
  EXPECT_EQ(Ipv6Packet::check(longest), Ipv6Fault::none);
  Bytes jumbogram =
      make_packet6({.extension = 0, .extensions = extension_header(17), .payload = 70000});
  store_be16(&jumbogram[4], 0);
  EXPECT_EQ(Ipv6Packet::check(jumbogram), Ipv6Fault::bad_length);
}

TEST(Ipv6, TheFieldsAreWhereTheyBelong) {
  Bytes bytes = make_packet6({.source = ip6("fd00::1"),
                              .destination = ip6("fd00::2"),
                              .hop_limit = 9,
                              .protocol = 6,
                              .traffic_class = 0xff,
                              .flow_label = 0xabcde});
  Ipv6Packet packet(bytes);
  EXPECT_EQ(packet.flow_label(), 0xabcdeU);
  EXPECT_EQ(packet.next_header(), 6);
  EXPECT_EQ(packet.hop_limit(), 9);
  EXPECT_TRUE(std::ranges::equal(packet.source(), ip6("fd00::1")));
  EXPECT_TRUE(std::ranges::equal(packet.destination(), ip6("fd00::2")));
  Bytes expected = bytes;
  expected[7] = 8;
  packet.decrement_hop_limit();
  EXPECT_EQ(bytes, expected);
}

struct Chain {
  const char* name;
  uint8_t first;
  Bytes headers;
  UpperLayer expected;
};

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(Ipv6, FollowsExtensionHeaders) {
  const Bytes authentication{6, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                             0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const Chain chains[] = {
      {"none", 17, {}, {17, 40, false, false, true}},
      {"no next header", 59, {}, {59, 40, false, false, true}},
      {"hop-by-hop", 0, extension_header(6, 16), {6, 56, false, false, true}},
      {"routing", 43, extension_header(17, 24), {17, 64, false, false, true}},
      {"destination options", 60, extension_header(58), {58, 48, false, false, true}},
      {"authentication", 51, authentication, {6, 64, false, false, true}},
      {"a first fragment", 44, fragment_header(17, 1), {17, 48, true, false, true}},
      {"a later fragment", 44, fragment_header(17, 8), {17, 48, true, true, true}},
      {"a later fragment's options are data",
       44,
       fragment_header(60, 9),
       {60, 48, true, true, true}},
      {"a whole packet with a fragment header",
       44,
       fragment_header(6, 6),
       {6, 48, false, false, true}},
      {"four",
       0,
       extension_header(43) + extension_header(44, 32) + fragment_header(60, 1) +
           extension_header(6),
       {6, 96, true, false, true}},
      {"not one we know", 135, extension_header(6), {135, 40, false, false, true}},
  };
  for (const auto& [name, first, headers, expected] : chains) {
    SCOPED_TRACE(name);
    Bytes packet = make_packet6({.protocol = first, .extension = first, .extensions = headers});
    const UpperLayer found = Ipv6Packet(packet).upper_layer();
    EXPECT_EQ(found.protocol, expected.protocol);
    EXPECT_EQ(found.offset, expected.offset);
    EXPECT_EQ(found.fragment, expected.fragment);
    EXPECT_EQ(found.later, expected.later);
    EXPECT_TRUE(found.whole);
    EXPECT_EQ(Ipv6Packet(packet).is_fragment(), expected.fragment);
  }
}

TEST(Ipv6, StopsWhereAnExtensionHeaderLeavesThePacket) {
  for (uint8_t kind : {0, 43, 44, 51, 60}) {
    for (size_t there = 0; there < 24; there++) {
      Bytes packet = make_packet6({.protocol = kind, .payload = there});
      if (there > 0) packet[40] = 17;
      if (there > 1) packet[41] = kind == 51 ? 4 : 2;  // 24 bytes
      packet.shrink_to_fit();
      const UpperLayer found = Ipv6Packet(packet).upper_layer();
      const bool whole = kind == 44 && there >= 8;
      EXPECT_EQ(found.whole, whole);
      EXPECT_EQ(found.protocol, whole ? 17 : kind);
      EXPECT_EQ(found.offset, whole ? 48 : 40);
    }
  }
}

TEST(Ipv6, SurvivesAnyPayload) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 20'000; round++) {
    Bytes packet = make_packet6({.payload = random() % 200});
    constexpr std::array<uint8_t, 8> kKinds{0, 43, 44, 51, 60, 6, 17, 58};
    packet[6] = kKinds[random() % kKinds.size()];
    for (size_t at = 40; at < packet.size(); at++) {
      packet[at] = random() % 2 == 0 ? kKinds[random() % kKinds.size()] : random() % 3;
    }
    packet.shrink_to_fit();
    const UpperLayer found = Ipv6Packet(packet).upper_layer();
    ASSERT_LE(found.offset, packet.size());
    ASSERT_EQ(Ipv6Packet(packet).flow(), Ipv6Packet(packet).flow());
  }
}

TEST(Ipv6, AFlowIsAddressesProtocolPortsAndLabel) {
  const PacketSpec6 spec{};
  const auto flow_of = [](PacketSpec6 changed) {
    Bytes packet = make_packet6(changed);
    return Ipv6Packet(packet).flow();
  };
  const auto changed = [&](auto change) {
    PacketSpec6 other = spec;
    change(other);
    return flow_of(other);
  };
  std::set<uint32_t> flows{flow_of(spec)};
  for (size_t i = 0; i < 16; i++) {
    flows.insert(changed([i](auto& s) { s.source[i] ^= 1; }));
    flows.insert(changed([i](auto& s) { s.destination[i] ^= 1; }));
  }
  flows.insert(changed([](auto& s) { s.flow_label++; }));
  flows.insert(changed([](auto& s) { s.protocol = 6; }));
  flows.insert(changed([](auto& s) { s.protocol = 58; }));
  flows.insert(changed([](auto& s) { s.first_payload_byte++; }));
  flows.insert(changed([](auto& s) { std::swap(s.source, s.destination); }));
  EXPECT_EQ(flows.size(), 38U) << "each its own";

  EXPECT_EQ(changed([](auto& s) { s.hop_limit--; }), flow_of(spec));
  EXPECT_EQ(changed([](auto& s) { s.traffic_class = 3; }), flow_of(spec));
  EXPECT_EQ(changed([](auto& s) { s.payload++; }), flow_of(spec));
  EXPECT_EQ(changed([](auto& s) { s.extension = 60, s.extensions = extension_header(17); }),
            flow_of(spec));
}

TEST(Ipv6, TheFragmentsOfAPacketAreOneFlow) {
  Bytes first = make_packet6({.extension = 44, .extensions = fragment_header(17, 1)});
  Bytes later = make_packet6(
      {.extension = 44, .extensions = fragment_header(17, 0x21), .first_payload_byte = 77});
  Bytes behind_options =
      make_packet6({.extension = 44, .extensions = fragment_header(60, 1) + extension_header(17)});
  EXPECT_EQ(Ipv6Packet(first).flow(), Ipv6Packet(later).flow());
  EXPECT_EQ(Ipv6Packet(first).flow(), Ipv6Packet(behind_options).flow());
}

}  // namespace
}  // namespace flannel::test
