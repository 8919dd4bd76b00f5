#include "icmp_responder.h"

#include <gtest/gtest.h>
#include <linux/errqueue.h>

#include "caps.h"
#include "tun.h"
#include "tun_lab.h"

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

/// Gives a device an address, and the route to the prefix.
void add_address6(const std::string& device, const char* address, uint8_t prefix_length) {
  const UniqueFd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  struct {
    Ipv6Address address;
    uint32_t prefix_length;
    int index;
  } request{ip6(address), prefix_length, static_cast<int>(::if_nametoindex(device.c_str()))};
  ASSERT_EQ(::ioctl(fd.get(), SIOCSIFADDR, &request), 0) << std::strerror(errno);
}

sockaddr_in6 socket_address(Ipv6Packet::Address address, uint16_t port) {
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  std::ranges::copy(address, to.sin6_addr.s6_addr);
  return to;
}

/// The next UDP packet that the kernel sends into the device, all else left out.
Bytes next_udp6(int tun) {
  for (;;) {
    Bytes packet(2000);
    const ssize_t size = ::read(tun, packet.data(), packet.size());
    if (size < 0 && errno != EAGAIN) return {};
    if (size < 0) std::this_thread::yield();
    packet.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    if (Ipv6Packet::check(packet) == Ipv6Fault::none && packet[6] == 17) return packet;
  }
}

/// The errno and ICMPv6 type, code and info that a socket's error queue holds next.
sock_extended_err next_error(int socket) {
  for (;;) {
    alignas(cmsghdr) std::array<uint8_t, 512> control;
    std::array<uint8_t, 2000> data;
    iovec piece{data.data(), data.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t received = ::recvmsg(socket, &message, MSG_ERRQUEUE);
    sock_extended_err error{};
    if (received >= 0 && CMSG_FIRSTHDR(&message) != nullptr) {
      std::memcpy(&error, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof error);
      return error;
    }
    if (errno != EAGAIN) return error;
    std::this_thread::yield();
  }
}

TEST(IcmpResponder, TheKernelTakesIpv6ErrorsFromItsOwnAddressToItself) {
  const bool entered = in_namespace([] {
    configure_link("lo", 0, 0);
    const TunDevice device = open_tun("flannel%d", 1, false, {});
    configure_link(device.name, 0, 0);
    add_address6(device.name, "fd00:10:244:1::", 32);
    const UniqueFd raw = open_icmpv6();
    ASSERT_TRUE(raw.valid());
    const UniqueFd sender(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ASSERT_EQ(::setsockopt(sender.get(), IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on), 0);
    const auto to = socket_address(ip6("fd00:10:244:2::5"), 9);
    ASSERT_EQ(::connect(sender.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0)
        << std::strerror(errno);

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
      // Larger than the longest error, so that what is quoted is a part.
      const Bytes payload(1400);
      while (::send(sender.get(), payload.data(), payload.size(), 0) < 0) {
      }
      Bytes offender = next_udp6(device.queues[0].get());
      ASSERT_FALSE(offender.empty());
      EXPECT_TRUE(std::ranges::equal(Ipv6Packet(offender).source(), kRouter6));
      const auto message = responder.error(kind, Ipv6Packet(offender), 1300);
      const auto back = socket_address(Ipv6Packet(offender).source(), 0);
      ASSERT_EQ(::sendto(raw.get(), message.data(), message.size(), 0,
                         reinterpret_cast<const sockaddr*>(&back), sizeof back),
                static_cast<ssize_t>(message.size()))
          << std::strerror(errno);
      const sock_extended_err error = next_error(sender.get());
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
