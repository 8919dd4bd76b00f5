// Longest-prefix match over IPv6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "address_table.h"
#include "prefix.h"

namespace flannel {

/// A hash table for each prefix length in use, looked through from the longest on. All hosts of a
/// network have subnets of one length, so that is one table as a rule, and a lookup one or two
/// loads.
class Ipv6Prefixes {
 public:
  static constexpr uint32_t kNone = AddressTable::kNone;

  /// The value of the longest prefix that covers `address`, or kNone.
  [[nodiscard]] uint32_t find(const Address& address) const noexcept {
    for (const Level& level : levels_) {
      const uint32_t value = level.values.find(address.prefix(level.length));
      if (value != kNone) return value;
    }
    return kNone;
  }

  /// `prefix` without host bits, `value` not kNone.
  void set(const Prefix& prefix, uint32_t value);
  /// Does nothing for a prefix that was not set.
  void remove(const Prefix& prefix) noexcept;

  /// Of memory.
  [[nodiscard]] size_t bytes() const noexcept;

 private:
  struct Level {
    uint8_t length;
    AddressTable values;
  };

  /// The level of a length, or the one before which it would stand.
  [[nodiscard]] std::vector<Level>::iterator level_of(uint8_t length) noexcept;

  std::vector<Level> levels_;  // the longest first
};

}  // namespace flannel
