// Streams of packets that nearly belong together: what the kernel cuts the super-packets into are
// the packets that came, in their order within each flow.
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

/// More than twice what the largest super-packet holds.
constexpr size_t kMostPackets = 300;
constexpr size_t kMostBytes = size_t{160} << 10;

/// One packet of a stream: as the one before it would go on, but for what the input changes.
Bytes next_packet(Input& input, test::Spec& spec) {
  const uint8_t change = input.byte();
  switch (change % 16) {
    case 0:
      spec.protocol = spec.protocol == 6 ? 17 : 6;
      break;
    case 1:
      spec.source_port = input.byte();
      break;
    case 2:
      spec.ttl = input.byte();
      break;
    case 3:
      spec.tos = input.byte();
      break;
    case 4:
      spec.fragment = input.be16();
      break;
    case 5:
      spec.id = input.be16();
      break;
    case 6:
      spec.sequence = input.be32();
      break;
    case 7:
      spec.flags = input.byte();
      break;
    case 8:
      spec.window = input.byte();
      break;
    case 9:
      spec.timestamp = input.byte();
      break;
    case 10:
      spec.ip_options = size_t{spec.v6 ? 8U : 4U} * (input.byte() % 11U);
      break;
    case 11:
      spec.payload = input.be16() % 9000U;
      break;
    case 12:
      spec.acknowledgement = input.byte();
      break;
    case 13:
      spec.v6 = !spec.v6;
      spec.ip_options -= spec.ip_options % 8;
      break;
    case 14:
      spec.flow_label = input.be16();
      break;
    default:
      break;
  }
  Bytes packet = test::make(spec);
  if (change >= 0xf0) {  // anything may be broken
    const size_t at = input.be16() % packet.size();
    packet[at] = input.byte();
  }
  spec = test::after(spec);
  return packet;
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const uint8_t options = input.byte();
  const MergeOptions merging{.tcp = (options & 1) == 0,
                             .udp = (options & 2) == 0,
                             .max_segments = size_t{1} + (options >> 2)};
  test::Spec spec{.id = 1};
  std::vector<Bytes> packets;
  size_t made = 0;
  while (!input.empty() && packets.size() < kMostPackets && made < kMostBytes) {
    Bytes packet = next_packet(input, spec);
    made += packet.size();
    if (is_well_formed(packet)) packets.push_back(std::move(packet));
  }
  if (packets.empty()) return;

  test::Flows expected;
  test::Flows found;
  for (const Bytes& packet : packets) test::file(expected, packet);
  for (const test::Written& group : test::merge(packets, merging)) {
    EXPECT_LE(group.segments, std::max<size_t>(merging.max_segments, 1));
    for (Bytes& packet : test::split(group)) test::file(found, std::move(packet));
  }
  EXPECT_EQ(test::difference(expected, found), "");
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (uint8_t change = 0; change < 16; change++) {
    Seed seed = Seed().byte(0xfc);
    for (int i = 0; i < 3; i++) seed.byte(15);
    seed.byte(change).be32(0x01020304);
    for (int i = 0; i < 3; i++) seed.byte(15);
    result.push_back(seed);
    result.push_back(Seed().byte(0xfc).byte(13).byte(15).byte(change).be32(0x01020304).byte(15));
    result.push_back(Seed().byte(0).byte(0).byte(15).byte(15).byte(change).be16(0x0040).byte(15));
    result.push_back(
        Seed().byte(8).byte(15).byte(static_cast<uint8_t>(0xf0 | change)).be32(0x00160508));
  }
  return result;
}

}  // namespace flannel::fuzz
