// TCP and UDP parts of test packets: flags, and checksums by the tests' own arithmetic.
#pragma once

#include <algorithm>

#include "packets.h"

namespace flannel::test {

inline constexpr uint8_t kFin = 0x01;
inline constexpr uint8_t kSyn = 0x02;
inline constexpr uint8_t kRst = 0x04;
inline constexpr uint8_t kPsh = 0x08;
inline constexpr uint8_t kAck = 0x10;
inline constexpr uint8_t kUrg = 0x20;
inline constexpr uint8_t kEce = 0x40;
inline constexpr uint8_t kCwr = 0x80;
inline constexpr uint16_t kDontFragment = 0x4000;

inline size_t ip_length(const Bytes& packet) {
  return size_t{4} * (packet[0] & 15U);
}
inline size_t checksum_place(const Bytes& packet) {
  return ip_length(packet) + (packet[9] == 6 ? 16 : 6);
}

/// With the pseudo-header put in front, summed by the tests' own arithmetic.
inline uint16_t transport_checksum(const Bytes& packet) {
  const size_t header = ip_length(packet);
  Bytes all(12);
  std::copy_n(packet.begin() + 12, 8, all.begin());
  all[9] = packet[9];
  store_be16(&all[10], static_cast<uint16_t>(packet.size() - header));
  all.insert(all.end(), packet.begin() + static_cast<ptrdiff_t>(header), packet.end());
  return checksum(all);
}

inline void fill_ip_checksum(Bytes& packet) {
  store_be16(&packet[10], 0);
  store_be16(&packet[10], checksum({packet.data(), ip_length(packet)}));
}

inline void fill_checksums(Bytes& packet) {
  store_be16(&packet[checksum_place(packet)], 0);
  const uint16_t sum = transport_checksum(packet);
  store_be16(&packet[checksum_place(packet)], sum == 0 && packet[9] == 17 ? 0xffff : sum);
  fill_ip_checksum(packet);
}

}  // namespace flannel::test
