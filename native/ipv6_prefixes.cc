#include "ipv6_prefixes.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace flannel {

std::vector<Ipv6Prefixes::Level>::iterator Ipv6Prefixes::level_of(uint8_t length) noexcept {
  return std::ranges::lower_bound(levels_, length, std::greater{}, &Level::length);
}

void Ipv6Prefixes::set(const Prefix& prefix, uint32_t value) {
  auto level = level_of(prefix.length);
  if (level == levels_.end() || level->length != prefix.length) {
    level = levels_.insert(level, {prefix.length, {}});
  }
  level->values.set(prefix.network, value);
}

void Ipv6Prefixes::remove(const Prefix& prefix) noexcept {
  const auto level = level_of(prefix.length);
  if (level == levels_.end() || level->length != prefix.length) return;
  level->values.remove(prefix.network);
  if (level->values.empty()) levels_.erase(level);
}

size_t Ipv6Prefixes::bytes() const noexcept {
  return std::accumulate(levels_.begin(), levels_.end(), levels_.capacity() * sizeof(Level),
                         [](size_t sum, const Level& level) { return sum + level.values.bytes(); });
}

}  // namespace flannel
