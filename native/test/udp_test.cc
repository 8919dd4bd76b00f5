// Sends that fail: which entry, with what, in batches of which size. Each packet ends in exactly
// one counter and what can be sent is sent, in order.
#include "pipeline.h"

namespace flannel::test {
namespace {

class SendTest : public PipelineTest {
 protected:
  UdpSocket socket_ = udp();
  SendBatch batch_;
  std::vector<Bytes> packets_;

  void fill(size_t count) {
    packets_.reserve(count);
    for (size_t i = 0; i < count; i++) {
      packets_.push_back(make_packet({.first_payload_byte = static_cast<uint8_t>(i)}));
      batch_.push({{}, packets_.back()}, peer(2), {}, socket_.max_segments());
    }
  }

  /// Fails the datagrams whose number `fails` names, `times` times each.
  void fail(size_t number, int error, int times) {
    kernel_.send_outcome = [number, error, times](const Bytes& payload) mutable {
      if (payload[20] != number || times == 0) return 0;
      times--;
      return error;
    };
  }

  [[nodiscard]] std::vector<int> sent() const {
    std::vector<int> numbers;
    for (const auto& datagram : kernel_.udp_out) numbers.push_back(datagram.payload[20]);
    return numbers;
  }
};

INSTANTIATE_TEST_SUITE_P(Tiers, SendTest, ::testing::Values(1, kBatchSize),
                         [](const auto& info) { return info.param == 1 ? "basic" : "batch"; });

constexpr size_t kCount = 5;

std::vector<int> all_but(size_t number) {
  std::vector<int> numbers;
  for (size_t i = 0; i < kCount; i++) {
    if (i != number) numbers.push_back(static_cast<int>(i));
  }
  return numbers;
}

TEST_P(SendTest, AFailedEntryIsCountedAndItsNeighboursAreSent) {
  const std::pair<int, const char*> faults[] = {
      {EMSGSIZE, "encap_too_big"},         {ENETUNREACH, "encap_unreachable"},
      {EHOSTUNREACH, "encap_unreachable"}, {EPERM, "encap_refused"},
      {ENOBUFS, "encap_no_buffer"},        {EINVAL, "encap_send_error"},
      {ECONNREFUSED, "encap_send_error"},
  };
  for (const auto& [error, counter] : faults) {
    for (size_t position : {size_t{0}, size_t{2}, kCount - 1}) {
      SCOPED_TRACE(std::string(counter) + " at " + std::to_string(position));
      const uint64_t before = counted(counters_)[counter];
      const uint64_t out = counters_.get(Counter::encap_packets_out);
      kernel_.udp_out.clear();
      packets_.clear();
      fill(kCount);
      fail(position, error, 1);
      EXPECT_TRUE(socket_.send(batch_, counters_));
      EXPECT_EQ(sent(), all_but(position));
      EXPECT_EQ(counted(counters_)[counter], before + 1);
      EXPECT_EQ(counters_.get(Counter::encap_packets_out), out + kCount - 1);
      EXPECT_TRUE(batch_.empty());
    }
  }
}

TEST_P(SendTest, InterruptedCallsAreRepeated) {
  fill(kCount);
  fail(2, EINTR, 3);
  EXPECT_TRUE(socket_.send(batch_, counters_));
  EXPECT_EQ(sent(), all_but(kCount));
  EXPECT_EQ(counted(counters_), (CounterDifference{{"encap_packets_out", kCount}}));
}

TEST_P(SendTest, PartialCallsGoOnWhereTheyEnded) {
  for (unsigned most : {1U, 2U, 4U}) {
    kernel_.send_most = most;
    kernel_.udp_out.clear();
    packets_.clear();
    fill(kCount);
    EXPECT_TRUE(socket_.send(batch_, counters_));
    EXPECT_EQ(sent(), all_but(kCount));
  }
}

TEST_P(SendTest, AFullSocketKeepsTheRestForLater) {
  for (size_t position : {size_t{0}, size_t{2}, kCount - 1}) {
    kernel_.udp_out.clear();
    packets_.clear();
    fill(kCount);
    fail(position, EAGAIN, 1);
    EXPECT_FALSE(socket_.send(batch_, counters_));
    EXPECT_EQ(batch_.pending(), kCount - position);
    EXPECT_TRUE(socket_.send(batch_, counters_));
    EXPECT_EQ(sent(), all_but(kCount));
  }
}

TEST_P(SendTest, OneCallABatchOrOneADatagram) {
  fill(kCount);
  EXPECT_TRUE(socket_.send(batch_, counters_));
  EXPECT_EQ(kernel_.send_calls, GetParam() > 1 ? 1 : static_cast<int>(kCount));
}

/// A kernel with the offloads, but without recvmmsg and sendmmsg.
class WithoutBatchTest : public ::testing::Test {
 protected:
  WithoutBatchTest() {
    kernel_.recvmmsg_error = ENOSYS;
    kernel_.sendmmsg_error = ENOSYS;
    for (size_t i = 0; i < kCount; i++)
      packets_.push_back(make_packet({.first_payload_byte = static_cast<uint8_t>(i)}));
  }

