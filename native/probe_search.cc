#include "probe_search.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace flannel {
namespace {

/// What links and tunnels carry, falling: the sizes that a path is likely to have.
constexpr std::array<uint16_t, 18> kPlateaus{
    9001,  // Amazon's jumbo frames
    9000,  // jumbo frames
    8950,  // VXLAN in these
    8896,  // Google's
    1500,  // Ethernet
    1492,  // PPPoE
    1480,  // IP in IP
    1476,  // GRE
    1472,  // flannel in flannel
    1460,  // Google's virtual networks
    1450,  // VXLAN
    1440,  // WireGuard over IPv4
    1420,  // WireGuard over IPv6
    1400,  // LTE, and many VPNs
    1380,  // many a firewall
    1360,  // IPsec
    1280,  // every IPv6 link
    576,   // what every host takes
};
/// Sizes a round, where no plateau is left between.
constexpr uint32_t kSteps = 8;

static_assert(kPlateaus.size() + 2 <= ProbeSearch::kMostSizes);
static_assert(std::ranges::is_sorted(kPlateaus, std::greater()));

}  // namespace

std::span<const uint16_t> ProbeSearch::plan(Time now, uint16_t link, bool busy) noexcept {
  follow(link, now);
  if (round_ != Round::none && (best_ == sizes_[0] || tries_ == kTries)) finish(now);
  if (round_ == Round::none) {
    if (!busy || now < next_) return {};
    begin(now);
  }
  tries_++;
  // As a rule the first one is answered.
  return round_ == Round::confirm && tries_ == 1 ? std::span(sizes_).first(1) : unanswered();
}

void ProbeSearch::acknowledge(uint16_t size) noexcept {
  const auto of_round = std::span(sizes_).first(count_);
  if (std::ranges::find(of_round, size) != of_round.end()) best_ = std::max(best_, size);
}

/// The sizes of the round above the largest that was answered.
std::span<const uint16_t> ProbeSearch::unanswered() const noexcept {
  const auto of_round = std::span(sizes_).first(count_);
  const auto end = std::ranges::find_if(of_round, [this](uint16_t size) { return size <= best_; });
  return of_round.first(static_cast<size_t>(end - of_round.begin()));
}

/// Another link carries another size: what is known below that goes on to be known.
void ProbeSearch::follow(uint16_t link, Time now) noexcept {
  if (link == link_) return;
  link_ = link;
  known_ = std::min(known_, link);
  searching_ = false;
  round_ = Round::none;
  next_ = now;
  raise_ = now;
}

void ProbeSearch::begin(Time now) noexcept {
  rounds_++;
  began_ = now;
  tries_ = 0;
  count_ = 0;
  best_ = 0;
  if (!searching_ && known_ != 0 && known_ < link_ && now >= raise_) {
    searching_ = true;
    beyond_ = uint32_t{link_} + 1;
  }
  if (searching_ && !doubted_) {
    round_ = Round::search;
    add_candidates();
    add(known_);
  } else {
    round_ = Round::confirm;
    const uint16_t target = known_ != 0 ? known_ : link_;
    add(target);
    add_plateaus(least_ - 1U, target);
  }
}

void ProbeSearch::add_plateaus(uint32_t above, uint32_t below) noexcept {
  for (const uint16_t size : kPlateaus) {
    if (size > above && size < below) add(size);
  }
}

/// Sizes between what passes and what does not.
void ProbeSearch::add_candidates() noexcept {
  if (beyond_ > link_) add(link_);
  add_plateaus(known_, std::min<uint32_t>(beyond_, link_));
  if (count_ > 0) return;
  const uint32_t untried = beyond_ - known_ - 1U;
  const uint32_t steps = std::min(kSteps, untried);
  for (uint32_t step = steps; step > 0; step--) add(known_ + untried * step / steps);
}

void ProbeSearch::finish(Time now) noexcept {
  const Round round = std::exchange(round_, Round::none);
  doubted_ = best_ == 0;
  if (round == Round::confirm) {
    finish_confirm(now);
  } else {
    finish_search(now);
  }
}

void ProbeSearch::finish_confirm(Time now) noexcept {
  if (doubted_) {
    next_ = now + kUnansweredPause;
    return;
  }
  if (best_ < sizes_[0]) {
    beyond_ = unanswered().back();
    searching_ = true;
  }
  known_ = best_;
  next_ = searching_ ? now : began_ + kConfirmEvery;
}

void ProbeSearch::finish_search(Time now) noexcept {
  next_ = now;
  if (doubted_) return;
  if (best_ < sizes_[0]) beyond_ = unanswered().back();
  known_ = best_;
  if (beyond_ - known_ > 1) return;
  searching_ = false;
  next_ = now + kConfirmEvery;
  raise_ = now + kRaiseEvery;
}

}  // namespace flannel
