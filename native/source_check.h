// Who may send into the overlay, and a note of those who tried without being allowed to.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "address.h"

namespace flannel {

/// What is asked of a received datagram's source. A stock peer's port may be any, as behind a NAT,
/// so only addresses count.
enum class SourceCheck : uint8_t {
  none,    // nothing, as stock flannel
  peer,    // its address is that of a peer
  subnet,  // and the inner packet's source lies in a subnet of that peer
};

/// A source that was refused.
struct Refusal {
  Address source;
  Address inner_source;  // of one of its packets; `::` where that is not known
};

/// The last sources that were refused, each once. Noted by one worker, taken by whoever writes the
/// log; a source that finds no room is only counted.
class RefusedSources {
 public:
  void note(const Refusal& refusal) noexcept {
    const size_t first = refusal.source.hash() >> (64 - kSlotBits);
    for (size_t i = 0; i < kTries; i++) {
      Note& note = notes_[(first + i) % kSlots];
      if (!note.taken.load(std::memory_order_acquire)) {
        if (note.refusal.source == refusal.source) return;
        continue;
      }
      note.refusal = refusal;
      note.taken.store(false, std::memory_order_release);
      return;
    }
  }

  void take(std::vector<Refusal>& into) {
    for (Note& note : notes_) {
      if (note.taken.load(std::memory_order_acquire)) continue;
      into.push_back(note.refusal);
      note.taken.store(true, std::memory_order_release);
    }
  }

 private:
  static constexpr size_t kSlotBits = 4;
  static constexpr size_t kSlots = 1 << kSlotBits;
  static constexpr size_t kTries = 4;

  /// Whoever may write to it next: the worker once it is taken, else the one who takes it.
  struct Note {
    std::atomic<bool> taken{true};
    Refusal refusal;
  };

  std::array<Note, kSlots> notes_{};
};

}  // namespace flannel
