// What a worker counts: one object per direction and worker, written by that worker alone, summed
// by whoever asks.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "source_check.h"

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

enum class Histogram : uint8_t {
#define FLANNEL_HISTOGRAM(direction, name, first, buckets, unit, sentence) name,
#include "histograms.def"
#undef FLANNEL_HISTOGRAM
};

struct HistogramInfo {
  std::string_view name;
  std::string_view direction;
  unsigned first;    // the first bound is 2^first units,
  unsigned buckets;  // so many bounds there are,
  double unit;       // and this is what one of the recorded units is worth
  std::string_view help;
};

inline constexpr auto kHistograms = std::to_array<HistogramInfo>({
#define FLANNEL_HISTOGRAM(direction, name, first, buckets, unit, sentence) \
  {#name, #direction, first, buckets, unit, sentence},
#include "histograms.def"
#undef FLANNEL_HISTOGRAM
});

inline constexpr size_t kHistogramCount = kHistograms.size();
inline constexpr size_t kMostBuckets = 24;

/// A number that one thread writes and others read: a plain load and store instead of a locked
/// read-modify-write.
class Tally {
 public:
  void add(uint64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

/// Packets and bytes by peer slot.
class PeerTraffic {
 public:
  struct Sums {
    uint64_t packets = 0;
    uint64_t bytes = 0;

    Sums& operator+=(const Sums& other) noexcept {
      packets += other.packets;
      bytes += other.bytes;
      return *this;
    }
    Sums& operator-=(const Sums& other) noexcept {
      packets -= other.packets;
      bytes -= other.bytes;
      return *this;
    }
  };

  /// Of a slot without room nothing is kept.
  void add(uint32_t slot, uint64_t packets, uint64_t bytes) noexcept {
    Chunk* chunk = chunk_of(slot);
    if (chunk == nullptr) return;
    Cell& cell = (*chunk)[slot % kChunkSlots];
    cell.packets.add(packets);
    cell.bytes.add(bytes);
  }
  [[nodiscard]] Sums get(uint32_t slot) const noexcept {
    const Chunk* chunk = chunk_of(slot);
    if (chunk == nullptr) return {};
    const Cell& cell = (*chunk)[slot % kChunkSlots];
    return {cell.packets.get(), cell.bytes.get()};
  }

  /// Makes room for the slots below `slots`, before any of them is published. One thread may do
  /// that while another counts.
  void make_room(size_t slots) {
    for (size_t i = 0; i < kChunks && i * kChunkSlots < slots; i++) {
      if (owners_[i]) continue;
      owners_[i] = std::make_unique<Chunk>();
      chunks_[i].store(owners_[i].get(), std::memory_order_release);
    }
  }

 private:
  struct Cell {
    Tally packets;
    Tally bytes;
  };
  static constexpr size_t kChunkSlots = 1024;
  static constexpr size_t kChunks = 1024;
  using Chunk = std::array<Cell, kChunkSlots>;

  [[nodiscard]] Chunk* chunk_of(uint32_t slot) const noexcept {
    const size_t i = slot / kChunkSlots;
    return i < kChunks ? chunks_[i].load(std::memory_order_acquire) : nullptr;
  }

  std::array<std::atomic<Chunk*>, kChunks> chunks_{};
  std::array<std::unique_ptr<Chunk>, kChunks> owners_;
};

/// Cache-line aligned, so that two workers never write to one line.
class alignas(128) Counters {
 public:
  /// Only the owning thread calls this, and the next.
  void add(Counter counter, uint64_t n = 1) noexcept { values_[index(counter)].add(n); }

  /// `value`, in units of the histogram, came `n` times.
  void record(Histogram histogram, uint64_t value, uint64_t n = 1) noexcept {
    const HistogramInfo& info = kHistograms[index(histogram)];
    const auto power = static_cast<unsigned>(value <= 1 ? 0 : std::bit_width(value - 1));
    const unsigned bucket = power <= info.first ? 0 : std::min(power - info.first, info.buckets);
    Buckets& buckets = histograms_[index(histogram)];
    buckets.counts[bucket].add(n);
    buckets.sum.add(value * n);
  }

  [[nodiscard]] uint64_t get(Counter counter) const noexcept {
    return values_[index(counter)].get();
  }
  [[nodiscard]] uint64_t count(Histogram histogram, size_t bucket) const noexcept {
    return histograms_[index(histogram)].counts[bucket].get();
  }
  [[nodiscard]] uint64_t sum(Histogram histogram) const noexcept {
    return histograms_[index(histogram)].sum.get();
  }

  /// With each peer, in this direction.
  PeerTraffic traffic;
  /// By the source check: that are no peer's, and that sent from a subnet that is not theirs.
  RefusedSources unknown_peers;
  RefusedSources wrong_subnets;

 private:
  struct Buckets {
    std::array<Tally, kMostBuckets> counts;
    Tally sum;
  };
  template <typename Enum>
  static constexpr size_t index(Enum value) noexcept {
    return static_cast<size_t>(value);
  }

  std::array<Tally, kCounterCount> values_{};
  std::array<Buckets, kHistogramCount> histograms_{};
};

}  // namespace flannel
