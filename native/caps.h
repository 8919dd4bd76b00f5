// What a kernel may or may not offer, as independent bits with one table: how each is found out,
// since which kernel it exists, and what takes its place.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

namespace flannel {

enum class Feature : uint8_t { batch, gso, gro, tso, uso };

struct FeatureInfo {
  Feature feature;
  std::string_view name;
  std::string_view kernel;    // first release, as far as is known
  std::string_view fallback;  // what is done without it
};

inline constexpr auto kFeatures = std::to_array<FeatureInfo>({
    {Feature::batch, "batch", "3.0", "one packet a system call"},
    {Feature::gso, "gso", "4.18", "one datagram a message"},
    {Feature::gro, "gro", "5.0", "one datagram a message"},
    {Feature::tso, "tso", "2.6.27", "TCP packets one by one through the TUN device"},
    {Feature::uso, "uso", "6.2", "UDP packets one by one through the TUN device"},
});

/// A set of features; plain value.
class FeatureSet {
 public:
  constexpr FeatureSet() = default;
  constexpr FeatureSet(std::initializer_list<Feature> features) {
    for (const Feature feature : features) add(feature);
  }

  [[nodiscard]] constexpr bool has(Feature feature) const { return (bits_ & bit(feature)) != 0; }
  constexpr void add(Feature feature) { bits_ |= bit(feature); }
  constexpr void remove(Feature feature) { bits_ &= static_cast<uint8_t>(~bit(feature)); }
  bool operator==(const FeatureSet&) const = default;

  /// As a number, one bit a feature in the order of Feature.
  [[nodiscard]] constexpr uint8_t bits() const { return bits_; }
  static constexpr FeatureSet of_bits(uint8_t bits) {
    FeatureSet features;
    features.bits_ = bits;
    return features;
  }

 private:
  static constexpr uint8_t bit(Feature feature) {
    return static_cast<uint8_t>(1U << static_cast<unsigned>(feature));
  }
  uint8_t bits_ = 0;
};

/// The features in use, shared between the workers, which only ever take some away, and whoever
/// reports them.
class ActiveFeatures {
 public:
  explicit ActiveFeatures(FeatureSet features) noexcept : features_(features) {}
  [[nodiscard]] FeatureSet get() const noexcept {
    return features_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool has(Feature feature) const noexcept { return get().has(feature); }
  /// One way: what has failed once at run time is not tried again.
  void remove(Feature feature) noexcept {
    FeatureSet before = get();
    FeatureSet after = before;
    do {
      after = before;
      after.remove(feature);
    } while (!features_.compare_exchange_weak(before, after, std::memory_order_relaxed));
  }

 private:
  std::atomic<FeatureSet> features_;
};

}  // namespace flannel
