// TUN -> UDP. The journey of a packet that leaves this host; encap.cc tells it top to bottom.
#pragma once

#include "fib.h"
#include "gso.h"
#include "icmp.h"
#include "ipv4.h"
#include "snapshot.h"
#include "stats.h"
#include "tun.h"
#include "udp.h"

namespace flannel {

class Encap {
 public:
  /// `icmp_fd`: see open_icmp(); may be invalid. Everything is borrowed.
  Encap(TunQueue tun, UdpSocket udp, Snapshot<Fib>::Reader& fib, int icmp_fd,
        uint32_t tunnel_address, size_t batch_size, Counters& counters, Syscalls& syscalls);

  Turn turn() noexcept;

  /// The errno behind Turn::failed.
  [[nodiscard]] int failure() const noexcept { return failure_; }
  [[nodiscard]] int tun_fd() const noexcept { return tun_.fd(); }
  [[nodiscard]] int udp_fd() const noexcept { return udp_.fd(); }

  /// Counts what still waits for the socket; for the end.
  void abandon() noexcept;

 private:
  void forward(const Fib& fib, const TunPacket& packet) noexcept;
  void split(const TunPacket& packet, const NextHop& to, uint32_t flow) noexcept;
  void send(Pieces packet, const NextHop& to, uint32_t flow) noexcept;
  void drop(Counter counter, const TunPacket& packet) noexcept;
  bool flush() noexcept;
  void answer(IcmpError error, Ipv4Packet offender) noexcept;
  Turn stop_reading(int error) noexcept;

  TunQueue tun_;
  UdpSocket udp_;
  Snapshot<Fib>::Reader& fib_;
  int icmp_fd_;
  Counters& counters_;
  Syscalls& syscalls_;
  IcmpResponder icmp_;
  PacketPool pool_;
  std::vector<TunPacket> packets_;
  HeaderArena headers_;
  Splitter splitter_{headers_};
  SendBatch batch_;
  int failure_ = 0;
};

}  // namespace flannel
