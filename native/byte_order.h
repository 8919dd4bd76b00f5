// Numbers as they are on the wire: the first byte is the high one.
#pragma once

#include <cstdint>

namespace flannel {

inline uint16_t load_be16(const uint8_t* p) noexcept {
  return static_cast<uint16_t>(p[0] << 8 | p[1]);
}
inline uint32_t load_be32(const uint8_t* p) noexcept {
  return uint32_t{load_be16(p)} << 16 | load_be16(p + 2);
}
inline void store_be16(uint8_t* p, uint16_t value) noexcept {
  p[0] = static_cast<uint8_t>(value >> 8);
  p[1] = static_cast<uint8_t>(value);
}
inline void store_be32(uint8_t* p, uint32_t value) noexcept {
  store_be16(p, static_cast<uint16_t>(value >> 16));
  store_be16(p + 2, static_cast<uint16_t>(value));
}

}  // namespace flannel
