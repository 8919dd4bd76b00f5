// The header that precedes every packet on a TUN device with IFF_VNET_HDR: linux/virtio_net.h,
// spelled out here because some versions of that file do not compile as C++. All fields are in the
// host's byte order.
#pragma once

#include <cstdint>

namespace flannel {

struct VirtioHeader {
  // VIRTIO_NET_HDR_F_*
  static constexpr uint8_t kNeedsChecksum =
      1;  // the field at csum_start + csum_offset holds the pseudo-header's sum
  static constexpr uint8_t kDataValid = 2;  // the checksum was verified
  // VIRTIO_NET_HDR_GSO_*
  static constexpr uint8_t kGsoNone = 0;
  static constexpr uint8_t kGsoTcp4 = 1;
  static constexpr uint8_t kGsoTcp6 = 4;
  static constexpr uint8_t kGsoUdpL4 = 5;
  static constexpr uint8_t kGsoEcn = 0x80;  // with TCP: the packet has ECN set

  uint8_t flags = 0;
  uint8_t gso_type = kGsoNone;
  uint16_t hdr_len = 0;   // all headers of a super-packet; a hint
  uint16_t gso_size = 0;  // payload bytes of each segment but the last
  uint16_t csum_start = 0;
  uint16_t csum_offset = 0;
};
static_assert(sizeof(VirtioHeader) == 10);

}  // namespace flannel
