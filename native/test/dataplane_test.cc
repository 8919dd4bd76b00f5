// The whole core with its threads, over a socket pair in place of the TUN device and real UDP on
// loopback.
#include "dataplane.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "pipeline.h"
#include "tun_lab.h"

namespace flannel::test {
namespace {

constexpr uint32_t kLoopback = ip(127, 0, 0, 1);

uint16_t port_of(int fd) {
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size), 0);
  return ntohs(bound.sin_port);
}

/// One forwarder with the host's end of its TUN.
class Node {
 public:
  Node(bool batched, bool split, Syscalls& syscalls = kernel())
      : Node(batched ? FeatureSet{Feature::batch} : FeatureSet{}, split, syscalls) {}

  Node(FeatureSet features, bool split, Syscalls& syscalls, bool required = false) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    host_ = UniqueFd(pair[0]);
    std::vector<Queue> queues(1);
    queues[0].tun = UniqueFd(pair[1]);
    queues[0].udp = open_udp(Address::of_ipv4(kLoopback), 0, {.receive = 4 << 20}, false);
    port_ = port_of(queues[0].udp.get());
    DataplaneOptions options{};
    options.features = features;
    options.required = required;
    options.split_threads = split;
    options.tunnel_addresses.ipv4 = ip(10, 244, 1, 0);
    dataplane_ = std::make_unique<Dataplane>(options, std::move(queues), syscalls);
  }

  [[nodiscard]] Route route_to(uint32_t network, uint8_t length) const {
    return {{network, length}, {Address::of_ipv4(kLoopback), htons(port_)}};
  }
  Dataplane& dataplane() { return *dataplane_; }

  /// Hands a packet to the forwarder as the kernel would through the TUN; waits while its queue is
  /// full. False once the forwarder is closed.
  bool inject(const Bytes& packet) {
    while (::send(host_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
      if (errno != EAGAIN) return false;
      wait(POLLOUT, 5000);
    }
    return true;
  }

  /// The next packet that the forwarder wrote to its TUN; empty when none came in time.
  Bytes next(int timeout_ms = 5000) {
    Bytes packet(kMaxPacket);
    if (!wait(POLLIN, timeout_ms)) return {};
    const ssize_t n = ::recv(host_.get(), packet.data(), packet.size(), 0);
    packet.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return packet;
  }

  [[nodiscard]] uint64_t count(Counter counter) const {
    return dataplane_->counters()[static_cast<size_t>(counter)];
  }

 private:
  bool wait(short events, int timeout_ms) {
    pollfd poll{host_.get(), events, 0};
    return ::poll(&poll, 1, timeout_ms) == 1;
  }

  UniqueFd host_;
  uint16_t port_ = 0;
  std::unique_ptr<Dataplane> dataplane_;
};

struct Mode {
  const char* name;
  bool batched;
  bool split;
};

class DataplaneTest : public ::testing::TestWithParam<Mode> {
 protected:
  DataplaneTest() {
    const Route there = b_.route_to(ip(10, 244, 2, 0), 24);
    const Route back = a_.route_to(ip(10, 244, 1, 0), 24);
    a_.dataplane().set_routes({&there, 1});
    b_.dataplane().set_routes({&back, 1});
    a_.dataplane().start();
    b_.dataplane().start();
  }

  Node a_{GetParam().batched, GetParam().split};
  Node b_{GetParam().batched, GetParam().split};
};

INSTANTIATE_TEST_SUITE_P(Modes, DataplaneTest,
                         ::testing::Values(Mode{"basic_single", false, false},
                                           Mode{"basic_split", false, true},
                                           Mode{"batch_single", true, false},
                                           Mode{"batch_split", true, true}),
                         [](const auto& info) { return info.param.name; });

