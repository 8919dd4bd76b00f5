// The search for a path's MTU, over a path and a clock that the test makes.
#include "probe_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "probe_wire.h"

namespace flannel::test {
namespace {

using namespace std::chrono_literals;
using Sizes = std::vector<uint16_t>;

constexpr uint16_t kLeast = 576;
constexpr uint16_t kLink = 1500;

class ProbeSearchTest : public ::testing::Test {
 protected:
  /// A second: what is answered meanwhile, the path decides. The sizes that were tried.
  Sizes tick() {
    const auto planned = search_.plan(now_, link_, busy_);
    const Sizes sizes(planned.begin(), planned.end());
    for (const uint16_t size : sizes) {
      if (passes_(size)) search_.acknowledge(size);
    }
    now_ += 1s;
    sent_ += sizes.size();
    return sizes;
  }
  void tick(std::chrono::seconds seconds) {
    for (auto i = 0s; i < seconds; i++) tick();
  }
  /// Seconds until the path is known to carry `size`, 0 being all.
  int ticks_until(uint16_t size) {
    int ticks = 0;
    while (search_.narrow() != size && ticks < 1000) {
      tick();
      ticks++;
    }
    return ticks;
  }
  void path_carries(uint16_t most) {
    passes_ = [most](uint16_t size) { return size <= most; };
  }
  void peer_is_silent() {
    passes_ = [](uint16_t) { return false; };
  }

