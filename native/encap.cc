// TUN -> UDP, in the order in which a packet meets it:
//
//   1. what the socket could not take last time goes first     (turn, finish)
//   2. read a batch from the TUN queue                         (turn, TunQueue::read)
//   3. check the header                                        (forward)
//   4. longest-prefix match; none: net-unreachable             (forward)
//   5. TTL - 1; ran out: time-exceeded                         (forward)
//   6. too large for the path, with DF: fragmentation-needed   (forward, exceeds)
//   7. complete the checksum, or cut a super-packet            (forward, split)
//   8. lower the segment size that a SYN announces             (forward, MssClamp)
//   9. join a run of the batch                                 (SendBatch::push)
//  10. send the batch                                          (flush, UdpSocket::send)
//
// IPv6 goes the same way, with a hop limit for the TTL, destination-unreachable and packet-too-big
// for the ICMP errors, and always as if with DF.
//
// A super-packet has one lookup, one TTL step and one ICMP decision: its segments share the header.
// The payload is never copied: the datagrams are sent from the buffer that the packet was read
// into.
#include "encap.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace flannel {
namespace {

/// Segments of a batch, as a rule: kBatchBytes and a last super-packet at the usual MTU. More go in
/// portions.
constexpr size_t kHeaderSlots = 512;

Counter counter_of(Ipv4Fault fault) noexcept {
  switch (fault) {
    case Ipv4Fault::too_short:
      return Counter::encap_short;
    case Ipv4Fault::bad_ihl:
      return Counter::encap_bad_ihl;
    case Ipv4Fault::bad_length:
      return Counter::encap_bad_length;
    default:
      return Counter::encap_bad_version;
  }
}

Counter counter_of(Ipv6Fault fault) noexcept {
  return fault == Ipv6Fault::too_short ? Counter::encap_short : Counter::encap_bad_length;
}

int socket_for(Ipv4Packet /*packet*/, IcmpSockets sockets) noexcept {
  return sockets.ipv4;
}
int socket_for(Ipv6Packet /*packet*/, IcmpSockets sockets) noexcept {
  return sockets.ipv6;
}

}  // namespace

Encap::Encap(TunQueue tun, std::span<const UdpSocket> sockets, Snapshot<Fib>::Reader& fib,
             IcmpSockets icmp_sockets, const TunnelAddresses& addresses, size_t batch_size,
             Counters& counters, Syscalls& syscalls, const MssClamp& clamp)
    : tun_(tun),
      fib_(fib),
      icmp_sockets_(icmp_sockets),
      carries_ipv4_(addresses.ipv4 != 0),
      carries_ipv6_(!addresses.ipv6.is_none()),
      counters_(counters),
      syscalls_(syscalls),
      icmp_(addresses.ipv4, addresses.ipv6.to_bytes(), counters, Counter::encap_icmp_throttled),
      clamp_(clamp),
      pool_(batch_size),
      watch_(Histogram::encap_latency_seconds, batch_size),
      headers_(kHeaderSlots) {
  packets_.reserve(batch_size);
  paths_.reserve(sockets.size());
  for (const UdpSocket& socket : sockets) paths_.push_back({socket, {}});
}

/// Whether every path is sure to take one more packet: before its header is looked at, nobody knows
/// which path a packet takes.
bool Encap::has_room() const noexcept {
  return std::ranges::all_of(paths_, [](const Path& path) { return path.batch.has_room(); });
}

/// The path of a flow, always the same: the upper half of a product spreads all bits of the hash.
/// Fragments have no ports to tell their flow by: with several paths they may take another one than
/// the rest of it, as behind every router that spreads flows.
Encap::Path& Encap::path_of(uint32_t flow) noexcept {
  const uint32_t mixed = flow * 0x9e3779b1U;
  return paths_[uint64_t{mixed} * paths_.size() >> 32];
}

