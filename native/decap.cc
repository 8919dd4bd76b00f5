// UDP -> TUN, in the order in which a packet meets it:
//
//   1. receive a batch of datagrams                            (turn, UdpSocket::receive)
//   2. drop what no peer has sent                              (take, refuse)
//   3. answer probes of the path's MTU                         (take, ProbeResponder)
//   4. take rows of datagrams apart (UDP_GRO)                  (take)
//   5. check length and header                                 (forward)
//   6. drop what is not from its peer's subnet                 (forward)
//   7. TTL - 1; ran out: time-exceeded                         (forward)
//   8. lower the segment size that a SYN announces             (forward, MssClamp)
//   9. join the packets of a flow to super-packets             (write, Merger::add)
//  10. write each of them to the TUN queue at once             (flush, TunQueue::write)
//
// A row has one source, so the second step is one look-up for all of its packets. Whether the
// others are done depends on SourceCheck.
//
// A batch is what the socket held: nothing waits for a timer. The inner header's checksum is left
// to the kernel behind the TUN device, which checks it anyway; only packets that are joined are
// checked here.
#include "decap.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "gso.h"

namespace flannel {
namespace {

/// Packets of a batch of rows, as a rule. More are written in portions.
constexpr size_t kMergeCapacity = 4096;

Counter write_fault(int error) noexcept {
  switch (error) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
      return Counter::decap_tun_full;
    case EIO:
    case EBADFD:
      return Counter::decap_tun_down;
    default:
      return Counter::decap_write_error;
  }
}

/// Errors after which the next receive may succeed: the kernel clears what it reports about the
/// network. Any other would come again at once, for ever.
bool passes(int error) noexcept {
  switch (error) {
    case ECONNREFUSED:
    case ECONNABORTED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EMSGSIZE:
    case ENOBUFS:
    case ENOMEM:
      return true;
    default:
      return false;
  }
}

Counter counter_of(Ipv4Fault fault) noexcept {
  switch (fault) {
    case Ipv4Fault::too_short:
      return Counter::decap_short;
    case Ipv4Fault::bad_ihl:
      return Counter::decap_bad_ihl;
    case Ipv4Fault::bad_length:
      return Counter::decap_bad_length;
    default:
      return Counter::decap_bad_version;
  }
}

Counter counter_of(Ipv6Fault fault) noexcept {
  return fault == Ipv6Fault::too_short ? Counter::decap_short : Counter::decap_bad_length;
}

/// The source of the first packet in a row, or `::`.
Address inner_source(const ReceiveBatch::Datagram& row) noexcept {
  if (!row.payload.empty() && is_ipv6(row.payload)) {
    return row.payload.size() < Ipv6Packet::kHeader ? Address{}
                                                    : source_of(Ipv6Packet(row.payload));
  }
  return row.payload.size() < Ipv4Packet::kMinHeader
             ? Address{}
             : Address::of_ipv4(Ipv4Packet(row.payload).source());
}

/// The slot of the peer that has sent a row, of those at its address: peers behind one address are
/// told apart by their subnets.
uint32_t slot_of(const Fib& fib, const ReceiveBatch::Datagram& row, uint32_t at_address) noexcept {
  if (at_address != Peer::kShared) return at_address;
  const Address inner = inner_source(row);
  const Peer* peer = inner.is_ipv4() ? fib.lookup(inner.ipv4()) : fib.lookup(inner);
  return peer != nullptr && peer->address == row.source ? peer->slot : Peer::kNone;
}

}  // namespace

Decap::Decap(UdpSocket udp, TunQueue tun, Snapshot<Fib>::Reader& fib,
             const TunnelAddresses& addresses, size_t batch_size, ActiveFeatures& features,
             Counters& counters, SourceCheck source_check, bool answers_probes,
             const MssClamp& clamp)
    : udp_(udp),
      tun_(tun),
      fib_(fib),
      counters_(counters),
      source_check_(source_check),
      carries_ipv4_(addresses.ipv4 != 0),
      carries_ipv6_(!addresses.ipv6.is_none()),
      icmp_(addresses.ipv4, addresses.ipv6.to_bytes(), counters, Counter::decap_icmp_throttled),
      probes_(answers_probes, udp, counters),
      clamp_(clamp),
      pool_(batch_size),
      batch_(pool_),
      watch_(Histogram::decap_latency_seconds, batch_size),
      features_(features),
      merging_(merge_options()),
      merger_(tun.virtio() ? kMergeCapacity : 1, merging_) {}

