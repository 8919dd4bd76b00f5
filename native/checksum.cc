#include "checksum.h"

#include <array>
#include <bit>
#include <cstring>
#include <iterator>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The sum of words read in the host's byte order is the byte-swapped sum of words in network order
// (RFC 1071, section 2 (B)), and words may be added several at a time (section 2 (C)). So the loops
// below add what the host loads cheapest, and the bytes are swapped once, at the end.

namespace flannel {
namespace {

/// Shorter than this, setting up vectors costs more than they save.
constexpr size_t kVectorMinimum = 128;

template <typename Word>
uint64_t load(const uint8_t* p) noexcept {
  Word value = 0;
  std::memcpy(&value, p, sizeof value);
  return value;
}

uint16_t swap_bytes(uint16_t value) noexcept {
  return static_cast<uint16_t>(value << 8 | value >> 8);
}

uint16_t native_to_network(uint16_t sum) noexcept {
  return std::endian::native == std::endian::little ? swap_bytes(sum) : sum;
}

/// The halves of 64-bit words are added apart, so that no carry can get lost: that would take 2^32
/// words.
uint64_t halves(uint64_t value) noexcept {
  return (value & 0xffffffff) + (value >> 32);
}

/// Sum of fewer than 8 bytes in the host's order, as if a zero followed an odd last byte.
uint64_t native_tail(const uint8_t* p, size_t length) noexcept {
  uint64_t sum = 0;
  if (length >= 4) {
    sum += load<uint32_t>(p);
    p += 4;
    length -= 4;
  }
  if (length >= 2) {
    sum += load<uint16_t>(p);
    p += 2;
    length -= 2;
  }
  if (length == 1) sum += std::endian::native == std::endian::little ? *p : *p << 8;
  return sum;
}

uint64_t native_sum(const uint8_t* p, size_t length) noexcept {
  uint64_t a = 0;
  uint64_t b = 0;
  for (; length >= 32; length -= 32, p += 32) {
    a += halves(load<uint64_t>(p)) + halves(load<uint64_t>(p + 8));
    b += halves(load<uint64_t>(p + 16)) + halves(load<uint64_t>(p + 24));
  }
  for (; length >= 8; length -= 8, p += 8) a += halves(load<uint64_t>(p));
  return a + b + native_tail(p, length);
}

uint16_t sum_scalar(std::span<const uint8_t> bytes) noexcept {
  return native_to_network(checksum_fold(native_sum(bytes.data(), bytes.size())));
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) uint16_t sum_avx2(std::span<const uint8_t> bytes) noexcept {
  const uint8_t* p = bytes.data();
  size_t length = bytes.size();
  const __m256i low = _mm256_set1_epi64x(0xffffffff);
  __m256i a = _mm256_setzero_si256();
  __m256i b = _mm256_setzero_si256();
  __m256i c = _mm256_setzero_si256();
  __m256i d = _mm256_setzero_si256();
  for (; length >= 64; length -= 64, p += 64) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32));
    a = _mm256_add_epi64(a, _mm256_and_si256(x, low));
    b = _mm256_add_epi64(b, _mm256_srli_epi64(x, 32));
    c = _mm256_add_epi64(c, _mm256_and_si256(y, low));
    d = _mm256_add_epi64(d, _mm256_srli_epi64(y, 32));
  }
  const __m256i sums = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
  std::array<uint64_t, 4> lanes{};
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes.data()), sums);
  const uint64_t sum = lanes[0] + lanes[1] + lanes[2] + lanes[3] + native_sum(p, length);
  return native_to_network(checksum_fold(sum));
}
#elif defined(__aarch64__)
uint16_t sum_neon(std::span<const uint8_t> bytes) noexcept {
  const uint8_t* p = bytes.data();
  size_t length = bytes.size();
  uint64x2_t a = vdupq_n_u64(0);
  uint64x2_t b = vdupq_n_u64(0);
  for (; length >= 32; length -= 32, p += 32) {
    a = vpadalq_u32(a, vreinterpretq_u32_u8(vld1q_u8(p)));
    b = vpadalq_u32(b, vreinterpretq_u32_u8(vld1q_u8(p + 16)));
  }
  const uint64_t sum = vaddvq_u64(vaddq_u64(a, b)) + native_sum(p, length);
  return native_to_network(checksum_fold(sum));
}
#endif

constexpr ChecksumImplementation kImplementations[] = {
    {"scalar", sum_scalar},
#if defined(__x86_64__)
    {"avx2", sum_avx2},
#elif defined(__aarch64__)
    {"neon", sum_neon},
#endif
};

size_t count_available() noexcept {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") ? 2 : 1;
#else
  return std::size(kImplementations);  // NEON is part of AArch64
#endif
}

uint16_t sum_long(std::span<const uint8_t> bytes) noexcept {
  static const auto fastest = checksum_implementations().back().folded_sum;
  return fastest(bytes);
}

}  // namespace

std::span<const ChecksumImplementation> checksum_implementations() noexcept {
  return std::span<const ChecksumImplementation>(kImplementations).first(count_available());
}

uint64_t checksum_add(std::span<const uint8_t> bytes, uint64_t sum, size_t position) noexcept {
  const uint16_t piece = bytes.size() < kVectorMinimum ? sum_scalar(bytes) : sum_long(bytes);
  return sum + (position % 2 == 0 ? piece : swap_bytes(piece));
}

uint64_t checksum_pseudo_ipv6(std::span<const uint8_t, 32> addresses, uint8_t protocol,
                              uint32_t length) noexcept {
  return checksum_add(addresses, uint64_t{length} + protocol);
}

}  // namespace flannel
