// The pipelines over a scripted kernel, and what has to be true of whatever they do to a packet.
#pragma once

#include "../test/flows.h"
#include "../test/golden/case.h"
#include "../test/merging.h"
#include "../test/pipeline.h"
#include "fuzz.h"

namespace flannel::fuzz {

using test::ip;
using test::ScriptedKernel;

inline constexpr uint32_t kTunnel = ip(10, 244, 1, 0);
/// Small, so that a run is fast and portions are many.
inline constexpr size_t kBatch = 4;
inline constexpr FeatureSet kFull{Feature::batch, Feature::gso, Feature::gro, Feature::tso,
                                  Feature::uso};

/// Of all sides: one is at work at a time.
inline Snapshot<Fib>& table() {
  static Snapshot<Fib> snapshot(
      Fib::build(std::vector<Route>{
          {{ip(10, 244, 2, 0), 24}, {Address::of_ipv4(ip(192, 168, 77, 2)), htons(8285)}},
          {{ip(10, 244, 3, 0), 24}, {Address::of_ipv4(ip(192, 168, 77, 3)), htons(8285)}}}),
      1);
  return snapshot;
}

/// A kernel and counters for one direction.
struct Side {
  explicit Side(FeatureSet set) : features(set) {}

  [[nodiscard]] bool virtio() const {
    return features.has(Feature::tso) || features.has(Feature::uso);
  }
  [[nodiscard]] size_t batch() const { return features.has(Feature::batch) ? kBatch : 1; }
  [[nodiscard]] TunQueue tun() { return {ScriptedKernel::kTun, virtio(), kernel}; }
  [[nodiscard]] UdpSocket udp() { return {ScriptedKernel::kUdp, features, kernel}; }

  ActiveFeatures features;
  ScriptedKernel kernel;
  Counters counters;
  Snapshot<Fib>& fib = table();
};

/// A pipeline with its side. It costs a megabyte to make, so it is used again for as long as the
/// kernel is calm: then a turn leaves it as it was.
template <typename Pipeline>
Pipeline& reused(FeatureSet features) {
  static std::map<uint8_t, std::unique_ptr<Pipeline>> all;
  auto& pipeline = all[features.bits()];
  if (pipeline == nullptr) pipeline = std::make_unique<Pipeline>(features);
  pipeline->side.kernel.udp_out.clear();
  pipeline->side.kernel.tun_out.clear();
  pipeline->side.kernel.icmp_out.clear();
  return *pipeline;
}

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

/// Whether a router passes the packet on, by the words of RFC 1812 rather than by our code.
inline bool is_forwardable(const Bytes& packet) {
  if (packet.size() < 20 || packet[0] >> 4 != 4) return false;
  const size_t header = size_t{4} * (packet[0] & 15U);
  if (header < 20 || header > packet.size()) return false;
  const size_t total = size_t{packet[2]} << 8 | packet[3];
  return total >= header && total == packet.size() && packet[8] > 1;
}

/// The same packet, one hop further: all else as it was, and the header's sum, too.
inline void expect_one_hop(Bytes before, Bytes after) {
  ASSERT_EQ(after.size(), before.size());
  EXPECT_EQ(after[8], before[8] - 1);
  const size_t header = test::ip_length(before);
  const auto sum = [header](const Bytes& packet) {
    return test::checksum({packet.data(), header}) % 0xffff;
  };
  EXPECT_EQ(sum(after), sum(before));
  for (Bytes* packet : {&before, &after}) {
    (*packet)[8] = 0;
    store_be16(&(*packet)[10], 0);
  }
  EXPECT_EQ(after, before);
}

/// Each packet that leaves a direction, or answers one, is whole.
inline void expect_whole(const Bytes& packet) {
  EXPECT_EQ(Ipv4Packet::check(packet), Ipv4Fault::none);
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
