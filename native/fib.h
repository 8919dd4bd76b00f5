// The forwarding information base: an immutable longest-prefix-match table over IPv4 destinations.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace flannel {

/// Where a peer listens, ready for sendto: both fields in network order.
struct NextHop {
  in_addr_t address;
  in_port_t port;

  [[nodiscard]] sockaddr_in to_sockaddr() const noexcept {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = port;
    to.sin_addr.s_addr = address;
    return to;
  }
  bool operator==(const NextHop&) const = default;
};

struct Route {
  uint32_t network;  // host order
  uint8_t length;    // prefix length, 0 … 32
  NextHop next_hop;
};

/// A trie of strides 16-8-8: one to three dependent loads a lookup, however many routes there are.
class Fib {
 public:
  /// Of two routes with one prefix the later one counts. Host bits in `network` are ignored.
  /// Throws std::invalid_argument for a prefix length above 32.
  static std::unique_ptr<const Fib> build(std::span<const Route> routes);

  /// The next hop of the longest prefix that covers `destination` (host order), or nullptr. The
  /// result lives as long as the table.
  [[nodiscard]] const NextHop* lookup(uint32_t destination) const noexcept {
    Entry entry = root_[destination >> 16];
    if (entry & kIsChunk) {
      entry = chunks_[entry & ~kIsChunk][destination >> 8 & 0xff];
      if (entry & kIsChunk) entry = chunks_[entry & ~kIsChunk][destination & 0xff];
    }
    return entry == kNoRoute ? nullptr : &next_hops_[entry - 1];
  }

  /// Distinct prefixes.
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  // kNoRoute, or the index of a next hop + 1, or kIsChunk | the index of a chunk.
  using Entry = uint32_t;
  using Chunk = std::array<Entry, 256>;
  static constexpr Entry kNoRoute = 0;
  static constexpr Entry kIsChunk = 0x80000000;

  Fib();
  void insert(const Route& route, Entry leaf);
  Entry as_chunk(Entry entry);

  std::vector<Entry> root_;
  std::vector<Chunk> chunks_;
  std::vector<NextHop> next_hops_;
  size_t size_ = 0;
};

}  // namespace flannel