Turn Encap::turn() noexcept {
  const uint64_t start = counters_.get(Counter::encap_packets_in);
  const Turn turn = read_and_forward();
  const uint64_t packets = counters_.get(Counter::encap_packets_in) - start;
  if (packets > 0) counters_.record(Histogram::encap_turn_packets, packets);
  return turn;
}

Turn Encap::read_and_forward() noexcept {
  // While the socket is full, packets wait in the TUN queue. What that cannot hold the kernel
  // drops, and counts as the device's own.
  if (!finish()) return Turn::blocked;

  const uint64_t start = counters_.get(Counter::encap_packets_in);
  while (counters_.get(Counter::encap_packets_in) - start < kTurnBudget) {
    const ReadResult read = tun_.read(pool_, packets_);
    next_ = 0;
    if (read.count > 0) watch_.start();
    // Before a full socket can end the turn: a shortage of memory may not come again.
    if (read.error != 0 && read.error != EAGAIN) counters_.add(Counter::encap_read_errors);
    if (!forward_batch()) return Turn::blocked;
    if (read.error != 0) return stop_reading(read.error);
  }
  return Turn::more;
}

/// Forwards what is left of the packets that were read, in as many portions as it takes to send
/// them. False when the socket is full: the next call goes on where this one stopped.
bool Encap::forward_batch() noexcept {
  for (;;) {
    const Fib& fib = fib_.pin();
    send_segments();
    while (splitter_.remaining() == 0 && next_ < packets_.size() && has_room()) {
      forward(fib, packets_[next_++]);
    }
    fib_.unpin();
    const bool done = splitter_.remaining() == 0 && next_ == packets_.size();
    if (!flush()) return false;
    if (!done) continue;
    const uint64_t packets = counters_.get(Counter::encap_packets_in);
    watch_.stop(counters_, packets - std::exchange(timed_, packets));
    return true;
  }
}

template <typename Packet>
[[gnu::always_inline]] inline void Encap::forward(const Fib& fib, const TunPacket& from_tun,
                                                  Packet packet) noexcept {
  if (hop_limit(packet) == 0) {
    drop(Counter::encap_ttl_zero, from_tun);
    return answer(IcmpError::time_exceeded, packet);
  }

  const Peer* next_hop = fib.lookup(destination_of(packet));
  if (next_hop == nullptr) {
    drop(Counter::encap_no_route, from_tun);
    return answer(IcmpError::net_unreachable, packet);
  }
  if (hop_limit(packet) == 1) {
    drop(Counter::encap_ttl_expired, from_tun);
    return answer(IcmpError::time_exceeded, packet);
  }
  const uint16_t largest = largest_for(packet, *next_hop);
  if (from_tun.bytes.size() > largest && must_stay_whole(packet) && exceeds(from_tun, largest)) {
    drop(Counter::encap_frag_needed, from_tun);
    return answer(IcmpError::frag_needed, packet, largest);
  }
  take_hop(packet);

  const uint32_t flow = packet.flow();
  if (from_tun.header.gso_type != VirtioHeader::kGsoNone) return split(from_tun, *next_hop, flow);
  if (complete_checksum(from_tun.header, from_tun.bytes) != GsoFault::none) {
    return drop(Counter::encap_bad_offload, from_tun);
  }
  clamp_.apply(from_tun.bytes, largest);
  counters_.add(Counter::encap_packets_in);
  Path& path = path_of(flow);
  path.batch.push({{}, from_tun.bytes}, *next_hop, {flow, packet.is_fragment()},
                  path.udp.max_segments());
}

void Encap::forward(const Fib& fib, const TunPacket& from_tun) noexcept {
  if (carries_ipv6_ && !from_tun.bytes.empty() && is_ipv6(from_tun.bytes)) {
    return forward_ipv6(fib, from_tun);
  }
  const Ipv4Fault fault = Ipv4Packet::check(from_tun.bytes);
  if (fault != Ipv4Fault::none) return drop(counter_of(fault), from_tun);
  if (!carries_ipv4_) return drop(Counter::encap_bad_version, from_tun);
  forward(fib, from_tun, Ipv4Packet(from_tun.bytes));
}

