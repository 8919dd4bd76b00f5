// Runs: who joins which, in what order they leave, and what a refusal of the kernel does to them.
#include "send_batch.h"

#include <random>

#include "pipeline.h"

namespace flannel::test {
namespace {

NextHop hop(uint8_t n) {
  return {Address::of_ipv4(ip(192, 168, 77, n)), htons(8285)};
}

class RunTest : public ::testing::Test {
 protected:
  /// Adds a packet of `size` bytes whose first word is `mark`.
  bool push(size_t size, uint32_t mark, uint32_t flow = 0, uint8_t to = 2) {
    Bytes& bytes = packets_.emplace_back(size);
    std::memcpy(bytes.data(), &mark, std::min(size, sizeof mark));
    if (!batch_.has_room()) return false;
    batch_.push({{}, bytes}, hop(to), {flow}, socket_.max_segments());
    return true;
  }
  bool send() { return socket_.send(batch_, counters_); }

  struct Datagram {
    uint32_t mark;
    size_t size;
    Address to;
    bool operator==(const Datagram&) const = default;
  };
  [[nodiscard]] std::vector<Datagram> sent() const {
    std::vector<Datagram> result;
    for (const auto& datagram : kernel_.udp_out) {
      uint32_t mark = 0;
      std::memcpy(&mark, datagram.payload.data(), sizeof mark);
      result.push_back({mark, datagram.payload.size(), datagram.to.address()});
    }
    return result;
  }
  [[nodiscard]] std::vector<uint32_t> marks() const {
    std::vector<uint32_t> result;
    for (const auto& datagram : sent()) result.push_back(datagram.mark);
    return result;
  }

  ScriptedKernel kernel_;
  ActiveFeatures features_{FeatureSet{Feature::batch, Feature::gso}};
  UdpSocket socket_{ScriptedKernel::kUdp, features_, kernel_};
  Counters counters_;
  SendBatch batch_;
  std::deque<Bytes> packets_;
};

using Runs = std::vector<size_t>;
using Marks = std::vector<uint32_t>;

TEST_F(RunTest, EqualSizesToOneNextHopTravelTogether) {
  for (uint32_t i = 0; i < 10; i++) push(500, i);
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.runs, Runs{10});
  EXPECT_EQ(kernel_.send_calls, 1);
  EXPECT_EQ(marks(), (Marks{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(counters_.get(Counter::encap_packets_out), 10U);
  EXPECT_EQ(counters_.get(Counter::encap_bytes), 5000U);
}

TEST_F(RunTest, AShorterLastOneOfTheFlowClosesTheRun) {
  for (uint32_t i = 0; i < 4; i++) push(500, i);
  push(100, 4);
  push(500, 5);
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.runs, Runs{5});
  EXPECT_EQ(marks(), (Marks{0, 1, 2, 3, 4, 5}));
}

TEST_F(RunTest, OtherNextHopsAndOtherSizesHaveRunsOfTheirOwn) {
  for (uint32_t i = 0; i < 4; i++) {
    push(500, 10 + i, 1, 2);
    push(500, 20 + i, 2, 3);
    push(64, 30 + i, 3, 2);
  }
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.runs, (Runs{4, 4, 4}));
  EXPECT_EQ(marks(), (Marks{10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33}));
  EXPECT_EQ(sent()[4].to, hop(3).address);
}

TEST_F(RunTest, HoldsAsManyDatagramsAndBytesAsTheKernelTakes) {
  for (uint32_t i = 0; i < 300; i++) push(64, i);
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.runs, (Runs{128, 128, 44}));
  kernel_.runs.clear();
  for (uint32_t i = 0; i < 50; i++) push(1472, i);
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.runs, (Runs{44, 6})) << "44 * 1472 is the most below 65508";
}

TEST_F(RunTest, KeepsPiecesTogether) {
  const Bytes header(40, 0xaa);
  const Bytes payload(100, 0xbb);
  for (int i = 0; i < 3; i++) batch_.push({header, payload}, hop(2), {}, 128);
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.runs, Runs{3});
  Bytes whole = header;
  whole.insert(whole.end(), payload.begin(), payload.end());
  for (const auto& datagram : kernel_.udp_out) EXPECT_EQ(datagram.payload, whole);
}

