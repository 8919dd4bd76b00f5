// A super-packet with any virtio header: refused, or cut into whole packets that together are its
// payload, each with right checksums.
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

void expect_sums(const Bytes& packet, bool ip_was_right) {
  EXPECT_EQ(test::header_checksum_holds(packet), ip_was_right);
  // Behind IPv6 extension headers it is as good as the sum that came with the super-packet.
  if (test::is_v6(packet) && test::ip_length(packet) > 40) return;
  EXPECT_EQ(test::transport_checksum(packet), 0);
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  VirtioHeader header;
  const Bytes front = input.bytes(sizeof header);
  const Bytes packet = input.rest();
  if (packet.empty()) return;
  std::memcpy(&header, front.data(), front.size());
  if (!is_well_formed(packet)) return;

  HeaderArena arena(8);
  Splitter splitter(arena);
  if (splitter.begin(header, packet) != GsoFault::none) {
    EXPECT_EQ(splitter.remaining(), 0U);
    return;
  }
  const size_t expected = splitter.remaining();
  ASSERT_GT(expected, 0U);
  const bool ip_was_right = test::header_checksum_holds(packet);
  Bytes payload;
  size_t count = 0;
  while (splitter.remaining() > 0) {
    for (Segment segment; splitter.next(segment); count++) {
      Bytes whole(segment.header.begin(), segment.header.end());
      whole.insert(whole.end(), segment.payload.begin(), segment.payload.end());
      expect_whole(whole);
      expect_sums(whole, ip_was_right);
      if (!test::is_v6(packet)) {
        EXPECT_EQ(static_cast<uint16_t>(load_be16(&packet[4]) + count), load_be16(&whole[4]));
      }
      EXPECT_LE(segment.payload.size(), header.gso_size);
      payload.insert(payload.end(), segment.payload.begin(), segment.payload.end());
    }
    arena.reset();
  }
  EXPECT_EQ(count, expected);
  ASSERT_LE(payload.size(), packet.size());
  EXPECT_TRUE(std::equal(payload.rbegin(), payload.rend(), packet.rbegin()));
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (const Bytes& message : golden_inputs(true, true)) result.push_back(Seed().bytes(message));
  for (const Bytes& message : super_packets6()) result.push_back(Seed().bytes(message));
  return result;
}

}  // namespace flannel::fuzz
