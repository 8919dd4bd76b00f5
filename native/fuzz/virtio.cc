// The virtio header of a packet that is no super-packet: its checksum is completed as the header
// says, or the packet is refused and stays as it was.
#include "forwarding.h"

namespace flannel::fuzz {

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  ScriptedKernel kernel;
  kernel.tun_in.push_back(input.rest());
  const Bytes message = kernel.tun_in.front();
  TunQueue tun(ScriptedKernel::kTun, true, kernel);
  PacketPool pool(1);
  std::vector<TunPacket> packets;
  ASSERT_EQ(tun.read(pool, packets).count, 1U);
  const TunPacket& read = packets.front();
  ASSERT_EQ(read.bytes.size(),
            std::max(message.size(), sizeof(VirtioHeader)) - sizeof(VirtioHeader));
  if (!is_well_formed(read.bytes)) return;

  // On the heap and no byte more.
  const Bytes before(read.bytes.begin(), read.bytes.end());
  Bytes after = before;
  const VirtioHeader& header = read.header;
  const bool wanted = (header.flags & VirtioHeader::kNeedsChecksum) != 0;
  const bool done = complete_checksum(header, after) == GsoFault::none && wanted;
  if (!done) {
    EXPECT_EQ(after, before);
    return;
  }
  const size_t place = size_t{header.csum_start} + header.csum_offset;
  EXPECT_GE(header.csum_start, test::is_v6(before) ? 40 : test::ip_length(before));
  const uint16_t sum = test::checksum(std::span(before).subspan(header.csum_start));
  EXPECT_EQ(load_be16(&after[place]), sum == 0 ? 0xffff : sum);
  store_be16(&after[place], load_be16(&before[place]));
  EXPECT_EQ(after, before);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (const Bytes& message : golden_inputs(true, true)) result.push_back(Seed().bytes(message));
  for (const Bytes& message : super_packets6()) result.push_back(Seed().bytes(message));
  return result;
}

}  // namespace flannel::fuzz
