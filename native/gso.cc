// What a segment's headers get, after tcp_gso_segment() and tcp4_gso_segment()
// (net/ipv4/tcp_offload.c), __udp_gso_segment() (net/ipv4/udp_offload.c), inet_gso_segment()
// (net/ipv4/af_inet.c) and ipv6_gso_segment() (net/ipv6/ip6_offload.c) of Linux:
//
//   IPv4 total length; id + index, with DF too; checksum
//   IPv6 payload length; extension headers as they are
//   TCP  sequence number; CWR on the first only; FIN and PSH on the last only; checksum
//   UDP  length; checksum
//
// What is the same in all segments is summed once for the super-packet; a segment adds the words of
// its own and its payload. The IPv4 checksum is updated rather than computed (RFC 1624), so one
// that was wrong stays wrong.
#include "gso.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "checksum.h"

namespace flannel {
namespace {

constexpr size_t kTcpHeader = 20;
constexpr size_t kTcpChecksum = 16;
constexpr uint16_t kTcpFin = 0x01;
constexpr uint16_t kTcpPsh = 0x08;
constexpr uint16_t kTcpCwr = 0x80;
constexpr size_t kUdpHeader = 8;
constexpr size_t kUdpChecksum = 6;

/// Bytes of the TCP or UDP header; 0 when it is malformed.
size_t transport_header_length(bool tcp, std::span<const uint8_t> transport) noexcept {
  if (!tcp) {
    const bool fits =
        transport.size() >= kUdpHeader && load_be16(&transport[4]) == transport.size();
    return fits ? kUdpHeader : 0;
  }
  if (transport.size() < kTcpHeader) return 0;
  const size_t length = size_t{4} * (transport[12] >> 4);
  return length >= kTcpHeader && length <= transport.size() ? length : 0;
}

uint64_t words(uint32_t value) noexcept {
  return uint64_t{value >> 16} + (value & 0xffff);
}

uint16_t complement(uint16_t value) noexcept {
  return static_cast<uint16_t>(~value);
}

}  // namespace

GsoFault complete_checksum(const VirtioHeader& header, std::span<uint8_t> packet) noexcept {
  if ((header.flags & VirtioHeader::kNeedsChecksum) == 0) return GsoFault::none;
  const NetworkHeader ip = network_header(packet);
  if (ip.fragment) return GsoFault::fragment;
  const size_t start = header.csum_start;
  const size_t place = start + header.csum_offset;
  if (start < ip.length || header.csum_offset % 2 != 0 || place + 2 > packet.size()) {
    return GsoFault::bad_checksum_place;
  }
  // The field holds the pseudo-header's sum. All ones instead of 0 whatever the protocol, as
  // skb_checksum_help() (net/core/dev.c) does: only UDP tells the two apart, and what is summed may
  // be inside a tunnel.
  store_be16(&packet[place], checksum_finish_udp(checksum_add(packet.subspan(start), 0)));
  return GsoFault::none;
}

GsoFault Splitter::begin(const VirtioHeader& header, std::span<const uint8_t> packet) noexcept {
  remaining_ = 0;
  index_ = 0;
  const GsoFault fault = check(header, packet);
  if (fault != GsoFault::none) return fault;

  segment_payload_ = header.gso_size;
  largest_ = header_.size() + std::min(segment_payload_, payload_.size());
  remaining_ = std::max<size_t>(1, (payload_.size() + segment_payload_ - 1) / segment_payload_);
  // Behind a routing header, the pseudo-header's destination is not the one in the IP header
  // (RFC 8200 section 8.1): the kernel's own sum knows it.
  const bool extended = ip_.v6 && ip_.length > Ipv6Packet::kHeader;
  prepare_sums(extended && (header.flags & VirtioHeader::kNeedsChecksum) != 0);
  return GsoFault::none;
}

/// Finds the headers and the payload.
GsoFault Splitter::check(const VirtioHeader& header, std::span<const uint8_t> packet) noexcept {
  const auto type = static_cast<uint8_t>(header.gso_type & ~VirtioHeader::kGsoEcn);
  tcp_ = type == VirtioHeader::kGsoTcp4 || type == VirtioHeader::kGsoTcp6;
  if (!tcp_ && header.gso_type != VirtioHeader::kGsoUdpL4) return GsoFault::unsupported_type;
  if (header.gso_size == 0) return GsoFault::zero_size;

  ip_ = network_header(packet);
  if (ip_.fragment) return GsoFault::fragment;
  if (ip_.protocol != (tcp_ ? IPPROTO_TCP : IPPROTO_UDP)) return GsoFault::wrong_protocol;
  if (tcp_ && ip_.v6 != (type == VirtioHeader::kGsoTcp6)) return GsoFault::wrong_protocol;

  const size_t transport_length = transport_header_length(tcp_, packet.subspan(ip_.length));
  if (transport_length == 0) return GsoFault::bad_transport;
  if (ip_.length + transport_length > HeaderArena::kMaxHeader) return GsoFault::long_headers;

  if ((header.flags & VirtioHeader::kNeedsChecksum) != 0) {
    if (header.csum_start != ip_.length ||
        header.csum_offset != (tcp_ ? kTcpChecksum : kUdpChecksum)) {
      return GsoFault::bad_checksum_place;
    }
  } else if ((header.flags & VirtioHeader::kDataValid) == 0) {
    // New checksums would hide that the old one was wrong.
    return GsoFault::no_checksum;
  }
  header_ = packet.first(ip_.length + transport_length);
  payload_ = packet.subspan(header_.size());
  return GsoFault::none;
}

/// `keep_pseudo_header`: the checksum's field holds the pseudo-header's sum, and it is taken from
/// there, less the length.
void Splitter::prepare_sums(bool keep_pseudo_header) noexcept {
  const uint8_t* ip = header_.data();
  if (!ip_.v6) {
    ip_sum_ = uint64_t{complement(load_be16(ip + 10))} + complement(load_be16(ip + 2)) +
              complement(load_be16(ip + 4));
  }

  const auto transport = header_.subspan(ip_.length);
  uint64_t sum = 0;
  if (keep_pseudo_header) {
    const auto length = static_cast<uint16_t>(transport.size() + payload_.size());
    sum = uint64_t{load_be16(&transport[tcp_ ? kTcpChecksum : kUdpChecksum])} + complement(length);
  } else {
    sum = pseudo_header_sum(ip, ip_.v6, ip_.protocol, 0);
  }
  sum = checksum_add(transport.first(4), sum);  // ports
  if (tcp_) {
    sum = checksum_add(transport.subspan(8, 4), sum);   // acknowledgement
    sum = checksum_add(transport.subspan(14, 2), sum);  // window
    sum = checksum_add(transport.subspan(18), sum);     // urgent pointer, options
  }
  transport_sum_ = sum;
}

bool Splitter::next(Segment& segment) noexcept {
  if (remaining_ == 0) return false;
  uint8_t* header = arena_.take();
  if (header == nullptr) return false;

  const auto payload = payload_.first(std::min(segment_payload_, payload_.size()));
  std::memcpy(header, header_.data(), header_.size());
  write_ip(header, header_.size() + payload.size());
  if (tcp_) {
    write_tcp(header + ip_.length, payload);
  } else {
    write_udp(header + ip_.length, payload);
  }
  segment = {{header, header_.size()}, payload};
  payload_ = payload_.subspan(payload.size());
  index_++;
  remaining_--;
  return true;
}

void Splitter::write_ip(uint8_t* ip, size_t total) const noexcept {
  if (ip_.v6) return store_be16(ip + 4, static_cast<uint16_t>(total - Ipv6Packet::kHeader));
  const auto id = static_cast<uint16_t>(load_be16(ip + 4) + index_);
  store_be16(ip + 2, static_cast<uint16_t>(total));
  store_be16(ip + 4, id);
  store_be16(ip + 10, checksum_finish(ip_sum_ + total + id));
}

void Splitter::write_tcp(uint8_t* tcp, std::span<const uint8_t> payload) const noexcept {
  const auto sequence =
      static_cast<uint32_t>(load_be32(tcp + 4) + uint64_t{index_} * segment_payload_);
  uint16_t flags = load_be16(tcp + 12);  // with the data offset
  if (index_ > 0) flags &= complement(kTcpCwr);
  if (remaining_ > 1) flags &= complement(kTcpFin | kTcpPsh);
  const size_t length = header_.size() - ip_.length + payload.size();
  store_be32(tcp + 4, sequence);
  store_be16(tcp + 12, flags);
  const uint64_t own = words(sequence) + flags + length;
  store_be16(tcp + kTcpChecksum, checksum_finish(checksum_add(payload, transport_sum_ + own)));
}

void Splitter::write_udp(uint8_t* udp, std::span<const uint8_t> payload) const noexcept {
  const size_t length = kUdpHeader + payload.size();
  store_be16(udp + 4, static_cast<uint16_t>(length));
  const uint64_t own = 2 * length;  // once in the header, once in the pseudo-header
  store_be16(udp + kUdpChecksum, checksum_finish_udp(checksum_add(payload, transport_sum_ + own)));
}

}  // namespace flannel
