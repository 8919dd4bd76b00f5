// Writes to and reads from the TUN device that fail, in all cases: which packet or group of a batch
// fails, and with which errno. Each packet passes exactly once and in order, or is counted in the
// one counter of its fault; a group that the device refuses is cut up again.
#include <array>
#include <set>

#include "faults.h"
#include "merging.h"
#include "pipeline.h"

namespace flannel::test {
namespace {

const auto kPlainTiers = ::testing::Values(Tier{"basic", {}}, Tier{"batch", {Feature::batch}},
                                           Tier{"no_batch", {Feature::tso, Feature::uso}});
const auto kMergingTiers = ::testing::Values(
    Tier{"tso", {Feature::batch, Feature::tso}}, Tier{"uso", {Feature::batch, Feature::uso}},
    Tier{"tso_uso", {Feature::batch, Feature::tso, Feature::uso}});

size_t batch_size(FeatureSet features) {
  return features.has(Feature::batch) ? kBatchSize : 1;
}
bool has_virtio(FeatureSet features) {
  return features.has(Feature::tso) || features.has(Feature::uso);
}

constexpr auto kWriteFaults = std::to_array<Fault>({
    {EINTR},
    {EAGAIN, "decap_tun_full"},
    {ENOBUFS, "decap_tun_full"},
    {EIO, "decap_tun_down"},
    {EBADFD, "decap_tun_down"},
    {EINVAL, "decap_write_error"},
});

/// Packets of a flow that follow each other: a group where the device takes super-packets of it.
struct Row {
  uint8_t protocol;
  size_t length;
};

constexpr auto kRows = std::to_array<Row>({{6, 3}, {17, 3}, {17, 1}, {17, 3}, {6, 3}});
constexpr size_t kPositions[] = {0, kRows.size() / 2, kRows.size() - 1};
constexpr auto kFailingRows =
    std::to_array<Row>({{6, 1}, {17, 1}, {6, 2}, {17, 2}, {6, 20}, {17, 20}});

/// One row of kRows is another, and fails.
struct Case {
  size_t position;
  Row row;
  Fault group;       // of its group
  Fault packet;      // of its packets, written singly
  size_t which = 0;  // of them, see hits()

  [[nodiscard]] Row at(size_t number) const { return number == position ? row : kRows[number]; }
};

bool forms_group(Row row, FeatureSet features) {
  return features.has(Feature::batch) && row.length > 1 &&
         features.has(row.protocol == 6 ? Feature::tso : Feature::uso);
}

/// The source port tells the row, the IP id which of its packets.
std::vector<Bytes> packets_of(size_t number, Row of, uint8_t ttl) {
  const auto port = static_cast<uint16_t>(1000 + number);
  return row({.protocol = of.protocol, .source_port = port, .ttl = ttl, .id = 0}, of.length);
}
size_t row_of(std::span<const uint8_t> packet) {
  return load_be16(&packet[20]) - size_t{1000};
}
size_t index_of(std::span<const uint8_t> packet) {
  return load_be16(&packet[4]);
}

/// A device that fails as the case says while it is `broken`, and notes which rows it was given as
/// groups.
class Device {
 public:
  Device(const Case& c, FeatureSet features)
      : active(features),
        case_(c),
        decap_({ScriptedKernel::kUdp, active, kernel},
               {ScriptedKernel::kTun, has_virtio(features), kernel}, fib_.reader(0),
               {ip(10, 244, 1, 0)}, batch_size(features), active, counters) {
    kernel.write_outcome = [this, virtio = has_virtio(features), group = Failing(c.group),
                            packet = Failing(c.packet)](const Bytes& message) mutable {
      const auto bytes = std::span(message).subspan(virtio ? sizeof(VirtioHeader) : 0);
      const bool is_group = virtio && message[1] != VirtioHeader::kGsoNone;
      if (is_group) groups.push_back(row_of(bytes));
      if (!broken || row_of(bytes) != case_.position) return 0;
      return is_group ? group() : hits(case_.which, index_of(bytes)) ? packet() : 0;
    };
  }

