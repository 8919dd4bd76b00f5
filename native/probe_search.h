// What the path to one peer carries, found out by probes alone: packetization-layer path MTU
// discovery for datagrams (RFC 8899), simplified. It knows neither sockets nor clocks.
//
//   confirm  tries the size that is taken to pass. The first time that is all the link carries.
//            Answered: it does. When three tries go unanswered while smaller ones are answered, the
//            path has become narrow, or was so from the start: what was answered counts at once.
//   search   tries sizes between the largest that passes and the smallest that does not, several a
//            round, until there are none. The size that passes is tried along: where it is not
//            answered, the peer is away, and silence says nothing about the others.
//
// A round is up to three tries, a call of plan() apart. Between rounds there is a pause; after ten
// minutes a narrow path is searched again, since it may have become wide.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace flannel {

class ProbeSearch {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// Sizes that one call of plan() gives at most.
  static constexpr size_t kMostSizes = 24;
  static constexpr unsigned kTries = 3;
  /// Between two confirmations: how long a black hole goes unnoticed.
  static constexpr std::chrono::seconds kConfirmEvery{2};
  /// Until a peer that answers nothing at all is asked again.
  static constexpr std::chrono::seconds kUnansweredPause{10};
  /// PMTU_RAISE_TIMER of RFC 8899 section 5.1.1.
  static constexpr std::chrono::minutes kRaiseEvery{10};

  /// `least`: below this no path is, in bytes of an outer packet, as all sizes here.
  explicit ProbeSearch(uint16_t least) noexcept : least_(least) {}

  /// The sizes to try now, as often none; borrowed until the next call, which should be about a
  /// second later. `link`: what the link carries. `busy`: whether the peer is being sent to; where
  /// it is not, no round begins.
  std::span<const uint16_t> plan(Time now, uint16_t link, bool busy) noexcept;

  /// A size of this round has been answered.
  void acknowledge(uint16_t size) noexcept;

  /// Counts the rounds, so that answers to former ones can be told apart.
  [[nodiscard]] uint32_t round() const noexcept { return rounds_; }

  /// The largest size that passes, where that is less than the link carries; else 0, also as long
  /// as nothing was answered.
  [[nodiscard]] uint16_t narrow() const noexcept { return known_ < link_ ? known_ : 0; }

 private:
  enum class Round : uint8_t { none, confirm, search };

  void follow(uint16_t link, Time now) noexcept;
  void begin(Time now) noexcept;
  void finish(Time now) noexcept;
  void finish_confirm(Time now) noexcept;
  void finish_search(Time now) noexcept;
  void add(uint32_t size) noexcept { sizes_[count_++] = static_cast<uint16_t>(size); }
  void add_plateaus(uint32_t above, uint32_t below) noexcept;
  void add_candidates() noexcept;
  [[nodiscard]] std::span<const uint16_t> unanswered() const noexcept;

  uint16_t least_;
  uint16_t link_ = 0;
  uint16_t known_ = 0;   // the largest size that passes; 0: none was answered yet
  uint32_t beyond_ = 0;  // the smallest that does not
  bool searching_ = false;
  bool doubted_ = false;  // whether known_ went unanswered, too
  Time next_{};           // when the next round may begin
  Time raise_{};          // when a narrow path is searched again
  Round round_ = Round::none;
  uint32_t rounds_ = 0;
  Time began_{};
  unsigned tries_ = 0;
  std::array<uint16_t, kMostSizes> sizes_{};  // of the round, falling
  size_t count_ = 0;
  uint16_t best_ = 0;  // the largest of them that was answered
};

}  // namespace flannel
