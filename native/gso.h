// What the kernel left to the device when it handed over a packet with a virtio header: the
// checksum, and cutting a super-packet into the packets that go on the wire.
//
// super-packet: one IP header, one TCP or UDP header, and the payload of many packets (TSO, USO).
//
// segment: one of those packets: headers of its own, and a piece of the super-packet's payload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "network_header.h"
#include "packet.h"
#include "virtio.h"

namespace flannel {

/// Why a packet and its virtio header do not belong together. Such a packet must not be sent.
enum class GsoFault : uint8_t {
  none,
  unsupported_type,  // neither TCP nor UDP_L4, or ECN with UDP
  zero_size,         // gso_size is 0
  fragment,          // a transport checksum covers the whole datagram, and this is a part of one
  wrong_protocol,    // gso_type and the IP header disagree
  long_headers,      // more IPv6 extension headers than a segment has room for
  bad_transport,     // the TCP or UDP header leaves the packet, or UDP's length is not the packet's
  bad_checksum_place,  // csum_start or csum_offset leave the packet or miss the checksum's field
  no_checksum,         // a super-packet whose checksum was neither left to us nor verified
};

/// Puts the checksum into a packet that is no super-packet, if `header` asks for one
/// (kNeedsChecksum). The place may lie deeper than the outer transport header: the kernel leaves
/// only the innermost checksum of a tunnel to the device. `packet` must have passed
/// Ipv4Packet::check() or Ipv6Packet::check(); on a fault it is unchanged.
GsoFault complete_checksum(const VirtioHeader& header, std::span<uint8_t> packet) noexcept;

/// Room for the headers of segments. Allocated once; the headers of a portion stay until reset().
class HeaderArena {
 public:
  /// IPv4 with all options (60 bytes), or IPv6 with 92 bytes of extension headers, and TCP with all
  /// options (60 bytes).
  static constexpr size_t kMaxHeader = 40 + 92 + 60;

  explicit HeaderArena(size_t segments)
      : slots_(segments), memory_(std::make_unique_for_overwrite<uint8_t[]>(segments * kStride)) {}

  [[nodiscard]] size_t slots() const noexcept { return slots_; }
  void reset() noexcept { used_ = 0; }

  /// kMaxHeader bytes, or nullptr when all slots are taken.
  uint8_t* take() noexcept { return used_ == slots_ ? nullptr : memory_.get() + kStride * used_++; }

 private:
  static constexpr size_t kStride = 192;  // an odd number of cache lines: slots use all sets

  size_t slots_;
  size_t used_ = 0;
  std::unique_ptr<uint8_t[]> memory_;
};

/// One packet for the wire. The header is borrowed from the arena, the payload from the
/// super-packet.
using Segment = Pieces;

/// Cuts one super-packet at a time, in portions as large as the arena:
///
///   if (splitter.begin(header, packet) != GsoFault::none) drop;
///   while (splitter.remaining() > 0) {
///     while (splitter.next(segment)) push(segment);
///     send; arena.reset();
///   }
class Splitter {
 public:
  /// What an IPv6 header counts is at most 65535 bytes, 8 of them a UDP header, and a segment has
  /// at least one.
  static constexpr size_t kMaxSegments = 65535 - 8;

  explicit Splitter(HeaderArena& arena) noexcept : arena_(arena) {}

  /// Starts on `packet`, which must have passed Ipv4Packet::check() or Ipv6Packet::check(), have
  /// its final TTL, and stay unchanged until the last segment has been sent. hdr_len is not looked
  /// at: the kernel calls it a hint. A super-packet of one segment, or without payload, is fine. On
  /// a fault there are no segments.
  GsoFault begin(const VirtioHeader& header, std::span<const uint8_t> packet) noexcept;

  /// Bytes of the largest segment.
  [[nodiscard]] size_t largest() const noexcept { return largest_; }
  /// Segments that next() has still to give.
  [[nodiscard]] size_t remaining() const noexcept { return remaining_; }

  /// The next segment. False when none remains or the arena is full.
  bool next(Segment& segment) noexcept;

 private:
  GsoFault check(const VirtioHeader& header, std::span<const uint8_t> packet) noexcept;
  void prepare_sums(bool keep_pseudo_header) noexcept;
  void write_ip(uint8_t* ip, size_t total) const noexcept;
  void write_tcp(uint8_t* tcp, std::span<const uint8_t> payload) const noexcept;
  void write_udp(uint8_t* udp, std::span<const uint8_t> payload) const noexcept;

  HeaderArena& arena_;
  std::span<const uint8_t> header_;   // all headers of the super-packet
  std::span<const uint8_t> payload_;  // what has not been given out
  NetworkHeader ip_{};
  size_t segment_payload_ = 0;  // gso_size
  size_t largest_ = 0;
  size_t remaining_ = 0;
  size_t index_ = 0;  // of the next segment
  bool tcp_ = false;
  uint64_t ip_sum_ = 0;         // sum of the IPv4 header's words that are the same in all segments
  uint64_t transport_sum_ = 0;  // the same for pseudo-header and transport header
};

}  // namespace flannel
