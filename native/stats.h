// Counters: one array per direction and worker, written by that worker alone, summed by whoever
// asks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flannel {

enum class Counter : uint8_t {
#define FLANNEL_COUNTER(direction, role, name, sentence) name,
#include "counters.def"
#undef FLANNEL_COUNTER
};

struct CounterInfo {
  std::string_view name;
  std::string_view direction;
  std::string_view role;
  std::string_view help;
};

inline constexpr auto kCounters = std::to_array<CounterInfo>({
#define FLANNEL_COUNTER(direction, role, name, sentence) {#name, #direction, #role, sentence},
#include "counters.def"
#undef FLANNEL_COUNTER
});

inline constexpr size_t kCounterCount = kCounters.size();

/// Cache-line aligned, so that two workers never write to one line.
class alignas(128) Counters {
 public:
  /// Only the owning thread calls this: a plain load and store instead of a locked
  /// read-modify-write.
  void add(Counter counter, uint64_t n = 1) noexcept {
    auto& value = values_[static_cast<size_t>(counter)];
    value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }

  [[nodiscard]] uint64_t get(Counter counter) const noexcept {
    return values_[static_cast<size_t>(counter)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, kCounterCount> values_{};
};

}  // namespace flannel
