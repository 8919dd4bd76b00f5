// Every way to sum that this processor has, and sums in two pieces, against the definition.
#include "checksum.h"

#include "fuzz.h"

namespace flannel::fuzz {

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const size_t offset = input.byte() % 32U;
  const size_t border = input.be16();
  const Bytes all = input.rest();
  const auto data = std::span<const uint8_t>(all).subspan(std::min(offset, all.size()));
  const auto expected = static_cast<uint16_t>(~test::checksum(data));
  for (const ChecksumImplementation& way : checksum_implementations()) {
    EXPECT_EQ(way.folded_sum(data) % 0xffff, expected % 0xffff) << way.name;
  }
  EXPECT_EQ(checksum_fold(checksum_add(data, 0)), expected);
  const auto first = data.first(std::min(border, data.size()));
  const uint64_t sum = checksum_add(first, 0);
  EXPECT_EQ(checksum_fold(checksum_add(data.subspan(first.size()), sum, first.size())) % 0xffff,
            expected % 0xffff);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (const size_t size : {0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1400}) {
    for (const uint8_t fill : {0x00, 0x5a, 0xff}) {
      result.push_back(
          Seed().byte(fill % 7).be16(static_cast<uint16_t>(size / 2)).bytes(Bytes(size, fill)));
    }
  }
  return result;
}

}  // namespace flannel::fuzz
