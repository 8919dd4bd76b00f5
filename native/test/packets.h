// Packets for tests, described by what is in them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ipv4.h"

namespace flannel::test {

using Bytes = std::vector<uint8_t>;

inline uint16_t checksum(std::span<const uint8_t> bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i++) sum += uint32_t{bytes[i]} << (i % 2 == 0 ? 8 : 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

constexpr uint32_t ip(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  return uint32_t{a} << 24 | uint32_t{b} << 16 | uint32_t{c} << 8 | d;
}

/// A valid IPv4 packet, UDP unless told otherwise, with a payload that counts up.
struct PacketSpec {
  uint32_t source = ip(10, 244, 1, 2);
  uint32_t destination = ip(10, 244, 2, 2);
  uint8_t ttl = 64;
  uint8_t protocol = 17;
  uint16_t fragment = 0;  // flags and offset as in the header
  size_t options = 0;     // bytes of NOP options, a multiple of 4
  size_t payload = 32;
  uint8_t first_payload_byte = 0;
};

inline Bytes make_packet(const PacketSpec& spec) {
  const size_t header = 20 + spec.options;
  Bytes packet(header + spec.payload);
  packet[0] = static_cast<uint8_t>(0x40 | header / 4);
  store_be16(&packet[2], static_cast<uint16_t>(packet.size()));
  store_be16(&packet[4], 0x1234);
  store_be16(&packet[6], spec.fragment);
  packet[8] = spec.ttl;
  packet[9] = spec.protocol;
  store_be32(&packet[12], spec.source);
  store_be32(&packet[16], spec.destination);
  for (size_t i = 20; i < header; i++) packet[i] = 1;
  for (size_t i = 0; i < spec.payload; i++) {
    packet[header + i] = static_cast<uint8_t>(spec.first_payload_byte + i);
  }
  store_be16(&packet[10], checksum({packet.data(), header}));
  return packet;
}

inline bool header_checksum_holds(std::span<const uint8_t> packet) {
  return checksum(packet.first((packet[0] & 15U) * 4U)) == 0;
}

}  // namespace flannel::test
