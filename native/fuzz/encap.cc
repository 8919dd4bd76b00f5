// TUN -> UDP, whatever the device hands over and whatever the kernel says: every packet is
// accounted for, and each datagram is a whole packet.
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

constexpr int kMostTurns = 200;

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const uint8_t tier = input.byte();
  Side side(FeatureSet::of_bits(tier & 0x1f));
  Faults faults(input);
  const bool calm = !faults.any();
  side.kernel.send_outcome = [&faults](const Bytes&) { return faults.next(); };
  side.kernel.run_outcome = [&faults](const Bytes&, size_t) { return faults.next(); };
  const std::vector<Bytes> packets = input.packets();
  side.kernel.tun_in.assign(packets.begin(), packets.end());

  const TunQueue tun(ScriptedKernel::kTun, side.virtio(), side.kernel);
  Encap encap(tun, side.udp(), side.fib.reader(0), ScriptedKernel::kIcmp, kTunnel, side.batch(),
              side.counters, side.kernel);
  for (int turns = 0; turns < kMostTurns; turns++) {
    if (encap.turn() == Turn::drained) break;
    if ((tier & 0x80) != 0) break;  // the end comes while packets wait
  }
  encap.abandon();
  EXPECT_EQ(test::unaccounted(side.counters, "encap"), 0);
  EXPECT_EQ(side.kernel.udp_out.size(), side.counters.get(Counter::encap_packets_out));
  for (const auto& datagram : side.kernel.udp_out) {
    expect_whole(datagram.payload);
    EXPECT_GT(datagram.payload[8], 0);
    EXPECT_EQ(datagram.payload[16] << 8 | datagram.payload[17], 10 << 8 | 244);
  }
  for (const auto& answer : side.kernel.icmp_out) expect_whole(answer.payload);

  if (side.virtio() || !calm || (tier & 0x80) != 0) return;
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
