// A bounds-checked view of an IPv4 header (RFC 791) and the one change a router makes to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "byte_order.h"

namespace flannel {

enum class Ipv4Fault : uint8_t { none, too_short, bad_version, bad_ihl, bad_length };

/// Bytes of the IP header, as it says itself; `packet` must not be empty.
inline size_t ip_header_length(std::span<const uint8_t> packet) noexcept {
  return size_t{4} * (packet[0] & 15U);
}

/// More fragments, or not the first one; `packet` must hold an IP header.
inline bool is_fragment(std::span<const uint8_t> packet) noexcept {
  return (load_be16(&packet[6]) & 0x3fff) != 0;
}

/// A packet whose header lies wholly inside its bytes. Borrows them; writes only TTL and checksum.
class Ipv4Packet {
 public:
  static constexpr size_t kMinHeader = 20;

  /// Checks version, header length and total length against the bytes that are really there. The
  /// total length has to match exactly: on the wire a datagram is one packet, and padding has no
  /// sender.
  static Ipv4Fault check(std::span<const uint8_t> bytes) noexcept {
    if (bytes.size() < kMinHeader) return Ipv4Fault::too_short;
    const size_t total = load_be16(&bytes[2]);
    if (bytes[0] == 0x45 && total == bytes.size()) return Ipv4Fault::none;  // as nearly all are
    if (bytes[0] >> 4 != 4) return Ipv4Fault::bad_version;
    const size_t header = ip_header_length(bytes);
    if (header < kMinHeader || header > bytes.size()) return Ipv4Fault::bad_ihl;
    if (total < header || total != bytes.size()) return Ipv4Fault::bad_length;
    return Ipv4Fault::none;
  }

  /// `bytes` must have passed check().
  explicit Ipv4Packet(std::span<uint8_t> bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] std::span<const uint8_t> bytes() const noexcept { return bytes_; }
  [[nodiscard]] size_t header_length() const noexcept { return ip_header_length(bytes_); }
  [[nodiscard]] uint16_t fragment_offset() const noexcept { return load_be16(&bytes_[6]) & 0x1fff; }
  [[nodiscard]] uint8_t ttl() const noexcept { return bytes_[8]; }
  [[nodiscard]] uint8_t protocol() const noexcept { return bytes_[9]; }
  [[nodiscard]] uint32_t source() const noexcept { return load_be32(&bytes_[12]); }
  [[nodiscard]] uint32_t destination() const noexcept { return load_be32(&bytes_[16]); }

  /// DF: routers drop it rather than cut it.
  [[nodiscard]] bool dont_fragment() const noexcept { return (bytes_[6] & 0x40) != 0; }
  /// Part of a packet: only the first part has ports.
  [[nodiscard]] bool is_fragment() const noexcept { return flannel::is_fragment(bytes_); }

  /// A hash of what has to stay in order: addresses, protocol, and ports where there are any.
  [[nodiscard]] uint32_t flow() const noexcept {
    uint32_t hash = source() * 0x9e3779b1U ^ destination() ^ protocol();
    const bool has_ports = (protocol() == 6 || protocol() == 17) && !is_fragment();
    const size_t ports = header_length();
    if (has_ports && ports + 4 <= bytes_.size()) hash ^= load_be32(&bytes_[ports]) * 0x85ebca6bU;
    return hash ^ hash >> 16 ^ hash >> 8;
  }

  /// TTL - 1 with the header checksum updated as RFC 1624, equation 3: HC' = ~(~HC + ~m + m'), in
  /// which ~m + m' is 0xffff - 0x0100 whatever the word m of TTL and protocol. A wrong checksum
  /// stays wrong by the same amount, so the receiver still notices. The TTL must not be 0.
  void decrement_ttl() noexcept {
    bytes_[8]--;
    const uint32_t sum = uint32_t{static_cast<uint16_t>(~load_be16(&bytes_[10]))} + 0xfeff;
    store_be16(&bytes_[10], static_cast<uint16_t>(~(sum + (sum >> 16))));
  }

 private:
  std::span<uint8_t> bytes_;
};

}  // namespace flannel