  ProbeSearch search_{kLeast};
  ProbeSearch::Time now_{1h};
  uint16_t link_ = kLink;
  bool busy_ = true;
  std::function<bool(uint16_t)> passes_ = [](uint16_t) { return true; };
  size_t sent_ = 0;
};

TEST_F(ProbeSearchTest, TriesWhatTheLinkCarriesFirstAndThenEveryFewSeconds) {
  EXPECT_EQ(tick(), Sizes{kLink});
  EXPECT_EQ(tick(), Sizes{});
  EXPECT_EQ(tick(), Sizes{kLink});
  tick(1000s);
  EXPECT_LE(sent_, 502U) << "nothing else";
  EXPECT_EQ(search_.narrow(), 0);
}

TEST_F(ProbeSearchTest, SendsNothingWhereNothingIsSent) {
  busy_ = false;
  tick(100s);
  EXPECT_EQ(sent_, 0U);
}

TEST_F(ProbeSearchTest, EndsARoundThoughTrafficHasEnded) {
  path_carries(1400);
  tick();
  busy_ = false;
  tick(4s);
  EXPECT_EQ(search_.narrow(), 1400);
  const size_t sent = sent_;
  tick(100s);
  EXPECT_EQ(sent_, sent);
}

TEST_F(ProbeSearchTest, NoticesWithinSecondsThatAPathBecameNarrow) {
  tick(100s);
  path_carries(1400);
  EXPECT_LE(ticks_until(1400), 6);
}

TEST_F(ProbeSearchTest, LowersNothingForALostProbeOrTwo) {
  int losses = 0;
  passes_ = [&](uint16_t) { return losses-- <= 0; };
  for (int i = 0; i < 100; i++) {
    losses = i % 3;
    tick(4s);
    ASSERT_EQ(search_.narrow(), 0);
  }
}

TEST_F(ProbeSearchTest, FindsEverySizeExactly) {
  for (uint16_t size = kLeast; size < kLink; size++) {
    search_ = ProbeSearch(kLeast);
    path_carries(size);
    ASSERT_LE(ticks_until(size), 30) << size;
    tick(100s);
    ASSERT_EQ(search_.narrow(), size);
  }
}

TEST_F(ProbeSearchTest, FindsTheSizeOfAJumboPathToo) {
  link_ = 9000;
  for (const uint16_t size : {8999, 8951, 8000, 4000, 2003, 1501, 1500, 1372}) {
    search_ = ProbeSearch(kLeast);
    path_carries(size);
    EXPECT_LE(ticks_until(size), 30) << size;
  }
}

TEST_F(ProbeSearchTest, UsesWhatPassesWhileItSearches) {
  path_carries(1415);
  tick(4s);
  EXPECT_EQ(search_.narrow(), 1400) << "the next size below that many paths have";
  ticks_until(1415);
  EXPECT_EQ(search_.narrow(), 1415);
}

TEST_F(ProbeSearchTest, TriesNoMoreThanItSaysARoundAndAtMostThreeTimes) {
  link_ = 9001;
  path_carries(kLeast);
  for (int i = 0; i < 100; i++) ASSERT_LE(tick().size(), ProbeSearch::kMostSizes);
  const size_t sent = sent_;
  tick(500s);
  EXPECT_LE(sent_ - sent, 255U) << "a narrow path that is known is confirmed like a wide one";
}

TEST_F(ProbeSearchTest, SearchesANarrowPathAgainAfterTenMinutes) {
  path_carries(1400);
  tick(60s);
  path_carries(kLink);
  tick(8min);
  EXPECT_EQ(search_.narrow(), 1400);
  tick(2min);
  EXPECT_EQ(search_.narrow(), 0);
}

TEST_F(ProbeSearchTest, RaisesToWhatThePathCarriesNow) {
  path_carries(1280);
  tick(60s);
  path_carries(1433);
  tick(11min);
  EXPECT_EQ(search_.narrow(), 1433);
}

TEST_F(ProbeSearchTest, NoticesThatANarrowPathBecameNarrower) {
  path_carries(1400);
  ticks_until(1400);
  tick(60s);
  path_carries(1300);
  EXPECT_LE(ticks_until(1300), 20);
}

TEST_F(ProbeSearchTest, TakesThePeersSilenceForNothing) {
  peer_is_silent();
  tick(100s);
  EXPECT_EQ(search_.narrow(), 0);
  path_carries(1400);
  ticks_until(1400);
  tick(100s);
  peer_is_silent();
  tick(100s);
  EXPECT_EQ(search_.narrow(), 1400);
  path_carries(1400);
  tick(100s);
  EXPECT_EQ(search_.narrow(), 1400);
}

TEST_F(ProbeSearchTest, TakesSilenceInTheMiddleOfASearchForNothing) {
  for (int silent_from = 4; silent_from < 12; silent_from++) {
    search_ = ProbeSearch(kLeast);
    path_carries(1415);
    tick(std::chrono::seconds(silent_from));
    peer_is_silent();
    tick(60s);
    path_carries(1415);
    tick(60s);
    EXPECT_EQ(search_.narrow(), 1415) << silent_from;
  }
}

TEST_F(ProbeSearchTest, AsksASilentPeerLessOften) {
  peer_is_silent();
  tick(1000s);
  EXPECT_LE(search_.round(), 1000U / 12);
}

TEST_F(ProbeSearchTest, TakesALateAnswer) {
  path_carries(1400);
  tick(3s);
  search_.acknowledge(kLink);
  tick();
  EXPECT_EQ(search_.narrow(), 0);
}

TEST_F(ProbeSearchTest, TakesNoAnswerToWhatItHasNotTried) {
  peer_is_silent();
  tick();
  search_.acknowledge(kLink - 1);
  search_.acknowledge(1);
  tick(10s);
  EXPECT_EQ(search_.narrow(), 0);
}

TEST_F(ProbeSearchTest, CountsRounds) {
  tick();
  const uint32_t round = search_.round();
  tick();
  EXPECT_EQ(search_.round(), round);
  tick();
  EXPECT_EQ(search_.round(), round + 1);
}

TEST_F(ProbeSearchTest, FollowsTheLink) {
  path_carries(1400);
  ticks_until(1400);
  link_ = 1300;
  tick();
  EXPECT_EQ(search_.narrow(), 0) << "the link is the narrowest now";
  link_ = kLink;
  tick();
  EXPECT_EQ(search_.narrow(), 1300) << "until more is known to pass";
  tick(60s);
  EXPECT_EQ(search_.narrow(), 1400);
  path_carries(9000);
  link_ = 9000;
  tick(60s);
  EXPECT_EQ(search_.narrow(), 0);
}

TEST_F(ProbeSearchTest, HasNoLadderBelowTheLeast) {
  search_ = ProbeSearch(1280);
  path_carries(1000);
  for (int i = 0; i < 10; i++) {
    for (const uint16_t size : tick()) ASSERT_GE(size, 1280);
  }
  EXPECT_EQ(search_.narrow(), 0);
}

std::optional<ProbeHeader> read(std::vector<uint8_t> bytes) {
  bytes.shrink_to_fit();
  return ProbeHeader::read(bytes);
}

TEST(ProbeHeader, IsReadAsItWasWritten) {
  for (const auto kind : {ProbeHeader::Kind::probe, ProbeHeader::Kind::reply}) {
    const ProbeHeader header{kind, 0x1234, 0xfedcba9876543210};
    std::vector<uint8_t> bytes(ProbeHeader::kBytes);
    header.write(std::span<uint8_t, ProbeHeader::kBytes>(bytes));
    EXPECT_EQ(read(bytes), header);
    EXPECT_NE(bytes[0] >> 4, 4);
    EXPECT_NE(bytes[0] >> 4, 6);
    bytes.resize(1472);
    EXPECT_EQ(read(bytes), header) << "padded";
  }
}

TEST(ProbeHeader, IsNothingElse) {
  std::vector<uint8_t> bytes(ProbeHeader::kBytes);
  const ProbeHeader header{ProbeHeader::Kind::probe, 1472, 7};
  header.write(std::span<uint8_t, ProbeHeader::kBytes>(bytes));
  for (size_t size = 0; size < bytes.size(); size++) {
    EXPECT_FALSE(read({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)}));
  }
  for (size_t i = 0; i < 4; i++) {
    std::vector<uint8_t> changed = bytes;
    changed[i] ^= 1;
    EXPECT_FALSE(read(changed)) << i;
  }
  for (const uint8_t kind : {0, 3, 255}) {
    std::vector<uint8_t> changed = bytes;
    changed[4] = kind;
    EXPECT_FALSE(read(changed)) << int{kind};
  }
}

}  // namespace
}  // namespace flannel::test
