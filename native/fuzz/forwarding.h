// The pipelines over a scripted kernel, and what has to be true of whatever they do to a packet.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "../test/flows.h"
#include "../test/golden/case.h"
#include "../test/merging.h"
#include "../test/pipeline.h"
#include "fuzz.h"

namespace flannel::fuzz {

using test::ip;
using test::ScriptedKernel;

inline constexpr uint32_t kTunnel = ip(10, 244, 1, 0);
inline const Ipv6Address kTunnel6 = test::ip6("fd00:10:244:1::");
inline constexpr uint16_t kOverlayMtu = 1372;
/// Small, so that a run is fast and portions are many.
inline constexpr size_t kBatch = 4;
inline constexpr FeatureSet kFull{Feature::batch, Feature::gso, Feature::gro, Feature::tso,
                                  Feature::uso};

/// The addresses of peer `n` by the family of the underlay.
inline NextHop peer(uint8_t n, bool over_ipv6) {
  const Address ipv6{0xfd00'0192'0168'0077, n};
  return {over_ipv6 ? ipv6 : Address::of_ipv4(ip(192, 168, 77, n)), htons(8285)};
}

/// 10.244.N.0/24 and fd00:10:244:N::/64 lead to peer N.
inline constexpr std::array<uint8_t, 2> kPeers{2, 3};
/// The path to this one is narrow: what it carries, in bytes of an outer packet.
inline constexpr uint8_t kNarrowPeer = 3;
inline constexpr size_t kNarrowPath = 1000;

/// Of all sides with one underlay: one is at work at a time.
inline Snapshot<Fib>& table(bool over_ipv6) {
  const auto build = [](bool ipv6) {
    RouteTable routes;
    for (const uint8_t n : kPeers) {
      routes.put({{ip(10, 244, n, 0), 24}, peer(n, ipv6)});
      routes.put({{Address{0xfd00'0010'0244'0000U | n, 0}, 64}, peer(n, ipv6)});
    }
    routes.peers().set_path_mtu(routes.peers().find(peer(kNarrowPeer, ipv6)), kNarrowPath);
    return Fib::of(routes);
  };
  static Snapshot<Fib> over4(build(false), 1);
  static Snapshot<Fib> over6(build(true), 1);
  return over_ipv6 ? over6 : over4;
}

/// What a network may ask for, bit by bit.
struct Options {
  explicit Options(uint8_t bits)
      : over_ipv6((bits & 1) != 0), carries_ipv6((bits & 2) != 0), clamps((bits & 4) != 0) {}

  bool over_ipv6;
  bool carries_ipv6;
  bool clamps;
};

/// A kernel and counters for one direction.
struct Side {
  Side(FeatureSet set, const Options& options)
      : features(set),
        addresses{kTunnel, options.carries_ipv6 ? Address::of_bytes(kTunnel6) : Address{}},
        fib(table(options.over_ipv6)) {}

  [[nodiscard]] bool virtio() const {
    return features.has(Feature::tso) || features.has(Feature::uso);
  }
  [[nodiscard]] size_t batch() const { return features.has(Feature::batch) ? kBatch : 1; }
  [[nodiscard]] TunQueue tun() { return {ScriptedKernel::kTun, virtio(), kernel}; }
  [[nodiscard]] UdpSocket udp() { return {ScriptedKernel::kUdp, features, kernel}; }

  ActiveFeatures features;
  TunnelAddresses addresses;
  ScriptedKernel kernel;
  Counters counters;
  MssClamp clamp;
  Snapshot<Fib>& fib;
};

/// Pipelines with their sides. One costs a megabyte to make, so it is used again for as long as a
/// run leaves it as it was.
template <typename Pipeline>
class Pipelines {
 public:
  /// `kind`: another one for each.
  template <typename... Arguments>
  Pipeline& get(size_t kind, const Options& options, const Arguments&... arguments) {
    auto& pipeline =
        all_[kind << 2 | (options.carries_ipv6 ? 2U : 0U) | (options.over_ipv6 ? 1U : 0U)];
    if (pipeline == nullptr || pipeline->uses++ == kMostUses) {
      pipeline = std::make_unique<Pipeline>(arguments...);
    }
    Side& side = pipeline->side;
    side.kernel.udp_out.clear();
    side.kernel.tun_out.clear();
    side.kernel.icmp_out.clear();
    side.clamp.set(options.clamps ? kOverlayMtu : 0);
    return *pipeline;
  }
  /// After a run that leaves something behind.
  void forget(const Pipeline& used) {
    std::erase_if(all_, [&](const auto& entry) { return entry.second.get() == &used; });
  }

 private:
  // So that errors are answered: their throttle is of wall-clock time.
  static constexpr int kMostUses = 200;

  std::map<size_t, std::unique_ptr<Pipeline>> all_;
};

/// Errnos for calls, from the input: each is used up once, then all calls pass.
class Faults {
 public:
  explicit Faults(Input& input) {
    for (size_t count = input.byte() % 8U; count > 0; count--) faults_.push_back(input.byte());
  }
  int next() {
    if (at_ == faults_.size()) return 0;
    return kErrors[faults_[at_++] % kErrors.size()];
  }
  [[nodiscard]] bool any() const { return !faults_.empty(); }

 private:
  static constexpr std::array<int, 16> kErrors{
      0,     0,      EAGAIN,  EINTR,  EIO,    EINVAL,      EMSGSIZE,     EPERM,
      EBADF, ENOMEM, ENOBUFS, EBADFD, EACCES, ENETUNREACH, ECONNREFUSED, EOPNOTSUPP};

  Bytes faults_;
  size_t at_ = 0;
};

/// Whether it is a whole packet, by the words of RFC 791 and RFC 8200 rather than by our code.
inline bool is_packet(const Bytes& packet, bool carries_ipv6) {
  if (packet.empty()) return false;
  if (packet[0] >> 4 == 6) {
    return carries_ipv6 && packet.size() >= 40 &&
           packet.size() - 40 == (size_t{packet[4]} << 8 | packet[5]);
  }
  if (packet.size() < 20 || packet[0] >> 4 != 4) return false;
  const size_t header = size_t{4} * (packet[0] & 15U);
  if (header < 20 || header > packet.size()) return false;
  const size_t total = size_t{packet[2]} << 8 | packet[3];
  return total >= header && total == packet.size();
}

inline size_t hop_limit_place(const Bytes& packet) {
  return test::is_v6(packet) ? 7 : 8;
}

/// Whether a router passes the packet on, as far as it itself tells.
inline bool is_forwardable(const Bytes& packet, bool carries_ipv6) {
  return is_packet(packet, carries_ipv6) && packet[hop_limit_place(packet)] > 1;
}

/// The peer whose subnet the address at `place` lies in, or 0.
inline uint8_t peer_at(const Bytes& packet, size_t place) {
  const bool v6 = test::is_v6(packet);
  for (const uint8_t n : kPeers) {
    const Bytes subnet = v6 ? Bytes{0xfd, 0, 0, 0x10, 2, 0x44, 0, n} : Bytes{10, 244, n};
    if (std::equal(subnet.begin(), subnet.end(), packet.begin() + static_cast<ptrdiff_t>(place))) {
      return n;
    }
  }
  return 0;
}
inline uint8_t source_peer(const Bytes& packet) {
  return peer_at(packet, test::is_v6(packet) ? 8 : 12);
}
inline uint8_t destination_peer(const Bytes& packet) {
  return peer_at(packet, test::is_v6(packet) ? 24 : 16);
}

/// The largest packet for the path to a peer; no IPv6 packet of 1280 bytes is too large for any
/// (RFC 8200 section 5).
inline size_t largest_to(uint8_t n, bool over_ipv6, bool v6) {
  if (n != kNarrowPeer) return UINT16_MAX;
  return std::max<size_t>(kNarrowPath - (over_ipv6 ? 48 : 28), v6 ? 1280 : 0);
}

/// The same packet, one hop further: all else as it was, and the header's sum, too. Clamped, where
/// that is asked for: the target `mss` tells whether rightly.
inline Bytes one_hop(Bytes packet, const Options& options, uint8_t n) {
  packet[hop_limit_place(packet)]--;
  if (!test::is_v6(packet)) {
    // The same sum with 0x0100 less in it (RFC 1624), whatever it was.
    const unsigned sum = load_be16(&packet[10]) + 0x0100U;
    store_be16(&packet[10], static_cast<uint16_t>(sum + (sum >> 16)));
  }
  const size_t largest = largest_to(n, options.over_ipv6, test::is_v6(packet));
  if (options.clamps) clamp_mss(packet, std::min<size_t>(kOverlayMtu, largest));
  return packet;
}

/// 0 as a sum of a header is 0xffff as well.
inline Bytes comparable(Bytes packet) {
  if (!test::is_v6(packet) && load_be16(&packet[10]) == 0xffff) store_be16(&packet[10], 0);
  return packet;
}

/// An ICMP or ICMPv6 error: whole, no longer than such may be, and its quote begins one of the
/// packets that came.
inline void expect_error_about(const Bytes& error, const std::vector<Bytes>& received) {
  ASSERT_TRUE(is_packet(error, true));
  const bool v6 = test::is_v6(error);
  EXPECT_LE(error.size(), v6 ? kMaxIcmpv6Error : kMaxIcmpError);
  EXPECT_EQ(error[v6 ? 6 : 9], v6 ? 58 : 1);
  const auto quote = std::span(error).subspan(v6 ? 48 : 28);
  EXPECT_TRUE(std::ranges::any_of(received, [&](const Bytes& packet) {
    return packet.size() >= quote.size() && std::equal(quote.begin(), quote.end(), packet.begin());
  }));
}

/// Each packet that leaves a direction, or answers one, is whole.
inline void expect_whole(const Bytes& packet) {
  EXPECT_TRUE(is_well_formed(packet));
}

/// Super-packets and packets with an incomplete checksum of IPv6, as a device hands them over.
inline std::vector<Bytes> super_packets6() {
  std::vector<Bytes> result;
  for (const uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
    for (const size_t options : {0, 8}) {
      for (const uint16_t size : {0, 100}) {
        const Bytes packet =
            test::make({.v6 = true, .protocol = protocol, .ip_options = options, .payload = 350});
        VirtioHeader header{.flags = VirtioHeader::kNeedsChecksum};
        const uint8_t tcp = VirtioHeader::kGsoTcp6;
        if (size > 0) header.gso_type = protocol == 6 ? tcp : VirtioHeader::kGsoUdpL4;
        header.gso_size = size;
        header.csum_start = static_cast<uint16_t>(test::ip_length(packet));
        header.csum_offset =
            static_cast<uint16_t>(test::checksum_place(packet) - test::ip_length(packet));
        result.push_back(test::with_header(header, packet));
      }
    }
  }
  return result;
}

/// Packets of IPv6, from and to the subnets of both peers: as they are, with a hop left or none,
/// larger than a narrow path, in fragments, and with a segment size to clamp.
inline std::vector<Bytes> packets6() {
  std::vector<Bytes> result;
  for (const char* far : {"fd00:10:244:2::2", "fd00:10:244:3::2", "fd00:10:244:9::2"}) {
    test::PacketSpec6 spec{.source = test::ip6(far), .destination = test::ip6(far)};
    for (const uint8_t hops : {uint8_t{0}, uint8_t{1}, uint8_t{64}}) {
      spec.hop_limit = hops;
      result.push_back(test::make_packet6(spec));
    }
    spec.payload = 1300;
    result.push_back(test::make_packet6(spec));
    spec.payload = 24;
    spec.extension = 44;
    spec.extensions = test::fragment_header(17, 8);
    result.push_back(test::make_packet6(spec));
  }
  // Data offset 6, SYN, and an MSS of 1460.
  const Bytes tcp{0x9c, 0x40, 0,    80,   1, 2, 3, 4, 0, 0, 0,    0,
                  0x60, 2,    0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4};
  Bytes syn = test::make_packet6({.source = test::ip6("fd00:10:244:3::2"),
                                  .destination = test::ip6("fd00:10:244:3::2"),
                                  .protocol = 6,
                                  .payload = tcp.size()});
  std::ranges::copy(tcp, syn.end() - static_cast<ptrdiff_t>(tcp.size()));
  test::fill_checksums(syn);
  result.push_back(syn);
  return result;
}

/// What the golden packets send into a direction.
inline std::vector<Bytes> golden_inputs(bool from_device, bool literal) {
  std::vector<Bytes> result;
  const auto folder = std::filesystem::path(__FILE__).parent_path() / "../test/golden";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".txt") continue;
    for (const auto& golden : test::golden::read_cases(entry.path())) {
      if (golden.is_literal() != literal) continue;
      for (const auto& packet : from_device ? golden.from_device : golden.from_peer) {
        if (packet.bytes.size() < 2000) result.push_back(packet.bytes);
      }
    }
  }
  return result;
}

}  // namespace flannel::fuzz
