#include "icmpv6.h"

#include <algorithm>
#include <cstring>

#include "checksum.h"

namespace flannel {
namespace {

constexpr size_t kIcmpHeader = 8;
constexpr size_t kHeaders = Ipv6Packet::kHeader + kIcmpHeader;
constexpr uint8_t kProtocolIcmpv6 = 58;
constexpr uint8_t kHopLimit = 64;
constexpr uint8_t kRedirect = 137;

/// The types below 128 are errors (RFC 4443 section 2.1).
bool is_error_or_redirect(uint8_t type) noexcept {
  return type < 128 || type == kRedirect;
}

bool is_zero(std::span<const uint8_t> bytes) noexcept {
  return std::ranges::all_of(bytes, [](uint8_t byte) { return byte == 0; });
}

/// Unspecified (::) or loopback (::1).
bool is_unspecified_or_loopback(Ipv6Packet::Address address) noexcept {
  return is_zero(address.first<15>()) && address[15] <= 1;
}

/// ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), which stands for IPv4 inside of a host: on a wire it
/// is nobody's address, and to a socket it would mean the other family.
bool is_mapped_ipv4(Ipv6Packet::Address address) noexcept {
  return is_zero(address.first<10>()) && address[10] == 0xff && address[11] == 0xff;
}

bool is_multicast(Ipv6Packet::Address address) noexcept {
  return address[0] == 0xff;
}

/// Of one link only, fe80::/10: behind a router it means nobody.
bool is_link_local(Ipv6Packet::Address address) noexcept {
  return address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

bool is_single_host(Ipv6Packet::Address address) noexcept {
  return !is_multicast(address) && !is_link_local(address) &&
         !is_unspecified_or_loopback(address) && !is_mapped_ipv4(address);
}

bool concerns_an_icmpv6_error(Ipv6Packet packet) noexcept {
  const UpperLayer upper = packet.upper_layer();
  // Unknown: rather silent than a loop of errors.
  if (!upper.whole || upper.later) return true;
  if (upper.protocol != kProtocolIcmpv6) return false;
  return upper.offset == packet.bytes().size() ||
         is_error_or_redirect(packet.bytes()[upper.offset]);
}

/// Type and code as the message begins with them.
uint16_t kind_of(IcmpError error) noexcept {
  switch (error) {
    case IcmpError::net_unreachable:
      return 0x0100;  // no route to destination
    case IcmpError::frag_needed:
      return 0x0200;  // packet too big
    case IcmpError::time_exceeded:
      return 0x0300;  // hop limit in transit
  }
  return 0;
}

}  // namespace

bool may_answer(IcmpError error, Ipv6Packet packet) noexcept {
  const auto destination = packet.destination();
  const bool to_group = error == IcmpError::frag_needed && is_multicast(destination);
  return is_single_host(packet.source()) && (to_group || is_single_host(destination)) &&
         !concerns_an_icmpv6_error(packet);
}

std::span<const uint8_t> build_icmpv6_error(IcmpError error, Ipv6Packet::Address source,
                                            Ipv6Packet offender,
                                            std::span<uint8_t, kMaxIcmpv6Error> out,
                                            uint32_t mtu) noexcept {
  const auto quote =
      offender.bytes().first(std::min(offender.bytes().size(), kMaxIcmpv6Error - kHeaders));
  const size_t length = kIcmpHeader + quote.size();

  uint8_t* ip = out.data();
  std::memset(ip, 0, kHeaders);
  ip[0] = 0x60;
  store_be16(ip + 4, static_cast<uint16_t>(length));
  ip[6] = kProtocolIcmpv6;
  ip[7] = kHopLimit;
  std::ranges::copy(source, ip + 8);
  std::ranges::copy(offender.source(), ip + 24);

  uint8_t* icmp = ip + Ipv6Packet::kHeader;
  store_be16(icmp, kind_of(error));
  if (error == IcmpError::frag_needed) {
    store_be32(icmp + 4, std::max<uint32_t>(mtu, kMinIpv6Mtu));
  }
  std::ranges::copy(quote, icmp + kIcmpHeader);
  const uint64_t pseudo = checksum_pseudo_ipv6(std::span<const uint8_t, 32>(ip + 8, 32),
                                               kProtocolIcmpv6, static_cast<uint32_t>(length));
  store_be16(icmp + 2, checksum_finish(checksum_add({icmp, length}, pseudo)));
  return out.first(kHeaders + quote.size());
}

}  // namespace flannel
