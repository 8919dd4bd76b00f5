// TUN -> UDP, whatever the device hands over and whatever the kernel says: every packet is
// accounted for, and each datagram is a whole packet.
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

constexpr int kMostTurns = 200;

struct Sender {
  explicit Sender(FeatureSet features) : side(features) {}
  Side side;
  Encap encap{side.tun(), side.udp(),   side.fib.reader(0), {ScriptedKernel::kIcmp},
              {kTunnel},  side.batch(), side.counters,      side.kernel};
};

/// `stops`: the end comes while packets wait.
void encapsulate(Sender& sender, const std::vector<Bytes>& packets, bool stops) {
  Side& side = sender.side;
  const uint64_t before = side.counters.get(Counter::encap_packets_out);
  side.kernel.tun_in.assign(packets.begin(), packets.end());
  for (int turns = 0; turns < kMostTurns; turns++) {
    if (sender.encap.turn() == Turn::drained || stops) break;
  }
  if (stops) sender.encap.abandon();
  EXPECT_EQ(test::unaccounted(side.counters, "encap"), 0);
  EXPECT_EQ(side.kernel.udp_out.size(), side.counters.get(Counter::encap_packets_out) - before);
  for (const auto& datagram : side.kernel.udp_out) {
    expect_whole(datagram.payload);
    EXPECT_GT(datagram.payload[8], 0);
    EXPECT_EQ(load_be16(&datagram.payload[16]), 10 << 8 | 244);
  }
  for (const auto& answer : side.kernel.icmp_out) expect_whole(answer.payload);
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const uint8_t tier = input.byte();
  const auto features = FeatureSet::of_bits(tier & 0x1f);
  const bool stops = (tier & 0x80) != 0;
  Faults faults(input);
  const std::vector<Bytes> packets = input.packets();
  if (faults.any() || stops) {
    Sender troubled(features);
    troubled.side.kernel.send_outcome = [&faults](const Bytes&) { return faults.next(); };
    troubled.side.kernel.run_outcome = [&faults](const Bytes&, size_t) { return faults.next(); };
    return encapsulate(troubled, packets, stops);
  }
  auto& sender = reused<Sender>(features);
  encapsulate(sender, packets, false);
  const Side& side = sender.side;
  if (side.virtio()) return;
  size_t next = 0;
  for (const Bytes& packet : packets) {
    const bool has_route = packet.size() >= 20 && (load_be32(&packet[16]) >> 8 == 0x0af402 ||
                                                   load_be32(&packet[16]) >> 8 == 0x0af403);
    if (!is_forwardable(packet) || !has_route) continue;
    ASSERT_LT(next, side.kernel.udp_out.size());
    // Runs may overtake each other; one packet a call does not.
    if (tier == 0) expect_one_hop(packet, side.kernel.udp_out[next].payload);
    next++;
  }
  EXPECT_EQ(next, side.kernel.udp_out.size());
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (const Bytes& packet : golden_inputs(true, false)) {
    result.push_back(Seed().byte(0).byte(0).packet(packet));
    result.push_back(Seed().byte(0x03).byte(0).packet(packet));
  }
  for (const Bytes& message : golden_inputs(true, true)) {
    result.push_back(Seed().byte(0x1f).byte(0).packet(message));
    result.push_back(Seed().byte(0x1f).byte(2).byte(4).byte(2).packet(message).packet(message));
    result.push_back(Seed().byte(0x9f).byte(2).byte(2).byte(2).packet(message).packet(message));
  }
  return result;
}

}  // namespace flannel::fuzz
