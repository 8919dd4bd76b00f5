#include "icmp.h"

#include <algorithm>
#include <cstring>

#include "checksum.h"

namespace flannel {
namespace {

constexpr size_t kIcmpHeader = 8;
constexpr size_t kHeaders = Ipv4Packet::kMinHeader + kIcmpHeader;
constexpr uint8_t kProtocolIcmp = 1;
constexpr uint8_t kInternetworkControl = 0xc0;  // TOS, RFC 1812 section 4.3.2.5
constexpr uint8_t kTtl = 64;

/// Neither "this network", loopback, multicast, class E nor broadcast.
bool is_single_host(uint32_t address) noexcept {
  const uint32_t first = address >> 24;
  return first != 0 && first != 127 && first < 224;
}

/// RFC 1122 section 3.2.2: an error is anything but the query types.
bool is_icmp_error(Ipv4Packet packet) noexcept {
  if (packet.protocol() != kProtocolIcmp) return false;
  const auto payload = packet.bytes().subspan(packet.header_length());
  if (payload.empty()) return true;  // unknown: rather silent than a loop of errors
  switch (payload[0]) {
    case 0:   // echo reply
    case 8:   // echo
    case 13:  // timestamp
    case 14:  // timestamp reply
    case 15:  // information request
    case 16:  // information reply
    case 17:  // address mask request
    case 18:  // address mask reply
      return false;
    default:
      return true;
  }
}

/// Type and code as the message begins with them.
uint16_t kind_of(IcmpError error) noexcept {
  switch (error) {
    case IcmpError::net_unreachable:
      return 0x0300;
    case IcmpError::frag_needed:
      return 0x0304;
    case IcmpError::time_exceeded:
      return 0x0b00;  // TTL in transit
  }
  return 0;
}

}  // namespace

bool may_answer(Ipv4Packet packet) noexcept {
  return packet.fragment_offset() == 0 && !is_icmp_error(packet) &&
         is_single_host(packet.source()) && is_single_host(packet.destination()) &&
         checksum_finish(checksum_add(packet.bytes().first(packet.header_length()), 0)) == 0;
}

std::span<const uint8_t> build_icmp_error(IcmpError error, uint32_t source, Ipv4Packet offender,
                                          std::span<uint8_t, kMaxIcmpError> out,
                                          uint16_t next_hop_mtu) noexcept {
  const auto quote =
      offender.bytes().first(std::min(offender.bytes().size(), kMaxIcmpError - kHeaders));
  const size_t total = kHeaders + quote.size();

  uint8_t* ip = out.data();
  std::memset(ip, 0, kHeaders);
  ip[0] = 0x45;
  ip[1] = kInternetworkControl;
  store_be16(ip + 2, static_cast<uint16_t>(total));
  ip[8] = kTtl;
  ip[9] = kProtocolIcmp;
  store_be32(ip + 12, source);
  store_be32(ip + 16, offender.source());
  store_be16(ip + 10, checksum_finish(checksum_add({ip, Ipv4Packet::kMinHeader}, 0)));

  uint8_t* icmp = ip + Ipv4Packet::kMinHeader;
  store_be16(icmp, kind_of(error));
  store_be16(icmp + 6, next_hop_mtu);
  std::memcpy(icmp + kIcmpHeader, quote.data(), quote.size());
  store_be16(icmp + 2, checksum_finish(checksum_add({icmp, kIcmpHeader + quote.size()}, 0)));
  return out.first(total);
}

}  // namespace flannel
