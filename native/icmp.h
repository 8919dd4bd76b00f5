// ICMP errors (RFC 792, RFC 1812 section 4.3) that this router owes to a packet's sender.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "ipv4.h"
#include "stats.h"
#include "syscalls.h"

namespace flannel {

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

/// A token bucket: `kBurst` errors at once, `kPerSecond` in the long run.
class IcmpThrottle {
 public:
  static constexpr uint64_t kPerSecond = 1000;
  static constexpr uint64_t kBurst = 50;

  /// `now`: nanoseconds of any steady clock.
  bool take(uint64_t now) noexcept;

 private:
  static constexpr uint64_t kNanosPerToken = 1'000'000'000 / kPerSecond;
  uint64_t full_at_ = 0;  // when the bucket will be full again
};

/// Builds errors for one direction of one worker, at the throttled rate.
class IcmpResponder {
 public:
  IcmpResponder(uint32_t source, Counters& counters, Counter throttled) noexcept
      : source_(source), counters_(counters), throttled_(throttled) {}

  /// The message, borrowed until the next call, or empty when none is due.
  std::span<const uint8_t> error(IcmpError error, Ipv4Packet offender,
                                 uint16_t next_hop_mtu = 0) noexcept;

 private:
  uint32_t source_;
  Counters& counters_;
  Counter throttled_;
  IcmpThrottle throttle_;
  std::array<uint8_t, kMaxIcmpError> buffer_;
};

/// A raw socket for errors to senders on this host. Written to the TUN device, they would arrive
/// from this host's own address and the kernel would drop them as martians. Invalid where
/// CAP_NET_RAW is missing.
UniqueFd open_icmp() noexcept;

}  // namespace flannel
