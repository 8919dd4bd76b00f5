// Datagrams on their way out, gathered into runs.
//
// A run is a row of datagrams of one size to one next hop, the last of which may be shorter: what
// UDP_SEGMENT (linux/udp.h) sends as one entry. Several runs are kept open at once, so that packets
// of many sizes, flows and peers, interleaved as they come, still travel in runs. Within a flow the
// order is kept: a packet joins a run only if no packet of its flow stands in a later entry.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fib.h"
#include "packet.h"

namespace flannel {

class SendBatch {
 public:
  /// net/ipv4/udp.c: UDP_MAX_SEGMENTS, 64 before Linux 6.9.
  static constexpr size_t kMaxSegments = 128;
  static constexpr size_t kMaxSegmentsBefore69 = 64;
  /// A UDP payload over IPv4; over IPv6 a little more would fit.
  static constexpr size_t kMaxBytes = 65535 - 20 - 8;
  static constexpr size_t kMaxEntries = 96;

  SendBatch();

  /// What has to stay in order with a packet.
  struct Order {
    uint32_t flow = 0;  // any hash of its flow
    bool barrier =
        false;  // a fragment: its flow cannot be told, so nothing overtakes it, nor it anything
  };

  /// Whether push() is sure to take one more packet.
  [[nodiscard]] bool has_room() const noexcept { return count_ < kMaxEntries; }

  /// Takes a packet in; there must be room. `max_segments` is how many datagrams a run may hold: 1
  /// = no runs.
  void push(const Pieces& packet, const Peer& to, Order order, size_t max_segments) noexcept;

  [[nodiscard]] bool empty() const noexcept { return first_ == count_; }
  /// Datagrams without an outcome.
  [[nodiscard]] size_t pending() const noexcept;

 private:
  friend class UdpSocket;

  struct Entry {
    NextHop to;
    SocketAddress name;  // of the same
    uint32_t slot;       // of the peer
    size_t segment_size;
    size_t bytes;
    size_t segments;
    size_t pieces;  // iovecs a datagram, 1 or 2
    bool open;
    int refusal;  // the errno with which the kernel refused the run, or 0: then its datagrams go
                  // one by one,
    size_t done;  // and so many have their outcome
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(uint16_t))> control;
    std::array<iovec, 2 * kMaxSegments> iov;
  };

  static constexpr size_t kOpenRuns = 8;
  static constexpr size_t kFlows = 256;

  Entry* find_run(const Pieces& packet, const NextHop& to, Order order,
                  size_t max_segments) noexcept;
  static bool fits(const Entry& entry, const Pieces& packet, const NextHop& to,
                   size_t max_segments) noexcept;
  static void append(Entry& entry, const Pieces& packet) noexcept;
  Entry& open_entry(const Pieces& packet, const Peer& to) noexcept;
  /// At most `most` messages from the first entry without an outcome on, ready for sendmmsg.
  std::span<mmsghdr> messages(size_t most) noexcept;
  void clear() noexcept;

  std::vector<Entry> entries_;
  std::array<mmsghdr, kMaxEntries> messages_{};
  std::array<uint8_t, kOpenRuns> open_runs_{};  // entry numbers, newest last
  std::array<uint8_t, kFlows> last_entry_{};    // of each flow: entry number + 1, 0 = none
  size_t open_count_ = 0;
  size_t barrier_ = 0;  // entries before it take no more packets
  size_t first_ = 0;    // the first entry that has no outcome yet
  size_t count_ = 0;
};

}  // namespace flannel
