// UDP -> TUN. The journey of a packet that arrives at this host; decap.cc tells it top to bottom.
#pragma once

#include "caps.h"
#include "families.h"
#include "fib.h"
#include "gro.h"
#include "icmp_responder.h"
#include "mss.h"
#include "packet.h"
#include "probe_responder.h"
#include "snapshot.h"
#include "source_check.h"
#include "stats.h"
#include "stopwatch.h"
#include "tun.h"
#include "udp.h"

namespace flannel {

class Decap {
 public:
  /// Everything is borrowed.
  Decap(UdpSocket udp, TunQueue tun, Snapshot<Fib>::Reader& fib, const TunnelAddresses& addresses,
        size_t batch_size, ActiveFeatures& features, Counters& counters,
        SourceCheck source_check = SourceCheck::none, bool answers_probes = false,
        const MssClamp& clamp = kNoMssClamp);

  /// Never Turn::blocked: what the TUN device refuses is dropped and counted.
  Turn turn() noexcept;

  /// The errno behind Turn::failed.
  [[nodiscard]] int failure() const noexcept { return failure_; }
  [[nodiscard]] int udp_fd() const noexcept { return udp_.fd(); }

 private:
  Turn receive_and_forward(size_t& moved) noexcept;
  size_t forward_batch() noexcept;
  size_t take(const Fib& fib, const ReceiveBatch::Datagram& row) noexcept;
  size_t refuse(const ReceiveBatch::Datagram& row) noexcept;
  /// Who has sent a row of datagrams.
  struct Sender {
    const Address& address;
    uint32_t slot;  // of the peer there, Peer::kShared or Peer::kNone
  };

  void forward(const Fib& fib, std::span<uint8_t> bytes, Sender from) noexcept;
  void forward_ipv6(const Fib& fib, std::span<uint8_t> bytes, Sender from) noexcept;
  template <typename Packet>
  void forward(const Fib& fib, Packet packet, std::span<uint8_t> bytes, Sender from) noexcept;
  static bool owns(const Sender& sender, const Peer* owner) noexcept;
  template <typename Packet>
  void answer(const Fib& fib, IcmpError error, Packet offender) noexcept;
  void write(std::span<uint8_t> bytes) noexcept;
  void flush() noexcept;
  void write_group(const Merger::Group& group) noexcept;
  void write_singly(const Merger::Group& group) noexcept;
  void count(int error, size_t packets, size_t bytes) noexcept;
  [[nodiscard]] MergeOptions merge_options() const noexcept;
  Turn stop_receiving(int error) noexcept;

  UdpSocket udp_;
  TunQueue tun_;
  Snapshot<Fib>::Reader& fib_;
  Counters& counters_;
  SourceCheck source_check_;
  bool carries_ipv4_;
  bool carries_ipv6_;
  IcmpResponder icmp_;
  ProbeResponder probes_;
  const MssClamp& clamp_;
  PacketPool pool_;
  ReceiveBatch batch_;
  Stopwatch watch_;
  ActiveFeatures& features_;
  MergeOptions merging_;  // with which the merger was made
  Merger merger_;
  int failure_ = 0;
};

}  // namespace flannel