TEST_F(RunTest, TellsWhenItIsFull) {
  uint32_t i = 0;
  while (push(100, i, i, static_cast<uint8_t>(i))) i++;
  EXPECT_EQ(i, SendBatch::kMaxEntries);
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.udp_out.size(), i);
  EXPECT_TRUE(push(100, i));
}

TEST_F(RunTest, NeverReordersAFlowNorLosesAPacket) {
  for (uint64_t seed = 0; seed < 300; seed++) {
    std::mt19937_64 random(seed);
    const size_t sizes[] = {64, 576, 1400, 1472, 100};
    const size_t kinds = 1 + random() % 5;
    const uint32_t flows = 1 + static_cast<uint32_t>(random() % 40);
    kernel_.udp_out.clear();
    packets_.clear();
    std::vector<Datagram> pushed;
    std::vector<uint32_t> flow_of;
    for (uint32_t i = 0; i < 64; i++) {
      const auto flow = static_cast<uint32_t>(random() % flows);
      const auto to = static_cast<uint8_t>(2 + flow % 3);
      const size_t size = sizes[random() % kinds];
      ASSERT_TRUE(push(size, i, flow * 0x9e3779b1, to));
      pushed.push_back({i, size, hop(to).address});
      flow_of.push_back(flow);
    }
    ASSERT_TRUE(send());
    const auto result = sent();
    ASSERT_EQ(result.size(), pushed.size());
    std::vector<int64_t> last(flows, -1);
    for (const Datagram& datagram : result) {
      ASSERT_EQ(datagram, pushed[datagram.mark]) << seed;
      int64_t& before = last[flow_of[datagram.mark]];
      ASSERT_LT(before, static_cast<int64_t>(datagram.mark)) << "seed " << seed;
      before = datagram.mark;
    }
  }
}

struct Refusal {
  int error;
  bool gives_up;
};

