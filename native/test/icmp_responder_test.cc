#include "icmp_responder.h"

#include <gtest/gtest.h>
#include <linux/errqueue.h>

#include <optional>

#include "network_lab.h"
#include "tun.h"

namespace flannel::test {
namespace {

constexpr uint32_t kRouter = ip(10, 244, 1, 0);
const Ipv6Address kRouter6 = ip6("fd00:10:244:1::");

TEST(IcmpThrottle, AllowsABurstThenTheRate) {
  constexpr uint64_t kSecond = 1'000'000'000;
  IcmpThrottle throttle;
  uint64_t now = 5 * kSecond;
  uint64_t taken = 0;
  while (throttle.take(now)) taken++;
  EXPECT_EQ(taken, IcmpThrottle::kBurst);

  taken = 0;
  for (uint64_t step = 0; step < 10'000; step++) {
    now += kSecond / 10'000;
    if (throttle.take(now)) taken++;
  }
  EXPECT_EQ(taken, IcmpThrottle::kPerSecond);

  now += 10 * kSecond;
  taken = 0;
  while (throttle.take(now)) taken++;
  EXPECT_EQ(taken, IcmpThrottle::kBurst) << "idle time is not saved up beyond the burst";
}

TEST(IcmpResponder, CountsWhatTheOneRateLimitForBothFamiliesHoldsBack) {
  Counters counters;
  IcmpResponder responder(kRouter, kRouter6, counters, Counter::encap_icmp_throttled);
  Bytes offender = make_packet({});
  Bytes offender6 = make_packet6({});
  uint64_t sent = 0;
  for (int i = 0; i < 500; i++) {
    const auto message = i % 2 == 0
                             ? responder.error(IcmpError::net_unreachable, Ipv4Packet(offender))
                             : responder.error(IcmpError::net_unreachable, Ipv6Packet(offender6));
    if (!message.empty()) sent++;
  }
  EXPECT_GE(sent, IcmpThrottle::kBurst);
  EXPECT_EQ(sent + counters.get(Counter::encap_icmp_throttled), 500U);
}

TEST(IcmpResponder, SaysNothingOfAFamilyItHasNoAddressIn) {
  Counters counters;
  Bytes offender = make_packet({});
  Bytes offender6 = make_packet6({});
  IcmpResponder only4(kRouter, {}, counters, Counter::encap_icmp_throttled);
  EXPECT_FALSE(only4.error(IcmpError::time_exceeded, Ipv4Packet(offender)).empty());
  EXPECT_TRUE(only4.error(IcmpError::time_exceeded, Ipv6Packet(offender6)).empty());
  IcmpResponder only6(0, kRouter6, counters, Counter::encap_icmp_throttled);
  EXPECT_TRUE(only6.error(IcmpError::time_exceeded, Ipv4Packet(offender)).empty());
  EXPECT_FALSE(only6.error(IcmpError::time_exceeded, Ipv6Packet(offender6)).empty());
  EXPECT_EQ(counters.get(Counter::encap_icmp_throttled), 0U);
}

/// A packet of this test among what the kernel sends into the device; else empty.
Bytes read_packet_to(int tun, const SocketAddress& to) {
  Bytes packet(2000);
  const ssize_t size = ::read(tun, packet.data(), packet.size());
  packet.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
  const bool whole = Ipv6Packet::check(packet) == Ipv6Fault::none;
  if (!whole || packet[6] != IPPROTO_UDP || packet.size() < Ipv6Packet::kHeader + 8) return {};
  const bool ours = Address::of_bytes(Ipv6Packet(packet).destination()) == to.address() &&
                    load_be16(&packet[Ipv6Packet::kHeader + 2]) == ntohs(to.port());
  return ours ? packet : Bytes{};
}

/// What a socket's error queue holds next, if it holds something.
std::optional<sock_extended_err> read_error(int socket) {
  alignas(cmsghdr) std::array<uint8_t, 512> control;
  std::array<uint8_t, 2000> data;
  iovec piece{data.data(), data.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(socket, &message, MSG_ERRQUEUE) < 0) return {};
  const cmsghdr* first = CMSG_FIRSTHDR(&message);
  if (first == nullptr) return {};
  sock_extended_err error{};
  std::memcpy(&error, CMSG_DATA(first), sizeof error);
  return error;
}

/// A sender on this host, whose packets go into a TUN device and whose errors come from there.
class Sender {
 public:
  Sender() {
    set_up(device_.name);
    add_address(device_.name, router(), 32);
    const int on = 1;
    EXPECT_EQ(::setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on), 0);
    // From the one address, whatever other ones the kernel has given the device.
    const auto from = SocketAddress::of(router(), 0);
    EXPECT_EQ(::bind(socket_.get(), from.get(), from.length), 0) << std::strerror(errno);
    EXPECT_EQ(::connect(socket_.get(), to_.get(), to_.length), 0) << std::strerror(errno);
  }

