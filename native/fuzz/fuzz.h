// What the fuzz targets have in common. They use the tests' own helpers: an expectation that does
// not hold ends the process like a crash, see main.cc.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "../test/packets.h"

namespace flannel::fuzz {

using test::Bytes;

/// The bytes of an input, taken from the front. What is asked for beyond its end is 0, or empty.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : rest_(bytes) {}

  [[nodiscard]] bool empty() const { return rest_.empty(); }
  uint8_t byte() { return static_cast<uint8_t>(number(1)); }
  uint16_t be16() { return static_cast<uint16_t>(number(2)); }
  uint32_t be32() { return number(4); }

  /// A 16-bit length and so many bytes, or as many as there are, on the heap and no byte more: so
  /// that AddressSanitizer sees each one too far.
  Bytes packet() { return bytes(be16()); }
  Bytes bytes(size_t most) {
    const auto taken = rest_.first(std::min(most, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }
  Bytes rest() { return bytes(rest_.size()); }
  /// All packets that are left.
  std::vector<Bytes> packets() {
    std::vector<Bytes> result;
    while (!rest_.empty() && result.size() < kMostPackets) result.push_back(packet());
    return result;
  }

 private:
  static constexpr size_t kMostPackets = 256;

  uint32_t number(int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) {
      value = value << 8 | (rest_.empty() ? 0U : rest_.front());
      if (!rest_.empty()) rest_ = rest_.subspan(1);
    }
    return value;
  }

  std::span<const uint8_t> rest_;
};

/// The inverse of Input, for seeds.
class Seed {
 public:
  Seed& byte(uint8_t value) { return put(value, 1); }
  Seed& be16(uint16_t value) { return put(value, 2); }
  Seed& be32(uint32_t value) { return put(value, 4); }
  Seed& packet(const Bytes& packet) {
    return be16(static_cast<uint16_t>(packet.size())).bytes(packet);
  }
  Seed& bytes(const Bytes& bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  [[nodiscard]] const Bytes& done() const { return bytes_; }

 private:
  Seed& put(uint32_t value, int count) {
    while (count-- > 0) bytes_.push_back(static_cast<uint8_t>(value >> 8 * count));
    return *this;
  }

  Bytes bytes_;
};

/// A target: what is done with an input.
void run(std::span<const uint8_t> input);

/// The inputs that a target makes itself, to begin with.
std::vector<Seed> seeds();

}  // namespace flannel::fuzz
