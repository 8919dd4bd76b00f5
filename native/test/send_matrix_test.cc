// Sends that fail, in all cases: which entry of a batch, of what it consists, with which errno, and
// how much the kernel takes at once. Every packet is sent exactly once and in order, or ends in the
// one counter of its fault; its neighbours never notice.
#include <array>
#include <map>
#include <set>

#include "faults.h"
#include "merging.h"
#include "pipeline.h"

namespace flannel::test {
namespace {

constexpr auto kFaults = std::to_array<Fault>({
    {EAGAIN},
    {EINTR},
    {ENOBUFS, "encap_no_buffer"},
    {EIO, "encap_send_error"},
    {EINVAL, "encap_send_error"},
    {EMSGSIZE, "encap_too_big"},
    {EPERM, "encap_refused"},
    {ENETUNREACH, "encap_unreachable"},
    {ECONNREFUSED, "encap_send_error"},
});

/// With these the kernel refuses a run for being one; its datagrams pass singly.
constexpr auto kRefusals = std::to_array<Fault>({
    {EMSGSIZE, "encap_too_big"},
    {EINVAL, "encap_send_error"},
    {EIO, "encap_send_error"},
    {EOPNOTSUPP, "encap_send_error"},
});

bool is_any(int error, std::initializer_list<int> errors) {
  return std::find(errors.begin(), errors.end(), error) != errors.end();
}

/// Datagrams of one size, the last of several shorter: an entry where they may form a run.
struct Row {
  size_t length;
  bool in_pieces;  // header and payload of each, as a super-packet's segments
};

constexpr auto kRows =
    std::to_array<Row>({{1, false}, {4, true}, {4, false}, {1, true}, {4, false}});
constexpr size_t kPositions[] = {0, kRows.size() / 2, kRows.size() - 1};

/// The row of kRows at `position` is another, and fails.
struct Case {
  size_t position = SIZE_MAX;
  Row row{};
  Fault run{};       // of its run
  Fault datagram{};  // of its datagrams, sent singly
  size_t which = 0;  // of them, see hits()

  [[nodiscard]] Row at(size_t number) const { return number == position ? row : kRows[number]; }
};

constexpr uint32_t mark_of(size_t row, size_t index) {
  return static_cast<uint32_t>(row << 16 | index);
}
uint32_t mark_of(const Bytes& packet) {
  return load_be32(&packet[28]);
}

/// Every other row is of another flow, to another peer. Sizes grow from row to row, since a smaller
/// packet may join the row before.
Bytes packet_of(uint32_t mark, size_t length, uint8_t ttl) {
  const size_t row = mark >> 16;
  const size_t index = mark & 0xffff;
  const size_t payload = 300 + 20 * row - (length > 1 && index + 1 == length ? 100 : 0);
  Bytes packet = make_packet({.destination = ip(10, 244, row % 2 == 0 ? 2 : 3, 9),
                              .ttl = ttl,
                              .fragment = kDontFragment,
                              .payload = 8 + payload,
                              .first_payload_byte = static_cast<uint8_t>(mark)});
  store_be16(&packet[4], static_cast<uint16_t>(mark));
  store_be32(&packet[20], 1000 << 16 | 9);  // ports
  store_be16(&packet[24], static_cast<uint16_t>(8 + payload));
  store_be32(&packet[28], mark);
  fill_checksums(packet);
  return packet;
}

/// In their order, by flow.
using Marks = std::array<std::vector<uint32_t>, 2>;

/// One TUN queue and one socket; the batches are large enough for rows of any length.
struct Host {
  explicit Host(FeatureSet features)
      : active(features),
        encap({ScriptedKernel::kTun, true, kernel}, {ScriptedKernel::kUdp, active, kernel},
              fib.reader(0), {}, {ip(10, 244, 1, 0)}, features.has(Feature::batch) ? 256 : 1,
              counters, kernel) {}

  static NextHop peer(size_t row) {
    return {Address::of_ipv4(ip(192, 168, 77, row % 2 == 0 ? 2 : 3)), htons(8285)};
  }

