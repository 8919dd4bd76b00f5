// Tiers differ in how they ask the kernel, never in what they do to a packet: one seeded stream
// through `basic` and through `batch` gives the same packets, in the same order, and the same
// counters.
#include <random>

#include "pipeline.h"

namespace flannel::test {
namespace {

constexpr size_t kPackets = 20'000;
constexpr uint32_t kTunnel = ip(10, 244, 1, 0);

/// Good packets of all sizes and flows, and a fair share of broken ones.
std::deque<Bytes> stream(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::deque<Bytes> packets;
  for (size_t i = 0; i < kPackets; i++) {
    PacketSpec spec;
    spec.source =
        ip(10, 244, static_cast<uint8_t>(2 + random() % 3), static_cast<uint8_t>(random()));
    spec.destination =
        ip(10, 244, static_cast<uint8_t>(2 + random() % 3), static_cast<uint8_t>(random()));
    spec.ttl = static_cast<uint8_t>(random() % 20 == 0 ? random() % 3 : 64);
    spec.protocol = static_cast<uint8_t>(random() % 20);
    spec.fragment = static_cast<uint16_t>(random() % 8 == 0 ? random() : 0x4000);
    spec.options = random() % 8 == 0 ? random() % 11 * 4 : 0;
    spec.payload = random() % 4 == 0 ? random() % 9000 : random() % 200;
    spec.first_payload_byte = static_cast<uint8_t>(random());
    Bytes packet = make_packet(spec);
    if (random() % 10 == 0) packet.resize(random() % (packet.size() + 1));
    if (random() % 10 == 0 && !packet.empty())
      packet[random() % packet.size()] = static_cast<uint8_t>(random());
    packets.push_back(std::move(packet));
  }
  return packets;
}

/// FNV-1a over every packet that left, with its length, so that borders count.
class Hash {
 public:
  void add(const Bytes& bytes) {
    size_t length = bytes.size();
    for (int i = 0; i < 4; i++, length >>= 8) mix(static_cast<uint8_t>(length));
    for (uint8_t byte : bytes) mix(byte);
  }
  [[nodiscard]] uint64_t value() const { return value_; }

 private:
  void mix(uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001b3; }
  uint64_t value_ = 0xcbf29ce484222325;
};

struct Outcome {
  uint64_t encapsulated;
  uint64_t decapsulated;
  size_t written;
  CounterDifference counters;
  bool operator==(const Outcome&) const = default;
};

Outcome run(uint64_t seed, size_t batch_size) {
  ScriptedKernel kernel;
  Counters counters;
  Snapshot<Fib> fib(
      Fib::build(std::vector<Route>{
          {{ip(10, 244, 2, 0), 24}, {Address::of_ipv4(ip(192, 0, 2, 2)), htons(8285)}},
          {{ip(10, 244, 3, 0), 24}, {Address::of_ipv4(ip(192, 0, 2, 3)), htons(8285)}}}),
      2);
  const TunQueue tun(ScriptedKernel::kTun, false, kernel);
  ActiveFeatures features(batch_size > 1 ? FeatureSet{Feature::batch} : FeatureSet{});
  const UdpSocket udp(ScriptedKernel::kUdp, features, kernel);
  Encap encap(tun, udp, fib.reader(0), {ScriptedKernel::kIcmp}, {kTunnel}, batch_size, counters,
              kernel);
  kernel.tun_in = stream(seed);
  while (encap.turn() == Turn::more) {
  }
  Hash encapsulated;
  for (const auto& sent : kernel.udp_out) encapsulated.add(sent.payload);

  kernel.udp_out.clear();
  Decap decap(udp, tun, fib.reader(1), {kTunnel}, batch_size, features, counters);
  kernel.udp_in = stream(seed + 1'000'000);
  while (decap.turn() == Turn::more) {
  }
  Hash decapsulated;
  for (const auto& packet : kernel.tun_out) decapsulated.add(packet);
  EXPECT_EQ(unaccounted(counters, "encap"), 0);
  EXPECT_EQ(unaccounted(counters, "decap"), 0);
  return {encapsulated.value(), decapsulated.value(), kernel.tun_out.size(), counted(counters)};
}

TEST(Tiers, BasicAndBatchDoTheSame) {
  for (uint64_t seed = 0; seed < 10; seed++) {
    SCOPED_TRACE(seed);
    const Outcome basic = run(seed, 1);
    EXPECT_EQ(run(seed, kBatchSize), basic);
    EXPECT_GT(basic.counters.at("encap_packets_out"), kPackets / 3);
    EXPECT_GT(basic.counters.at("decap_packets_out"), kPackets / 3);
    EXPECT_GT(basic.counters.at("decap_bad_length"), 100U);
  }
}

}  // namespace
}  // namespace flannel::test
