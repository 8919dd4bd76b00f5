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

/// Where the transport header is, and what it is.
struct Place {
  uint8_t protocol;
  size_t length;  // of the IP header, options and extension headers among it
};

inline bool is_v6(const Bytes& packet) {
  return packet[0] >> 4 == 6;
}
inline Place place_of(const Bytes& packet) {
  if (!is_v6(packet)) return {packet[9], size_t{4} * (packet[0] & 15U)};
  Place place{packet[6], 40};
  const auto is_extension = [](uint8_t kind) {
    return kind == 0 || kind == 43 || kind == 44 || kind == 51 || kind == 60;
  };
  while (is_extension(place.protocol) && place.length + 8 <= packet.size()) {
    const uint8_t* header = &packet[place.length];
    if (place.protocol == 51) {
      place.length += size_t{4} * (header[1] + 2U);
    } else {
      place.length += place.protocol == 44 ? 8U : size_t{8} * (header[1] + 1U);
    }
    place.protocol = header[0];
  }
  return place;
}

inline size_t ip_length(const Bytes& packet) {
  return place_of(packet).length;
}
inline size_t checksum_place(const Bytes& packet) {
  const Place place = place_of(packet);
  return place.length + (place.protocol == 6 ? 16 : 6);
}

/// The pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) for what `packet` carries.
inline Bytes pseudo_header(const Bytes& packet) {
  const auto [protocol, header] = place_of(packet);
  const bool v6 = is_v6(packet);
  Bytes bytes(packet.begin() + (v6 ? 8 : 12), packet.begin() + (v6 ? 40 : 20));
  const size_t addresses = bytes.size();
  bytes.resize(addresses + (v6 ? 8 : 4));
  store_be16(&bytes[bytes.size() - (v6 ? 6 : 2)], static_cast<uint16_t>(packet.size() - header));
  bytes[addresses + (v6 ? 7 : 1)] = protocol;
  return bytes;
}

/// With the pseudo-header put in front, summed by the tests' own arithmetic.
inline uint16_t transport_checksum(const Bytes& packet) {
  Bytes all = pseudo_header(packet);
  all.insert(all.end(), packet.begin() + static_cast<ptrdiff_t>(ip_length(packet)), packet.end());
  return checksum(all);
}

inline void fill_ip_checksum(Bytes& packet) {
  if (is_v6(packet)) return;
  store_be16(&packet[10], 0);
  store_be16(&packet[10], checksum({packet.data(), ip_length(packet)}));
}

inline void fill_checksums(Bytes& packet) {
  store_be16(&packet[checksum_place(packet)], 0);
  const uint16_t sum = transport_checksum(packet);
  const bool udp = place_of(packet).protocol == 17;
  store_be16(&packet[checksum_place(packet)], sum == 0 && udp ? 0xffff : sum);
  fill_ip_checksum(packet);
}

}  // namespace flannel::test
