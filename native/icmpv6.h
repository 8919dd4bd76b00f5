// ICMPv6 errors (RFC 4443) that this router owes to a packet's sender: whether there may be one,
// and its bytes. When one is sent: icmp_responder.h.
#pragma once

#include <cstdint>
#include <span>

#include "icmp.h"
#include "ipv6.h"

namespace flannel {

/// What every IPv6 link carries (RFC 8200 section 5).
inline constexpr size_t kMinIpv6Mtu = 1280;

/// The whole ICMPv6 error message is at most this long (RFC 4443 section 2.4(c)).
inline constexpr size_t kMaxIcmpv6Error = kMinIpv6Mtu;

/// Whether `error` about `packet` may be sent at all (RFC 4443 section 2.4(e)): not about an ICMPv6
/// error or a redirect, and not to or from anything but a single host; but to a group, that the
/// packet was too big. Nor where it cannot be told: about a later fragment, or a packet with an
/// extension header that leaves it.
bool may_answer(IcmpError error, Ipv6Packet packet) noexcept;

/// Writes the error about `offender` into `out`, from `source` to the offender's sender, and quotes
/// no more than the packet holds. `mtu`: with frag_needed, the size in bytes that would have
/// passed; never told below kMinIpv6Mtu, which nobody needs to keep to.
std::span<const uint8_t> build_icmpv6_error(IcmpError error, Ipv6Packet::Address source,
                                            Ipv6Packet offender,
                                            std::span<uint8_t, kMaxIcmpv6Error> out,
                                            uint32_t mtu = 0) noexcept;

}  // namespace flannel
