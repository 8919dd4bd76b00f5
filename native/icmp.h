// ICMP errors (RFC 792, RFC 1812 section 4.3) that this router owes to a packet's sender: whether
// there may be one, and its bytes. When one is sent: icmp_responder.h. Those of IPv6: icmpv6.h.
#pragma once

#include <cstdint>
#include <span>

#include "ipv4.h"

namespace flannel {

/// With IPv6, the first two are called "no route to destination" and "packet too big".
enum class IcmpError : uint8_t { net_unreachable, frag_needed, time_exceeded };

/// The whole ICMP error message is at most this long (RFC 1812 section 4.3.2.3).
inline constexpr size_t kMaxIcmpError = 576;

/// Whether an error about `packet` may be sent at all (RFC 1812 section 4.3.2.7): not about an ICMP
/// error, a later fragment, a packet with a broken header checksum, to or from anything but a
/// single host.
bool may_answer(Ipv4Packet packet) noexcept;

/// Writes the error about `offender` into `out`, from `source` (host order) to the offender's
/// sender, and quotes no more than the packet holds. `next_hop_mtu`: with frag_needed, the size in
/// bytes that would have passed (RFC 1191 section 4).
std::span<const uint8_t> build_icmp_error(IcmpError error, uint32_t source, Ipv4Packet offender,
                                          std::span<uint8_t, kMaxIcmpError> out,
                                          uint16_t next_hop_mtu = 0) noexcept;

}  // namespace flannel
