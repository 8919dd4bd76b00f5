// Packets for tests, described by what is in them.
#pragma once

#include <arpa/inet.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ipv4.h"
#include "ipv6.h"

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

inline Ipv6Address ip6(const char* text) {
  Ipv6Address address{};
  if (::inet_pton(AF_INET6, text, address.data()) != 1) address.fill(0xff);
  return address;
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

/// A valid IPv6 packet, UDP unless told otherwise, with a payload that counts up.
struct PacketSpec6 {
  Ipv6Address source = ip6("fd00:10:244:1::2");
  Ipv6Address destination = ip6("fd00:10:244:2::2");
  uint8_t hop_limit = 64;
  uint8_t protocol = 17;
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0x12345;
  uint8_t extension = 0;  // the kind of an extension header, which `extensions` begins with
  Bytes extensions{};     // the headers; the first byte of the last one is `protocol`
  size_t payload = 32;
  uint8_t first_payload_byte = 0;
};

inline Bytes make_packet6(const PacketSpec6& spec) {
  const size_t header = 40 + spec.extensions.size();
  Bytes packet(header + spec.payload);
  store_be32(packet.data(), 6U << 28 | uint32_t{spec.traffic_class} << 20 | spec.flow_label);
  store_be16(&packet[4], static_cast<uint16_t>(packet.size() - 40));
  packet[6] = spec.extensions.empty() ? spec.protocol : spec.extension;
  packet[7] = spec.hop_limit;
  std::ranges::copy(spec.source, &packet[8]);
  std::ranges::copy(spec.destination, &packet[24]);
  for (size_t i = 0; i < spec.extensions.size(); i++) packet[40 + i] = spec.extensions[i];
  for (size_t i = 0; i < spec.payload; i++) {
    packet[header + i] = static_cast<uint8_t>(spec.first_payload_byte + i);
  }
  return packet;
}

/// One extension header (RFC 8200 section 4), all zero but for what follows it and its length:
/// `size` bytes, a multiple of 8.
inline Bytes extension_header(uint8_t next, size_t size = 8) {
  Bytes header(size);
  header[0] = next;
  header[1] = static_cast<uint8_t>(size / 8 - 1);
  return header;
}

/// `fragment`: offset in units of 8 bytes, and 1 for more to come: as in the header.
inline Bytes fragment_header(uint8_t next, uint16_t fragment) {
  Bytes header(8);
  header[0] = next;
  store_be16(&header[2], fragment);
  return header;
}

inline bool header_checksum_holds(std::span<const uint8_t> packet) {
  return checksum(packet.first((packet[0] & 15U) * 4U)) == 0;
}

}  // namespace flannel::test
