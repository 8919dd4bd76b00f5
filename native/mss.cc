#include "mss.h"

#include "checksum.h"
#include "ipv4.h"

namespace flannel {
namespace {

constexpr uint8_t kProtocolTcp = 6;
constexpr size_t kIpv6Header = 40;
constexpr size_t kTcpHeader = 20;
constexpr size_t kChecksumAt = 16;  // in the TCP header
constexpr uint8_t kSyn = 0x02;

// RFC 9293 section 3.1
constexpr uint8_t kEndOfOptions = 0;
constexpr uint8_t kNoOperation = 1;
constexpr uint8_t kMssOption = 2;
constexpr size_t kMssOptionLength = 4;

/// The extension headers of IPv6 that a whole packet may have before TCP, all with their length in
/// the second byte (RFC 8200 section 4).
bool is_skipped(uint8_t header) noexcept {
  return header == 0 || header == 43 || header == 60;  // hop-by-hop, routing, destination options
}

/// Where the TCP header begins; 0 where there is none, as in fragments.
size_t find_tcp(std::span<const uint8_t> packet) noexcept {
  if (packet[0] >> 4 == 4) {
    return packet[9] == kProtocolTcp && !is_fragment(packet) ? ip_header_length(packet) : 0;
  }
  uint8_t next = packet[6];
  size_t at = kIpv6Header;
  for (; is_skipped(next); at += 8 * (size_t{packet[at + 1]} + 1)) {
    if (at + 8 > packet.size()) return 0;
    next = packet[at];
  }
  return next == kProtocolTcp ? at : 0;
}

/// `value` as the words of a checksum see it: after an odd number of bytes it is split over two of
/// them.
uint16_t as_summed(uint16_t value, size_t position) noexcept {
  return position % 2 == 0 ? value : static_cast<uint16_t>(value << 8 | value >> 8);
}

/// Lowers the value at `position` of a TCP header, and makes up for it in the checksum: RFC 1624,
/// equation 3.
void lower(std::span<uint8_t> tcp, size_t position, uint16_t most) noexcept {
  const uint16_t before = load_be16(&tcp[position]);
  if (before <= most) return;
  store_be16(&tcp[position], most);
  const uint64_t sum = uint64_t{static_cast<uint16_t>(~load_be16(&tcp[kChecksumAt]))} +
                       static_cast<uint16_t>(~as_summed(before, position)) +
                       as_summed(most, position);
  store_be16(&tcp[kChecksumAt], checksum_finish(sum));
}

}  // namespace

void clamp_mss(std::span<uint8_t> packet, size_t largest) noexcept {
  const size_t at = find_tcp(packet);
  if (at == 0 || at + kTcpHeader > packet.size() || (packet[at + 13] & kSyn) == 0) return;
  const size_t header = size_t{4} * (packet[at + 12] >> 4);
  if (header < kTcpHeader || at + header > packet.size()) return;

  // Options of either header are the sender's to subtract (RFC 6691 section 2).
  const size_t headers = (packet[0] >> 4 == 4 ? Ipv4Packet::kMinHeader : kIpv6Header) + kTcpHeader;
  if (largest <= headers) return;
  const auto most = static_cast<uint16_t>(std::min<size_t>(largest - headers, UINT16_MAX));
  const auto tcp = packet.subspan(at, header);
  for (size_t i = kTcpHeader; i < header && tcp[i] != kEndOfOptions;) {
    if (tcp[i] == kNoOperation) {
      i++;
      continue;
    }
    const size_t length = i + 1 < header ? tcp[i + 1] : 0;
    if (length < 2 || i + length > header) return;
    // Of several the last one counts, or so Linux has it: none may say too much.
    if (tcp[i] == kMssOption && length == kMssOptionLength) lower(tcp, i + 2, most);
    i += length;
  }
}

}  // namespace flannel