  /// A run of datagrams in two pieces each, and one datagram beside it.
  void fill() {
    for (const Bytes& packet : packets_) {
      const std::span<const uint8_t> bytes = packet;
      batch_.push({bytes.first(20), bytes.subspan(20)}, peer_, {}, socket_.max_segments());
    }
    batch_.push({{}, large_}, peer_, {}, socket_.max_segments());
  }

  ScriptedKernel kernel_;
  ActiveFeatures features_{{Feature::gso, Feature::gro}};
  UdpSocket socket_{ScriptedKernel::kUdp, features_, kernel_};
  Counters counters_;
  SendBatch batch_;
  std::vector<Bytes> packets_;
  Bytes large_ = make_packet({.payload = 1000});
  NextHop peer_{Address::of_ipv4(ip(192, 168, 77, 2)), htons(8285)};
};

TEST_F(WithoutBatchTest, SendsARunACall) {
  fill();
  EXPECT_TRUE(socket_.send(batch_, counters_));
  EXPECT_EQ(kernel_.runs, std::vector<size_t>{kCount});
  EXPECT_EQ(kernel_.send_calls, 2);
  ASSERT_EQ(kernel_.udp_out.size(), kCount + 1);
  for (size_t i = 0; i < kCount; i++) EXPECT_EQ(kernel_.udp_out[i].payload, packets_[i]);
  EXPECT_EQ(kernel_.udp_out[kCount].payload, large_);
}

TEST_F(WithoutBatchTest, SendsTheDatagramsOfARefusedRunSingly) {
  kernel_.run_outcome = [](const Bytes&, size_t) { return EIO; };
  fill();
  EXPECT_TRUE(socket_.send(batch_, counters_));
  ASSERT_EQ(kernel_.udp_out.size(), kCount + 1);
  for (size_t i = 0; i < kCount; i++) EXPECT_EQ(kernel_.udp_out[i].payload, packets_[i]);
  EXPECT_FALSE(features_.has(Feature::gso));
}

TEST_F(WithoutBatchTest, ReceivesARowACall) {
  constexpr size_t kRow = 3;
  const size_t size = packets_[0].size();
  Bytes row;
  for (size_t i = 0; i < kRow; i++) row.insert(row.end(), packets_[i].begin(), packets_[i].end());
  kernel_.gro_size = static_cast<int>(size);
  kernel_.udp_in = {row, packets_[3]};
  PacketPool pool(kBatchSize);
  ReceiveBatch received(pool);
  for (const size_t length : {row.size(), size}) {
    const ReadResult result = socket_.receive(received);
    EXPECT_EQ(result.count, 1U);
    EXPECT_EQ(result.error, 0) << "there may be more";
    ASSERT_EQ(received.datagrams().size(), 1U);
    EXPECT_EQ(received.datagrams()[0].payload.size(), length);
    EXPECT_EQ(received.datagrams()[0].segment_size, size);
    EXPECT_FALSE(received.datagrams()[0].truncated);
  }
  EXPECT_EQ(socket_.receive(received).error, EAGAIN);
}

TEST(OpenUdp, NamesTheCallThatFailed) {
  const UniqueFd first = open_udp(Address::of_ipv4(ip(127, 0, 0, 1)), 0, {}, false);
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  ASSERT_EQ(::getsockname(first.get(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
  try {
    open_udp(Address::of_ipv4(ip(127, 0, 0, 1)), ntohs(bound.sin_port), {}, false);
    FAIL() << "a port that is taken was bound";
  } catch (const SystemError& error) {
    EXPECT_EQ(error.code().value(), EADDRINUSE);
    EXPECT_EQ(error.call(), "bind");
  }
}

}  // namespace
}  // namespace flannel::test
