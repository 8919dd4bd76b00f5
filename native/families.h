// What a router asks of a packet, in the same words for both families.
#pragma once

#include <algorithm>

#include "address.h"
#include "icmpv6.h"
#include "ipv4.h"
#include "ipv6.h"
#include "network_header.h"
#include "peers.h"

namespace flannel {

/// Whether a packet of either family passes its check().
inline bool is_well_formed(std::span<const uint8_t> packet) noexcept {
  return !packet.empty() && is_ipv6(packet) ? Ipv6Packet::check(packet) == Ipv6Fault::none
                                            : Ipv4Packet::check(packet) == Ipv4Fault::none;
}

inline uint8_t hop_limit(Ipv4Packet packet) noexcept {
  return packet.ttl();
}
inline uint8_t hop_limit(Ipv6Packet packet) noexcept {
  return packet.hop_limit();
}

/// One hop less, of which there must be one.
inline void take_hop(Ipv4Packet packet) noexcept {
  packet.decrement_ttl();
}
inline void take_hop(Ipv6Packet packet) noexcept {
  packet.decrement_hop_limit();
}

/// Addresses as Fib::lookup() takes them.
inline uint32_t source_of(Ipv4Packet packet) noexcept {
  return packet.source();
}
inline Address source_of(Ipv6Packet packet) noexcept {
  return Address::of_bytes(packet.source());
}
inline uint32_t destination_of(Ipv4Packet packet) noexcept {
  return packet.destination();
}
inline Address destination_of(Ipv6Packet packet) noexcept {
  return Address::of_bytes(packet.destination());
}

inline Address as_address(uint32_t ipv4) noexcept {
  return Address::of_ipv4(ipv4);
}
inline Address as_address(const Address& ipv6) noexcept {
  return ipv6;
}

/// Whether routers have to drop it rather than cut it.
inline bool must_stay_whole(Ipv4Packet packet) noexcept {
  return packet.dont_fragment();
}
inline bool must_stay_whole(Ipv6Packet /*packet*/) noexcept {
  return true;
}

/// The largest packet, in bytes, of which nobody is told that it is too large for the way to a
/// peer. An IPv6 link carries kMinIpv6Mtu whatever is below it (RFC 8200 section 5): the kernel
/// cuts the datagrams around such packets.
inline uint16_t largest_for(Ipv4Packet /*packet*/, const Peer& peer) noexcept {
  return peer.largest;
}
inline uint16_t largest_for(Ipv6Packet /*packet*/, const Peer& peer) noexcept {
  return std::max(peer.largest, static_cast<uint16_t>(kMinIpv6Mtu));
}

/// The addresses of this end of the tunnel, from which ICMP and ICMPv6 errors come.
struct TunnelAddresses {
  uint32_t ipv4 = 0;  // host order; 0: this network carries no IPv4
  Address ipv6{};     // `::`: this network carries no IPv6
};

}  // namespace flannel
