// The packet path allocates nothing once it is warm, in any tier. This file replaces operator new
// for the whole test program, to count.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "pipeline.h"

namespace {
thread_local size_t allocations = 0;

void* counted_allocation(size_t size) noexcept {
  allocations++;
  return std::malloc(size);
}
void* allocation_or_throw(size_t size) {
  if (void* memory = counted_allocation(size)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(size_t size) {
  return allocation_or_throw(size);
}
void* operator new[](size_t size) {
  return allocation_or_throw(size);
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return counted_allocation(size);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return counted_allocation(size);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  std::free(memory);
}

namespace flannel::test {
namespace {

constexpr int kRounds = 200;
constexpr int kPerRound = 50;

struct Tier {
  const char* name;
  FeatureSet features;
};

class AllocationTest : public ::testing::TestWithParam<Tier> {
 protected:
  AllocationTest() {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    host_ = UniqueFd(pair[0]);
    tun_ = UniqueFd(pair[1]);
    udp_ = open_udp(Address::of_ipv4(ip(127, 0, 0, 1)), 0, {.receive = 4 << 20}, false);
    enable_udp_offloads(udp_.get(), GetParam().features);
    EXPECT_EQ(::getsockname(udp_.get(), self_.get(), &self_.length), 0);
    // To itself: what encap sends, decap receives.
    const Route route{{ip(10, 244, 2, 0), 24}, {self_.address(), self_.port()}};
    fib_.publish(Fib::build({&route, 1}));
  }

  void inject(std::span<const uint8_t> packet) {
    std::array<uint8_t, 2048> message{};
    const size_t front = virtio() ? sizeof(VirtioHeader) : 0;
    std::copy(packet.begin(), packet.end(), message.begin() + static_cast<ptrdiff_t>(front));
    EXPECT_GT(::send(host_.get(), message.data(), front + packet.size(), 0), 0);
  }
  [[nodiscard]] bool virtio() const { return GetParam().features.has(Feature::tso); }

  UniqueFd host_;
  UniqueFd tun_;
  UniqueFd udp_;
  SocketAddress self_;
  Counters counters_;
  Snapshot<Fib> fib_{Fib::build({}), 2};
};

INSTANTIATE_TEST_SUITE_P(
    Tiers, AllocationTest,
    ::testing::Values(
        Tier{"basic", {}}, Tier{"batch", {Feature::batch}},
        Tier{"udp_offload", {Feature::batch, Feature::gso, Feature::gro}},
        Tier{"no_batch", {Feature::gso, Feature::gro, Feature::tso, Feature::uso}},
        Tier{"full", {Feature::batch, Feature::gso, Feature::gro, Feature::tso, Feature::uso}}),
    [](const auto& info) { return info.param.name; });

TEST_P(AllocationTest, NoneOnceWarm) {
  ActiveFeatures features(GetParam().features);
  const UdpSocket udp(udp_.get(), features, kernel());
  const TunQueue tun(tun_.get(), virtio(), kernel());
  const size_t batch = GetParam().features.has(Feature::batch) ? kBatchSize : 1;
  MssClamp clamp;
  clamp.set(1372);
  Encap encap(tun, udp, fib_.reader(0), {}, {ip(10, 244, 1, 0)}, batch, counters_, kernel(), clamp);
  Decap decap(udp, tun, fib_.reader(1), {ip(10, 244, 1, 0)}, batch, features, counters_,
              SourceCheck::peer, true, clamp);
  const Bytes good = make_packet({.destination = ip(10, 244, 2, 2), .payload = 600});
  Bytes probe(600);
  ProbeHeader{ProbeHeader::Kind::probe, 600, 7}.write(
      std::span(probe).first<ProbeHeader::kBytes>());
  const Bytes no_route = make_packet({.destination = ip(10, 9, 9, 9)});
  Bytes out(65536 + sizeof(VirtioHeader));

  size_t after_warm_up = 0;
  for (int round = 0; round < kRounds; round++) {
    if (round == 10) after_warm_up = allocations;
    for (int i = 0; i < kPerRound; i++) inject(i % 10 == 9 ? no_route : good);
    while (encap.turn() == Turn::more) {
    }
    // Its answer comes back here, too.
    EXPECT_EQ(::sendto(udp_.get(), probe.data(), probe.size(), 0, self_.get(), self_.length),
              static_cast<ssize_t>(probe.size()));
    pollfd readable{udp_.get(), POLLIN, 0};
    ::poll(&readable, 1, 1000);
    while (decap.turn() == Turn::more) {
    }
    while (::recv(host_.get(), out.data(), out.size(), 0) > 0) {
    }
  }
  EXPECT_EQ(allocations - after_warm_up, 0U);
  EXPECT_GT(counters_.get(Counter::decap_probes_answered), 0U);
  EXPECT_EQ(counters_.get(Counter::encap_packets_in), uint64_t{kRounds} * kPerRound);
  EXPECT_EQ(counters_.get(Counter::decap_packets_out), uint64_t{kRounds} * kPerRound * 9 / 10);
}

}  // namespace
}  // namespace flannel::test
