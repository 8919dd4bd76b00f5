// The maximum segment size that TCP hosts announce in their SYNs (RFC 9293 section 3.7.1), lowered
// to what the overlay and the path to a peer carry. So hosts whose own interface promises more than
// the overlay keeps do not have to find that out by losses.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace flannel {

/// Lowers the MSS options of a TCP SYN to segments that fit into packets of `largest` bytes, and
/// updates the checksum of TCP (RFC 1624): a wrong one stays wrong by the same amount. It has to be
/// in place, not left to a device. Anything else stays as it is: a segment without SYN or without
/// the option, an option that says less, fragments, options after one that makes no sense. `packet`
/// must be an IPv4 or IPv6 packet whose header lies inside its bytes.
void clamp_mss(std::span<uint8_t> packet, size_t largest) noexcept;

/// Whether and to what to clamp, set by one thread while workers ask.
class MssClamp {
 public:
  /// `mtu`: of the overlay, in bytes; 0: leave all as it is.
  void set(uint16_t mtu) noexcept { mtu_.store(mtu, std::memory_order_relaxed); }
  [[nodiscard]] uint16_t mtu() const noexcept { return mtu_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool on() const noexcept { return mtu() != 0; }

  /// `largest`: of the packets that the path to the peer carries.
  void apply(std::span<uint8_t> packet, size_t largest) const noexcept {
    const uint16_t most = mtu();
    if (most != 0) clamp_mss(packet, std::min<size_t>(most, largest));
  }

 private:
  std::atomic<uint16_t> mtu_{0};
};

/// Never to clamp.
inline const MssClamp kNoMssClamp;

}  // namespace flannel