TEST_P(DataplaneTest, CarriesPacketsBothWaysInOrder) {
  constexpr int kPackets = 2000;
  const PacketSpec there{.source = ip(10, 244, 1, 2), .destination = ip(10, 244, 2, 2)};
  const PacketSpec back{.source = ip(10, 244, 2, 2), .destination = ip(10, 244, 1, 2)};
  for (int i = 0; i < kPackets; i++) {
    PacketSpec spec = there;
    spec.first_payload_byte = static_cast<uint8_t>(i);
    a_.inject(make_packet(spec));
    spec.ttl = 62;
    ASSERT_EQ(b_.next(), make_packet(spec)) << i;
    spec = back;
    spec.first_payload_byte = static_cast<uint8_t>(i);
    b_.inject(make_packet(spec));
    spec.ttl = 62;
    ASSERT_EQ(a_.next(), make_packet(spec)) << i;
  }
  EXPECT_EQ(a_.count(Counter::encap_packets_out), kPackets);
  EXPECT_EQ(b_.count(Counter::decap_packets_out), kPackets);
}

TEST_P(DataplaneTest, ChangesRoutesUnderTraffic) {
  const Bytes packet = make_packet({.destination = ip(10, 244, 2, 2)});
  const Route there = b_.route_to(ip(10, 244, 2, 0), 24);
  constexpr int kRounds = 300;
  for (int i = 0; i < kRounds; i++) {
    a_.dataplane().set_routes(i % 2 == 0 ? std::span<const Route>{} : std::span(&there, 1));
    a_.inject(packet);
  }
  a_.dataplane().set_routes({&there, 1});
  uint64_t in = 0;
  while (in < kRounds) in = a_.count(Counter::encap_packets_in);
  while (a_.count(Counter::encap_no_route) + a_.count(Counter::encap_packets_out) < kRounds) {
  }
  EXPECT_EQ(a_.count(Counter::encap_no_route) + a_.count(Counter::encap_packets_out), kRounds);
}

TEST_P(DataplaneTest, CountsTheTrafficOfAPeerFromItsFirstRouteToItsLast) {
  const Route there = b_.route_to(ip(10, 244, 2, 0), 24);
  const auto exchange = [&] {
    a_.inject(make_packet({.destination = ip(10, 244, 2, 2), .payload = 80}));
    b_.next();
    b_.inject(make_packet({.source = ip(10, 244, 2, 2), .destination = ip(10, 244, 1, 2)}));
    a_.next();
  };
  // It is counted after the kernel has it.
  const auto settled = [&](uint64_t packets) {
    std::vector<PeerFigures> peers = a_.dataplane().peers();
    while (peers.size() == 1 && (peers[0].out.packets < packets || peers[0].in.packets < packets)) {
      peers = a_.dataplane().peers();
    }
    return peers;
  };
  exchange();
  EXPECT_EQ(settled(1)[0].out.bytes, 100U);

  const Route other{{ip(10, 244, 9, 0), 24}, there.next_hop};
  a_.dataplane().change_routes({&other, 1});
  exchange();
  const auto both = settled(2);
  ASSERT_EQ(both.size(), 1U);
  EXPECT_EQ(both[0].peer, there.next_hop);
  EXPECT_EQ(both[0].out.packets, 2U);
  EXPECT_EQ(both[0].in.packets, 2U);
  EXPECT_EQ(both[0].in.bytes, 2 * 52U);

  a_.dataplane().set_routes({});
  EXPECT_TRUE(a_.dataplane().peers().empty());
  a_.dataplane().set_routes({&there, 1});
  ASSERT_EQ(a_.dataplane().peers().size(), 1U);
  EXPECT_EQ(a_.dataplane().peers()[0].out.packets, 0U);
}

