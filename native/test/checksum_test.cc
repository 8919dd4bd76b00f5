#include "checksum.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "packets.h"

namespace flannel::test {
namespace {

constexpr size_t kRounds = 100'000;

/// One byte at a time, as RFC 1071 defines it; 0xffff and 0 are one number in its arithmetic.
uint16_t oracle(std::span<const uint8_t> bytes) {
  return static_cast<uint16_t>(~checksum(bytes));
}

Bytes random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

/// Mostly packets, sometimes the short lengths at which loops change over.
size_t random_length(std::mt19937_64& random) {
  return random() % 4 == 0 ? random() % 1600 : random() % 300;
}

TEST(Checksum, EveryImplementationAgreesWithTheOracle) {
  const Bytes bytes = random_bytes(4096, 1);
  for (const auto& implementation : checksum_implementations()) {
    SCOPED_TRACE(implementation.name);
    std::mt19937_64 random(2);
    for (size_t i = 0; i < kRounds; i++) {
      const auto piece = std::span(bytes).subspan(random() % 64, random_length(random));
      ASSERT_EQ(implementation.folded_sum(piece), oracle(piece)) << piece.size();
    }
  }
}

TEST(Checksum, NoCarryIsLostInTheLongestPacket) {
  for (const auto& implementation : checksum_implementations()) {
    SCOPED_TRACE(implementation.name);
    for (size_t size : {65535U, 65534U, 65533U, 65504U}) {
      for (uint8_t fill : {0x00, 0xff, 0x80}) {
        const Bytes bytes(size, fill);
        ASSERT_EQ(implementation.folded_sum(bytes), oracle(bytes)) << size << " × " << int{fill};
      }
      const Bytes bytes = random_bytes(size, size);
      ASSERT_EQ(implementation.folded_sum(bytes), oracle(bytes)) << size;
    }
  }
}

TEST(Checksum, ReadsNothingBeyondItsBytes) {
  for (const auto& implementation : checksum_implementations()) {
    EXPECT_EQ(implementation.folded_sum({}), 0);
    for (size_t size = 1; size < 300; size++) {
      const auto bytes = std::make_unique<uint8_t[]>(size);  // exact, for AddressSanitizer
      EXPECT_EQ(implementation.folded_sum({bytes.get(), size}), 0);
    }
  }
}

TEST(Checksum, PiecesOfAnyLengthAddUpToTheWhole) {
  const Bytes bytes = random_bytes(4096, 3);
  std::mt19937_64 random(4);
  for (size_t i = 0; i < kRounds; i++) {
    const auto whole = std::span(bytes).subspan(random() % 64, random_length(random));
    uint64_t sum = 0;
    for (size_t position = 0; position < whole.size();) {
      const size_t length = std::min<size_t>(whole.size() - position, random() % 500);
      sum = checksum_add(whole.subspan(position, length), sum, position);
      position += length;
    }
    ASSERT_EQ(checksum_fold(sum), oracle(whole));
  }
}

TEST(Checksum, CountsWordsAsTheyAreOnTheWire) {
  const Bytes rfc1071{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};  // its section 3
  EXPECT_EQ(checksum_fold(checksum_add(rfc1071, 0)), 0xddf2);
  EXPECT_EQ(checksum_fold(checksum_add(Bytes{0x12}, 0x0034)), 0x1234);
  EXPECT_EQ(checksum_fold(checksum_add(Bytes{0x12}, 0, 1)), 0x0012);
}

TEST(Checksum, FoldsAnySum) {
  EXPECT_EQ(checksum_fold(0), 0);
  EXPECT_EQ(checksum_fold(0xffff), 0xffff);
  EXPECT_EQ(checksum_fold(0x10000), 1);
  EXPECT_EQ(checksum_fold(0x1fffe), 0xffff);
  EXPECT_EQ(checksum_fold(UINT64_MAX), 0xffff);
  std::mt19937_64 random(5);
  for (size_t i = 0; i < kRounds; i++) {
    const uint64_t sum = random() >> (random() % 64);
    ASSERT_EQ(checksum_fold(sum) % 0xffff, sum % 0xffff) << sum;
  }
}

TEST(Checksum, UdpNeverSaysThatItHasNone) {
  EXPECT_EQ(checksum_finish(0xffff), 0);
  EXPECT_EQ(checksum_finish_udp(0xffff), 0xffff);
  EXPECT_EQ(checksum_finish_udp(0xfffe), 1);
}

TEST(Checksum, PseudoHeadersEqualTheirBytes) {
  const Bytes v4{10, 244, 1, 2, 10, 244, 2, 3, 0, 17, 0x12, 0x34};
  EXPECT_EQ(checksum_fold(checksum_pseudo_ipv4(ip(10, 244, 1, 2), ip(10, 244, 2, 3), 17, 0x1234)),
            oracle(v4));

  Bytes v6 = random_bytes(40, 6);
  store_be32(&v6[32], 0x00012345);
  store_be32(&v6[36], 6);
  const std::span<const uint8_t> all(v6);
  EXPECT_EQ(checksum_fold(checksum_pseudo_ipv6(all.first<32>(), 6, 0x12345)), oracle(v6));
}

}  // namespace
}  // namespace flannel::test
