// TUN -> UDP, whatever the device hands over and whatever the kernel says: every packet is
// accounted for, and each datagram is a whole packet.
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

constexpr int kMostTurns = 200;

struct Sender {
  Sender(FeatureSet features, const Options& options, size_t sockets)
      : side(features, options), udp(sockets, side.udp()) {}

  Side side;
  std::vector<UdpSocket> udp;
  Encap encap{side.tun(),         std::span<const UdpSocket>(udp),
              side.fib.reader(0), {ScriptedKernel::kIcmp, ScriptedKernel::kIcmpv6},
              side.addresses,     side.batch(),
              side.counters,      side.kernel,
              side.clamp};
  int uses = 0;
};

/// The packets without what a device puts before them.
std::vector<Bytes> bare(const std::vector<Bytes>& messages, bool virtio) {
  if (!virtio) return messages;
  std::vector<Bytes> result;
  for (const Bytes& message : messages) {
    const auto front = static_cast<ptrdiff_t>(std::min(message.size(), sizeof(VirtioHeader)));
    result.emplace_back(message.begin() + front, message.end());
  }
  return result;
}

/// Every datagram is a packet that goes to the peer of its destination, every error is about a
/// packet that was read.
void expect_sane(const Side& side, const Options& options, const std::vector<Bytes>& messages) {
  for (const auto& datagram : side.kernel.udp_out) {
    ASSERT_TRUE(is_packet(datagram.payload, options.carries_ipv6));
    EXPECT_GT(datagram.payload[hop_limit_place(datagram.payload)], 0);
    const uint8_t n = destination_peer(datagram.payload);
    ASSERT_NE(n, 0);
    EXPECT_EQ(datagram.to.address(), peer(n, options.over_ipv6).address);
  }
  if (side.kernel.icmp_out.empty()) return;
  const std::vector<Bytes> packets = bare(messages, side.virtio());
  for (const auto& answer : side.kernel.icmp_out) expect_error_about(answer.payload, packets);
}

/// `stops`: the end comes while packets wait. Whether all is as before.
bool encapsulate(Sender& sender, const Options& options, const std::vector<Bytes>& messages,
                 bool stops) {
  Side& side = sender.side;
  const uint8_t features = side.features.get().bits();
  const uint64_t before = side.counters.get(Counter::encap_packets_out);
  const uint64_t stopped = side.counters.get(Counter::encap_stopped);
  side.kernel.tun_in.assign(messages.begin(), messages.end());
  bool drained = false;
  for (int turns = 0; turns < kMostTurns && !drained; turns++) {
    drained = sender.encap.turn() == Turn::drained;
    if (stops) break;
  }
  if (stops) sender.encap.abandon();
  EXPECT_EQ(test::unaccounted(side.counters, "encap"), 0);
  EXPECT_EQ(side.kernel.udp_out.size(), side.counters.get(Counter::encap_packets_out) - before);
  expect_sane(side, options, messages);
  return drained && features == side.features.get().bits() &&
         stopped == side.counters.get(Counter::encap_stopped);
}

/// Runs may overtake each other, but not those of one flow.
using FlowKey = std::pair<bool, uint32_t>;
using SentFlows = std::map<FlowKey, std::vector<Bytes>>;
void file(SentFlows& flows, Bytes packet) {
  const bool v6 = test::is_v6(packet);
  const uint32_t flow = v6 ? Ipv6Packet(packet).flow() : Ipv4Packet(packet).flow();
  flows[{v6, flow}].push_back(comparable(std::move(packet)));
}

void expect_sent(const Sender& sender, const Options& options, const std::vector<Bytes>& packets) {
  SentFlows expected;
  SentFlows found;
  std::vector<Bytes> in_order;
  for (const Bytes& packet : packets) {
    if (!is_forwardable(packet, options.carries_ipv6)) continue;
    const uint8_t n = destination_peer(packet);
    const bool v6 = test::is_v6(packet);
    if (n == 0) continue;
    const bool stays_whole = v6 || (packet[6] & 0x40) != 0;
    if (stays_whole && packet.size() > largest_to(n, options.over_ipv6, v6)) continue;
    in_order.push_back(one_hop(packet, options, n));
    file(expected, in_order.back());
  }
  const auto& sent = sender.side.kernel.udp_out;
  ASSERT_EQ(sent.size(), in_order.size());
  for (size_t i = 0; i < sent.size(); i++) {
    file(found, sent[i].payload);
    if (sender.side.features.get().bits() != 0) continue;
    // One packet a call overtakes none.
    EXPECT_EQ(comparable(sent[i].payload), comparable(in_order[i]));
  }
  EXPECT_EQ(found, expected);
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  static Pipelines<Sender> pipelines;
  Input input(bytes);
  const uint8_t tier = input.byte();
  const uint8_t choice = input.byte();
  // Receiving is no matter of this direction.
  const auto features = FeatureSet::of_bits(
      tier & FeatureSet{Feature::batch, Feature::gso, Feature::tso, Feature::uso}.bits());
  const Options options(choice);
  const size_t sockets = (choice & 8) != 0 ? 2 : 1;
  const bool stops = (tier & 0x80) != 0;
  Faults faults(input);
  const std::vector<Bytes> packets = input.packets();
  const bool calm = !faults.any() && !stops;

  Sender& sender = pipelines.get(size_t{features.bits()} << 1 | (sockets - 1), options, features,
                                 options, sockets);
  sender.side.kernel.send_outcome = [&faults](const Bytes&) { return faults.next(); };
  sender.side.kernel.run_outcome = [&faults](const Bytes&, size_t) { return faults.next(); };
  const bool as_before = encapsulate(sender, options, packets, stops);
  EXPECT_TRUE(as_before || !calm);
  if (calm && !sender.side.virtio()) expect_sent(sender, options, packets);
  if (!as_before) pipelines.forget(sender);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  std::vector<Bytes> packets = golden_inputs(true, false);
  for (const Bytes& packet : packets6()) packets.push_back(packet);
  for (const Bytes& packet : packets) {
    result.push_back(Seed().byte(0).byte(2).byte(0).packet(packet));
    result.push_back(Seed().byte(0x03).byte(0x0f).byte(0).packet(packet).packet(packet));
  }
  std::vector<Bytes> messages = golden_inputs(true, true);
  for (const Bytes& message : super_packets6()) messages.push_back(message);
  for (const Bytes& message : messages) {
    const Bytes faults{2, 4, 2};
    result.push_back(Seed().byte(0x1f).byte(2).byte(0).packet(message));
    result.push_back(Seed().byte(0x1f).byte(7).bytes(faults).packet(message).packet(message));
    result.push_back(Seed().byte(0x9f).byte(10).bytes(faults).packet(message).packet(message));
  }
  return result;
}

}  // namespace flannel::fuzz