Turn Decap::turn() noexcept {
  size_t moved = 0;
  const Turn turn = receive_and_forward(moved);
  if (moved > 0) counters_.record(Histogram::decap_turn_packets, moved);
  return turn;
}

Turn Decap::receive_and_forward(size_t& moved) noexcept {
  while (moved < kTurnBudget) {
    const ReadResult received = udp_.receive(batch_);
    counters_.add(Counter::decap_receive_calls);
    if (received.count > 0) moved += forward_batch();
    if (received.error != 0) return stop_receiving(received.error);
  }
  return Turn::more;
}

/// Forwards what was received; how many datagrams there were.
size_t Decap::forward_batch() noexcept {
  watch_.start();
  size_t count = 0;
  const Fib& fib = fib_.pin();
  for (const auto& row : batch_.datagrams()) count += take(fib, row);
  flush();
  fib_.unpin();
  counters_.record(Histogram::decap_call_packets, count);
  watch_.stop(counters_, count);
  return count;
}

/// Takes a row of datagrams apart; how many there were.
size_t Decap::take(const Fib& fib, const ReceiveBatch::Datagram& row) noexcept {
  const uint32_t peer = fib.peer_at(row.source);
  if (peer == Peer::kNone && source_check_ != SourceCheck::none) return refuse(row);
  if (row.truncated || row.payload.empty()) {
    counters_.add(Counter::decap_packets_in);
    counters_.add(row.truncated ? Counter::decap_oversized : Counter::decap_short);
    return 1;
  }
  if (probes_.takes(row)) return probes_.take(row, peer != Peer::kNone);
  size_t count = 1;
  auto rest = row.payload;
  for (; rest.size() > row.segment_size; count++) {
    forward(fib, rest.first(row.segment_size), {row.source, peer});
    rest = rest.subspan(row.segment_size);
  }
  forward(fib, rest, {row.source, peer});
  counters_.add(Counter::decap_packets_in, count);
  counters_.traffic.add(slot_of(fib, row, peer), count, row.payload.size());
  return count;
}

/// Drops a row that comes from no peer; how many datagrams there were.
size_t Decap::refuse(const ReceiveBatch::Datagram& row) noexcept {
  const size_t size = std::max<size_t>(row.segment_size, 1);
  const size_t count =
      row.truncated ? 1 : std::max<size_t>(1, (row.payload.size() + size - 1) / size);
  counters_.add(Counter::decap_packets_in, count);
  counters_.add(Counter::decap_unknown_peer, count);
  counters_.unknown_peers.note({row.source, inner_source(row)});
  return count;
}

/// Whether the subnet of `owner` is the sender's. Where one peer is at an address, its slot says as
/// much, and is sooner compared.
inline bool Decap::owns(const Sender& sender, const Peer* owner) noexcept {
  if (owner == nullptr) return false;
  return sender.slot == Peer::kShared ? owner->address == sender.address
                                      : owner->slot == sender.slot;
}

template <typename Packet>
[[gnu::always_inline]] inline void Decap::forward(const Fib& fib, Packet packet,
                                                  std::span<uint8_t> bytes, Sender from) noexcept {
  if (source_check_ == SourceCheck::subnet) {
    const auto source = source_of(packet);
    const Peer* owner = fib.lookup(source);
    if (!owns(from, owner)) {
      counters_.wrong_subnets.note({from.address, as_address(source)});
      return counters_.add(Counter::decap_wrong_subnet);
    }
  }
  if (hop_limit(packet) == 0) {
    counters_.add(Counter::decap_ttl_zero);
    return answer(fib, IcmpError::time_exceeded, packet);
  }
  if (hop_limit(packet) == 1) {
    counters_.add(Counter::decap_ttl_expired);
    return answer(fib, IcmpError::time_exceeded, packet);
  }
  take_hop(packet);
  if (clamp_.on()) {
    const Peer* sender = fib.lookup(source_of(packet));
    clamp_.apply(bytes, sender == nullptr ? Peer::kAnySize : largest_for(packet, *sender));
  }
  write(bytes);
}

