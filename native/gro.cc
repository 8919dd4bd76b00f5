// The rules, after tcp_gro_receive() (net/ipv4/tcp_offload.c), udp_gro_receive_segment()
// (net/ipv4/udp_offload.c), inet_gro_receive(), inet_gro_flush() and ipv6_gro_receive()
// (net/ipv4/af_inet.c, include/net/gro.h, net/ipv6/ip6_offload.c) of Linux; narrower where Linux
// would lose a bit that tells packets apart.
//
// Never merged: fragments; IPv4 options and IPv6 extension headers; the reserved IPv4 flag; a wrong
// IPv4, TCP or UDP checksum; UDP without a checksum (which IPv6 forbids: that is the receiver's to
// judge), or with a length that is not the packet's; packets without payload; TCP with any flag but
// ACK, PSH and FIN, or without ACK.
//
// A packet joins its flow's group when all that the segments of a super-packet share is the same
// (TOS, TTL, DF; with IPv6 traffic class, flow label, hop limit; for TCP acknowledgement, window,
// urgent pointer, options) and all that counts up continues: the TCP sequence number, and the IPv4
// id. With DF the id may also stay constant, as in
// inet_gro_flush(): an unconnected UDP socket of Linux sends 0 always. If such a group is cut up
// again, its ids count up: allowed, since the id of a packet with DF means nothing (RFC 6864,
// section 4.1), and noted in Group::fixed_id.
//
// A group ends with a packet shorter than the first one, with PSH or FIN, when it is full, or when
// a packet of its flow cannot join it; if that one may be merged at all, it starts the next group.
// What cannot be told to which flow it belongs ends all groups: fragments, and packets too short
// for ports.
#include "gro.h"

#include <algorithm>
#include <cstring>

#include "checksum.h"

