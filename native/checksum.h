// The internet checksum (RFC 1071): one's-complement sums of 16-bit words.
//
// A `sum` here is a uint64_t that counts the words as the numbers they are on the wire, the first
// byte being the high one, on any host. So values from load_be16() can simply be added to it, and
// what checksum_fold() returns goes through store_be16(). It cannot overflow: a call adds at most
// 0xffff to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flannel {

/// `sum` plus the words of `bytes`; an odd last byte counts as if a zero followed. `position` is
/// where `bytes` starts in the whole that is summed. Only its parity matters, for a piece after an
/// odd number of bytes: there each byte has the other place in its word.
uint64_t checksum_add(std::span<const uint8_t> bytes, uint64_t sum, size_t position = 0) noexcept;

/// The 16-bit one's-complement sum: 0xffff over data whose checksum is in place and right. 0 only
/// if everything summed was 0.
constexpr uint16_t checksum_fold(uint64_t sum) noexcept {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

/// What the checksum field has to hold.
constexpr uint16_t checksum_finish(uint64_t sum) noexcept {
  return static_cast<uint16_t>(~checksum_fold(sum));
}

/// The same for UDP, where 0 says "no checksum" and a computed 0 is sent as all ones (RFC 768).
constexpr uint16_t checksum_finish_udp(uint64_t sum) noexcept {
  const uint16_t checksum = checksum_finish(sum);
  return checksum == 0 ? 0xffff : checksum;
}

/// Sum of the pseudo-header for TCP and UDP over IPv4 (RFC 9293 section 3.1, RFC 768). Addresses as
/// load_be32() reads them; `length` is that of the transport header and its payload.
constexpr uint64_t checksum_pseudo_ipv4(uint32_t source, uint32_t destination, uint8_t protocol,
                                        uint32_t length) noexcept {
  return uint64_t{source >> 16} + (source & 0xffff) + (destination >> 16) + (destination & 0xffff) +
         protocol + length;
}

/// The same over IPv6 (RFC 8200 section 8.1). `addresses`: source and destination, as they stand in
/// the header.
uint64_t checksum_pseudo_ipv6(std::span<const uint8_t, 32> addresses, uint8_t protocol,
                              uint32_t length) noexcept;

/// One way to compute the fold of the sum of `bytes`. For tests and benchmarks; checksum_add()
/// takes the fastest this processor has.
struct ChecksumImplementation {
  const char* name;
  uint16_t (*folded_sum)(std::span<const uint8_t> bytes) noexcept;
};

/// Those which this processor can run, `scalar` first.
std::span<const ChecksumImplementation> checksum_implementations() noexcept;

}  // namespace flannel
