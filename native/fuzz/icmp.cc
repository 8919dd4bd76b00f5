// Errors about any packet: whole, to the packet's sender, and quoting no byte that is not the
// packet's; and none where RFC 1812 or RFC 4443 forbids one.
#include "forwarding.h"
#include "icmp_responder.h"

namespace flannel::fuzz {
namespace {

constexpr std::array kErrors{IcmpError::time_exceeded, IcmpError::net_unreachable,
                             IcmpError::frag_needed};

bool is_host(uint32_t address) {
  return address >> 24 != 0 && address >> 24 != 127 && address >> 28 < 14;
}
bool is_host(Ipv6Packet::Address address) {
  const Ipv6Address none{};
  const bool low = std::equal(none.begin(), none.end() - 1, address.begin()) && address[15] < 2;
  return !low && address[0] != 0xff && !(address[0] == 0xfe && address[1] >> 6 == 2);
}

/// `whole`: the error; `header`: bytes up to the quote.
void expect_quote(const Bytes& whole, const Bytes& packet, size_t header, size_t most) {
  expect_whole(whole);
  ASSERT_LE(whole.size(), most);
  ASSERT_LE(whole.size() - header, packet.size());
  EXPECT_TRUE(
      std::equal(whole.begin() + static_cast<ptrdiff_t>(header), whole.end(), packet.begin()));
}

template <typename Packet>
void expect_answer(IcmpError error, Packet offender, bool may) {
  Counters counters;
  IcmpResponder responder(kTunnel, kTunnel6, counters, Counter::encap_icmp_throttled);
  EXPECT_EQ(responder.error(error, offender).empty(), !may);
}

void about_ipv4(IcmpError error, Bytes& packet) {
  const Ipv4Packet offender(packet);
  const bool may = may_answer(offender);
  if (may) {
    EXPECT_TRUE(test::header_checksum_holds(packet));
    EXPECT_EQ(load_be16(&packet[6]) & 0x1fff, 0);
    EXPECT_TRUE(is_host(load_be32(&packet[12])) && is_host(load_be32(&packet[16])));
  }
  expect_answer(error, offender, may);

  Bytes out(kMaxIcmpError);
  const auto message =
      build_icmp_error(error, kTunnel, offender, std::span<uint8_t, kMaxIcmpError>(out));
  const Bytes whole(message.begin(), message.end());
  expect_quote(whole, packet, 28, kMaxIcmpError);
  EXPECT_TRUE(test::header_checksum_holds(whole));
  EXPECT_EQ(test::checksum(std::span(whole).subspan(20)), 0);
  EXPECT_EQ(load_be32(&whole[16]), load_be32(&packet[12]));
}

void about_ipv6(IcmpError error, Bytes& packet) {
  const Ipv6Packet offender(packet);
  const bool may = may_answer(error, offender);
  if (may) {
    EXPECT_TRUE(is_host(offender.source()));
    EXPECT_TRUE(is_host(offender.destination()) ||
                (error == IcmpError::frag_needed && packet[24] == 0xff));
    const test::Place place = test::place_of(packet);
    if (place.protocol == 58) {
      ASSERT_LT(place.length, packet.size());
      EXPECT_TRUE(packet[place.length] >= 128 && packet[place.length] != 137);
    }
  }
  expect_answer(error, offender, may);

  Bytes out(kMaxIcmpv6Error);
  const auto message =
      build_icmpv6_error(error, kTunnel6, offender, std::span<uint8_t, kMaxIcmpv6Error>(out));
  const Bytes whole(message.begin(), message.end());
  expect_quote(whole, packet, 48, kMaxIcmpv6Error);
  EXPECT_EQ(test::transport_checksum(whole), 0);
  EXPECT_TRUE(std::ranges::equal(Ipv6Packet(packet).source(), std::span(whole).subspan(24, 16)));
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const uint8_t how = input.byte();
  Bytes packet = input.rest();
  if (!is_well_formed(packet)) return;
  const IcmpError error = kErrors[(how & 5U) % kErrors.size()];
  if (test::is_v6(packet)) return about_ipv6(error, packet);
  if ((how & 2) != 0) test::fill_ip_checksum(packet);
  about_ipv4(error, packet);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (const Bytes& packet : golden_inputs(true, false))
    result.push_back(Seed().byte(3).bytes(packet));
  for (const Bytes& packet : golden_inputs(false, false))
    result.push_back(Seed().byte(0).bytes(packet));
  for (const uint8_t type : {1, 128, 137}) {
    for (const uint8_t how : {0, 1, 4}) {
      result.push_back(
          Seed().byte(how).bytes(test::make_packet6({.protocol = 58, .first_payload_byte = type})));
      result.push_back(
          Seed().byte(how).bytes(test::make_packet6({.destination = test::ip6("ff0e::1"),
                                                     .extension = 44,
                                                     .extensions = test::fragment_header(58, type),
                                                     .payload = 1400})));
    }
  }
  return result;
}

}  // namespace flannel::fuzz
