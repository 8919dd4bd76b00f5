// Addresses of either family as one kind of value: 128 bits, an IPv4 address being the IPv6 one
// that is mapped to it, ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2). So one comparison and one hash
// do for both, and the family needs no field of its own.
#pragma once

#include <netinet/in.h>

#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace flannel {

/// Two halves in host order, so that masks, ranges and hashes are plain arithmetic.
struct Address {
  static constexpr size_t kBytes = 16;
  /// Bits in front of an IPv4 address.
  static constexpr uint8_t kMapped = 96;

  uint64_t high = 0;
  uint64_t low = 0;

  /// `ip` in host order.
  static constexpr Address of_ipv4(uint32_t ip) noexcept { return {0, kMappedPrefix | ip}; }
  /// As it is on the wire.
  static Address of_bytes(std::span<const uint8_t, kBytes> bytes) noexcept {
    std::array<uint64_t, 2> halves;
    std::memcpy(halves.data(), bytes.data(), kBytes);
    return {in_host_order(halves[0]), in_host_order(halves[1])};
  }

  [[nodiscard]] constexpr bool is_ipv4() const noexcept {
    return high == 0 && low >> 32 == kMappedPrefix >> 32;
  }
  /// `::`, of the IPv6 addresses the one that is nobody's.
  [[nodiscard]] constexpr bool is_none() const noexcept { return (high | low) == 0; }
  /// Of an IPv4 address, in host order.
  [[nodiscard]] constexpr uint32_t ipv4() const noexcept { return static_cast<uint32_t>(low); }

  /// As it is on the wire.
  [[nodiscard]] std::array<uint8_t, kBytes> to_bytes() const noexcept {
    return std::bit_cast<std::array<uint8_t, kBytes>>(
        std::array{in_host_order(high), in_host_order(low)});
  }

  /// 64 bits, of which the upper ones are the best.
  [[nodiscard]] constexpr uint64_t hash() const noexcept {
    return (high * 0xff51afd7ed558ccdU ^ low ^ low >> 32) * 0x9e3779b97f4a7c15U;
  }

  /// The first `length` bits of it, 0 … 128.
  [[nodiscard]] constexpr Address prefix(uint8_t length) const noexcept {
    return {high & mask(length), low & mask(length <= 64 ? 0 : length - 64U)};
  }

  /// The last one that has the same first `length` bits.
  [[nodiscard]] constexpr Address last(uint8_t length) const noexcept {
    return {high | ~mask(length), low | ~mask(length <= 64 ? 0 : length - 64U)};
  }

  // NOLINTNEXTLINE(modernize-use-nullptr): the 0 is in the code that the compiler writes here.
  auto operator<=>(const Address&) const = default;

 private:
  static constexpr uint64_t kMappedPrefix = 0xffff'0000'0000;

  /// Of 64 bits the first `length`, all of them where there are not so many.
  static constexpr uint64_t mask(unsigned length) noexcept {
    if (length == 0) return 0;
    return length >= 64 ? ~uint64_t{0} : ~uint64_t{0} << (64 - length);
  }
  static uint64_t in_host_order(uint64_t wire) noexcept {
    return std::endian::native == std::endian::little ? __builtin_bswap64(wire) : wire;
  }
};

/// What a socket call takes and gives: either family's form, with its length.
struct SocketAddress {
  union {
    sockaddr_in v4;
    sockaddr_in6 v6{};
  };
  socklen_t length = sizeof(sockaddr_in6);  // as room; else that of the form in use

  /// `port` in network order.
  static SocketAddress of(const Address& address, in_port_t port) noexcept {
    SocketAddress result;
    result.set(address, port);
    return result;
  }
  /// The same in place: a copy would be loaded wider than it was stored, which processors wait for.
  void set(const Address& address, in_port_t port) noexcept {
    if (address.is_ipv4()) {
      v4 = {};
      v4.sin_family = AF_INET;
      v4.sin_port = port;
      v4.sin_addr.s_addr = htonl(address.ipv4());
      length = sizeof v4;
    } else {
      v6 = {};
      v6.sin6_family = AF_INET6;
      v6.sin6_port = port;
      v6.sin6_addr = std::bit_cast<in6_addr>(address.to_bytes());
      length = sizeof v6;
    }
  }

  [[nodiscard]] const sockaddr* get() const noexcept {
    return reinterpret_cast<const sockaddr*>(&v6);
  }
  [[nodiscard]] sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&v6); }

  /// `::` where it is of neither family.
  [[nodiscard]] Address address() const noexcept {
    if (v4.sin_family == AF_INET) return Address::of_ipv4(ntohl(v4.sin_addr.s_addr));
    if (v6.sin6_family != AF_INET6) return {};
    return Address::of_bytes(std::span<const uint8_t, Address::kBytes>(v6.sin6_addr.s6_addr));
  }

  /// In network order, at one place in both forms.
  [[nodiscard]] in_port_t port() const noexcept { return v4.sin_port; }
};
static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));

}  // namespace flannel