TEST_P(DataplaneTest, ChangesSingleRoutesUnderTraffic) {
  const Bytes packet = make_packet({.destination = ip(10, 244, 2, 2)});
  const Route there = b_.route_to(ip(10, 244, 2, 0), 24);
  const Route gone{there.prefix, {}};
  std::vector<Route> others;
  for (uint8_t i = 0; i < 200; i++) others.push_back(b_.route_to(ip(10, 245, i, 0), 25));
  constexpr int kRounds = 300;
  for (int i = 0; i < kRounds; i++) {
    // A neighbour each time, too, so that chunks come and go beside the one that is looked at.
    const std::array<Route, 2> changes{i % 2 == 0 ? gone : there,
                                       others[static_cast<size_t>(i) % others.size()]};
    a_.dataplane().change_routes(changes);
    if (i % 50 == 49) a_.dataplane().set_routes({&there, 1});
    a_.inject(packet);
  }
  uint64_t in = 0;
  while (in < kRounds) in = a_.count(Counter::encap_packets_in);
  while (a_.count(Counter::encap_no_route) + a_.count(Counter::encap_packets_out) < kRounds) {
  }
  EXPECT_EQ(a_.count(Counter::encap_no_route) + a_.count(Counter::encap_packets_out), kRounds);
}

TEST_P(DataplaneTest, ParkedItLeavesPacketsWhereTheyAre) {
  constexpr int kRounds = 20;
  constexpr int kPackets = 10;
  const auto soon = [] { return std::chrono::steady_clock::now() + std::chrono::seconds(5); };
  for (int round = 0; round < kRounds; round++) {
    const uint64_t before = a_.count(Counter::encap_packets_in);
    ASSERT_TRUE(a_.dataplane().park(soon()));
    for (int i = 0; i < kPackets; i++) {
      const auto number = static_cast<uint8_t>(i);
      a_.inject(make_packet({.destination = ip(10, 244, 2, 2), .first_payload_byte = number}));
    }
    EXPECT_FALSE(a_.dataplane().park(std::chrono::steady_clock::now())) << "parked twice";
    EXPECT_EQ(a_.count(Counter::encap_packets_in), before);
    a_.dataplane().resume();
    for (int i = 0; i < kPackets; i++) {
      const auto number = static_cast<uint8_t>(i);
      const PacketSpec expected{
          .destination = ip(10, 244, 2, 2), .ttl = 62, .first_payload_byte = number};
      ASSERT_EQ(b_.next(), make_packet(expected)) << i;
    }
  }
}

TEST_P(DataplaneTest, ParksUnderLoad) {
  std::atomic<bool> flooding{true};
  std::thread flood([&] {
    const Bytes packet = make_packet({.destination = ip(10, 244, 2, 2), .payload = 1000});
    while (flooding && a_.inject(packet)) {
    }
  });
  std::thread sink([&] {
    while (flooding) b_.next(10);
  });
  for (int round = 0; round < 200; round++) {
    ASSERT_TRUE(a_.dataplane().park(std::chrono::steady_clock::now() + std::chrono::seconds(5)));
    const auto parked = a_.dataplane().counters();
    std::this_thread::yield();
    EXPECT_EQ(a_.dataplane().counters(), parked);
    a_.dataplane().resume();
  }
  flooding = false;
  flood.join();
  sink.join();
}

TEST_P(DataplaneTest, StopsUnderLoadAndAccountsForEveryPacket) {
  std::thread flood([&] {
    const Bytes packet = make_packet({.destination = ip(10, 244, 2, 2), .payload = 1000});
    while (a_.inject(packet)) {
    }
  });
  while (b_.count(Counter::decap_packets_out) < 100) b_.next(0);
  a_.dataplane().close();  // the flood goes on until it hits the closed descriptor
  flood.join();
  b_.dataplane().close();
  for (Node* node : {&a_, &b_}) {
    int64_t encap = 0;
    int64_t decap = 0;
    const auto sums = node->dataplane().counters();
    for (size_t i = 0; i < kCounterCount; i++) {
      if (kCounters[i].role == "info") continue;
      const auto value = static_cast<int64_t>(sums[i]) * (kCounters[i].role == "in" ? 1 : -1);
      (kCounters[i].direction == "encap" ? encap : decap) += value;
    }
    EXPECT_EQ(encap, 0);
    EXPECT_EQ(decap, 0);
  }
}

