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

TEST(OpenUdp, NamesTheCallThatFailed) {
  const UniqueFd first = open_udp(ip(127, 0, 0, 1), 0, {}, false);
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  ASSERT_EQ(::getsockname(first.get(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
  try {
    open_udp(ip(127, 0, 0, 1), ntohs(bound.sin_port), {}, false);
    FAIL() << "a port that is taken was bound";
  } catch (const SystemError& error) {
    EXPECT_EQ(error.code().value(), EADDRINUSE);
    EXPECT_EQ(error.call(), "bind");
  }
}

}  // namespace
}  // namespace flannel::test