void Decap::forward(const Fib& fib, std::span<uint8_t> bytes, Sender from) noexcept {
  if (carries_ipv6_ && !bytes.empty() && is_ipv6(bytes)) return forward_ipv6(fib, bytes, from);
  const Ipv4Fault fault = Ipv4Packet::check(bytes);
  if (fault != Ipv4Fault::none) return counters_.add(counter_of(fault));
  if (!carries_ipv4_) return counters_.add(Counter::decap_bad_version);
  forward(fib, Ipv4Packet(bytes), bytes, from);
}

/// Out of line, so that IPv4 need not save the registers that this takes.
[[gnu::noinline]] void Decap::forward_ipv6(const Fib& fib, std::span<uint8_t> bytes,
                                           Sender from) noexcept {
  const Ipv6Fault fault = Ipv6Packet::check(bytes);
  if (fault != Ipv6Fault::none) return counters_.add(counter_of(fault));
  forward(fib, Ipv6Packet(bytes), bytes, from);
}

/// To the TUN queue, by way of the merger where the device takes super-packets.
void Decap::write(std::span<uint8_t> bytes) noexcept {
  if (!tun_.virtio()) return count(tun_.write(bytes), 1, bytes.size());
  if (merger_.add(bytes)) return;
  flush();
  merger_.add(bytes);
}

void Decap::flush() noexcept {
  if (merger_.packets() == 0) return;
  for (const Merger::Group& group : merger_.finish()) write_group(group);
  merger_.clear();
  const MergeOptions now = merge_options();
  if (now.tcp == merging_.tcp && now.udp == merging_.udp) return;
  // Another write, here or on another queue, was refused: from now on without.
  merging_ = now;
  merger_ = Merger(kMergeCapacity, now);
}

void Decap::write_group(const Merger::Group& group) noexcept {
  const int error = tun_.write(group.message);
  if (error != EINVAL || group.segments == 1) return count(error, group.segments, group.bytes);
  // This kernel refuses what it said it would take: from now on without, and this group packet by
  // packet.
  const bool udp = group.header.gso_type == VirtioHeader::kGsoUdpL4;
  features_.remove(udp ? Feature::uso : Feature::tso);
  write_singly(group);
}

/// Cuts a group again that was refused. Happens once or twice in a process's life, so it may
/// allocate.
void Decap::write_singly(const Merger::Group& group) noexcept {
  std::vector<uint8_t> whole;
  for (const iovec& piece : group.packet()) {
    const auto* bytes = static_cast<const uint8_t*>(piece.iov_base);
    whole.insert(whole.end(), bytes, bytes + piece.iov_len);
  }
  HeaderArena headers(group.segments);
  Splitter splitter(headers);
  if (splitter.begin(group.header, whole) != GsoFault::none)
    return count(EINVAL, group.segments, 0);
  for (Segment segment; splitter.next(segment);) {
    VirtioHeader none;
    const auto piece = [](const void* bytes, size_t size) {
      return iovec{const_cast<void*>(bytes), size};
    };
    const std::array<iovec, 3> message{piece(&none, sizeof none),
                                       piece(segment.header.data(), segment.header.size()),
                                       piece(segment.payload.data(), segment.payload.size())};
    count(tun_.write(message), 1, segment.size());
  }
}

/// The outcome of a write that carried `packets` packets of `bytes` bytes together.
inline void Decap::count(int error, size_t packets, size_t bytes) noexcept {
  if (error != 0) return counters_.add(write_fault(error), packets);
  counters_.add(Counter::decap_packets_out, packets);
  counters_.add(Counter::decap_bytes, bytes);
}

MergeOptions Decap::merge_options() const noexcept {
  return {.tcp = features_.has(Feature::tso), .udp = features_.has(Feature::uso)};
}

/// The sender is behind a peer, so the error goes out like any packet to that peer's subnet.
template <typename Packet>
void Decap::answer(const Fib& fib, IcmpError error, Packet offender) noexcept {
  const auto message = icmp_.error(error, offender);
  if (message.empty()) return;
  const Peer* next_hop = fib.lookup(source_of(offender));
  const int failed = next_hop == nullptr ? ENETUNREACH : udp_.send_one(message, *next_hop);
  counters_.add(failed != 0 ? Counter::decap_icmp_failed : Counter::decap_icmp_sent);
}

Turn Decap::stop_receiving(int error) noexcept {
  if (error == EAGAIN) return Turn::drained;
  counters_.add(Counter::decap_receive_errors);
  if (passes(error)) return Turn::drained;
  failure_ = error;
  return Turn::failed;
}

}  // namespace flannel
