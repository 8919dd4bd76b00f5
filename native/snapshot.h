// Publish / pin / retire: how the forwarding table changes under running workers without a lock on
// their side.
//
// The writer swaps the pointer and stamps the old table with the current epoch. A reader announces
// the epoch it saw before it loads the pointer, and kIdle when it is done with its batch. The old
// table is freed once every reader is idle or has announced a later epoch. All accesses are
// sequentially consistent: either the writer sees the reader's announcement, or the reader's later
// load sees the new pointer.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <vector>

namespace flannel {

template <typename T>
class Snapshot {
 public:
  /// One per reading thread; lives as long as the snapshot.
  class alignas(128) Reader {
   public:
    /// The current value, valid until unpin(). Not null.
    const T& pin() noexcept {
      epoch_.store(owner_->epoch_.load());
      return *owner_->current_.load();
    }
    void unpin() noexcept { epoch_.store(kIdle, std::memory_order_release); }

   private:
    friend class Snapshot;
    const Snapshot* owner_ = nullptr;
    std::atomic<uint64_t> epoch_{kIdle};
  };

  Snapshot(std::unique_ptr<const T> first, size_t readers)
      : readers_(readers), current_(first.release()) {
    for (Reader& reader : readers_) reader.owner_ = this;
  }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() { delete current_.load(); }

  Reader& reader(size_t i) noexcept { return readers_[i]; }

  /// Makes `next` the value that later pins see. Only one thread may write.
  void publish(std::unique_ptr<const T> next) {
    // Room for the old value first: once it is swapped out, it must not be freed for want of
    // memory.
    Retired& retired = retired_.emplace_back();
    retired.value.reset(current_.exchange(next.release()));
    retired.epoch = epoch_.fetch_add(1);
    reclaim();
  }

  /// The value as the writing thread sees it.
  [[nodiscard]] const T& current() const noexcept { return *current_.load(); }

  /// Frees what no reader can hold any more; returns how many values still wait for one.
  size_t reclaim() {
    uint64_t oldest = kIdle;
    for (const Reader& reader : readers_) oldest = std::min(oldest, reader.epoch_.load());
    while (!retired_.empty() && retired_.front().epoch < oldest) retired_.pop_front();
    return retired_.size();
  }

 private:
  static constexpr uint64_t kIdle = std::numeric_limits<uint64_t>::max();

  struct Retired {
    std::unique_ptr<const T> value;
    uint64_t epoch = 0;
  };

  std::vector<Reader> readers_;
  std::atomic<const T*> current_;
  std::atomic<uint64_t> epoch_{0};
  std::deque<Retired> retired_;
};

}  // namespace flannel