namespace flannel {
namespace {

constexpr size_t kIpv4Header = Ipv4Packet::kMinHeader;  // of whatever is merged
constexpr size_t kMaxMerged = 65535;                    // bytes of a super-packet
constexpr size_t kPorts = 4;
constexpr size_t kTcpHeader = 20;
constexpr uint16_t kTcpChecksum = 16;
constexpr size_t kTcpFlags = 13;
constexpr uint8_t kTcpFin = 0x01;
constexpr uint8_t kTcpPsh = 0x08;
constexpr uint8_t kTcpAck = 0x10;
constexpr size_t kUdpHeader = 8;
constexpr uint16_t kUdpChecksum = 6;
constexpr uint16_t kDontFragment = 0x4000;
constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;  // 2^64 / the golden ratio: Fibonacci hashing

bool equal(const uint8_t* a, const uint8_t* b, size_t length) noexcept {
  return std::memcmp(a, b, length) == 0;
}

/// Bytes of the IP header of a packet that is merged.
constexpr size_t plain_header(bool v6) noexcept {
  return v6 ? Ipv6Packet::kHeader : kIpv4Header;
}

/// Payload, and no flag but ACK, PSH and FIN. Returns the length of the header; 0: never merged.
size_t mergeable_tcp(std::span<const uint8_t> tcp) noexcept {
  if (tcp.size() < kTcpHeader) return 0;
  const size_t length = size_t{4} * (tcp[12] >> 4);
  const bool plain = (tcp[12] & 0x0f) == 0 && (tcp[kTcpFlags] & ~(kTcpPsh | kTcpFin)) == kTcpAck;
  return plain && length >= kTcpHeader && length < tcp.size() ? length : 0;
}

size_t mergeable_udp(std::span<const uint8_t> udp) noexcept {
  const bool whole = udp.size() > kUdpHeader && load_be16(&udp[4]) == udp.size();
  return whole && load_be16(&udp[kUdpChecksum]) != 0 ? kUdpHeader : 0;
}

template <bool v6>
bool checksums_hold(std::span<const uint8_t> packet, uint8_t protocol) noexcept {
  constexpr size_t header = plain_header(v6);
  if (!v6 && checksum_fold(checksum_add(packet.first(header), 0)) != 0xffff) return false;
  const auto transport = packet.subspan(header);
  const uint64_t pseudo = pseudo_header_sum(packet.data(), v6, protocol, transport.size());
  return checksum_fold(checksum_add(transport, pseudo)) == 0xffff;
}

/// Bytes of IP and transport header if the packet, which has a plain IP header, may be in a
/// super-packet, else 0.
template <bool v6>
size_t mergeable_headers(std::span<const uint8_t> packet, bool tcp) noexcept {
  constexpr size_t header = plain_header(v6);
  if (!v6 && (load_be16(&packet[6]) & ~kDontFragment) != 0) return 0;
  const auto transport = packet.subspan(header);
  const size_t length = tcp ? mergeable_tcp(transport) : mergeable_udp(transport);
  const uint8_t protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP;
  return length != 0 && checksums_hold<v6>(packet, protocol) ? header + length : 0;
}

/// Of the fields that every segment of a super-packet has in common, those that are not part of the
/// flow. PSH and FIN are the last segment's alone.
bool same_ipv4(const uint8_t* a, const uint8_t* b) noexcept {
  return a[1] == b[1] && a[8] == b[8] && equal(a + 6, b + 6, 2);
}
/// With the addresses, which the flow holds a hash of.
bool same_ipv6(const uint8_t* a, const uint8_t* b) noexcept {
  return equal(a, b, 4) && a[7] == b[7] && equal(a + 8, b + 8, 32);
}
bool same_tcp(const uint8_t* a, const uint8_t* b, size_t length) noexcept {
  return equal(a + 8, b + 8, 5) && equal(a + 14, b + 14, 2) && equal(a + 18, b + 18, length - 18);
}

}  // namespace

Merger::Merger(size_t capacity, MergeOptions options)
    : options_(options),
      packets_(std::min(capacity, kMaxCapacity)),
      runs_(packets_.size()),
      groups_(packets_.size()),
      iovecs_(2 * packets_.size()) {
  options_.max_segments = std::clamp<size_t>(options.max_segments, 1, kMaxSegments);
  clear();
}

void Merger::clear() noexcept {
  packet_count_ = 0;
  run_count_ = 0;
  close_all();
}

bool Merger::enabled(uint8_t protocol) const noexcept {
  return (protocol == IPPROTO_TCP && options_.tcp) || (protocol == IPPROTO_UDP && options_.udp);
}

bool Merger::add(std::span<uint8_t> packet) noexcept {
  if (packet_count_ == packets_.size()) return false;
  const uint16_t index = append_packet(packet);
  return is_ipv6(packet) ? place<true>(packet, index) : place<false>(packet, index);
}

/// Always true, so that add() ends with a jump to it: each family saves the registers that it takes
/// itself.
template <bool v6>
[[gnu::noinline]] bool Merger::place(std::span<const uint8_t> packet, uint16_t index) noexcept {
  if (!v6 && !enabled(packet[9])) {  // before more of the header is looked at
    append_run(index);
    return true;
  }
  const NetworkHeader ip = network_header_of<v6>(packet);
  if (!ip.hidden && !enabled(ip.protocol)) {
    append_run(index);
  } else if (ip.hidden || ip.fragment || packet.size() < ip.length + kPorts) {
    close_all();
    append_run(index);
  } else {
    add_to_flow<v6>(flow_of<v6>(packet.data(), ip), ip.length == plain_header(v6), index);
  }
  return true;
}

template <bool v6>
inline Merger::Flow Merger::flow_of(const uint8_t* ip, const NetworkHeader& header) noexcept {
  uint32_t ports = 0;
  std::memcpy(&ports, ip + header.length, sizeof ports);
  Flow flow{.addresses = 0, .rest = uint64_t{ports} << 16 | (v6 ? Flow::kV6 : 0) | header.protocol};
  if constexpr (v6) {
    for (size_t at = 8; at < Ipv6Packet::kHeader; at += 8) {
      uint64_t half = 0;
      std::memcpy(&half, ip + at, sizeof half);
      flow.addresses = (flow.addresses ^ half) * kGolden;
      flow.addresses ^= flow.addresses >> 32;
    }
  } else {
    std::memcpy(&flow.addresses, ip + 12, sizeof flow.addresses);
  }
  return flow;
}

/// `plain`: without IPv4 options or IPv6 extension headers.
template <bool v6>
void Merger::add_to_flow(Flow flow, bool plain, uint16_t index) noexcept {
  uint16_t& slot = slot_of(flow);
  Run* run = open_run(flow, slot);
  Packet& packet = packets_[index];
  packet.header_length = plain ? mergeable_headers<v6>(packet.bytes, flow.tcp()) : 0;
  if (packet.header_length == 0) {
    if (run != nullptr) run->open = false;
    append_run(index);
    return;
  }
  const Fit how = run == nullptr ? Fit::no : fit<v6>(*run, packet);
  if (how == Fit::no) {
    slot = static_cast<uint16_t>(run_count_);
    start<v6>(flow, index);
  } else {
    join<v6>(*run, index, how);
  }
}

uint16_t Merger::append_packet(std::span<uint8_t> bytes) noexcept {
  // Field by field: a temporary would be copied from the stack by loads wider than its stores.
  Packet& packet = packets_[packet_count_];
  packet.bytes = bytes;
  packet.header_length = 0;
  packet.next = kNone;
  return static_cast<uint16_t>(packet_count_++);
}

/// A closed group of one packet.
Merger::Run& Merger::append_run(uint16_t packet) noexcept {
  Run& run = runs_[run_count_++];
  run.flow = {};
  run.first = packet;
  run.last = packet;
  run.count = 1;
  run.gso_size = 0;
  run.size = packets_[packet].bytes.size();
  run.open = false;
  run.verified = false;
  run.fixed_id = false;
  return run;
}

/// Where the flow's latest group is noted, or where a new one goes. A few neighbours are tried;
/// when other flows hold them all, one of those is forgotten, and with that closed.
uint16_t& Merger::slot_of(const Flow& flow) noexcept {
  uint64_t hash = flow.addresses ^ flow.rest;
  hash *= kGolden;
  hash ^= hash >> 32;
  hash *= kGolden;
  const size_t home = hash >> 56;
  for (size_t i = 0; i < kProbes; i++) {
    uint16_t& slot = table_[(home + i) % kTableSize];
    if (slot == kNone || runs_[slot].flow == flow) return slot;
  }
  return table_[home];
}

Merger::Run* Merger::open_run(const Flow& flow, uint16_t slot) noexcept {
  if (slot == kNone || !(runs_[slot].flow == flow) || !runs_[slot].open) return nullptr;
  return &runs_[slot];
}

/// Whether `packet`, of the run's flow, continues the run.
template <bool v6>
Merger::Fit Merger::fit(const Run& run, const Packet& packet) const noexcept {
  const Packet& first = packets_[run.first];
  const size_t payload = packet.bytes.size() - packet.header_length;
  if (packet.header_length != first.header_length || payload > run.gso_size) return Fit::no;
  // Of both families: Linux wants none larger (GRO_LEGACY_MAX_SIZE), though IPv6 could say so.
  if (run.size + payload > kMaxMerged) return Fit::no;

  const uint8_t* head = first.bytes.data();
  const uint8_t* ip = packet.bytes.data();
  if constexpr (v6) {
    if (!same_ipv6(head, ip)) return Fit::no;
  } else {
    if (!same_ipv4(head, ip)) return Fit::no;
    const auto id_step = static_cast<uint16_t>(load_be16(ip + 4) - load_be16(head + 4));
    const bool may_fix = run.count == 1 && (load_be16(ip + 6) & kDontFragment) != 0;
    if (id_step != (run.fixed_id ? 0 : run.count) && !(id_step == 0 && may_fix)) return Fit::no;
  }

  bool ends = payload < run.gso_size || run.count + size_t{1} == options_.max_segments;
  if (run.flow.tcp()) {
    constexpr size_t ip_length = plain_header(v6);
    const uint8_t* head_tcp = head + ip_length;
    const uint8_t* tcp = ip + ip_length;
    const auto next =
        static_cast<uint32_t>(load_be32(head_tcp + 4) + run.size - first.header_length);
    if (load_be32(tcp + 4) != next) return Fit::no;
    if (!same_tcp(head_tcp, tcp, packet.header_length - ip_length)) return Fit::no;
    ends |= (tcp[kTcpFlags] & (kTcpPsh | kTcpFin)) != 0;
  }
  return ends ? Fit::joins_and_ends : Fit::joins;
}

template <bool v6>
void Merger::join(Run& run, uint16_t packet, Fit fit) noexcept {
  const Packet& added = packets_[packet];
  if (!v6 && run.count == 1) {
    run.fixed_id = equal(&packets_[run.first].bytes[4], &added.bytes[4], 2);
  }
  packets_[run.last].next = packet;
  run.last = packet;
  run.count++;
  run.size += added.bytes.size() - added.header_length;
  run.open = fit == Fit::joins;
}

template <bool v6>
void Merger::start(const Flow& flow, uint16_t packet) noexcept {
  const Packet& added = packets_[packet];
  Run& run = append_run(packet);
  run.flow = flow;
  run.verified = true;
  run.gso_size = static_cast<uint16_t>(added.bytes.size() - added.header_length);
  const uint8_t* transport = added.bytes.data() + plain_header(v6);
  const bool ends = flow.tcp() && (transport[kTcpFlags] & (kTcpPsh | kTcpFin)) != 0;
  run.open = !ends && options_.max_segments > 1;
}

std::span<const Merger::Group> Merger::finish() noexcept {
  size_t used = 0;
  for (size_t i = 0; i < run_count_; i++) {
    const Run& run = runs_[i];
    Group& group = groups_[i];
    group = {};
    group.segments = run.count;
    group.fixed_id = run.fixed_id;
    if (run.verified) group.header.flags = VirtioHeader::kDataValid;

    const size_t from = used;
    iovecs_[used++] = {&group.header, sizeof group.header};
    const Packet& first = packets_[run.first];
    iovecs_[used++] = {first.bytes.data(), first.bytes.size()};
    group.bytes = first.bytes.size();
    for (uint16_t index = first.next; index != kNone; index = packets_[index].next) {
      const Packet& packet = packets_[index];
      const auto piece = packet.bytes.subspan(packet.header_length);
      iovecs_[used++] = {piece.data(), piece.size()};
      group.bytes += packet.bytes.size();
    }
    group.message = std::span(iovecs_).subspan(from, used - from);
    if (run.count == 1) continue;
    if (run.flow.v6()) {
      complete<true>(run, group);
    } else {
      complete<false>(run, group);
    }
  }
  return std::span(groups_).first(run_count_);
}

/// Turns the first packet's headers into those of the super-packet. The kernel wants in the
/// checksum field what CHECKSUM_PARTIAL means: the pseudo-header's sum, not inverted.
template <bool v6>
void Merger::complete(const Run& run, Group& group) noexcept {
  const Packet& first = packets_[run.first];
  constexpr size_t ip_length = plain_header(v6);
  uint8_t* ip = first.bytes.data();
  uint8_t* transport = ip + ip_length;
  const size_t length = run.size - ip_length;
  const bool tcp = run.flow.tcp();

  if constexpr (v6) {
    store_be16(ip + 4, static_cast<uint16_t>(length));
  } else {
    store_be16(ip + 2, static_cast<uint16_t>(run.size));
    store_be16(ip + 10, 0);
    store_be16(ip + 10, checksum_finish(checksum_add({ip, kIpv4Header}, 0)));
  }
  if (tcp) {
    transport[kTcpFlags] |= packets_[run.last].bytes[ip_length + kTcpFlags];
  } else {
    store_be16(transport + 4, static_cast<uint16_t>(length));
  }
  const uint16_t place = tcp ? kTcpChecksum : kUdpChecksum;
  const uint8_t protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP;
  store_be16(transport + place, checksum_fold(pseudo_header_sum(ip, v6, protocol, length)));

  group.header.flags = VirtioHeader::kNeedsChecksum;
  constexpr uint8_t tcp_type = v6 ? VirtioHeader::kGsoTcp6 : VirtioHeader::kGsoTcp4;
  group.header.gso_type = tcp ? tcp_type : VirtioHeader::kGsoUdpL4;
  group.header.hdr_len = static_cast<uint16_t>(first.header_length);
  group.header.gso_size = run.gso_size;
  group.header.csum_start = static_cast<uint16_t>(ip_length);
  group.header.csum_offset = place;
}

}  // namespace flannel
