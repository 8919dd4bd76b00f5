#include "address_table.h"

#include <bit>
#include <utility>

namespace flannel {

void AddressTable::set(const Address& address, uint32_t value) {
  if (4 * (used_ + 1) > 3 * buckets_.size()) grow();
  Bucket& bucket = buckets_[place_of(address)];
  if (bucket.value == kNone) used_++;
  bucket = {address, value};
}

void AddressTable::remove(const Address& address) noexcept {
  if (find(address) == kNone) return;
  size_t hole = place_of(address);
  buckets_[hole] = {};
  used_--;
  // Whoever stands behind and came past the hole on the way there moves into it.
  for (size_t i = (hole + 1) & mask_; buckets_[i].value != kNone; i = (i + 1) & mask_) {
    const size_t from_home = (i - home(buckets_[i].address)) & mask_;
    if (from_home < ((i - hole) & mask_)) continue;
    buckets_[hole] = std::exchange(buckets_[i], {});
    hole = i;
  }
}

void AddressTable::grow() {
  const std::vector<Bucket> before =
      std::exchange(buckets_, std::vector<Bucket>(buckets_.empty() ? 16 : 2 * buckets_.size()));
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(buckets_.size()));
  mask_ = buckets_.size() - 1;
  for (const Bucket& bucket : before) {
    if (bucket.value != kNone) buckets_[place_of(bucket.address)] = bucket;
  }
}

}  // namespace flannel
