// Errors about any packet: whole, to the packet's sender, and quoting no byte that is not the
// packet's; and none where RFC 1812 forbids one.
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

bool is_host(uint32_t address) {
  return address >> 24 != 0 && address >> 24 != 127 && address >> 28 < 14;
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const uint8_t how = input.byte();
  Bytes packet = input.rest();
  if (Ipv4Packet::check(packet) != Ipv4Fault::none) return;
  if ((how & 2) != 0) test::fill_ip_checksum(packet);

  constexpr std::array kErrors{IcmpError::time_exceeded, IcmpError::net_unreachable,
                               IcmpError::frag_needed};
  const IcmpError error = kErrors[(how & 5U) % kErrors.size()];
  const Ipv4Packet offender(packet);
  const bool may = may_answer(offender);
  if (may) {
    EXPECT_TRUE(test::header_checksum_holds(packet));
    EXPECT_EQ(load_be16(&packet[6]) & 0x1fff, 0);
    EXPECT_TRUE(is_host(load_be32(&packet[12])) && is_host(load_be32(&packet[16])));
  }
  Counters counters;
  IcmpResponder responder(kTunnel, {}, counters, Counter::encap_icmp_throttled);
  const auto answer = responder.error(error, offender);
  EXPECT_EQ(answer.empty(), !may);

  Bytes out(kMaxIcmpError);
  const auto message =
      build_icmp_error(error, kTunnel, offender, std::span<uint8_t, kMaxIcmpError>(out));
  const Bytes whole(message.begin(), message.end());
  expect_whole(whole);
  EXPECT_TRUE(test::header_checksum_holds(whole));
  EXPECT_EQ(test::checksum(std::span(whole).subspan(20)), 0);
  EXPECT_EQ(load_be32(&whole[16]), load_be32(&packet[12]));
  ASSERT_LE(whole.size(), kMaxIcmpError);
  ASSERT_LE(whole.size() - 28, packet.size());
  EXPECT_TRUE(std::equal(whole.begin() + 28, whole.end(), packet.begin()));
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (const Bytes& packet : golden_inputs(true, false))
    result.push_back(Seed().byte(3).bytes(packet));
  for (const Bytes& packet : golden_inputs(false, false))
    result.push_back(Seed().byte(0).bytes(packet));
  return result;
}

}  // namespace flannel::fuzz
