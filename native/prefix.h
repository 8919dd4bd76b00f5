// A prefix of either family.
#pragma once

#include <compare>
#include <cstdint>

#include "address.h"

namespace flannel {

struct Prefix {
  static constexpr uint8_t kBits = 128;

  Address network;
  /// Of all 128 bits, so at least Address::kMapped for IPv4; host bits may be set beyond it.
  uint8_t length = 0;

  Prefix() noexcept = default;
  constexpr Prefix(const Address& of_network, uint8_t of_length) noexcept
      : network(of_network), length(of_length) {}
  /// IPv4: `of_network` in host order, a length of 0 … 32, and with any other one not valid().
  constexpr Prefix(uint32_t of_network, uint8_t of_length) noexcept
      : network(Address::of_ipv4(of_network)),
        length(static_cast<uint8_t>(of_length > 32 ? kBits + 1 : Address::kMapped + of_length)) {}

  [[nodiscard]] constexpr bool valid() const noexcept { return length <= kBits; }
  [[nodiscard]] constexpr bool is_ipv4() const noexcept {
    return length >= Address::kMapped && network.is_ipv4();
  }
  /// The length as it is written behind an IPv4 address.
  [[nodiscard]] constexpr uint8_t ipv4_length() const noexcept {
    return static_cast<uint8_t>(length - Address::kMapped);
  }
  /// Without host bits.
  [[nodiscard]] constexpr Prefix masked() const noexcept {
    return {network.prefix(length), length};
  }

  /// By network, and of one network the shorter first.
  // NOLINTNEXTLINE(modernize-use-nullptr): the 0 is in the code that the compiler writes here.
  auto operator<=>(const Prefix&) const = default;
};

}  // namespace flannel
