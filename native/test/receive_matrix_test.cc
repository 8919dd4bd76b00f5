// Receives that fail, in all cases: before which message, with which errno, how much a call brings,
// and where a truncated message stands among the others. What arrived is written exactly once and
// in order, whether messages are single datagrams or rows of them, joined again or not.
#include <array>

#include "faults.h"
#include "merging.h"
#include "pipeline.h"

namespace flannel::test {
namespace {

constexpr auto kFaults = std::to_array<ReadFault>({
    {EAGAIN, false, false},
    {EINTR, false, false},
    {ENOBUFS, true, false},
    {ECONNREFUSED, true, false},
    {ENETUNREACH, true, false},
    {EMSGSIZE, true, false},
    {ENOMEM, true, false},
    {EBADF, true, true},
});

constexpr size_t kMessages = 7;
constexpr size_t kPositions[] = {0, kMessages / 2, kMessages - 1, kMessages};
constexpr size_t kRow = 3;  // datagrams of a message with UDP_GRO
constexpr Spec kFirst{.protocol = 17, .ttl = 63};

class ReceiveMatrixTest : public MatrixTest {
 protected:
  [[nodiscard]] static size_t row_length() { return has(Feature::gro) ? kRow : 1; }

  /// Messages as they arrive, of one flow. The one at `truncated` is too long for a slot; what fits
  /// looks good.
  static void fill(ScriptedKernel& kernel, size_t truncated) {
    const auto packets = row(kFirst, kMessages * row_length());
    kernel.gro_size = has(Feature::gro) ? static_cast<int>(packets[0].size()) : 0;
    for (size_t i = 0; i <= kMessages; i++) {
      if (i == truncated) kernel.udp_in.push_back(too_long());
      if (i == kMessages) break;
      Bytes message;
      for (size_t k = i * row_length(); k < (i + 1) * row_length(); k++) {
        message.insert(message.end(), packets[k].begin(), packets[k].end());
      }
      kernel.udp_in.push_back(std::move(message));
    }
  }

  static Bytes too_long() {
    if (!has(Feature::gro)) {
      Bytes packet = make_packet({.payload = kMaxPacket - 20});
      packet.push_back(0);
      return packet;
    }
    const Bytes packet = make(kFirst);
    Bytes message;
    while (message.size() <= kMaxPacket) {
      message.insert(message.end(), packet.begin(), packet.end());
    }
    return message;
  }

  static constexpr size_t kNone = SIZE_MAX;

  static void check(const ReadFault& fault, size_t position, size_t truncated, unsigned most) {
    ScriptedKernel kernel;
    Counters counters;
    ActiveFeatures features(GetParam().features);
    Snapshot<Fib> fib(Fib::build({}), 1);
    Decap decap({ScriptedKernel::kUdp, features, kernel},
                {ScriptedKernel::kTun, has(Feature::uso), kernel}, fib.reader(0),
                {ip(10, 244, 1, 0)}, has(Feature::batch) ? kBatchSize : 1, features, counters);
    fill(kernel, truncated);
    kernel.receive_most = most;
    const size_t rest = kernel.udp_in.size() - position;
    kernel.receive_outcome = [&, left = fault.error == EINTR ? kRepeats : 1]() mutable {
      return kernel.udp_in.size() == rest && left-- > 0 ? fault.error : 0;
    };

    size_t failed = 0;
    for (size_t turns = 0; turns < kMessages + 4; turns++) {
      if (decap.turn() == Turn::failed) failed++;
      EXPECT_EQ(unaccounted(counters, "decap"), 0);
    }
    EXPECT_TRUE(kernel.udp_in.empty());
    Spec first = kFirst;
    first.ttl--;
    const auto expected = row(first, kMessages * row_length());
    EXPECT_TRUE(singles(kernel.tun_out, has(Feature::uso)) == expected);
    CounterDifference difference{{"decap_packets_in", expected.size()},
                                 {"decap_packets_out", expected.size()}};
    if (truncated != kNone) {
      difference["decap_packets_in"]++;
      difference["decap_oversized"] = 1;
    }
    EXPECT_EQ(counted(counters), difference);
    EXPECT_EQ(counters.get(Counter::decap_receive_errors), fault.counted ? 1U : 0U);
    EXPECT_EQ(failed, fault.for_good ? 1U : 0U);
    EXPECT_EQ(decap.failure(), fault.for_good ? fault.error : 0);
    EXPECT_EQ(features.get(), GetParam().features);
  }
};

INSTANTIATE_TEST_SUITE_P(
    Tiers, ReceiveMatrixTest,
    ::testing::Values(Tier{"basic", {}}, Tier{"batch", {Feature::batch}},
                      Tier{"gro", {Feature::gro}},
                      Tier{"batch_gro", {Feature::batch, Feature::gro}},
                      Tier{"full", {Feature::batch, Feature::gro, Feature::tso, Feature::uso}}),
    tier_name);

TEST_P(ReceiveMatrixTest, WhatArrivesIsWrittenOnceAndInOrderWhateverFailsInBetween) {
  for (const ReadFault& fault : kFaults) {
    for (size_t position : kPositions) {
      for (size_t truncated : {size_t{0}, kMessages / 2, kMessages, kNone}) {
        for (unsigned most : {1U, 2U, unsigned{kMessages} - 1, unsigned{kMessages} + 1}) {
          if (HasFailure() || (most > 1 && !has(Feature::batch))) continue;
          SCOPED_TRACE(describe({fault.error}) + " before message " + std::to_string(position) +
                       ", message " + std::to_string(truncated) + " truncated, at most " +
                       std::to_string(most) + " a call");
          check(fault, position, truncated, most);
          cases_++;
        }
      }
    }
  }
}

}  // namespace
}  // namespace flannel::test
