// What the paths to peers carry, asked of the peers themselves: where nobody tells of a narrow path
// by ICMP, the kernel does not know. See probe_search.h for how it is found out, and probe_wire.h
// for what is sent.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "peers.h"
#include "probe_search.h"
#include "syscalls.h"

namespace flannel {

/// One search a peer, all by one socket. Only the thread that changes routes uses it.
class PathProber {
 public:
  using Time = ProbeSearch::Time;

  /// Datagrams that one turn() sends at most; peers beyond have their turn in the next.
  static constexpr size_t kMostProbes = 256;
  /// After the last packet to a peer: as long as that its path is looked after.
  static constexpr std::chrono::seconds kBusyFor{10};

  PathProber();

  /// Takes the answers that have come since, and sends the next probes: to peers that answer them
  /// and that packets are sent to. `packets_out(slot)`: how many have been. `bind_address`: as that
  /// of the socket whose packets are at stake; `link_mtu` in bytes. Throws SystemError.
  template <typename PacketsOut>
  void turn(Time now, const PeerSlots& slots, const Address& bind_address, size_t link_mtu,
            const PacketsOut& packets_out) {
    bind_to(bind_address);
    take_answers(slots);
    const std::vector<Peer>& peers = slots.peers();
    states_.resize(peers.size());
    size_t left = kMostProbes;
    for (size_t i = 0; i < peers.size() && left >= ProbeSearch::kMostSizes; i++) {
      const size_t slot = next_++ % peers.size();
      const Peer& peer = peers[slot];
      if (peer.slot == Peer::kNone || !peer.answers_probes) {
        states_[slot].reset();
      } else {
        left -= probe(now, peer, link_mtu, packets_out(peer.slot));
      }
    }
  }

  /// What the path carries, in bytes of an outer packet; 0 as long as it is not known to be less
  /// than the link does.
  [[nodiscard]] size_t path_mtu(uint32_t slot) const noexcept {
    return slot < states_.size() && states_[slot] ? states_[slot]->search.narrow() : 0;
  }

  /// Another peer has the slot now.
  void forget(uint32_t slot) noexcept {
    if (slot < states_.size()) states_[slot].reset();
  }

 private:
  struct State {
    ProbeSearch search;
    uint32_t round = 0;
    uint64_t nonce = 0;  // of the round
    uint64_t packets = 0;
    Time last_packet{};
  };

  void bind_to(const Address& address);
  void take_answers(const PeerSlots& slots) noexcept;
  size_t probe(Time now, const Peer& peer, size_t link_mtu, uint64_t packets) noexcept;
  void send(const Peer& to, uint16_t size, uint64_t nonce) noexcept;

  UniqueFd fd_;
  Address bound_;
  std::vector<std::optional<State>> states_;  // by slot
  size_t next_ = 0;                           // the slot to go on with
  std::vector<uint8_t> datagram_;             // zeros, but for the header
};

}  // namespace flannel