  void put(size_t number, Row row) {
    Bytes super;
    for (size_t i = 0; i < row.length; i++) {
      const uint32_t mark = mark_of(number, i);
      wire[mark] = packet_of(mark, row.length, 63);
      marks[number % 2].push_back(mark);
      const Bytes packet = packet_of(mark, row.length, 64);
      if (!row.in_pieces) kernel.tun_in.push_back(with_header({}, packet));
      super.insert(super.end(), packet.begin() + (i == 0 ? 0 : 28), packet.end());
    }
    if (!row.in_pieces) return;
    const auto segment = static_cast<uint16_t>(300 + 20 * number);
    store_be16(&super[2], static_cast<uint16_t>(super.size()));
    store_be16(&super[24], static_cast<uint16_t>(super.size() - 20));
    fill_ip_checksum(super);
    kernel.tun_in.push_back(with_header({.flags = VirtioHeader::kNeedsChecksum,
                                         .gso_type = VirtioHeader::kGsoUdpL4,
                                         .hdr_len = 28,
                                         .gso_size = segment,
                                         .csum_start = 20,
                                         .csum_offset = 6},
                                        super));
  }

  void put_all(const Case& c) {
    for (size_t number = 0; number < kRows.size(); number++) put(number, c.at(number));
  }

  /// Turns until nothing is left; how many of them ended with a full socket.
  size_t drain() {
    size_t blocked = 0;
    for (int turns = 0; turns < 20; turns++) {
      const Turn turn = encap.turn();
      if (turn == Turn::drained) return blocked;
      EXPECT_NE(turn, Turn::failed);
      if (turn == Turn::blocked) blocked++;
    }
    ADD_FAILURE() << "turns without end";
    return blocked;
  }

  /// The marks of what was sent, by flow; byte by byte it is what was to be sent, to its peer.
  [[nodiscard]] Marks sent() const {
    Marks result;
    for (const auto& datagram : kernel.udp_out) {
      const uint32_t mark = mark_of(datagram.payload);
      const auto expected = wire.find(mark);
      EXPECT_TRUE(expected != wire.end() && datagram.payload == expected->second) << mark;
      EXPECT_EQ(datagram.to.address(), peer(mark >> 16).address);
      result[(mark >> 16) % 2].push_back(mark);
    }
    return result;
  }

  ScriptedKernel kernel;
  Counters counters;
  ActiveFeatures active;
  Snapshot<Fib> fib{Fib::build(std::vector<Route>{{{ip(10, 244, 2, 0), 24}, peer(0)},
                                                  {{ip(10, 244, 3, 0), 24}, peer(1)}}),
                    1};
  Encap encap;
  Marks marks;                     // of all that was put in,
  std::map<uint32_t, Bytes> wire;  // and what each is to be sent as
};

using Runs = std::vector<size_t>;

class SendMatrixTest : public MatrixTest {
 protected:
  /// Whether the row leaves as a run: without batches only the segments of a super-packet meet.
  [[nodiscard]] static bool forms_run(Row row) {
    return has(Feature::gso) && row.length > 1 && (has(Feature::batch) || row.in_pieces);
  }

  static void script(ScriptedKernel& kernel, const Case& c) {
    kernel.run_outcome = [&c, fail = Failing(c.run)](const Bytes& run, size_t) mutable {
      return mark_of(run) >> 16 == c.position ? fail() : 0;
    };
    kernel.send_outcome = [&c, fail = Failing(c.datagram)](const Bytes& packet) mutable {
      const uint32_t mark = mark_of(packet);
      return mark >> 16 == c.position && hits(c.which, mark & 0xffff) ? fail() : 0;
    };
  }

  /// Runs a case for everything that sendmmsg may take of a batch at once.
  void check(const Case& c) {
    size_t entries = 0;
    for (size_t i = 0; i < kRows.size(); i++) entries += forms_run(c.at(i)) ? 1 : c.at(i).length;
    for (size_t most : {size_t{1}, size_t{2}, entries - 1, entries}) {
      if (::testing::Test::HasFailure() || (!has(Feature::batch) && most != entries)) continue;
      SCOPED_TRACE("row " + std::to_string(c.position) + " of " + std::to_string(c.row.length) +
                   (c.row.in_pieces ? " in pieces" : "") + ", run: " + describe(c.run) +
                   ", datagram " + std::to_string(c.which) + ": " + describe(c.datagram) +
                   ", at most " + std::to_string(most));
      check(c, static_cast<unsigned>(most));
      cases_++;
    }
  }

