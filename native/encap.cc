// TUN -> UDP, in the order in which a packet meets it:
//
//   1. what the socket could not take last time goes first (turn)
//   2. read a batch from the TUN queue                      (turn, TunQueue::read)
//   3. check the header                                     (forward)
//   4. longest-prefix match; none: net-unreachable          (forward)
//   5. TTL - 1; ran out: time-exceeded                      (forward)
//   6. join a run of the batch                              (SendBatch::push)
//   7. send the batch                                       (UdpSocket::send)
//
// The payload is never copied: the datagram is sent from the buffer that the packet was read into.
#include "encap.h"

#include <cerrno>

namespace flannel {

Encap::Encap(TunQueue tun, UdpSocket udp, Snapshot<Fib>::Reader& fib, int icmp_fd,
             uint32_t tunnel_address, size_t batch_size, Counters& counters, Syscalls& syscalls)
    : tun_(tun),
      udp_(udp),
      fib_(fib),
      icmp_fd_(icmp_fd),
      counters_(counters),
      syscalls_(syscalls),
      icmp_(tunnel_address, counters, Counter::encap_icmp_throttled),
      pool_(batch_size) {
  packets_.reserve(batch_size);
}

Turn Encap::turn() noexcept {
  // While the socket is full, packets wait in the TUN queue. What that cannot hold the kernel
  // drops, and counts as the device's own.
  if (!udp_.send(batch_, counters_)) return Turn::blocked;

  for (size_t moved = 0; moved < kTurnBudget;) {
    const ReadResult read = tun_.read(pool_, packets_);
    counters_.add(Counter::encap_packets_in, read.count);
    moved += read.count;

    const Fib& fib = fib_.pin();
    for (const auto packet : packets_) forward(fib, packet);
    fib_.unpin();

    if (!udp_.send(batch_, counters_)) return Turn::blocked;
    if (read.error != 0) return stop_reading(read.error);
  }
  return Turn::more;
}

void Encap::forward(const Fib& fib, std::span<uint8_t> bytes) noexcept {
  switch (Ipv4Packet::check(bytes)) {
    case Ipv4Fault::none:
      break;
    case Ipv4Fault::too_short:
      return counters_.add(Counter::encap_short);
    case Ipv4Fault::bad_version:
      return counters_.add(Counter::encap_bad_version);
    case Ipv4Fault::bad_ihl:
      return counters_.add(Counter::encap_bad_ihl);
    case Ipv4Fault::bad_length:
      return counters_.add(Counter::encap_bad_length);
  }
  Ipv4Packet packet(bytes);
  if (packet.ttl() == 0) {
    counters_.add(Counter::encap_ttl_zero);
    return answer(IcmpError::time_exceeded, packet);
  }
  const NextHop* next_hop = fib.lookup(packet.destination());
  if (next_hop == nullptr) {
    counters_.add(Counter::encap_no_route);
    return answer(IcmpError::net_unreachable, packet);
  }
  if (packet.ttl() == 1) {
    counters_.add(Counter::encap_ttl_expired);
    return answer(IcmpError::time_exceeded, packet);
  }
  packet.decrement_ttl();
  send({{}, bytes}, *next_hop, packet.flow());
}

/// Adds a packet to the batch. A batch that overflows is sent in between; where the socket is full
/// as well, the packet is dropped.
void Encap::send(Pieces packet, const NextHop& to, uint32_t flow) noexcept {
  if (batch_.push(packet, to, flow, udp_.max_segments())) return;
  if (!udp_.send(batch_, counters_)) return counters_.add(Counter::encap_no_buffer);
  batch_.push(packet, to, flow, udp_.max_segments());
}

/// The sender is this host or behind it, so the error goes to this host's own IP stack.
void Encap::answer(IcmpError error, Ipv4Packet offender) noexcept {
  const auto message = icmp_.error(error, offender);
  if (message.empty()) return;
  const sockaddr_in to = NextHop{htonl(offender.source()), 0}.to_sockaddr();
  const ssize_t sent =
      icmp_fd_ < 0 ? -EBADF : syscalls_.sendto(icmp_fd_, message.data(), message.size(), to);
  counters_.add(sent < 0 ? Counter::encap_icmp_failed : Counter::encap_icmp_sent);
}

Turn Encap::stop_reading(int error) noexcept {
  if (error == EAGAIN) return Turn::drained;
  counters_.add(Counter::encap_read_errors);
  if (error == ENOMEM || error == ENOBUFS) return Turn::drained;
  failure_ = error;
  return Turn::failed;
}

void Encap::abandon() noexcept {
  counters_.add(Counter::encap_stopped, batch_.pending());
}

}  // namespace flannel
