// The forwarding information base: an immutable longest-prefix-match table over IPv4 destinations.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "peers.h"

namespace flannel {

struct Route {
  uint32_t network;  // host order
  uint8_t length;    // prefix length, 0 … 32
  NextHop next_hop;
};

/// All routes by network and prefix length, one per prefix, and the peers they lead to. What a
/// forwarding table is made of, and what changes one.
class RouteTable {
 public:
  /// Replaces all. Of two routes with one prefix the later one counts; host bits are ignored.
  /// Throws std::invalid_argument for a prefix length above 32, as all below.
  void assign(std::span<const Route> routes);
  /// Adds a route, or replaces that with its prefix.
  void put(Route route);
  /// Removes the route with this prefix, if there is one.
  void remove(uint32_t network, uint8_t length);
  /// After the last of several changes: until then a peer keeps its slot, whatever is between.
  void settle() { peers_.settle(); }

  [[nodiscard]] const std::vector<Route>& routes() const noexcept { return routes_; }
  /// The route with exactly this prefix, or nullptr.
  [[nodiscard]] const Route* find(uint32_t network, uint8_t length) const noexcept;
  /// The route of the longest prefix that covers this one without being it, or nullptr.
  [[nodiscard]] const Route* covering(uint32_t network, uint8_t length) const noexcept;
  /// The routes whose prefixes lie within this one, itself included.
  [[nodiscard]] std::span<const Route> within(uint32_t network, uint8_t length) const noexcept;
  [[nodiscard]] PeerSlots& peers() noexcept { return peers_; }
  [[nodiscard]] const PeerSlots& peers() const noexcept { return peers_; }

 private:
  std::vector<Route> routes_;
  PeerSlots peers_;
};

/// A trie of strides 16-8-8: one to three dependent loads a lookup, however many routes there are;
/// and the peers it leads to.
class Fib {
 public:
  /// Of two routes with one prefix the later one counts. Host bits in `network` are ignored.
  /// Throws std::invalid_argument for a prefix length above 32.
  static std::unique_ptr<const Fib> build(std::span<const Route> routes);
  static std::unique_ptr<const Fib> of(const RouteTable& table);

  /// This table after `changed`, of which the network and the length count: whether and where each
  /// of these prefixes leads now, `table` says. Costs a copy and the changes, not all routes anew.
  [[nodiscard]] std::unique_ptr<const Fib> after(std::span<const Route> changed,
                                                 const RouteTable& table) const;

  /// The peer of the longest prefix that covers `destination` (host order), or nullptr. The result
  /// lives as long as the table.
  [[nodiscard]] const Peer* lookup(uint32_t destination) const noexcept {
    Entry entry = root_[destination >> 16];
    if (entry & kIsChunk) {
      entry = chunks_[entry & ~kIsChunk][destination >> 8 & 0xff];
      if (entry & kIsChunk) entry = chunks_[entry & ~kIsChunk][destination & 0xff];
    }
    return entry == kNoRoute ? nullptr : &peers_[entry - 1];
  }

  /// The slot of the peer at `address` (network order), Peer::kShared or Peer::kNone.
  [[nodiscard]] uint32_t peer_at(in_addr_t address) const noexcept {
    return addresses_.find(address);
  }

  /// Of memory.
  [[nodiscard]] size_t bytes() const noexcept {
    return root_.capacity() * sizeof(Entry) + chunks_.capacity() * sizeof(Chunk) +
           peers_.capacity() * sizeof(Peer) + addresses_.bytes();
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
  void insert(const Route& route, Entry leaf);
  Entry as_chunk(Entry entry);

  std::vector<Entry> root_;
  std::vector<Chunk> chunks_;
  std::vector<Peer> peers_;  // by slot
  AddressTable addresses_;
  size_t size_ = 0;
};

}  // namespace flannel
