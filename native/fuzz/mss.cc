// Any packet clamped: nothing changes but its TCP header, whose checksum stays as right or wrong as
// it was; once clamped, it is clamped for good; and what needs no clamping is not touched.
#include "mss.h"

#include "checksum.h"
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

bool has_whole_header(const Bytes& packet) {
  if (packet.empty()) return false;
  if (packet[0] >> 4 == 6) return packet.size() >= 40;
  return Ipv4Packet::check(packet) == Ipv4Fault::none;
}

/// Modulo 0xffff, as one's-complement sums are.
unsigned sum(const Bytes& bytes) {
  return checksum_fold(checksum_add(bytes, 0)) % 0xffffU;
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const size_t largest = input.be16();
  const Bytes before = input.rest();
  if (!has_whole_header(before)) return;
  const size_t ip = before[0] >> 4 == 6 ? 40 : ip_header_length(before);

  Bytes after = before;
  clamp_mss(after, largest);
  ASSERT_EQ(after.size(), before.size());
  EXPECT_EQ(sum(after), sum(before));
  EXPECT_TRUE(
      std::equal(before.begin(), before.begin() + static_cast<ptrdiff_t>(ip), after.begin()));
  size_t changed = 0;
  for (size_t i = ip; i < before.size(); i++) changed += before[i] != after[i] ? 1 : 0;
  EXPECT_LE(changed, 2 + 40 / 4 * 2) << "a checksum, and as many options as a header has room for";

  Bytes again = after;
  clamp_mss(again, largest);
  EXPECT_EQ(again, after);
  // A packet with no room for a byte beside its headers clamps nothing.
  const size_t headers = before[0] >> 4 == 6 ? 60 : 40;
  if (largest > headers) {
    Bytes larger = after;
    clamp_mss(larger, largest + 1);
    EXPECT_EQ(larger, after);
  } else {
    EXPECT_EQ(after, before);
  }
  Bytes any = before;
  clamp_mss(any, UINT16_MAX + 60);
  EXPECT_EQ(any, before);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  // Data offset 7: an MSS of 1460, an end of options after a NOP, and 3 bytes of payload.
  const Bytes tcp{0x9c, 0x40, 0, 80, 1, 2, 3, 4,    0, 0, 0, 0, 0x70, 2,   0xfa, 0xf0,
                  0,    0,    0, 0,  2, 4, 5, 0xb4, 1, 0, 0, 0, 'a',  'b', 'c'};
  Bytes ipv4 = test::make_packet({.protocol = 6, .payload = tcp.size()});
  std::ranges::copy(tcp, ipv4.end() - static_cast<ptrdiff_t>(tcp.size()));
  Bytes ipv6(40);
  ipv6[0] = 0x60;
  store_be16(&ipv6[4], static_cast<uint16_t>(tcp.size()));
  ipv6[6] = 6;
  ipv6.insert(ipv6.end(), tcp.begin(), tcp.end());
  for (const Bytes& packet : {ipv4, ipv6}) {
    result.push_back(Seed().be16(1372).bytes(packet));
    result.push_back(Seed().be16(100).bytes(packet));
  }
  for (const Bytes& packet : golden_inputs(false, false)) {
    result.push_back(Seed().be16(1372).bytes(packet));
  }
  return result;
}

}  // namespace flannel::fuzz