 private:
  static void check(const Case& c, unsigned most) {
    Host host(GetParam().features);
    script(host.kernel, c);
    host.kernel.send_most = most;
    host.put_all(c);
    const int error = c.run.error;
    const bool refused = forms_run(c.row) && is_any(error, {EMSGSIZE, EINVAL, EIO, EOPNOTSUPP});
    const bool teaches = refused && (c.which != kAll || c.datagram.counter == nullptr);
    const bool gives_up = teaches && is_any(error, {EIO, EOPNOTSUPP});
    const bool limits = teaches && error == EINVAL && c.row.length > 64;
    Marks sent;
    Runs runs;
    size_t bytes = 0;
    CounterDifference counters;
    for (size_t number = 0; number < kRows.size(); number++) {
      const bool fails = number == c.position;
      const Row row = c.at(number);
      const bool lost = gives_up && number > c.position && !has(Feature::batch);
      if (forms_run(row) && !lost && !(fails && c.run.counter != nullptr)) {
        runs.push_back(row.length);
      }
      for (size_t i = 0; i < row.length; i++) {
        const bool alone = !forms_run(row) || refused;
        Fault fault;
        if (fails && !alone) fault = c.run;
        if (fails && alone && hits(c.which, i)) fault = c.datagram;
        counters["encap_packets_in"]++;
        counters[fault.counter == nullptr ? "encap_packets_out" : fault.counter]++;
        if (fault.counter != nullptr) continue;
        sent[number % 2].push_back(mark_of(number, i));
        bytes += host.wire.at(mark_of(number, i)).size();
      }
    }

    const size_t blocked = error == EAGAIN || c.datagram.error == EAGAIN ? kRepeats : 0;
    EXPECT_EQ(host.drain(), blocked);
    EXPECT_EQ(host.sent(), sent);
    EXPECT_EQ(host.kernel.runs, runs);
    EXPECT_EQ(counted(host.counters), counters);
    EXPECT_EQ(host.counters.get(Counter::encap_bytes), bytes);
    EXPECT_EQ(host.counters.get(Counter::encap_blocked), blocked);
    EXPECT_EQ(host.counters.get(Counter::encap_send_calls), size_t(host.kernel.send_calls));

    FeatureSet features = GetParam().features;
    if (gives_up) features.remove(Feature::gso);
    EXPECT_EQ(host.active.get(), features);
    host.kernel.runs.clear();
    host.put(kRows.size(), {100, true});
    EXPECT_EQ(host.drain(), 0U);
    const Runs whole = limits ? Runs{64, 36} : Runs{100};
    EXPECT_EQ(host.kernel.runs, features.has(Feature::gso) ? whole : Runs{});
    EXPECT_EQ(unaccounted(host.counters, "encap"), 0);
  }
};

/// The tiers in which rows form runs.
class RunMatrixTest : public SendMatrixTest {};

INSTANTIATE_TEST_SUITE_P(Tiers, SendMatrixTest,
                         ::testing::Values(Tier{"basic", {}}, Tier{"batch", {Feature::batch}},
                                           Tier{"gso", {Feature::gso}},
                                           Tier{"batch_gso", {Feature::batch, Feature::gso}}),
                         tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, RunMatrixTest,
                         ::testing::Values(Tier{"gso", {Feature::gso}},
                                           Tier{"batch_gso", {Feature::batch, Feature::gso}}),
                         tier_name);

/// More than a batch holds entries for.
constexpr size_t kPortions = 120;

TEST_P(SendMatrixTest, ADatagramThatFailsIsCountedAndTheOthersAreSent) {
  for (size_t length : {size_t{1}, size_t{4}, kPortions}) {
    for (const Row row : {Row{length, false}, Row{length, true}}) {
      if (forms_run(row)) continue;
      for (size_t which : std::set{size_t{0}, length / 2, length - 1}) {
        for (const Fault& fault : kFaults) {
          for (size_t position : kPositions) check({position, row, {}, fault, which});
        }
      }
    }
  }
}

TEST_P(RunMatrixTest, ARunThatFailsIsCountedWholeOrPassesSingly) {
  for (size_t length : {2, 4, 64, 65, 128}) {
    for (const Row row : {Row{length, false}, Row{length, true}}) {
      if (!forms_run(row)) continue;
      for (size_t position : kPositions) {
        for (const Fault& fault : kFaults) check({position, row, fault, {}});
        check({position, row, {EOPNOTSUPP, "encap_send_error"}, {}});
      }
    }
  }
}

TEST_P(RunMatrixTest, InARefusedRunEachDatagramHasItsOwnFate) {
  for (const Row row : {Row{4, false}, Row{4, true}, Row{65, false}, Row{65, true}}) {
    if (!forms_run(row)) continue;
    for (const Fault& refusal : kRefusals) {
      if (row.length > 64 && refusal.error != EINVAL) continue;  // the length matters to no other
      for (const Fault& fault : kFaults) {
        for (size_t which : {size_t{0}, row.length / 2, row.length - 1, kAll, kAllButFirst}) {
          if (which >= kAllButFirst && fault.counter == nullptr) continue;
          for (size_t position : kPositions) check({position, row, refusal, fault, which});
        }
      }
    }
  }
}

TEST_P(RunMatrixTest, WhereEveryRunIsRefusedEveryDatagramPassesSingly) {
  for (const Fault& refusal : kRefusals) {
    for (unsigned most : {1U, 2U, 4U, 5U}) {
      SCOPED_TRACE(describe(refusal) + ", at most " + std::to_string(most));
      Host host(GetParam().features);
      host.kernel.run_outcome = [&](const Bytes&, size_t) { return refusal.error; };
      host.kernel.send_most = most;
      host.put_all({});
      EXPECT_EQ(host.drain(), 0U);
      EXPECT_EQ(host.sent(), host.marks);
      EXPECT_EQ(unaccounted(host.counters, "encap"), 0);
      EXPECT_EQ(host.active.has(Feature::gso), is_any(refusal.error, {EMSGSIZE, EINVAL}));
      cases_++;
    }
  }
}

TEST_P(SendMatrixTest, WhatWaitsForAFullSocketIsCountedAtTheEnd) {
  for (const Row row : {Row{1, false}, Row{1, true}, Row{4, false}, Row{4, true},
                        Row{kPortions, false}, Row{kPortions, true}}) {
    for (const Fault& refusal : {Fault{EAGAIN}, kRefusals[0]}) {
      for (size_t which : std::set{size_t{0}, row.length / 2, row.length - 1}) {
        for (size_t position : kPositions) {
          SCOPED_TRACE(describe(refusal) + ", datagram " + std::to_string(which));
          Host host(GetParam().features);
          host.kernel.send_outcome = [&](const Bytes& bytes) {
            return mark_of(bytes) >= mark_of(position, which) ? EAGAIN : 0;
          };
          host.kernel.run_outcome = [&](const Bytes& bytes, size_t) {
            return mark_of(bytes) >= mark_of(position, 0) ? refusal.error : 0;
          };
          host.put_all({.position = position, .row = row});
          EXPECT_EQ(host.encap.turn(), Turn::blocked);
          host.encap.abandon();
          EXPECT_EQ(unaccounted(host.counters, "encap"), 0);
          EXPECT_GT(host.counters.get(Counter::encap_stopped), 0U);
          EXPECT_EQ(host.counters.get(Counter::encap_packets_out), host.kernel.udp_out.size());
          if (has(Feature::batch)) {
            EXPECT_EQ(host.counters.get(Counter::encap_packets_in), host.wire.size());
          }
          cases_++;
        }
      }
    }
  }
}

/// Only sendmmsg can say that it took nothing: the calls for one message tell bytes or an errno.
/// The last datagram of a batch takes one of those.
TEST(SendMatrix, ACallThatTakesNothingCountsAsAFailureAndIsNotRepeatedForEver) {
  Host host(FeatureSet{Feature::batch});
  host.kernel.send_most = 0;
  host.put(0, {1, true});
  host.put(1, {4, true});
  EXPECT_EQ(host.drain(), 0U);
  EXPECT_EQ(counted(host.counters),
            (CounterDifference{
                {"encap_packets_in", 5}, {"encap_packets_out", 1}, {"encap_send_error", 4}}));
}

TEST_P(RunMatrixTest, AThousandRefusalsInARowAndNoRunThatPassedGiveRunsUp) {
  for (int error : {EMSGSIZE, EINVAL}) {
    Host host(GetParam().features);
    int outcome = 0;
    host.kernel.run_outcome = [&](const Bytes&, size_t) { return outcome; };
    const auto send = [&](size_t runs, int result) {
      outcome = result;
      for (size_t i = 0; i < runs; i++) {
        host.put(0, {4, true});
        host.drain();
      }
    };
    send(999, error);
    send(1, 0);
    EXPECT_EQ(host.kernel.runs, Runs{4});
    send(999, error);
    EXPECT_TRUE(host.active.has(Feature::gso));
    send(1, error);
    EXPECT_FALSE(host.active.has(Feature::gso));
    send(1, 0);
    EXPECT_EQ(host.kernel.runs, Runs{4});
    EXPECT_EQ(host.counters.get(Counter::encap_packets_out), 2001U * 4);
    cases_++;
  }
}

}  // namespace
}  // namespace flannel::test
