// The MSS option of TCP: lowered where it says too much, and nothing else touched.
#include "mss.h"

#include <gtest/gtest.h>

#include <ostream>

#include "packets.h"

namespace flannel::test {
namespace {

constexpr uint8_t kSyn = 0x02;
constexpr uint8_t kAck = 0x10;
constexpr size_t kLargest = 1372;  // of packets
constexpr size_t kPayload = 3;     // an odd number: the last byte is half a word

Bytes operator+(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

/// `options` are filled up with end-of-options.
Bytes tcp_segment(uint8_t flags, const Bytes& options, size_t payload = kPayload) {
  const size_t header = 20 + (options.size() + 3) / 4 * 4;
  Bytes tcp(header + payload);
  store_be16(&tcp[0], 40000);
  store_be16(&tcp[2], 80);
  store_be32(&tcp[4], 0x12345678);
  tcp[12] = static_cast<uint8_t>(header / 4 << 4);
  tcp[13] = flags;
  store_be16(&tcp[14], 0xfaf0);
  std::ranges::copy(options, tcp.begin() + 20);
  for (size_t i = header; i < tcp.size(); i++) tcp[i] = static_cast<uint8_t>(0xa1 + i);
  return tcp;
}

/// Over the addresses that end an IP header, as both versions have it.
uint16_t tcp_checksum(const Bytes& addresses, const Bytes& tcp) {
  Bytes summed = addresses;
  summed.insert(summed.end(), {0, 0, 0, 6, 0, 0});
  store_be16(&summed[summed.size() - 2], static_cast<uint16_t>(tcp.size()));
  return checksum(summed + tcp);
}

/// With the right checksum, behind `fragment` and `options` of IPv4.
Bytes over_ipv4(Bytes tcp, uint16_t fragment = 0, size_t options = 0) {
  const PacketSpec spec{
      .protocol = 6, .fragment = fragment, .options = options, .payload = tcp.size()};
  Bytes packet = make_packet(spec);
  store_be16(&tcp[16], tcp_checksum({packet.begin() + 12, packet.begin() + 20}, tcp));
  std::ranges::copy(tcp, packet.end() - static_cast<ptrdiff_t>(tcp.size()));
  return packet;
}

/// `extensions` stand between IPv6 and TCP; `next` is the type of the first header after IPv6's.
Bytes over_ipv6(Bytes tcp, const Bytes& extensions = {}, uint8_t next = 6) {
  Bytes header(40);
  header[0] = 0x60;
  store_be16(&header[4], static_cast<uint16_t>(extensions.size() + tcp.size()));
  header[6] = next;
  header[7] = 64;
  for (size_t i = 8; i < 40; i++) header[i] = static_cast<uint8_t>(0xf0 + i);
  store_be16(&tcp[16], tcp_checksum({header.begin() + 8, header.end()}, tcp));
  return header + extensions + tcp;
}

Bytes mss(uint16_t value) {
  return {2, 4, static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

struct Case {
  const char* name;
  Bytes before;
  Bytes after;
};

void PrintTo(const Case& the_case, std::ostream* out) {
  *out << the_case.name;
}

/// Of packets that stay as they are.
Case kept(const char* name, const Bytes& packet) {
  return {name, packet, packet};
}

Bytes syn(const Bytes& options) {
  return over_ipv4(tcp_segment(kSyn, options));
}
Bytes syn6(const Bytes& options) {
  return over_ipv6(tcp_segment(kSyn, options));
}

/// A byte of a packet changed.
Bytes with(Bytes packet, size_t at, uint8_t value) {
  packet[at] = value;
  return packet;
}
Bytes cut(Bytes packet, size_t bytes) {
  packet.resize(packet.size() - bytes);
  return packet;
}

constexpr uint16_t kFits = kLargest - 40;
constexpr uint16_t kFits6 = kLargest - 60;
const Bytes kTimestamps{8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
const Bytes kHopByHop{6, 0, 1, 4, 0, 0, 0, 0};                                  // then TCP
const Bytes kLongDestination{6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};  // then TCP

class MssTest : public ::testing::TestWithParam<Case> {};

TEST_P(MssTest, IsWhatFits) {
  const auto& [name, before, after] = GetParam();
  Bytes packet = before;
  clamp_mss(packet, kLargest);
  EXPECT_EQ(packet, after);
}

INSTANTIATE_TEST_SUITE_P(
    Lowered, MssTest,
    ::testing::Values(
        Case{"syn", syn(mss(1460)), syn(mss(kFits))},
        Case{"syn_ack", over_ipv4(tcp_segment(kSyn | kAck, mss(1460))),
             over_ipv4(tcp_segment(kSyn | kAck, mss(kFits)))},
        Case{"one_more_than_fits", syn(mss(kFits + 1)), syn(mss(kFits))},
        Case{"largest_number", syn(mss(0xffff)), syn(mss(kFits))},
        Case{"behind_others", syn(kTimestamps + mss(1460)), syn(kTimestamps + mss(kFits))},
        Case{"before_others", syn(mss(1460) + kTimestamps), syn(mss(kFits) + kTimestamps)},
        Case{"at_an_odd_place", syn(Bytes{1} + mss(1460)), syn(Bytes{1} + mss(kFits))},
        Case{"at_the_very_end", syn(Bytes(36, 1) + mss(1460)), syn(Bytes(36, 1) + mss(kFits))},
        Case{"several", syn(mss(1460) + mss(500) + mss(1400)),
             syn(mss(kFits) + mss(500) + mss(kFits))},
        Case{"behind_one_of_a_wrong_length", syn(Bytes{2, 3, 9} + mss(1460)),
             syn(Bytes{2, 3, 9} + mss(kFits))},
        Case{"ip_options", over_ipv4(tcp_segment(kSyn, mss(1460)), 0, 8),
             over_ipv4(tcp_segment(kSyn, mss(kFits)), 0, 8)},
        Case{"dont_fragment", over_ipv4(tcp_segment(kSyn, mss(1460)), 0x4000),
             over_ipv4(tcp_segment(kSyn, mss(kFits)), 0x4000)},
        Case{"without_payload", over_ipv4(tcp_segment(kSyn, mss(1460), 0)),
             over_ipv4(tcp_segment(kSyn, mss(kFits), 0))},
        Case{"ipv6", syn6(mss(1440)), syn6(mss(kFits6))},
        Case{"ipv6_at_an_odd_place", syn6(Bytes{1} + mss(1440)), syn6(Bytes{1} + mss(kFits6))},
        Case{"ipv6_hop_by_hop", over_ipv6(tcp_segment(kSyn, mss(1440)), kHopByHop, 0),
             over_ipv6(tcp_segment(kSyn, mss(kFits6)), kHopByHop, 0)},
        Case{"ipv6_several_extensions",
             over_ipv6(tcp_segment(kSyn, mss(1440)), with(kHopByHop, 0, 60) + kLongDestination, 0),
             over_ipv6(tcp_segment(kSyn, mss(kFits6)), with(kHopByHop, 0, 60) + kLongDestination,
                       0)}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Kept, MssTest,
    ::testing::Values(kept("fits", syn(mss(kFits))), kept("less", syn(mss(536))),
                      kept("zero", syn(mss(0))), kept("ipv6_fits", syn6(mss(kFits6))),
                      kept("absent", syn({})), kept("absent_among_others", syn(kTimestamps)),
                      kept("no_syn", over_ipv4(tcp_segment(kAck, mss(1460)))),
                      kept("ipv6_no_syn", over_ipv6(tcp_segment(kAck, mss(1460)))),
                      kept("udp", with(syn(mss(1460)), 9, 17)),
                      kept("ipv6_udp", with(syn6(mss(1460)), 6, 17)),
                      kept("first_fragment", over_ipv4(tcp_segment(kSyn, mss(1460)), 0x2000)),
                      kept("later_fragment", over_ipv4(tcp_segment(kSyn, mss(1460)), 0x0001)),
                      kept("ipv6_fragment",
                           over_ipv6(tcp_segment(kSyn, mss(1460)), {6, 0, 0, 1, 0, 0, 0, 7}, 44)),
                      kept("behind_the_end_of_options", syn(Bytes{0} + mss(1460))),
                      kept("a_length_of_0", syn(Bytes{8, 0} + mss(1460))),
                      kept("a_length_of_1", syn(Bytes{8, 1} + mss(1460))),
                      kept("an_option_beyond_the_header", syn(Bytes{8, 9} + mss(1460))),
                      kept("cut_in_its_length", syn({1, 1, 1, 2})),
                      kept("cut_in_its_value", syn({1, 2, 4, 0xff})),
                      kept("too_long_a_length", syn(Bytes{2, 5, 0xff, 0xff, 0})),
                      kept("data_offset_below_a_header", with(syn(mss(1460)), 20 + 12, 0x40)),
                      kept("data_offset_beyond_the_packet", with(syn(mss(1460)), 20 + 12, 0xf0)),
                      kept("less_than_a_header", cut(syn(mss(1460)), kPayload + 4 + 1)),
                      kept("an_ip_header_and_no_more", cut(syn(mss(1460)), kPayload + 24)),
                      kept("ipv6_and_no_more", cut(syn6(mss(1460)), kPayload + 24)),
                      kept("ipv6_extension_beyond_the_packet",
                           over_ipv6(tcp_segment(kSyn, mss(1460)), with(kHopByHop, 1, 0xff), 0)),
                      kept("ipv6_extension_cut_off",
                           cut(over_ipv6(tcp_segment(kSyn, {}), {0, 0, 0, 0, 0, 0, 0, 0}, 0),
                               kPayload + 20 + 1))),
    [](const auto& info) { return info.param.name; });

TEST(Mss, IsLeftAloneWherePacketsHaveNoRoomForHeaders) {
  for (size_t largest = 0; largest <= 40; largest++) {
    Bytes packet = syn(mss(1460));
    clamp_mss(packet, largest);
    EXPECT_EQ(packet, syn(mss(1460))) << largest;
  }
  Bytes packet = syn(mss(1460));
  clamp_mss(packet, 41);
  EXPECT_EQ(packet, syn(mss(1)));
}

TEST(Mss, KeepsTheChecksumRightForAllValues) {
  for (uint32_t value = 0; value <= 0xffff; value += 7) {
    Bytes packet = syn(Bytes{1} + mss(static_cast<uint16_t>(value)));
    const size_t largest = 41 + (value * 31 & 0xffff) % 1500;
    clamp_mss(packet, largest);
    const auto expected = static_cast<uint16_t>(std::min<size_t>(value, largest - 40));
    ASSERT_EQ(packet, syn(Bytes{1} + mss(expected))) << value;
  }
}

TEST(Mss, LeavesAWrongChecksumWrongByTheSameAmount) {
  Bytes packet = syn(mss(1460));
  store_be16(&packet[36], static_cast<uint16_t>(load_be16(&packet[36]) + 1));
  clamp_mss(packet, kLargest);
  Bytes expected = syn(mss(kFits));
  store_be16(&expected[36], static_cast<uint16_t>(load_be16(&expected[36]) + 1));
  EXPECT_EQ(packet, expected);
}

TEST(MssClamp, IsOffUntilItIsToldAnMtuAndTakesTheSmaller) {
  MssClamp clamp;
  Bytes packet = syn(mss(1460));
  clamp.apply(packet, 600);
  EXPECT_FALSE(clamp.on());
  EXPECT_EQ(packet, syn(mss(1460)));

  clamp.set(1400);
  EXPECT_TRUE(clamp.on());
  clamp.apply(packet, 65535);
  EXPECT_EQ(packet, syn(mss(1360)));
  clamp.apply(packet, 1300);
  EXPECT_EQ(packet, syn(mss(1260)));
}

}  // namespace
}  // namespace flannel::test
