#include "icmp.h"

#include <gtest/gtest.h>

#include "packets.h"

namespace flannel::test {
namespace {

constexpr uint32_t kRouter = ip(10, 244, 1, 0);

Bytes error_about(Bytes offender, IcmpError error = IcmpError::net_unreachable,
                  uint16_t next_hop_mtu = 0) {
  if (!may_answer(Ipv4Packet(offender))) return {};
  std::array<uint8_t, kMaxIcmpError> out;
  const auto message = build_icmp_error(error, kRouter, Ipv4Packet(offender), out, next_hop_mtu);
  return {message.begin(), message.end()};
}

TEST(IcmpErrorMessage, IsAValidPacketFromTheRouterToTheSender) {
  const Bytes offender = make_packet({});
  const Bytes error = error_about(offender);
  ASSERT_EQ(error.size(), 28 + offender.size());
  EXPECT_EQ(Ipv4Packet::check(error), Ipv4Fault::none);
  EXPECT_TRUE(header_checksum_holds(error));
  EXPECT_EQ(checksum(std::span(error).subspan(20)), 0);
  EXPECT_EQ(load_be32(&error[12]), kRouter);
  EXPECT_EQ(load_be32(&error[16]), ip(10, 244, 1, 2));
  EXPECT_EQ(error[9], 1);
  EXPECT_EQ(load_be32(&error[24]), 0U) << "the unused field";
  EXPECT_EQ(Bytes(error.begin() + 28, error.end()), offender);
}

TEST(IcmpErrorMessage, HasTheTypeAndCodeOfItsKind) {
  EXPECT_EQ(load_be16(&error_about(make_packet({}))[20]), 0x0300);
  EXPECT_EQ(load_be16(&error_about(make_packet({}), IcmpError::time_exceeded)[20]), 0x0b00);
}

TEST(IcmpErrorMessage, TellsTheSizeThatPasses) {
  const Bytes offender = make_packet({.fragment = 0x4000, .payload = 1400});
  const Bytes error = error_about(offender, IcmpError::frag_needed, 1372);
  EXPECT_EQ(load_be16(&error[20]), 0x0304);
  EXPECT_EQ(load_be16(&error[24]), 0) << "the unused field";
  EXPECT_EQ(load_be16(&error[26]), 1372);
  EXPECT_EQ(checksum(std::span(error).subspan(20)), 0);
  EXPECT_EQ(error.size(), kMaxIcmpError);
  EXPECT_TRUE(std::equal(error.begin() + 28, error.end(), offender.begin()));
}

TEST(IcmpErrorMessage, QuotesNoMoreThanFitsAndNoMoreThanThereIs) {
  for (size_t payload : {0, 1, 8, 527, 528, 529, 1452}) {
    const Bytes offender = make_packet({.payload = payload});
    const Bytes error = error_about(offender);
    ASSERT_EQ(error.size(), std::min(offender.size() + 28, kMaxIcmpError)) << payload;
    EXPECT_TRUE(std::equal(error.begin() + 28, error.end(), offender.begin()));
    EXPECT_EQ(checksum(std::span(error).subspan(20)), 0) << payload;
  }
}

TEST(IcmpErrorMessage, QuotesOptionsToo) {
  const Bytes offender = make_packet({.options = 40});
  const Bytes error = error_about(offender);
  EXPECT_EQ(Bytes(error.begin() + 28, error.end()), offender);
}

TEST(IcmpErrorMessage, AnswersPingsButNotIcmpErrors) {
  for (uint8_t type : {0, 8, 13, 14, 15, 16, 17, 18}) {
    EXPECT_FALSE(error_about(make_packet({.protocol = 1, .first_payload_byte = type})).empty())
        << int{type};
  }
  for (uint8_t type : {3, 4, 5, 11, 12, 200}) {
    EXPECT_TRUE(error_about(make_packet({.protocol = 1, .first_payload_byte = type})).empty())
        << int{type};
  }
  EXPECT_TRUE(error_about(make_packet({.protocol = 1, .payload = 0})).empty());
}

TEST(IcmpErrorMessage, AnswersOnlyTheFirstFragment) {
  EXPECT_FALSE(error_about(make_packet({.fragment = 0x2000})).empty());
  EXPECT_TRUE(error_about(make_packet({.fragment = 0x2001})).empty());
  EXPECT_TRUE(error_about(make_packet({.fragment = 0x1fff})).empty());
}

TEST(IcmpErrorMessage, SpeaksOnlyToAndAboutSingleHosts) {
  for (uint32_t address :
       {ip(0, 0, 0, 0), ip(127, 0, 0, 1), ip(224, 0, 0, 1), ip(240, 0, 0, 1), 0xffffffffU}) {
    EXPECT_TRUE(error_about(make_packet({.source = address})).empty()) << address;
    EXPECT_TRUE(error_about(make_packet({.destination = address})).empty()) << address;
  }
}

TEST(IcmpErrorMessage, IgnoresAPacketWithABrokenHeader) {
  Bytes offender = make_packet({});
  offender[10] ^= 1;
  EXPECT_TRUE(error_about(offender).empty());
}

}  // namespace
}  // namespace flannel::test