/// Out of line, so that IPv4 need not save the registers that this takes.
[[gnu::noinline]] void Encap::forward_ipv6(const Fib& fib, const TunPacket& from_tun) noexcept {
  const Ipv6Fault fault = Ipv6Packet::check(from_tun.bytes);
  if (fault != Ipv6Fault::none) return drop(counter_of(fault), from_tun);
  forward(fib, from_tun, Ipv6Packet(from_tun.bytes));
}

/// Whether the packet, or the largest segment of the super-packet, has more than `largest` bytes.
/// Without DF such a packet leaves all the same: the kernel cuts the datagram around it.
bool Encap::exceeds(const TunPacket& packet, size_t largest) noexcept {
  if (packet.header.gso_type == VirtioHeader::kGsoNone) return packet.bytes.size() > largest;
  return counting_.begin(packet.header, packet.bytes) == GsoFault::none &&
         counting_.largest() > largest;
}

void Encap::split(const TunPacket& packet, const Peer& to, uint32_t flow) noexcept {
  if (splitter_.begin(packet.header, packet.bytes) != GsoFault::none) {
    return drop(Counter::encap_bad_offload, packet);
  }
  counters_.add(Counter::encap_packets_in, splitter_.remaining());
  split_to_ = to;
  split_flow_ = flow;
  send_segments();
}

/// Segments of the super-packet at hand, as many as the batch and the headers have room for.
void Encap::send_segments() noexcept {
  Path& path = path_of(split_flow_);
  for (Segment segment; path.batch.has_room() && splitter_.next(segment);) {
    path.batch.push(segment, split_to_, {split_flow_, false}, path.udp.max_segments());
  }
}

/// Counts the end of a packet, or of all that a super-packet stands for.
void Encap::drop(Counter counter, const TunPacket& packet) noexcept {
  const bool is_super = packet.header.gso_type != VirtioHeader::kGsoNone &&
                        is_well_formed(packet.bytes) &&
                        counting_.begin(packet.header, packet.bytes) == GsoFault::none;
  const size_t packets = is_super ? counting_.remaining() : 1;
  counters_.add(Counter::encap_packets_in, packets);
  counters_.add(counter, packets);
}

/// Sends the batches; false when a socket is full. Only empty batches have no use for the headers.
bool Encap::flush() noexcept {
  for (Path& path : paths_) {
    if (path.udp.send(path.batch, counters_)) continue;
    blocked_fd_ = path.udp.fd();
    return false;
  }
  headers_.reset();
  return true;
}

/// The sender is this host or behind it, so the error goes to this host's own IP stack.
template <typename Packet>
void Encap::answer(IcmpError error, Packet offender, uint16_t next_hop_mtu) noexcept {
  const auto message = icmp_.error(error, offender, next_hop_mtu);
  if (message.empty()) return;
  const int fd = socket_for(offender, icmp_sockets_);
  const SocketAddress to = SocketAddress::of(as_address(source_of(offender)), 0);
  const ssize_t sent = fd < 0 ? -EBADF : syscalls_.sendto(fd, message.data(), message.size(), to);
  counters_.add(sent < 0 ? Counter::encap_icmp_failed : Counter::encap_icmp_sent);
}

Turn Encap::stop_reading(int error) noexcept {
  if (error == EAGAIN || error == ENOMEM || error == ENOBUFS) return Turn::drained;
  failure_ = error;
  return Turn::failed;
}

void Encap::abandon() noexcept {
  for (const Path& path : paths_) counters_.add(Counter::encap_stopped, path.batch.pending());
  counters_.add(Counter::encap_stopped, splitter_.remaining());
  for (; next_ < packets_.size(); next_++) drop(Counter::encap_stopped, packets_[next_]);
}

}  // namespace flannel
