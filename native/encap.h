// TUN -> UDP. The journey of a packet that leaves this host; encap.cc tells it top to bottom.
#pragma once

#include "families.h"
#include "fib.h"
#include "gso.h"
#include "icmp_responder.h"
#include "mss.h"
#include "snapshot.h"
#include "stats.h"
#include "stopwatch.h"
#include "tun.h"
#include "udp.h"

namespace flannel {

/// Raw sockets for errors to senders on this host; see open_icmp() and open_icmpv6(). Invalid: the
/// errors are counted as failed.
struct IcmpSockets {
  int ipv4 = -1;
  int ipv6 = -1;
};

class Encap {
 public:
  /// `sockets`: at least one, each with a source port of its own; a flow's packets leave by one of
  /// them. Everything is borrowed.
  Encap(TunQueue tun, std::span<const UdpSocket> sockets, Snapshot<Fib>::Reader& fib,
        IcmpSockets icmp_sockets, const TunnelAddresses& addresses, size_t batch_size,
        Counters& counters, Syscalls& syscalls, const MssClamp& clamp = kNoMssClamp);
  /// With one source port.
  Encap(TunQueue tun, const UdpSocket& socket, Snapshot<Fib>::Reader& fib, IcmpSockets icmp_sockets,
        const TunnelAddresses& addresses, size_t batch_size, Counters& counters, Syscalls& syscalls,
        const MssClamp& clamp = kNoMssClamp)
      : Encap(tun, std::span(&socket, 1), fib, icmp_sockets, addresses, batch_size, counters,
              syscalls, clamp) {}

  Turn turn() noexcept;

  /// Forwards what was read, and reads nothing; false when the socket is full.
  bool finish() noexcept { return flush() && forward_batch(); }

  /// The errno behind Turn::failed.
  [[nodiscard]] int failure() const noexcept { return failure_; }
  [[nodiscard]] int tun_fd() const noexcept { return tun_.fd(); }
  /// After Turn::blocked, the socket that is full.
  [[nodiscard]] int blocked_fd() const noexcept { return blocked_fd_; }

  /// Counts what still waits for the socket; for the end.
  void abandon() noexcept;

 private:
  /// A source port: its socket, and the datagrams that are to leave by it.
  struct Path {
    UdpSocket udp;
    SendBatch batch;
  };

  Turn read_and_forward() noexcept;
  [[nodiscard]] bool has_room() const noexcept;
  Path& path_of(uint32_t flow) noexcept;
  bool forward_batch() noexcept;
  void forward(const Fib& fib, const TunPacket& from_tun) noexcept;
  void forward_ipv6(const Fib& fib, const TunPacket& from_tun) noexcept;
  template <typename Packet>
  void forward(const Fib& fib, const TunPacket& from_tun, Packet packet) noexcept;
  bool exceeds(const TunPacket& packet, size_t largest) noexcept;
  void split(const TunPacket& packet, const Peer& to, uint32_t flow) noexcept;
  void send_segments() noexcept;
  void drop(Counter counter, const TunPacket& packet) noexcept;
  bool flush() noexcept;
  template <typename Packet>
  void answer(IcmpError error, Packet offender, uint16_t next_hop_mtu = 0) noexcept;
  Turn stop_reading(int error) noexcept;

  TunQueue tun_;
  std::vector<Path> paths_;
  int blocked_fd_ = -1;
  Snapshot<Fib>::Reader& fib_;
  IcmpSockets icmp_sockets_;
  bool carries_ipv4_;
  bool carries_ipv6_;
  Counters& counters_;
  Syscalls& syscalls_;
  IcmpResponder icmp_;
  const MssClamp& clamp_;
  PacketPool pool_;
  std::vector<TunPacket> packets_;
  size_t next_ = 0;  // the first of them that was not forwarded yet
  Stopwatch watch_;
  uint64_t timed_ = 0;  // packets in, up to the last batch that was sent
  HeaderArena headers_;
  Splitter splitter_{headers_};
  Peer split_to_;  // where the segments of the super-packet at hand go,
  uint32_t split_flow_ = 0;
  Splitter counting_{headers_};  // tells of how many packets, and how large, a super-packet is
  int failure_ = 0;
};

}  // namespace flannel
