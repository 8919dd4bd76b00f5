// How often something may happen that others can provoke.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

namespace flannel {

/// `burst` times at once, `per_second` times in the long run.
template <uint64_t per_second, uint64_t burst>
class TokenBucket {
 public:
  static constexpr uint64_t kPerSecond = per_second;
  static constexpr uint64_t kBurst = burst;

  /// `now`: nanoseconds of any steady clock.
  bool take(uint64_t now) noexcept {
    const uint64_t start = std::max(full_at_, now);
    if (start + kNanosPerToken > now + kBurst * kNanosPerToken) return false;
    full_at_ = start + kNanosPerToken;
    return true;
  }
  bool take() noexcept { return take(now_nanos()); }

 private:
  static constexpr uint64_t kNanosPerToken = 1'000'000'000 / kPerSecond;

  static uint64_t now_nanos() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  }

  uint64_t full_at_ = 0;  // when the bucket will be full again
};

}  // namespace flannel