/// The real kernel, under a name to change something of it.
class RealKernel : public Syscalls {
 public:
  ssize_t read(int fd, void* buffer, size_t size) noexcept override {
    return kernel().read(fd, buffer, size);
  }
  ssize_t write(int fd, const void* buffer, size_t size) noexcept override {
    return kernel().write(fd, buffer, size);
  }
  ssize_t writev(int fd, const iovec* pieces, int count) noexcept override {
    return kernel().writev(fd, pieces, count);
  }
  ssize_t recvfrom(int fd, void* buffer, size_t size, SocketAddress& from) noexcept override {
    return kernel().recvfrom(fd, buffer, size, from);
  }
  ssize_t sendto(int fd, const void* buffer, size_t size,
                 const SocketAddress& to) noexcept override {
    return kernel().sendto(fd, buffer, size, to);
  }
  ssize_t recvmsg(int fd, msghdr& message) noexcept override {
    return kernel().recvmsg(fd, message);
  }
  ssize_t sendmsg(int fd, const msghdr& message) noexcept override {
    return kernel().sendmsg(fd, message);
  }
  int recvmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return kernel().recvmmsg(fd, messages, count);
  }
  int sendmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return kernel().sendmmsg(fd, messages, count);
  }
};

/// A socket that is full for the first few sends.
class FullAtFirst : public RealKernel {
 public:
  explicit FullAtFirst(int sends) : left_(sends) {}

  ssize_t sendto(int fd, const void* buffer, size_t size,
                 const SocketAddress& to) noexcept override {
    return left_-- > 0 ? -EAGAIN : RealKernel::sendto(fd, buffer, size, to);
  }
  int sendmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    // A call without a message asks whether the call exists.
    return count > 0 && left_-- > 0 ? -EAGAIN : RealKernel::sendmmsg(fd, messages, count);
  }

 private:
  std::atomic<int> left_;
};

/// Packets that `a` is given, one by one, arrive at `b` whole and in order.
void expect_to_arrive(Node& a, Node& b, uint8_t packets) {
  const Route there = b.route_to(ip(10, 244, 2, 0), 24);
  a.dataplane().set_routes({&there, 1});
  a.dataplane().start();
  b.dataplane().start();
  for (uint8_t i = 0; i < packets; i++) {
    a.inject(make_packet({.destination = ip(10, 244, 2, 2), .first_payload_byte = i}));
  }
  for (uint8_t i = 0; i < packets; i++) {
    const Bytes packet = b.next();
    ASSERT_EQ(packet.size(), 52U);
    EXPECT_EQ(packet[20], i);
  }
}

TEST(DataplaneBackpressure, GoesOnWhereItStoppedOnceTheSocketTakesMore) {
  for (const bool batched : {false, true}) {
    for (const bool split : {false, true}) {
      FullAtFirst full(5);
      Node a(batched, split, full);
      Node b(batched, split);
      ASSERT_NO_FATAL_FAILURE(expect_to_arrive(a, b, 100));
      EXPECT_EQ(a.count(Counter::encap_blocked), 5U);
    }
  }
}

/// A kernel, or a seccomp profile around this one, without one of the calls.
class WithoutCall : public RealKernel {
 public:
  enum class Call : uint8_t { recvmmsg, sendmmsg };
  WithoutCall(Call call, int error) : call_(call), error_(error) {}

  int recvmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return call_ == Call::recvmmsg ? -error_ : RealKernel::recvmmsg(fd, messages, count);
  }
  int sendmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return call_ == Call::sendmmsg ? -error_ : RealKernel::sendmmsg(fd, messages, count);
  }

 private:
  Call call_;
  int error_;
};

