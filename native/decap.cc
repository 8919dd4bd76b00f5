// UDP -> TUN, in the order in which a packet meets it:
//
//   1. receive a batch of datagrams              (turn, UdpSocket::receive)
//   2. take rows of datagrams apart (UDP_GRO)    (take)
//   3. check length and header                   (forward)
//   4. TTL - 1; ran out: time-exceeded           (forward)
//   5. write to the TUN queue                    (TunQueue::write)
//
// The inner header's checksum is left to the kernel behind the TUN device, which checks it anyway.
#include "decap.h"

#include <algorithm>
#include <cerrno>

namespace flannel {
namespace {

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

}  // namespace

Decap::Decap(UdpSocket udp, TunQueue tun, Snapshot<Fib>::Reader& fib, uint32_t tunnel_address,
             size_t batch_size, Counters& counters)
    : udp_(udp),
      tun_(tun),
      fib_(fib),
      counters_(counters),
      icmp_(tunnel_address, counters, Counter::decap_icmp_throttled),
      pool_(batch_size),
      batch_(pool_) {}

Turn Decap::turn() noexcept {
  for (size_t moved = 0; moved < kTurnBudget;) {
    const ReadResult received = udp_.receive(batch_);
    counters_.add(Counter::decap_receive_calls);
    for (const auto& datagram : batch_.datagrams()) moved += take(datagram);
    if (received.error != 0) return stop_receiving(received.error);
  }
  return Turn::more;
}

/// Takes a row of datagrams apart; how many there were.
size_t Decap::take(const ReceiveBatch::Datagram& row) noexcept {
  if (row.truncated || row.payload.empty()) {
    counters_.add(Counter::decap_packets_in);
    counters_.add(row.truncated ? Counter::decap_oversized : Counter::decap_short);
    return 1;
  }
  size_t count = 0;
  for (auto rest = row.payload; !rest.empty(); count++) {
    const size_t size = std::min(row.segment_size, rest.size());
    forward(rest.first(size));
    rest = rest.subspan(size);
  }
  counters_.add(Counter::decap_packets_in, count);
  return count;
}

void Decap::forward(std::span<uint8_t> bytes) noexcept {
  switch (Ipv4Packet::check(bytes)) {
    case Ipv4Fault::none:
      break;
    case Ipv4Fault::too_short:
      return counters_.add(Counter::decap_short);
    case Ipv4Fault::bad_version:
      return counters_.add(Counter::decap_bad_version);
    case Ipv4Fault::bad_ihl:
      return counters_.add(Counter::decap_bad_ihl);
    case Ipv4Fault::bad_length:
      return counters_.add(Counter::decap_bad_length);
  }
  Ipv4Packet packet(bytes);
  if (packet.ttl() == 0) {
    counters_.add(Counter::decap_ttl_zero);
    return answer(IcmpError::time_exceeded, packet);
  }
  if (packet.ttl() == 1) {
    counters_.add(Counter::decap_ttl_expired);
    return answer(IcmpError::time_exceeded, packet);
  }
  packet.decrement_ttl();

  const int error = tun_.write(packet.bytes());
  if (error != 0) return counters_.add(write_fault(error));
  counters_.add(Counter::decap_packets_out);
  counters_.add(Counter::decap_bytes, packet.bytes().size());
}

/// The sender is behind a peer, so the error goes out like any packet to that peer's subnet.
void Decap::answer(IcmpError error, Ipv4Packet offender) noexcept {
  const auto message = icmp_.error(error, offender);
  if (message.empty()) return;
  const NextHop* next_hop = fib_.pin().lookup(offender.source());
  const int failed = next_hop == nullptr ? ENETUNREACH : udp_.send_one(message, *next_hop);
  fib_.unpin();
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
