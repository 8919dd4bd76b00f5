#include "stats.h"

#include <gtest/gtest.h>

namespace flannel::test {
namespace {

size_t bucket_of(uint64_t value, Histogram histogram) {
  Counters counters;
  counters.record(histogram, value);
  for (size_t i = 0; i < kMostBuckets; i++) {
    if (counters.count(histogram, i) == 1) return i;
  }
  return kMostBuckets;
}

TEST(StatsTest, AValueOnABoundLiesBelowIt) {
  const auto bucket = [](uint64_t value) {
    return bucket_of(value, Histogram::encap_call_packets);
  };
  EXPECT_EQ(bucket(0), 0U);
  EXPECT_EQ(bucket(1), 0U);
  EXPECT_EQ(bucket(2), 1U);
  EXPECT_EQ(bucket(3), 2U);
  EXPECT_EQ(bucket(4), 2U);
  EXPECT_EQ(bucket(5), 3U);
  EXPECT_EQ(bucket(8192), 13U);
  EXPECT_EQ(bucket(8193), 14U);
  EXPECT_EQ(bucket(UINT64_MAX), 14U);
}

TEST(StatsTest, TheFirstBoundOfALatencyIsNotOne) {
  const auto bucket = [](uint64_t value) {
    return bucket_of(value, Histogram::decap_latency_seconds);
  };
  EXPECT_EQ(bucket(1), 0U);
  EXPECT_EQ(bucket(512), 0U);
  EXPECT_EQ(bucket(513), 1U);
  EXPECT_EQ(bucket(1U << 26), 17U);
  EXPECT_EQ(bucket((1U << 26) + 1), 18U);
}

TEST(StatsTest, EveryHistogramHasRoomForItsBuckets) {
  for (const HistogramInfo& info : kHistograms) EXPECT_LT(info.buckets, kMostBuckets) << info.name;
}

TEST(StatsTest, AHistogramSumsUpWhatItCounts) {
  Counters counters;
  counters.record(Histogram::encap_call_packets, 3, 10);
  counters.record(Histogram::encap_call_packets, 100);
  EXPECT_EQ(counters.count(Histogram::encap_call_packets, 2), 10U);
  EXPECT_EQ(counters.sum(Histogram::encap_call_packets), 130U);
}

TEST(StatsTest, TrafficIsCountedWhereThereIsRoom) {
  PeerTraffic traffic;
  traffic.add(0, 1, 100);
  EXPECT_EQ(traffic.get(0).packets, 0U);
  traffic.make_room(1500);
  traffic.add(1499, 2, 200);
  traffic.make_room(70'000);
  traffic.add(1499, 1, 50);
  traffic.add(69'999, 1, 9);
  EXPECT_EQ(traffic.get(1499).packets, 3U);
  EXPECT_EQ(traffic.get(1499).bytes, 250U);
  EXPECT_EQ(traffic.get(69'999).bytes, 9U);
  traffic.add(UINT32_MAX, 1, 1);
  EXPECT_EQ(traffic.get(UINT32_MAX).packets, 0U);
}

}  // namespace
}  // namespace flannel::test
