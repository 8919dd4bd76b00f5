// How long batches take, for a histogram of what their packets wait.
#pragma once

#include <cstdint>
#include <ctime>

#include "stats.h"

namespace flannel {

/// Reads the clock twice a batch; where batches are single packets, of every kSample-th one only,
/// since there the clock would cost as much as the counting of a batch.
class Stopwatch {
 public:
  static constexpr uint32_t kSample = 16;  // a power of 2

  Stopwatch(Histogram histogram, size_t batch_size) noexcept
      : histogram_(histogram), skipped_(batch_size == 1 ? kSample - 1 : 0) {}

  /// A batch has been read.
  void start() noexcept { started_ = (batches_++ & skipped_) == 0 ? now() : 0; }
  /// `packets` of it have been handed on.
  void stop(Counters& counters, uint64_t packets) noexcept {
    if (started_ == 0) return;
    counters.record(histogram_, now() - started_, packets);
    started_ = 0;
  }

 private:
  static uint64_t now() noexcept {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
  }

  Histogram histogram_;
  uint32_t skipped_;  // bits that are 0 in the number of a batch that is timed
  uint32_t batches_ = 0;
  uint64_t started_ = 0;  // 0: this one is not
};

}  // namespace flannel
