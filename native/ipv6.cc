#include "ipv6.h"

namespace flannel {

UpperLayer Ipv6Packet::behind_extensions(std::span<const uint8_t> packet) noexcept {
  UpperLayer at{packet[6], kHeader, false, false, true};
  while (is_extension(at.protocol) && !at.later) {
    const auto rest = packet.subspan(at.offset);
    const size_t length = extension_length(at.protocol, rest);
    if (length > rest.size()) {
      at.whole = false;
      break;
    }
    if (at.protocol == kFragment) {
      const uint16_t place = load_be16(&rest[2]);
      at.fragment |= (place & 0xfff9) != 0;  // offset, or more to come
      at.later |= (place & 0xfff8) != 0;
    }
    at.protocol = rest[0];
    at.offset += length;
  }
  return at;
}

/// Bytes of the extension header that `bytes` begins with, as it says itself; more than there are
/// where it cannot say.
size_t Ipv6Packet::extension_length(uint8_t kind, std::span<const uint8_t> bytes) noexcept {
  if (kind == kFragment || bytes.size() < kShortestExtension) return kShortestExtension;
  if (kind == kAuthentication) return size_t{4} * (bytes[1] + 2U);  // RFC 4302 section 2.2
  return size_t{8} * (bytes[1] + 1U);
}

}  // namespace flannel
