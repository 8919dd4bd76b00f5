// The answers to probes of a path's MTU; see probe_wire.h.
#pragma once

#include "probe_wire.h"
#include "stats.h"
#include "token_bucket.h"
#include "udp.h"

namespace flannel {

/// Answers what arrives at one worker, at a throttled rate. An answer is never larger than its
/// probe, and goes to peers alone.
class ProbeResponder {
 public:
  /// `on`: else probes are what they are to whoever does not know them. `udp`: its port is the one
  /// that peers probe.
  ProbeResponder(bool on, UdpSocket udp, Counters& counters) noexcept
      : on_(on), udp_(udp), counters_(counters) {}

  /// Whether a row of datagrams is its business. A row comes from one port, and probes have one of
  /// their own, so the first datagram tells for all.
  [[nodiscard]] bool takes(const ReceiveBatch::Datagram& row) const noexcept {
    return on_ && ProbeHeader::read(row.payload).has_value();
  }

  /// The end of a row; how many datagrams there were. `from_peer`: whether a lease announces the
  /// source address.
  size_t take(const ReceiveBatch::Datagram& row, bool from_peer) noexcept;

 private:
  bool answer(std::span<const uint8_t> datagram, const NextHop& to) noexcept;

  bool on_;
  UdpSocket udp_;
  Counters& counters_;
  // A peer is asked for one size every two seconds, and for up to two dozen while it is searched.
  TokenBucket<4000, 400> throttle_;
};

}  // namespace flannel
