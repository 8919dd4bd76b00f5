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

namespace flannel {

/// Where a peer listens, ready for sendto: both fields in network order.
struct NextHop {
  in_addr_t address = 0;
  in_port_t port = 0;

  [[nodiscard]] sockaddr_in to_sockaddr() const noexcept {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = port;
    to.sin_addr.s_addr = address;
    return to;
  }
  bool operator==(const NextHop&) const = default;
};

/// Bytes of IPv4 and UDP around each inner packet.
inline constexpr size_t kOuterHeaders = 20 + 8;

/// A next hop and its slot: the same as long as some route leads there.
struct Peer : NextHop {
  static constexpr uint32_t kNone = UINT32_MAX;
  /// Several peers, which differ in their ports.
  static constexpr uint32_t kShared = UINT32_MAX - 1;
  /// No packet is larger.
  static constexpr uint16_t kAnySize = UINT16_MAX;

  uint32_t slot = kNone;
  /// The largest inner packet, in bytes, that gets there unfragmented; kAnySize as long as nobody
  /// has said that the path is narrow.
  uint16_t largest = kAnySize;

  Peer() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): whoever needs no slot names the next hop alone.
  Peer(const NextHop& next_hop, uint32_t of_slot = kNone) noexcept
      : NextHop(next_hop), slot(of_slot) {}
};

/// Peers by address: a hash table with linear probing, at most three quarters full. Copied for
/// every change of the routes, so it is kept small.
class AddressTable {
 public:
  /// The slot of the peer at `address` (network order), Peer::kShared or Peer::kNone.
  [[nodiscard]] uint32_t find(in_addr_t address) const noexcept {
    return buckets_.empty() ? Peer::kNone : buckets_[place_of(address)].slot;
  }

  void set(in_addr_t address, uint32_t slot);
  /// It must have been set.
  void remove(in_addr_t address) noexcept;
  /// Of memory.
  [[nodiscard]] size_t bytes() const noexcept { return buckets_.capacity() * sizeof(Bucket); }

 private:
  struct Bucket {
    in_addr_t address = 0;
    uint32_t slot = Peer::kNone;  // then the bucket is free
  };

  [[nodiscard]] size_t home(in_addr_t address) const noexcept {
    return address * 0x9e3779b1U >> shift_;
  }
  /// The bucket of an address, or the free one where it would be put.
  [[nodiscard]] size_t place_of(in_addr_t address) const noexcept {
    size_t i = home(address);
    while (buckets_[i].slot != Peer::kNone && buckets_[i].address != address) {
      i = (i + 1) & (buckets_.size() - 1);
    }
    return i;
  }
  void grow();

  std::vector<Bucket> buckets_;
  unsigned shift_ = 32;  // 32 - log2 of the number of buckets
  size_t used_ = 0;
};

/// Which slot each peer has. Only the thread that changes routes uses it.
class PeerSlots {
 public:
  /// One more route leads to `next_hop`; gives it a slot where it has none.
  void add(const NextHop& next_hop);
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
  [[nodiscard]] const AddressTable& addresses() const noexcept { return addresses_; }
  /// Slots given out since the last call.
  std::vector<uint32_t> take_new() noexcept { return std::exchange(new_, {}); }

 private:
  struct Holding {
    uint32_t slot;
    size_t routes;
  };

  /// Those at one address.
  struct Neighbours {
    size_t peers = 0;
    uint32_t slots = 0;  // exclusive-or of all: where one peer is left, its slot
  };

  uint32_t free_slot();
  void update(in_addr_t address, uint32_t slot, int difference);

  std::unordered_map<uint64_t, Holding> holdings_;
  std::unordered_map<in_addr_t, Neighbours> neighbours_;
  std::vector<Peer> peers_;
  AddressTable addresses_;
  std::deque<uint32_t> free_;
  std::vector<NextHop> dropped_;  // that may have no route
  std::vector<uint32_t> new_;
};

}  // namespace flannel
