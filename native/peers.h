// Peers: the hosts that packets are sent to and come from, each with a slot of its own in every
// table that is kept by peer.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "address_table.h"

namespace flannel {

/// Where a peer listens.
struct NextHop {
  Address address;
  in_port_t port = 0;  // network order

  [[nodiscard]] SocketAddress to_sockaddr() const noexcept {
    return SocketAddress::of(address, port);
  }
  bool operator==(const NextHop&) const = default;
};

/// Bytes of IP and UDP around each inner packet on its way to a peer at `address`.
constexpr size_t outer_headers(const Address& address) noexcept {
  return (address.is_ipv4() ? 20 : 40) + 8;
}

/// A next hop and its slot: the same as long as some route leads there.
struct Peer : NextHop {
  static constexpr uint32_t kNone = AddressTable::kNone;
  /// Several peers, which differ in their ports.
  static constexpr uint32_t kShared = UINT32_MAX - 1;
  /// No packet is larger.
  static constexpr uint16_t kAnySize = UINT16_MAX;

  uint32_t slot = kNone;
  /// The largest inner packet, in bytes, that gets there unfragmented; kAnySize as long as nobody
  /// has said that the path is narrow.
  uint16_t largest = kAnySize;
  /// Whether it has announced that it answers probes of the path's MTU.
  bool answers_probes = false;

  Peer() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): whoever needs no slot names the next hop alone.
  Peer(const NextHop& next_hop, uint32_t of_slot = kNone) noexcept
      : NextHop(next_hop), slot(of_slot) {}
};

/// Which slot each peer has. Only the thread that changes routes uses it.
class PeerSlots {
 public:
  /// One more route leads to `next_hop`; gives it a slot where it has none. `answers_probes`: what
  /// the last route says counts.
  void add(const NextHop& next_hop, bool answers_probes = false);
  /// One route less; the slot stays until settle().
  void drop(const NextHop& next_hop) noexcept;
  /// Frees the slots of those that no route leads to any more.
  void settle();
  /// What the path to a peer carries: bytes of an outer packet, 0 = unknown. False where nothing
  /// changes by it.
  bool set_path_mtu(uint32_t slot, size_t bytes) noexcept;

  /// Peer::kNone where no route leads there.
  [[nodiscard]] uint32_t find(const NextHop& next_hop) const noexcept;
  /// By slot; a free slot's peer has the slot Peer::kNone.
  [[nodiscard]] const std::vector<Peer>& peers() const noexcept { return peers_; }
  /// The slot of the peer at each address, or Peer::kShared.
  [[nodiscard]] const AddressTable& addresses() const noexcept { return addresses_; }
  /// Slots given out since the last call.
  std::vector<uint32_t> take_new() noexcept { return std::exchange(new_, {}); }

 private:
  struct Holding {
    uint32_t slot;
    size_t routes;
  };

  struct Hash {
    size_t operator()(const Address& address) const noexcept { return address.hash(); }
    size_t operator()(const NextHop& next_hop) const noexcept {
      return next_hop.address.hash() ^ next_hop.port * size_t{0x9e3779b1};
    }
  };

  /// Those at one address.
  struct Neighbours {
    size_t peers = 0;
    uint32_t slots = 0;  // exclusive-or of all: where one peer is left, its slot
  };

  uint32_t free_slot();
  void update(const Address& address, uint32_t slot, int difference);

  std::unordered_map<NextHop, Holding, Hash> holdings_;
  std::unordered_map<Address, Neighbours, Hash> neighbours_;
  std::vector<Peer> peers_;
  AddressTable addresses_;
  std::deque<uint32_t> free_;
  std::vector<NextHop> dropped_;  // that may have no route
  std::vector<uint32_t> new_;
};

}  // namespace flannel
