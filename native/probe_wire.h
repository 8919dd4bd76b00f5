// Probes of a path's MTU as they travel between two hosts that both know them:
//
//    0        4      5         6        8            16
//   +--------+------+---------+--------+------------+-----------------
//   | magic  | kind | 0       | length | nonce      | padding of zeros
//   +--------+------+---------+--------+------------+-----------------
//
// A probe is padded to the size that is tried; the reply to it is the header alone. `length`: bytes
// of the probe, as they left in the probe, as they arrived in the reply. `nonce`: a reply repeats
// that of its probe, so only whoever sees a probe can answer it. All in network order.
//
// The first four bits are no version of IP, so whoever does not know probes drops one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ipv4.h"

namespace flannel {

struct ProbeHeader {
  enum class Kind : uint8_t { probe = 1, reply = 2 };

  static constexpr size_t kBytes = 16;

  Kind kind;
  uint16_t length;
  uint64_t nonce;

  bool operator==(const ProbeHeader&) const = default;

  void write(std::span<uint8_t, kBytes> out) const noexcept {
    std::ranges::copy(kMagic, out.begin());
    out[4] = static_cast<uint8_t>(kind);
    out[5] = 0;
    store_be16(&out[6], length);
    store_be32(&out[8], static_cast<uint32_t>(nonce >> 32));
    store_be32(&out[12], static_cast<uint32_t>(nonce));
  }

  /// Nothing where a datagram does not begin with such a header.
  static std::optional<ProbeHeader> read(std::span<const uint8_t> datagram) noexcept {
    if (datagram.size() < kBytes || !std::ranges::equal(datagram.first(kMagic.size()), kMagic)) {
      return std::nullopt;
    }
    const uint8_t kind = datagram[4];
    if (kind != static_cast<uint8_t>(Kind::probe) && kind != static_cast<uint8_t>(Kind::reply)) {
      return std::nullopt;
    }
    return ProbeHeader{static_cast<Kind>(kind), load_be16(&datagram[6]),
                       uint64_t{load_be32(&datagram[8])} << 32 | load_be32(&datagram[12])};
  }

 private:
  static constexpr std::array<uint8_t, 4> kMagic{0xf1, 'M', 'T', 'U'};
};

}  // namespace flannel
