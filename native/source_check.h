// Who may send into the overlay, and a note of those who tried without being allowed to.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace flannel {

/// What is asked of a received datagram's source. A stock peer's port may be any, as behind a NAT,
/// so only addresses count.
enum class SourceCheck : uint8_t {
  none,    // nothing, as stock flannel
  peer,    // its address is that of a peer
  subnet,  // and the inner packet's source lies in a subnet of that peer
};

/// A source that was refused; addresses in host order.
struct Refusal {
  uint32_t source;
  uint32_t inner_source;  // of one of its packets; 0 where that is not known
};

/// The last sources that were refused, each once. Noted by one worker, taken by whoever writes the
/// log; a source that finds no room is only counted.
class RefusedSources {
 public:
  void note(Refusal refusal) noexcept {
    const uint64_t note = uint64_t{refusal.source} << 32 | refusal.inner_source;
    const size_t first = refusal.source * 0x9e3779b1U >> (32 - kSlotBits);
    for (size_t i = 0; i < kTries; i++) {
      auto& slot = notes_[(first + i) % kSlots];
      const uint64_t there = slot.load(std::memory_order_relaxed);
      if (there >> 32 == refusal.source) return;
      if (there != 0) continue;
      return slot.store(note, std::memory_order_relaxed);
    }
  }

  void take(std::vector<Refusal>& into) {
    for (auto& slot : notes_) {
      const uint64_t note = slot.exchange(0, std::memory_order_relaxed);
      if (note == 0) continue;
      into.push_back({static_cast<uint32_t>(note >> 32), static_cast<uint32_t>(note)});
    }
  }

 private:
  static constexpr size_t kSlotBits = 4;
  static constexpr size_t kSlots = 1 << kSlotBits;
  static constexpr size_t kTries = 4;

  std::array<std::atomic<uint64_t>, kSlots> notes_{};
};

}  // namespace flannel
