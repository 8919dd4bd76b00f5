// What TCP and UDP have to do with the IP header in front of them, in both families.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "checksum.h"
#include "ipv4.h"
#include "ipv6.h"

namespace flannel {

/// `packet` must not be empty.
inline bool is_ipv6(std::span<const uint8_t> packet) noexcept {
  return packet[0] >> 4 == 6;
}

/// What a packet has in front of its transport header.
struct NetworkHeader {
  bool v6;
  uint8_t protocol;
  bool fragment;  // part of a packet
  bool hidden;    // no telling the protocol: a later IPv6 fragment, or a header that leaves the
                  // packet
  size_t length;  // in bytes, IPv4 options and IPv6 extension headers among them
};

/// Of a packet whose family is known, so that each pays for its own alone. `packet` must have
/// passed Ipv4Packet::check() or Ipv6Packet::check().
template <bool v6>
NetworkHeader network_header_of(std::span<const uint8_t> packet) noexcept {
  if constexpr (v6) {
    const UpperLayer upper = Ipv6Packet::upper_layer(packet);
    return {true, upper.protocol, upper.fragment, upper.later || !upper.whole, upper.offset};
  } else {
    return {false, packet[9], is_fragment(packet), false, ip_header_length(packet)};
  }
}

/// Of either family's packet.
inline NetworkHeader network_header(std::span<const uint8_t> packet) noexcept {
  return is_ipv6(packet) ? network_header_of<true>(packet) : network_header_of<false>(packet);
}

/// Sum of the pseudo-header. `ip`: the IP header; `length`: bytes of transport header and payload.
inline uint64_t pseudo_header_sum(const uint8_t* ip, bool v6, uint8_t protocol,
                                  size_t length) noexcept {
  const auto size = static_cast<uint32_t>(length);
  if (v6) return checksum_pseudo_ipv6(std::span<const uint8_t, 32>(ip + 8, 32), protocol, size);
  return checksum_pseudo_ipv4(load_be32(ip + 12), load_be32(ip + 16), protocol, size);
}

}  // namespace flannel
