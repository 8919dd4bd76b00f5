// A bounds-checked view of an IPv6 header (RFC 8200) and the one change a router makes to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "byte_order.h"

namespace flannel {

using Ipv6Address = std::array<uint8_t, 16>;

enum class Ipv6Fault : uint8_t { none, too_short, bad_version, bad_length };

/// What follows the IPv6 header and its extension headers.
struct UpperLayer {
  uint8_t protocol;  // or, where `whole` is false, the header that could not be read
  size_t offset;     // where it begins; at most the packet's size
  bool fragment;     // part of a packet: only the first part has ports
  bool later;        // and not the first one: what is at `offset` is no header
  bool whole;        // no extension header leaves the packet
};

/// A packet whose header lies wholly inside its bytes. Borrows them; writes only the hop limit.
class Ipv6Packet {
 public:
  static constexpr size_t kHeader = 40;
  using Address = std::span<const uint8_t, std::tuple_size_v<Ipv6Address>>;

  /// Checks version and payload length against the bytes that are really there; it has to match
  /// exactly, as with IPv4. A jumbogram (RFC 2675) says 0 there, so its length is bad.
  static Ipv6Fault check(std::span<const uint8_t> bytes) noexcept {
    if (bytes.size() < kHeader) return Ipv6Fault::too_short;
    if (bytes[0] >> 4 != 6) return Ipv6Fault::bad_version;
    if (load_be16(&bytes[4]) != bytes.size() - kHeader) return Ipv6Fault::bad_length;
    return Ipv6Fault::none;
  }

  /// `bytes` must have passed check().
  explicit Ipv6Packet(std::span<uint8_t> bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] std::span<const uint8_t> bytes() const noexcept { return bytes_; }
  [[nodiscard]] uint32_t flow_label() const noexcept { return load_be32(&bytes_[0]) & 0xfffff; }
  /// Protocol, or kind of the first extension header.
  [[nodiscard]] uint8_t next_header() const noexcept { return bytes_[6]; }
  [[nodiscard]] uint8_t hop_limit() const noexcept { return bytes_[7]; }
  [[nodiscard]] Address source() const noexcept { return bytes_.subspan<8, Address::extent>(); }
  [[nodiscard]] Address destination() const noexcept {
    return bytes_.subspan<24, Address::extent>();
  }

  /// No checksum covers it. It must not be 0.
  void decrement_hop_limit() noexcept { bytes_[7]--; }

  /// Part of a packet. A fragment header with nothing missing (RFC 6946) makes none.
  [[nodiscard]] bool is_fragment() const noexcept { return upper_layer().fragment; }

  /// Follows the extension headers: hop-by-hop, routing, fragment, authentication and destination
  /// options, as Linux does (ipv6_ext_hdr()). Each is at least 8 bytes, so this ends.
  [[nodiscard]] UpperLayer upper_layer() const noexcept { return upper_layer(bytes_); }
  static UpperLayer upper_layer(std::span<const uint8_t> packet) noexcept {
    UpperLayer at{packet[6], kHeader, false, false, true};
    while (is_extension(at.protocol)) {
      const auto rest = packet.subspan(at.offset);
      const size_t length = rest.size() < kExtension ? kExtension : extension(at.protocol, rest);
      if (length > rest.size()) {
        at.whole = false;
        break;
      }
      if (at.protocol == kFragment) {
        at.fragment |= (load_be16(&rest[2]) & 0xfff9) != 0;  // offset, or more to come
        at.later |= (load_be16(&rest[2]) & 0xfff8) != 0;
      }
      at.protocol = rest[0];
      at.offset += length;
      if (at.later) break;
    }
    return at;
  }

  /// A hash of what has to stay in order: addresses and flow label, and of what is no fragment
  /// protocol and ports.
  [[nodiscard]] uint32_t flow() const noexcept {
    const UpperLayer upper = upper_layer();
    uint32_t hash = flow_label();
    for (size_t at = 8; at < kHeader; at += 4) {
      hash = (hash ^ load_be32(&bytes_[at])) * 0x9e3779b1U;
      hash ^= hash >> 15;
    }
    if (!upper.fragment) hash ^= upper.protocol;
    const bool has_ports = (upper.protocol == 6 || upper.protocol == 17) && !upper.fragment;
    if (has_ports && upper.offset + 4 <= bytes_.size())
      hash ^= load_be32(&bytes_[upper.offset]) * 0x85ebca6bU;
    return hash ^ hash >> 16 ^ hash >> 8;
  }

 private:
  static constexpr uint8_t kHopByHop = 0;
  static constexpr uint8_t kRouting = 43;
  static constexpr uint8_t kFragment = 44;
  static constexpr uint8_t kAuthentication = 51;
  static constexpr uint8_t kDestinationOptions = 60;
  static constexpr size_t kExtension = 8;  // bytes of the shortest

  static bool is_extension(uint8_t kind) noexcept {
    return kind == kHopByHop || kind == kRouting || kind == kFragment || kind == kAuthentication ||
           kind == kDestinationOptions;
  }

  /// Bytes of an extension header, as it says itself; `bytes` must hold at least kExtension.
  static size_t extension(uint8_t kind, std::span<const uint8_t> bytes) noexcept {
    if (kind == kFragment) return kExtension;
    if (kind == kAuthentication) return size_t{4} * (bytes[1] + 2U);  // RFC 4302 section 2.2
    return size_t{8} * (bytes[1] + 1U);
  }

  std::span<uint8_t> bytes_;
};

}  // namespace flannel
