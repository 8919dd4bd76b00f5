#include "icmpv6.h"

#include <gtest/gtest.h>

#include "transport.h"

namespace flannel::test {
namespace {

const Ipv6Address kRouter = ip6("fd00:10:244:1::");
constexpr std::array kErrors{IcmpError::net_unreachable, IcmpError::frag_needed,
                             IcmpError::time_exceeded};

Bytes error_about(Bytes offender, IcmpError error = IcmpError::net_unreachable, uint32_t mtu = 0) {
  if (!may_answer(error, Ipv6Packet(offender))) return {};
  std::array<uint8_t, kMaxIcmpv6Error> out;
  const auto message = build_icmpv6_error(error, kRouter, Ipv6Packet(offender), out, mtu);
  return {message.begin(), message.end()};
}

bool answered(const PacketSpec6& spec, IcmpError error = IcmpError::net_unreachable) {
  return !error_about(make_packet6(spec), error).empty();
}

TEST(Icmpv6Error, IsTheseBytes) {
  const Bytes offender{
      0x60, 0x01, 0x23, 0x45, 0x00, 0x0c, 0x11, 0x01,                          // header
      0xfd, 0,    0,    1,    0,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 2,  // source
      0xfd, 0,    0,    2,    0,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 2,  // destination
      0x04, 0xd2, 0x00, 0x50, 0x00, 0x0c, 0xbe, 0xef, 1, 2, 3, 4};             // UDP
  Bytes packet = offender;
  std::array<uint8_t, kMaxIcmpv6Error> out;
  const auto bytes_of = [&](IcmpError error, uint32_t mtu) {
    const auto message = build_icmpv6_error(error, ip6("fd00:1::"), Ipv6Packet(packet), out, mtu);
    return Bytes(message.begin(), message.end());
  };
  const auto expected = [&](Bytes icmp) {
    Bytes all{0x60, 0, 0, 0, 0x00, 0x3c, 0x3a, 0x40, 0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
              0,    0, 0, 0, 0xfd, 0,    0,    1,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    for (const Bytes& part : {icmp, offender}) {
      for (uint8_t byte : part) all.push_back(byte);
    }
    return all;
  };
  EXPECT_EQ(bytes_of(IcmpError::net_unreachable, 0), expected({1, 0, 0xae, 0x03, 0, 0, 0, 0}));
  EXPECT_EQ(bytes_of(IcmpError::frag_needed, 1372), expected({2, 0, 0xa7, 0xa7, 0, 0, 0x05, 0x5c}));
  EXPECT_EQ(bytes_of(IcmpError::time_exceeded, 0), expected({3, 0, 0xac, 0x03, 0, 0, 0, 0}));
}

TEST(Icmpv6Error, NeverTellsLessThanEveryLinkCarries) {
  for (uint32_t mtu : {0U, 1279U, 1280U}) {
    EXPECT_EQ(load_be32(&error_about(make_packet6({}), IcmpError::frag_needed, mtu)[44]), 1280U);
  }
  EXPECT_EQ(load_be32(&error_about(make_packet6({}), IcmpError::frag_needed, 65535)[44]), 65535U);
}

TEST(Icmpv6Error, QuotesNoMoreThanFitsAndNoMoreThanThereIs) {
  for (size_t payload : {0, 1, 8, 1191, 1192, 1193, 1460}) {
    const Bytes offender = make_packet6({.payload = payload});
    const Bytes error = error_about(offender);
    ASSERT_EQ(error.size(), std::min(offender.size() + 48, kMaxIcmpv6Error)) << payload;
    EXPECT_EQ(Ipv6Packet::check(error), Ipv6Fault::none);
    EXPECT_TRUE(std::equal(error.begin() + 48, error.end(), offender.begin()));
    EXPECT_EQ(transport_checksum(error), 0) << payload;
  }
}

TEST(Icmpv6Error, AnswersPingsButNoErrorsAndRedirects) {
  for (uint8_t type : {128, 129, 133, 135, 136, 143, 200, 255}) {
    EXPECT_TRUE(answered({.protocol = 58, .first_payload_byte = type})) << int{type};
  }
  for (uint8_t type : {0, 1, 2, 3, 4, 100, 127, 137}) {
    EXPECT_FALSE(answered({.protocol = 58, .first_payload_byte = type})) << int{type};
    EXPECT_FALSE(answered({.protocol = 58,
                           .extension = 60,
                           .extensions = extension_header(58, 24),
                           .first_payload_byte = type}))
        << int{type} << " behind an extension header";
  }
  EXPECT_FALSE(answered({.protocol = 58, .payload = 0}));
  EXPECT_TRUE(answered({.protocol = 59, .payload = 0})) << "no next header";
}

TEST(Icmpv6Error, AnswersOnlyTheFirstFragmentAndWhatItCanRead) {
  const auto fragment = [](uint16_t offset, uint8_t next = 17) {
    return PacketSpec6{.extension = 44, .extensions = fragment_header(next, offset)};
  };
  EXPECT_TRUE(answered(fragment(0)));
  EXPECT_TRUE(answered(fragment(1)));
  EXPECT_FALSE(answered(fragment(8)));
  EXPECT_FALSE(answered(fragment(0xfff8 | 1)));
  EXPECT_TRUE(answered({.extension = 0, .extensions = extension_header(17)}));
  Bytes cut = make_packet6({.extension = 0, .extensions = extension_header(17, 256)});
  cut.resize(100);
  store_be16(&cut[4], 60);
  EXPECT_TRUE(error_about(cut).empty());
}

TEST(Icmpv6Error, SpeaksOnlyToSingleHosts) {
  for (const char* address :
       {"::", "::1", "ff02::1", "ff0e::5", "fe80::1", "febf::1", "::ffff:192.0.2.1"}) {
    for (IcmpError error : kErrors) {
      EXPECT_FALSE(answered({.source = ip6(address)}, error)) << address;
    }
  }
  for (const char* address : {"::2", "::fffe:c000:201", "fec0::1", "2001:db8::1", "64:ff9b::1"}) {
    EXPECT_TRUE(answered({.source = ip6(address)})) << address;
  }
}

TEST(Icmpv6Error, SpeaksAboutGroupsOnlyWhereThePacketIsTooBig) {
  for (const char* address : {"ff02::1", "ff0e::5"}) {
    EXPECT_FALSE(answered({.destination = ip6(address)}, IcmpError::net_unreachable));
    EXPECT_FALSE(answered({.destination = ip6(address)}, IcmpError::time_exceeded));
    EXPECT_TRUE(answered({.destination = ip6(address)}, IcmpError::frag_needed));
  }
  for (const char* address : {"::", "::1", "fe80::1"}) {
    for (IcmpError error : kErrors) {
      EXPECT_FALSE(answered({.destination = ip6(address)}, error)) << address;
    }
  }
}

}  // namespace
}  // namespace flannel::test
