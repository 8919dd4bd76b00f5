// Glossary
//
// packet: one inner IP packet.
//
// batch: the packets that are read, forwarded and sent together; one system call each way where the
// tier allows.
//
// entry: one datagram of a batch on its way out.
//
// turn: what a pipeline does between two calls of poll: batches, until nothing is left or its
// budget is spent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace flannel {

/// Packets of one batch in the `batch` tier: more bought nothing in measurements, fewer cost system
/// calls.
inline constexpr size_t kBatchSize = 64;

/// Packets a pipeline may move before it lets the other direction (and a stop request) have its
/// turn.
inline constexpr size_t kTurnBudget = 256;

/// Bytes after which a batch of super-packets is large enough: what stays in the cache between read
/// and send.
inline constexpr size_t kBatchBytes = 256 << 10;

/// No IP packet is longer than its 16-bit total length.
inline constexpr size_t kMaxPacket = 65535;

/// A packet in up to two pieces: headers made elsewhere and a payload in the buffer it was read
/// into. A packet in one piece has no header. Both are borrowed.
struct Pieces {
  std::span<const uint8_t> header;
  std::span<const uint8_t> payload;

  [[nodiscard]] size_t size() const noexcept { return header.size() + payload.size(); }
};

/// How a turn ended.
enum class Turn : uint8_t {
  drained,  // nothing is left to read
  more,     // the budget is spent
  blocked,  // the socket is full: call again when it is writable, and read nothing until then
  failed,   // the descriptor is of no use any more
};

/// What a batched read brought. `error` says why it stopped before the batch was full: 0 when it
/// was not, EAGAIN when nothing is left, else the errno of the failed call.
struct ReadResult {
  size_t count;
  int error;
};

/// The buffers of one batch, allocated once. A packet in slot i is borrowed from the pool until the
/// batch's next read. Each slot has room in front of it, for the header that a TUN device may put
/// before a packet.
class PacketPool {
 public:
  explicit PacketPool(size_t slots)
      : slots_(slots), memory_(std::make_unique_for_overwrite<uint8_t[]>(slots * kStride)) {}

  static constexpr size_t kHeadroom = 64;

  [[nodiscard]] size_t slots() const noexcept { return slots_; }
  [[nodiscard]] std::span<uint8_t> slot(size_t i) noexcept {
    return {memory_.get() + i * kStride + kHeadroom, kMaxPacket};
  }

 private:
  // Not a power of two: headers of neighbouring slots would all compete for one set of the cache.
  static constexpr size_t kStride = 65536 + 320;

  size_t slots_;
  std::unique_ptr<uint8_t[]> memory_;
};

}  // namespace flannel
