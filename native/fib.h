// The forwarding information base: an immutable longest-prefix-match table over destinations of
// both families.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ipv6_prefixes.h"
#include "peers.h"
#include "prefix.h"

namespace flannel {

struct Route {
  Prefix prefix;
  NextHop next_hop;
  bool answers_probes = false;  // see Peer
};

/// All routes by network and prefix length, one per prefix, and the peers they lead to. What a
/// forwarding table is made of, and what changes one.
class RouteTable {
 public:
  /// Replaces all. Of two routes with one prefix the later one counts; host bits are ignored.
  /// Throws std::invalid_argument for a prefix that is not valid(), as all below.
  void assign(std::span<const Route> routes);
  /// Adds a route, or replaces that with its prefix.
  void put(Route route);
  /// Removes the route with this prefix, if there is one.
  void remove(const Prefix& prefix);
  /// After the last of several changes: until then a peer keeps its slot, whatever is between.
  void settle() { peers_.settle(); }

  [[nodiscard]] const std::vector<Route>& routes() const noexcept { return routes_; }
  /// The route with exactly this prefix, or nullptr.
  [[nodiscard]] const Route* find(const Prefix& prefix) const noexcept;
  /// The route of the longest prefix of its family that covers this one without being it, or
  /// nullptr.
  [[nodiscard]] const Route* covering(const Prefix& prefix) const noexcept;
  /// The routes whose prefixes lie within this one, itself included.
  [[nodiscard]] std::span<const Route> within(const Prefix& prefix) const noexcept;
  [[nodiscard]] PeerSlots& peers() noexcept { return peers_; }
  [[nodiscard]] const PeerSlots& peers() const noexcept { return peers_; }

 private:
  std::vector<Route> routes_;
  PeerSlots peers_;
};

/// IPv4 is a trie of strides 16-8-8: one to three dependent loads a lookup, however many routes
/// there are. For IPv6 see Ipv6Prefixes. And the peers that they lead to.
class Fib {
 public:
  /// Of two routes with one prefix the later one counts. Host bits are ignored. Throws
  /// std::invalid_argument for a prefix that is not valid().
  static std::unique_ptr<const Fib> build(std::span<const Route> routes);
  static std::unique_ptr<const Fib> of(const RouteTable& table);

  /// This table after `changed`, of which the prefixes count: whether and where each of them leads
  /// now, `table` says. Costs a copy and the changes, not all routes anew.
  [[nodiscard]] std::unique_ptr<const Fib> after(std::span<const Route> changed,
                                                 const RouteTable& table) const;

  /// The peer of the longest prefix that covers `destination` (IPv4, host order), or nullptr. The
  /// result lives as long as the table.
  [[nodiscard]] const Peer* lookup(uint32_t destination) const noexcept {
    Entry entry = root_[destination >> 16];
    if (entry & kIsChunk) {
      entry = chunks_[entry & ~kIsChunk][destination >> 8 & 0xff];
      if (entry & kIsChunk) entry = chunks_[entry & ~kIsChunk][destination & 0xff];
    }
    return entry == kNoRoute ? nullptr : &peers_[entry - 1];
  }

  /// The same for IPv6.
  [[nodiscard]] const Peer* lookup(const Address& destination) const noexcept {
    const uint32_t slot = ipv6_.find(destination);
    return slot == Peer::kNone ? nullptr : &peers_[slot];
  }

  /// The slot of the peer at `address`, Peer::kShared or Peer::kNone.
  [[nodiscard]] uint32_t peer_at(const Address& address) const noexcept {
    return addresses_.find(address);
  }

  /// Of memory.
  [[nodiscard]] size_t bytes() const noexcept {
    return root_.capacity() * sizeof(Entry) + chunks_.capacity() * sizeof(Chunk) +
           peers_.capacity() * sizeof(Peer) + addresses_.bytes() + ipv6_.bytes();
  }
  /// Distinct prefixes.
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  // kNoRoute, or the slot of a peer + 1, or kIsChunk | the index of a chunk.
  using Entry = uint32_t;
  using Chunk = std::array<Entry, 256>;
  static constexpr Entry kNoRoute = 0;
  static constexpr Entry kIsChunk = 0x80000000;

  explicit Fib(const PeerSlots& peers);
  /// A copy of the prefixes, with other peers.
  Fib(const Fib& prefixes, const PeerSlots& peers);
  void insert(const Prefix& ipv4, Entry leaf);
  void change_ipv4(const Prefix& prefix, const RouteTable& table);
  Entry as_chunk(Entry entry);

  std::vector<Entry> root_;
  std::vector<Chunk> chunks_;
  Ipv6Prefixes ipv6_;
  std::vector<Peer> peers_;  // by slot
  AddressTable addresses_;
  size_t size_ = 0;
};

}  // namespace flannel
