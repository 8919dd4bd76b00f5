// Merging and splitting are inverse on everything that may be merged; the rest passes untouched.
#include <map>
#include <random>

#include "merging.h"

namespace flannel::test {
namespace {

/// Flows of all kinds, with whatever can happen to a packet now and then.
class Traffic {
 public:
  Traffic(uint64_t seed, size_t flows) : random_(seed) {
    for (size_t i = 0; i < flows; i++) {
      Spec spec{.protocol = static_cast<uint8_t>(chance(2) ? 6 : 17)};
      spec.source = ip(10, 244, 1, static_cast<uint8_t>(random_() % 4));
      spec.source_port = static_cast<uint16_t>(i);
      spec.fragment = chance(3) ? 0 : kDontFragment;
      spec.id = static_cast<uint16_t>(random_());
      spec.sequence = static_cast<uint32_t>(random_());
      spec.payload = random_() % 1400 + 1;
      flows_.push_back(spec);
      fixed_id_.push_back(chance(3));
    }
  }

  Bytes next() {
    if (chance(3)) current_ = random_() % flows_.size();
    Spec& flow = flows_[current_];
    Spec sent = flow;
    sent.fill = static_cast<uint8_t>(random_());
    if (chance(40)) sent.payload = random_() % 1400;
    if (chance(60)) sent.ttl = static_cast<uint8_t>(random_() % 3 + 60);
    if (chance(60)) sent.fragment = static_cast<uint16_t>(random_());
    if (chance(60)) sent.ip_options = random_() % 3 * 4;
    if (chance(30)) sent.flags = static_cast<uint8_t>(random_());
    if (chance(30)) sent.flags |= kPsh;
    if (chance(40)) flow.timestamp = sent.timestamp = static_cast<uint32_t>(random_() % 2);
    if (chance(40)) flow.window = sent.window = static_cast<uint16_t>(random_() % 2);
    Bytes packet = make(sent);
    if (chance(50)) packet[10 + random_() % (packet.size() - 10)] ^= 1U << random_() % 8;

    const uint16_t id = flow.id;
    flow.sequence += static_cast<uint32_t>(sent.payload);
    if (chance(50)) flow.sequence += 10;
    flow.id = fixed_id_[current_] ? id : static_cast<uint16_t>(id + (chance(50) ? 2 : 1));
    return packet;
  }

  bool chance(uint64_t one_in) { return random_() % one_in == 0; }

 private:
  std::mt19937_64 random_;
  std::vector<Spec> flows_;
  std::vector<bool> fixed_id_;
  size_t current_ = 0;
};

/// What may not be reordered: addresses, protocol, and ports where there are any.
Bytes flow_of(const Bytes& packet) {
  Bytes flow(packet.begin() + 9, packet.begin() + 10);
  flow.insert(flow.end(), packet.begin() + 12, packet.begin() + 20);
  const auto transport = packet.begin() + static_cast<ptrdiff_t>(ip_length(packet));
  const bool fragment = (load_be16(&packet[6]) & 0x3fff) != 0;
  if (!fragment && packet.end() - transport >= 4) flow.insert(flow.end(), transport, transport + 4);
  return flow;
}

std::map<Bytes, std::vector<Bytes>> by_flow(const std::vector<Bytes>& packets) {
  std::map<Bytes, std::vector<Bytes>> flows;
  for (const auto& packet : packets) flows[flow_of(packet)].push_back(packet);
  return flows;
}

TEST(RoundTrip, SplittingGivesBackWhatWasMerged) {
  size_t total = 0;
  size_t groups = 0;
  for (uint64_t seed = 0; seed < 400; seed++) {
    SCOPED_TRACE(seed);
    Traffic traffic(seed, seed % 50 + 1);
    std::vector<Bytes> packets;
    while (packets.size() < 64 + seed) {
      Bytes packet = traffic.next();
      if (Ipv4Packet::check(packet) == Ipv4Fault::none) packets.push_back(std::move(packet));
    }
    std::vector<Bytes> back;
    for (const auto& written : merge(packets)) {
      groups++;
      for (auto& packet : split(written)) back.push_back(std::move(packet));
    }
    ASSERT_EQ(back.size(), packets.size());
    ASSERT_EQ(by_flow(back), by_flow(packets));
    total += packets.size();
  }
  EXPECT_LT(groups, total * 2 / 3) << "the traffic is too wild to test merging";
}

/// More flows than the table of groups has room for: less is merged, nothing is lost.
TEST(RoundTrip, ManyFlows) {
  std::vector<Spec> flows(1000);
  for (size_t i = 0; i < flows.size(); i++) flows[i].source_port = static_cast<uint16_t>(i);
  std::vector<Bytes> packets;
  for (int i = 0; i < 3; i++) {
    for (auto& flow : flows) {
      packets.push_back(make(flow));
      flow = after(flow);
    }
  }
  std::vector<Bytes> back;
  for (const auto& written : merge(packets)) {
    for (auto& packet : split(written)) back.push_back(std::move(packet));
  }
  EXPECT_EQ(by_flow(back), by_flow(packets));
}

TEST(RoundTrip, MostOf64InterleavedFlowsFindTheirGroup) {
  std::vector<Spec> flows(64);
  for (size_t i = 0; i < flows.size(); i++) flows[i].source_port = static_cast<uint16_t>(40000 + i);
  std::vector<Bytes> packets;
  for (int i = 0; i < 8; i++) {
    for (auto& flow : flows) {
      packets.push_back(make(flow));
      flow = after(flow);
    }
  }
  EXPECT_LE(merge(packets).size(), 70U);
}

/// Random bytes behind a valid IPv4 header; AddressSanitizer watches the borders.

}  // namespace
}  // namespace flannel::test