class DataplaneWithoutCall : public ::testing::TestWithParam<std::tuple<WithoutCall::Call, int>> {
 protected:
  WithoutCall kernel_{std::get<0>(GetParam()), std::get<1>(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(Calls, DataplaneWithoutCall,
                         ::testing::Combine(::testing::Values(WithoutCall::Call::recvmmsg,
                                                              WithoutCall::Call::sendmmsg),
                                            ::testing::Values(ENOSYS, EPERM)),
                         [](const auto& info) {
                           const bool receive =
                               std::get<0>(info.param) == WithoutCall::Call::recvmmsg;
                           return std::string(receive ? "recvmmsg" : "sendmmsg") +
                                  (std::get<1>(info.param) == ENOSYS ? "_ENOSYS" : "_EPERM");
                         });

TEST_P(DataplaneWithoutCall, GoesOnWithoutBatches) {
  const FeatureSet offloads{Feature::gso, Feature::gro};
  FeatureSet wanted = offloads;
  wanted.add(Feature::batch);
  Node a(wanted, true, kernel_);
  Node b(wanted, true, kernel_);
  EXPECT_EQ(a.dataplane().features(), offloads);
  expect_to_arrive(a, b, 200);
}

TEST_P(DataplaneWithoutCall, IsRefusedWhereBatchesAreRequired) {
  try {
    const Node node(FeatureSet{Feature::batch}, true, kernel_, true);
    FAIL() << "opened without batches";
  } catch (const SystemError& error) {
    EXPECT_EQ(error.code().value(), ENOTSUP);
    EXPECT_EQ(error.call(), "features batch");
  }
}

TEST(DataplaneProbe, FindsTheBatchesOfThisKernel) {
  Node node(FeatureSet{Feature::batch}, true, kernel(), true);
  EXPECT_EQ(node.dataplane().features(), FeatureSet{Feature::batch});
}

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count++;
  return count;
}

size_t threads() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
    count++;
  return count;
}

TEST(DataplaneLifecycle, LeavesNoThreadAndNoDescriptor) {
  Node(true, true)
      .dataplane()
      .start();  // a sanitizer's runtime starts threads of its own with the first one
  const size_t descriptors = open_descriptors();
  const size_t before = threads();
  for (int i = 0; i < 50; i++) {
    Node node(true, true);
    if (i % 2 == 0) node.dataplane().start();
    if (i % 3 == 0) node.dataplane().close();
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  // A thread that was waited for may still be on the list for a moment.
  EXPECT_TRUE(eventually([&] { return threads() == before; }))
      << threads() << " threads, " << before << " before";
}

TEST(DataplaneLifecycle, StartsOnce) {
  Node node(true, true);
  node.dataplane().start();
  EXPECT_THROW(node.dataplane().start(), SystemError);
  node.dataplane().close();
  node.dataplane().close();
  EXPECT_THROW(node.dataplane().start(), SystemError);
}

/// A descriptor that poll reports as readable and whose reads fail: what is left of a deleted
/// device.
class DeletedDevice : public ScriptedKernel {
 public:
  DeletedDevice() { read_error = EBADFD; }
};

TEST(DataplaneLifecycle, ReportsADeviceThatWentAwayAndDoesNotSpin) {
  DeletedDevice deleted;
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd host(pair[0]);
  std::vector<Queue> queues(1);
  queues[0].tun = UniqueFd(pair[1]);
  queues[0].udp = open_udp(Address::of_ipv4(kLoopback), 0, {}, false);
  ASSERT_EQ(::send(host.get(), "x", 1, 0), 1);
  Dataplane dataplane({}, std::move(queues), deleted);
  EXPECT_EQ(dataplane.failure(), 0);
  dataplane.start();
  while (dataplane.failure() == 0) std::this_thread::yield();
  EXPECT_EQ(dataplane.failure(), EBADFD);
  dataplane.close();
  EXPECT_EQ(dataplane.counters()[static_cast<size_t>(Counter::encap_read_errors)], 1U);
}

}  // namespace
}  // namespace flannel::test