  /// A packet that the device has got of it; empty when none came in time.
  Bytes send() {
    // Larger than the longest error, so that what is quoted is a part.
    const Bytes payload(1400);
    // An error that is not read yet is reported once in place of a packet that is sent.
    EXPECT_TRUE(eventually([&] {
      return ::send(socket_.get(), payload.data(), payload.size(), 0) > 0;
    })) << std::strerror(errno);
    Bytes packet;
    EXPECT_TRUE(eventually([&] {
      packet = read_packet_to(device_.queues[0].get(), to_);
      return !packet.empty();
    })) << "the packet has not come to the device";
    return packet;
  }

  /// The next error that it is told, all zero when none came in time.
  sock_extended_err error() {
    std::optional<sock_extended_err> error;
    EXPECT_TRUE(eventually([&] { return (error = read_error(socket_.get())).has_value(); }))
        << "the sender was told nothing";
    return error.value_or(sock_extended_err{});
  }

 private:
  static Address router() { return Address::of_bytes(kRouter6); }

  TunDevice device_ = open_tun("flannel%d", 1, false, {});
  UniqueFd socket_{::socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  SocketAddress to_ = SocketAddress::of(Address::of_bytes(ip6("fd00:10:244:2::5")), htons(9));
};

TEST(IcmpResponder, TheKernelTakesIpv6ErrorsFromItsOwnAddressToItself) {
  const bool entered = in_namespace([] {
    set_up("lo");
    Sender sender;
    const UniqueFd raw = open_icmpv6();
    ASSERT_TRUE(raw.valid());
    Counters counters;
    IcmpResponder responder(0, kRouter6, counters, Counter::encap_icmp_throttled);
    const struct {
      IcmpError error;
      int code;
      uint8_t type;
      uint32_t info;
    } cases[] = {{IcmpError::net_unreachable, ENETUNREACH, 1, 0},
                 {IcmpError::time_exceeded, EHOSTUNREACH, 3, 0},
                 {IcmpError::frag_needed, EMSGSIZE, 2, 1300}};
    for (const auto& [kind, code, type, info] : cases) {
      Bytes offender = sender.send();
      ASSERT_FALSE(offender.empty());
      const auto source = Ipv6Packet(offender).source();
      EXPECT_TRUE(std::ranges::equal(source, kRouter6));
      const auto message = responder.error(kind, Ipv6Packet(offender), 1300);
      const auto back = SocketAddress::of(Address::of_bytes(source), 0);
      ASSERT_EQ(::sendto(raw.get(), message.data(), message.size(), 0, back.get(), back.length),
                static_cast<ssize_t>(message.size()))
          << std::strerror(errno);
      const sock_extended_err error = sender.error();
      EXPECT_EQ(error.ee_errno, static_cast<uint32_t>(code));
      EXPECT_EQ(error.ee_origin, SO_EE_ORIGIN_ICMP6);
      EXPECT_EQ(error.ee_type, type);
      EXPECT_EQ(error.ee_code, 0);
      EXPECT_EQ(error.ee_info, info);
    }
  });
  if (!entered) GTEST_SKIP() << "takes a network namespace and /dev/net/tun";
}

}  // namespace
}  // namespace flannel::test
