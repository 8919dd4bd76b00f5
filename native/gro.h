// Joins packets of one flow that arrived together into super-packets, so that the kernel behind the
// TUN device handles many packets at the price of one. The inverse of gso.h: what the kernel later
// cuts a super-packet into has to be what came in.
//
// group: packets that go to the TUN device in one write: one packet, or several as a super-packet.
#pragma once

#include <netinet/in.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "network_header.h"
#include "virtio.h"

namespace flannel {

struct MergeOptions {
  bool tcp = true;  // the TUN device takes TSO4 and TSO6
  bool udp = true;  // the TUN device takes USO4 and USO6
  /// Packets of a group. For UDP the kernel's UDP_MAX_SEGMENTS: 64, and 128 from Linux 6.9 on; more
  /// is cut down to 128.
  size_t max_segments = 64;
};

/// Collects the packets of one batch, then tells what to write. Within a flow (addresses, protocol,
/// ports) packets leave in the order in which they came; flows may overtake each other.
class Merger {
 public:
  /// Packets that the kernel may be given in one group.
  static constexpr size_t kMaxSegments = 128;

  struct Group {
    VirtioHeader header;
    std::span<const iovec> message;  // what to write: the virtio header, then the packet's pieces
    size_t segments;                 // packets in it
    size_t bytes;                    // of those packets as they came
    bool fixed_id;                   // they all had one IPv4 id (with DF), see gro.cc

    /// The same without the virtio header.
    [[nodiscard]] std::span<const iovec> packet() const noexcept { return message.subspan(1); }
  };

  /// `capacity`: packets of a batch, at most kMaxCapacity. Nothing is allocated later.
  explicit Merger(size_t capacity, MergeOptions options = {});
  static constexpr size_t kMaxCapacity = 32767;

  /// Takes a packet that passed Ipv4Packet::check() or Ipv6Packet::check() and has its final TTL.
  /// Its bytes are borrowed until clear(). False, and the packet not taken, when the batch is full.
  bool add(std::span<uint8_t> packet) noexcept;

  [[nodiscard]] size_t packets() const noexcept { return packet_count_; }

  /// Ends the batch and completes the headers in each group's first packet, which are changed in
  /// place. The groups stand in the order of their first packets, and are borrowed until clear().
  std::span<const Group> finish() noexcept;

  /// Makes room for the next batch.
  void clear() noexcept;

 private:
  static constexpr uint16_t kNone = 0xffff;
  static constexpr size_t kTableSize = 256;  // a power of two
  static constexpr size_t kProbes = 4;

  struct Flow {
    uint64_t addresses;  // of IPv6 a hash: fit() compares them
    uint64_t rest;       // ports, family, protocol
    [[nodiscard]] bool v6() const noexcept { return (rest & kV6) != 0; }
    [[nodiscard]] bool tcp() const noexcept { return static_cast<uint8_t>(rest) == IPPROTO_TCP; }
    bool operator==(const Flow&) const = default;

    static constexpr uint64_t kV6 = 0x100;
  };

  struct Packet {
    std::span<uint8_t> bytes;
    size_t header_length;  // IP and transport; not set for packets that are never merged
    uint16_t next;         // packet of the same group, or kNone
  };

  /// A group while it grows. A closed one takes no more packets.
  struct Run {
    Flow flow;
    uint16_t first;
    uint16_t last;
    uint16_t count;
    uint16_t gso_size;  // payload bytes of the first packet
    size_t size;        // of the super-packet
    bool open;
    bool verified;  // all checksums were right
    bool fixed_id;
  };

  enum class Fit : uint8_t { no, joins, joins_and_ends };

  [[nodiscard]] bool enabled(uint8_t protocol) const noexcept;
  // What a packet goes through has its family as a constant, so that IPv4 pays nothing for IPv6.
  template <bool v6>
  bool place(std::span<const uint8_t> packet, uint16_t index) noexcept;
  template <bool v6>
  static Flow flow_of(const uint8_t* ip, const NetworkHeader& header) noexcept;
  template <bool v6>
  void add_to_flow(Flow flow, bool plain, uint16_t index) noexcept;
  uint16_t append_packet(std::span<uint8_t> bytes) noexcept;
  Run& append_run(uint16_t packet) noexcept;
  uint16_t& slot_of(const Flow& flow) noexcept;
  Run* open_run(const Flow& flow, uint16_t slot) noexcept;
  template <bool v6>
  [[nodiscard]] Fit fit(const Run& run, const Packet& packet) const noexcept;
  template <bool v6>
  void join(Run& run, uint16_t packet, Fit fit) noexcept;
  template <bool v6>
  void start(const Flow& flow, uint16_t packet) noexcept;
  void close_all() noexcept { table_.fill(kNone); }
  template <bool v6>
  void complete(const Run& run, Group& group) noexcept;

  MergeOptions options_;
  std::vector<Packet> packets_;
  std::vector<Run> runs_;
  std::vector<Group> groups_;
  std::vector<iovec> iovecs_;               // a packet and a virtio header each, at most
  std::array<uint16_t, kTableSize> table_;  // hash of a flow to its latest run
  size_t packet_count_ = 0;
  size_t run_count_ = 0;
};

}  // namespace flannel
