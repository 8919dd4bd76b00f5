// When an ICMP or ICMPv6 error is sent: as often as the rate limit allows, and by which socket.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "icmp.h"
#include "icmpv6.h"
#include "stats.h"
#include "syscalls.h"
#include "token_bucket.h"

namespace flannel {

using IcmpThrottle = TokenBucket<1000, 50>;

/// Builds errors for one direction of one worker, at one throttled rate for both families.
class IcmpResponder {
 public:
  /// `source` (host order) and `source6`: where the errors come from. With 0 or :: there are none
  /// of that family.
  IcmpResponder(uint32_t source, const Ipv6Address& source6, Counters& counters,
                Counter throttled) noexcept
      : source_(source), source6_(source6), counters_(counters), throttled_(throttled) {}

  /// The message, borrowed until the next call, or empty when none is due. `next_hop_mtu`: with
  /// frag_needed, the size in bytes that would have passed.
  std::span<const uint8_t> error(IcmpError error, Ipv4Packet offender,
                                 uint16_t next_hop_mtu = 0) noexcept;
  std::span<const uint8_t> error(IcmpError error, Ipv6Packet offender,
                                 uint16_t next_hop_mtu = 0) noexcept;

 private:
  bool within_rate() noexcept;

  uint32_t source_;
  Ipv6Address source6_;
  Counters& counters_;
  Counter throttled_;
  IcmpThrottle throttle_;
  std::array<uint8_t, kMaxIcmpv6Error> buffer_;
};

/// A raw socket for errors to senders on this host. Written to the TUN device, they would arrive
/// from this host's own address and the kernel would drop them as martians. Invalid where
/// CAP_NET_RAW is missing.
UniqueFd open_icmp() noexcept;

/// The same for ICMPv6. The kernel takes IPv6 from its own address on any device, but a reverse
/// path filter or forwarding that is switched off would stop what comes in by the TUN device. As
/// with open_icmp(), what is sent begins with the IP header. Send it to port 0.
UniqueFd open_icmpv6() noexcept;

}  // namespace flannel