TEST_F(RunTest, ARefusedRunIsSentOneByOneAndItsNeighboursAreNotTouched) {
  for (const Refusal refusal : {Refusal{EMSGSIZE, false}, Refusal{EINVAL, false},
                                Refusal{EIO, true}, Refusal{EOPNOTSUPP, true}}) {
    for (uint8_t refused : {2, 3, 4}) {
      ActiveFeatures features(features_.get());
      UdpSocket socket(ScriptedKernel::kUdp, features, kernel_);
      kernel_.udp_out.clear();
      Counters counters;
      // Three runs of four, to hosts 2, 3 and 4.
      for (uint32_t i = 0; i < 12; i++) {
        Bytes& bytes = packets_.emplace_back(300);
        std::memcpy(bytes.data(), &i, sizeof i);
        batch_.push({{}, bytes}, hop(static_cast<uint8_t>(2 + i / 4)), {i / 4},
                    socket.max_segments());
      }
      kernel_.run_outcome = [&](const Bytes& bytes, size_t) {
        uint32_t mark = 0;
        std::memcpy(&mark, bytes.data(), sizeof mark);
        return mark / 4 + 2 == refused ? refusal.error : 0;
      };
      EXPECT_TRUE(socket.send(batch_, counters));
      EXPECT_EQ(marks(), (Marks{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
      EXPECT_EQ(counters.get(Counter::encap_packets_out), 12U);
      EXPECT_EQ(counters.get(Counter::encap_bytes), 12U * 300);
      EXPECT_EQ(features.has(Feature::gso), !refusal.gives_up) << refusal.error;
      EXPECT_EQ(socket.max_segments(), refusal.gives_up ? 1U : SendBatch::kMaxSegments);
    }
  }
}

TEST_F(RunTest, AKernelThatTakesOnly64LearnsNothingElse) {
  kernel_.run_outcome = [](const Bytes& bytes, size_t size) {
    return bytes.size() > 64 * size ? EINVAL : 0;
  };
  for (uint32_t i = 0; i < 100; i++) push(64, i);
  EXPECT_TRUE(send());
  EXPECT_EQ(socket_.max_segments(), 64U);
  EXPECT_TRUE(features_.has(Feature::gso));
  for (uint32_t i = 100; i < 200; i++) push(64, i);
  EXPECT_TRUE(send());
  EXPECT_EQ(kernel_.runs, (Runs{64, 36}));
  ASSERT_EQ(kernel_.udp_out.size(), 200U);
  for (uint32_t i = 0; i < 200; i++) EXPECT_EQ(sent()[i].mark, i);
}

TEST_F(RunTest, AReplayGoesOnWhereAFullSocketStoppedIt) {
  for (int full_at = 0; full_at < 6; full_at++) {
    kernel_.udp_out.clear();
    kernel_.run_outcome = [](const Bytes&, size_t) { return EMSGSIZE; };
    int attempts = 0;
    kernel_.send_outcome = [&](const Bytes&) { return attempts++ == full_at ? EAGAIN : 0; };
    for (uint32_t i = 0; i < 6; i++) push(300, i);
    EXPECT_FALSE(send());
    EXPECT_EQ(batch_.pending(), 6U - static_cast<size_t>(full_at));
    EXPECT_TRUE(send());
    EXPECT_EQ(marks(), (Marks{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(batch_.pending(), 0U);
  }
}

TEST_F(RunTest, InAReplayEachDatagramHasItsOwnFate) {
  kernel_.run_outcome = [](const Bytes&, size_t) { return EIO; };
  kernel_.send_outcome = [](const Bytes& bytes) { return bytes[0] == 2 ? EPERM : 0; };
  for (uint32_t i = 0; i < 5; i++) push(300, i);
  EXPECT_TRUE(send());
  EXPECT_EQ(marks(), (Marks{0, 1, 3, 4}));
  EXPECT_EQ(counters_.get(Counter::encap_refused), 1U);
  EXPECT_EQ(counters_.get(Counter::encap_packets_out), 4U);
}

TEST_F(RunTest, AFaultOfTheNetworkIsCountedForEachDatagramOfARun) {
  kernel_.run_outcome = [](const Bytes&, size_t) { return ENETUNREACH; };
  for (uint32_t i = 0; i < 5; i++) push(300, i);
  EXPECT_TRUE(send());
  EXPECT_TRUE(kernel_.udp_out.empty());
  EXPECT_EQ(counters_.get(Counter::encap_unreachable), 5U);
  EXPECT_TRUE(features_.has(Feature::gso));
}

class RowTest : public PipelineTest {};
INSTANTIATE_TEST_SUITE_P(Gro, RowTest, ::testing::Values(kBatchSize));

TEST_P(RowTest, RowsOfDatagramsAreTakenApart) {
  Decap decap(udp(), tun(), fib_.reader(0), {kTunnelAddress}, GetParam(), features_, counters_);
  Bytes row;
  std::vector<Bytes> expected;
  for (uint8_t i = 0; i < 5; i++) {
    PacketSpec spec{.ttl = 10, .payload = i == 4 ? size_t{8} : size_t{80}, .first_payload_byte = i};
    Bytes packet = make_packet(spec);
    if (i == 2) packet[0] = 0x60;  // a bad one amid good ones
    row.insert(row.end(), packet.begin(), packet.end());
    spec.ttl = 9;
    if (i != 2) expected.push_back(make_packet(spec));
  }
  kernel_.gro_size = 100;
  kernel_.udp_in.push_back(row);
  EXPECT_EQ(decap.turn(), Turn::drained);
  EXPECT_EQ(kernel_.tun_out, expected);
  EXPECT_EQ(counters_.get(Counter::decap_packets_in), 5U);
  EXPECT_EQ(counters_.get(Counter::decap_bad_version), 1U);
  EXPECT_EQ(unaccounted(counters_, "decap"), 0);
}

}  // namespace
}  // namespace flannel::test