  /// All rows arrive as one batch, the one that fails among them.
  void receive() {
    groups.clear();
    for (size_t number = 0; number < kRows.size(); number++) {
      for (Bytes& packet : packets_of(number, case_.at(number), 63)) {
        kernel.udp_in.push_back(std::move(packet));
      }
    }
    EXPECT_EQ(decap_.turn(), Turn::drained);
    EXPECT_EQ(unaccounted(counters, "decap"), 0);
  }

  ScriptedKernel kernel;
  Counters counters;
  ActiveFeatures active;
  std::vector<size_t> groups;
  bool broken = true;

 private:
  Case case_;
  Snapshot<Fib> fib_{Fib::build({}), 1};
  Decap decap_;
};

class WriteMatrixTest : public MatrixTest {
 protected:
  void check(const Case& c) {
    if (HasFailure()) return;
    SCOPED_TRACE("row " + std::to_string(c.position) + " of " + std::to_string(c.row.length) +
                 (c.row.protocol == 6 ? " TCP" : " UDP") + ", group: " + describe(c.group) +
                 ", packet " + std::to_string(c.which) + ": " + describe(c.packet));
    cases_++;
    FeatureSet features = GetParam().features;
    const bool is_group = forms_group(c.row, features);
    const bool refused = is_group && c.group.error == EINVAL;
    const size_t tries = is_group && c.group.error == EINTR ? 1 + kRepeats : 1;
    std::vector<Bytes> written;
    size_t bytes = 0;
    CounterDifference counters;
    std::vector<size_t> groups;
    for (size_t number = 0; number < kRows.size(); number++) {
      const bool fails = number == c.position;
      if (forms_group(c.at(number), features)) {
        groups.insert(groups.end(), fails ? tries : 1, number);
      }
      for (const Bytes& packet : packets_of(number, c.at(number), 62)) {
        Fault fault;
        if (fails && is_group && !refused) fault = c.group;
        if (fails && (!is_group || refused) && hits(c.which, index_of(packet))) fault = c.packet;
        counters["decap_packets_in"]++;
        counters[fault.counter == nullptr ? "decap_packets_out" : fault.counter]++;
        if (fault.counter != nullptr) continue;
        written.push_back(packet);
        bytes += packet.size();
      }
    }
    Device device(c, features);
    device.receive();
    EXPECT_TRUE(singles(device.kernel.tun_out, has_virtio(features)) == written);
    EXPECT_EQ(device.groups, groups);
    EXPECT_EQ(counted(device.counters), counters);
    EXPECT_EQ(device.counters.get(Counter::decap_bytes), bytes);

    if (refused) features.remove(c.row.protocol == 6 ? Feature::tso : Feature::uso);
    EXPECT_EQ(device.active.get(), features);
    // What was refused once is not tried again, even where it would pass.
    device.broken = false;
    device.receive();
    groups.clear();
    for (size_t number = 0; number < kRows.size(); number++) {
      if (forms_group(c.at(number), features)) groups.push_back(number);
    }
    EXPECT_EQ(device.groups, groups);
  }
};

/// The tiers in which packets are joined.
class GroupMatrixTest : public WriteMatrixTest {};

INSTANTIATE_TEST_SUITE_P(Plain, WriteMatrixTest, kPlainTiers, tier_name);
INSTANTIATE_TEST_SUITE_P(Merging, WriteMatrixTest, kMergingTiers, tier_name);
INSTANTIATE_TEST_SUITE_P(Merging, GroupMatrixTest, kMergingTiers, tier_name);

TEST_P(WriteMatrixTest, APacketThatFailsIsCountedAndTheOthersAreWritten) {
  for (const Row& failing : kFailingRows) {
    if (forms_group(failing, GetParam().features)) continue;
    for (const Fault& fault : kWriteFaults) {
      for (size_t which : std::set{size_t{0}, failing.length / 2, failing.length - 1}) {
        for (size_t position : kPositions) check({position, failing, {}, fault, which});
      }
    }
  }
}

TEST_P(GroupMatrixTest, AGroupThatFailsIsCountedWholeOrCutUpAgain) {
  for (const Row& failing : kFailingRows) {
    if (!forms_group(failing, GetParam().features)) continue;
    for (const Fault& fault : kWriteFaults) {
      for (size_t position : kPositions) check({position, failing, fault, {}});
    }
  }
}

TEST_P(GroupMatrixTest, OfAGroupThatIsCutUpAgainEachPacketHasItsOwnFate) {
  for (const Row& failing : kFailingRows) {
    if (!forms_group(failing, GetParam().features)) continue;
    for (const Fault& fault : kWriteFaults) {
      for (size_t which : std::set{size_t{0}, failing.length / 2, failing.length - 1, kAll}) {
        for (size_t position : kPositions) {
          check({position, failing, {EINVAL, "decap_write_error"}, fault, which});
        }
      }
    }
  }
}

constexpr auto kReadFaults = std::to_array<ReadFault>({
    {EINTR, false, false},
    {EAGAIN, false, false},
    {ENOMEM, true, false},
    {ENOBUFS, true, false},
    {EIO, true, true},
    {EBADFD, true, true},
});

constexpr size_t kPackets = 7;

class ReadMatrixTest : public MatrixTest {
 protected:
  /// The read before packet `position` fails, the socket is full at packet `full_at`.
  static void check(const ReadFault& fault, size_t position, size_t full_at) {
    ScriptedKernel kernel;
    Counters counters;
    ActiveFeatures features(GetParam().features);
    Snapshot<Fib> fib(
        Fib::build(std::vector<Route>{{{ip(10, 244, 2, 0), 24}, {Address::of_ipv4(1), 2}}}), 1);
    Encap encap({ScriptedKernel::kTun, has_virtio(features.get()), kernel},
                {ScriptedKernel::kUdp, features, kernel}, fib.reader(0), {}, {ip(10, 244, 1, 0)},
                batch_size(features.get()), counters, kernel);
    for (const Bytes& packet : packets_of(0, {17, kPackets}, 64)) {
      kernel.tun_in.push_back(has_virtio(features.get()) ? with_header({}, packet) : packet);
    }
    size_t failed_reads = 0;
    kernel.read_outcome = [&] {
      const bool again = fault.for_good || failed_reads < (fault.error == EINTR ? kRepeats : 1);
      if (kernel.tun_in.size() != kPackets - position || !again) return 0;
      failed_reads++;
      return fault.error;
    };
    kernel.send_outcome = [&, full = true](const Bytes& packet) mutable {
      return index_of(packet) == full_at && std::exchange(full, false) ? EAGAIN : 0;
    };

    Turn turn = encap.turn();
    if (full_at >= kPackets) {
      EXPECT_EQ(turn, fault.for_good ? Turn::failed : Turn::drained);
      EXPECT_EQ(kernel.udp_out.size(), fault.error == EINTR ? kPackets : position);
    }
    for (int i = 0; i < 4 && turn != Turn::failed; i++) turn = encap.turn();
    EXPECT_EQ(turn, fault.for_good ? Turn::failed : Turn::drained);
    EXPECT_EQ(encap.failure(), fault.for_good ? fault.error : 0);

    auto expected = packets_of(0, {17, kPackets}, 63);
    if (fault.for_good) expected.resize(position);
    std::vector<Bytes> sent;
    for (const auto& datagram : kernel.udp_out) sent.push_back(datagram.payload);
    EXPECT_TRUE(sent == expected);
    EXPECT_EQ(counters.get(Counter::encap_packets_in), expected.size());
    EXPECT_EQ(counters.get(Counter::encap_packets_out), expected.size());
    EXPECT_EQ(counters.get(Counter::encap_read_errors), fault.counted ? failed_reads : 0U);
  }
};

INSTANTIATE_TEST_SUITE_P(Plain, ReadMatrixTest, kPlainTiers, tier_name);
INSTANTIATE_TEST_SUITE_P(Merging, ReadMatrixTest, kMergingTiers, tier_name);

TEST_P(ReadMatrixTest, WhatWasReadIsSentOnceAndInOrderWhateverFailsInBetween) {
  for (const ReadFault& fault : kReadFaults) {
    for (size_t position : {size_t{0}, kPackets / 2, kPackets - 1, kPackets}) {
      for (size_t full_at = 0; full_at <= kPackets; full_at++) {
        SCOPED_TRACE(describe({fault.error}) + " before packet " + std::to_string(position) +
                     ", socket full at " + std::to_string(full_at));
        if (HasFailure()) return;
        check(fault, position, full_at);
        cases_++;
      }
    }
  }
}

}  // namespace
}  // namespace flannel::test
