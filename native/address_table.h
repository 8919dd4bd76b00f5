// What is known of an address, or of a prefix by its network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "address.h"

namespace flannel {

/// A number for each address: a hash table with linear probing, at most three quarters full. Copied
/// for every change of the routes, so it is kept small.
class AddressTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  /// kNone for an address that was not set.
  [[nodiscard]] uint32_t find(const Address& address) const noexcept {
    return buckets_.empty() ? kNone : buckets_[place_of(address)].value;
  }

  /// `value` must not be kNone.
  void set(const Address& address, uint32_t value);
  /// Does nothing for an address that was not set.
  void remove(const Address& address) noexcept;

  [[nodiscard]] bool empty() const noexcept { return used_ == 0; }
  /// Of memory.
  [[nodiscard]] size_t bytes() const noexcept { return buckets_.capacity() * sizeof(Bucket); }

 private:
  struct Bucket {
    Address address;
    uint32_t value = kNone;  // then the bucket is free
  };

  [[nodiscard]] size_t home(const Address& address) const noexcept {
    return address.hash() >> shift_;
  }
  /// The bucket of an address, or the free one where it would be put.
  [[nodiscard]] size_t place_of(const Address& address) const noexcept {
    size_t i = home(address);
    while (buckets_[i].value != kNone && buckets_[i].address != address) {
      i = (i + 1) & mask_;
    }
    return i;
  }
  void grow();

  std::vector<Bucket> buckets_;
  unsigned shift_ = 64;  // 64 - log2 of the number of buckets
  size_t mask_ = 0;      // that number - 1
  size_t used_ = 0;
};

}  // namespace flannel
