// What a packet costs in encap and in decap, over a kernel that takes and gives at once.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "checksum.h"
#include "decap.h"
#include "encap.h"

namespace flannel {
namespace {

constexpr size_t kPeers = 1024;
constexpr size_t kPacketBytes = 128;
constexpr uint32_t kTunnel = 0x0a000000;

/// Packet number n goes to, or comes from, the subnet 10.x.y.0/24 of peer n % kPeers.
class InstantKernel final : public Syscalls {
 public:
  InstantKernel() {
    packet_[0] = 0x45;
    store_be16(&packet_[2], kPacketBytes);
    packet_[8] = 64;
    packet_[9] = 17;
    store_be32(&packet_[12], 0x0a000001);
    store_be32(&packet_[16], 0x0a000001);
    for (uint32_t i = 0; i < kPeers; i++) {
      sources_.push_back(SocketAddress::of(Address::of_ipv4(0xc0a80000 + i), htons(8285)));
    }
  }

  size_t waiting = 0;

  ssize_t read(int /*fd*/, void* buffer, size_t /*size*/) noexcept override {
    if (waiting == 0) return -EAGAIN;
    make(static_cast<uint8_t*>(buffer), 16);
    return kPacketBytes;
  }
  ssize_t write(int /*fd*/, const void* /*buffer*/, size_t size) noexcept override {
    return static_cast<ssize_t>(size);
  }
  ssize_t writev(int /*fd*/, const iovec* /*pieces*/, int /*count*/) noexcept override { return 1; }
  ssize_t recvfrom(int /*fd*/, void* buffer, size_t /*size*/,
                   SocketAddress& from) noexcept override {
    if (waiting == 0) return -EAGAIN;
    give_source(from.get());
    make(static_cast<uint8_t*>(buffer), 12);
    return kPacketBytes;
  }
  ssize_t sendto(int /*fd*/, const void* /*buffer*/, size_t size,
                 const SocketAddress& /*to*/) noexcept override {
    return static_cast<ssize_t>(size);
  }
  ssize_t recvmsg(int /*fd*/, msghdr& message) noexcept override {
    if (waiting == 0) return -EAGAIN;
    message.msg_controllen = 0;
    give_source(message.msg_name);
    make(static_cast<uint8_t*>(message.msg_iov->iov_base), 12);
    return kPacketBytes;
  }
  ssize_t sendmsg(int /*fd*/, const msghdr& /*message*/) noexcept override { return 1; }
  int recvmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    unsigned n = 0;
    for (; n < count && waiting > 0; n++) {
      messages[n].msg_len = static_cast<unsigned>(recvmsg(fd, messages[n].msg_hdr));
    }
    return n > 0 ? static_cast<int>(n) : -EAGAIN;
  }
  int sendmmsg(int /*fd*/, mmsghdr* /*messages*/, unsigned count) noexcept override {
    return static_cast<int>(count);
  }

 private:
  void give_source(void* name) noexcept {
    std::memcpy(name, sources_[number_ % kPeers].get(), sizeof(sockaddr_in));
  }
  void make(uint8_t* packet, size_t varied) noexcept {
    waiting--;
    std::copy(packet_.begin(), packet_.end(), packet);
    store_be32(packet + varied, 0x0a000001 + static_cast<uint32_t>(number_++ % kPeers << 8));
  }

  std::array<uint8_t, kPacketBytes> packet_{};
  std::vector<SocketAddress> sources_;
  size_t number_ = 0;
};

std::vector<Route> routes() {
  std::vector<Route> routes;
  for (uint32_t i = 0; i < kPeers; i++) {
    routes.push_back(
        {{0x0a000000 + (i << 8), 24}, {Address::of_ipv4(0xc0a80000 + i), htons(8285)}});
  }
  return routes;
}

/// One turn's worth of packets; the parameter is the batch size.
template <typename Pipeline>
void run(benchmark::State& state, InstantKernel& kernel, Pipeline& pipeline) {
  for (auto _ : state) {
    kernel.waiting = kTurnBudget - 1;
    benchmark::DoNotOptimize(pipeline.turn());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kTurnBudget - 1));
}

struct Bed {
  explicit Bed(size_t batch)
      : features(batch > 1 ? FeatureSet{Feature::batch} : FeatureSet{}),
        fib(Fib::build(routes()), 1) {
    counters.traffic.make_room(kPeers);
  }

  InstantKernel kernel;
  ActiveFeatures features;
  Snapshot<Fib> fib;
  Counters counters;
  UdpSocket udp{1, features, kernel};
  TunQueue tun{0, false, kernel};
};

void encap(benchmark::State& state) {
  const auto batch = static_cast<size_t>(state.range(0));
  Bed bed(batch);
  Encap pipeline(bed.tun, bed.udp, bed.fib.reader(0), {}, {kTunnel}, batch, bed.counters,
                 bed.kernel);
  run(state, bed.kernel, pipeline);
}
BENCHMARK(encap)->Arg(1)->Arg(kBatchSize);

void decap(benchmark::State& state) {
  const auto batch = static_cast<size_t>(state.range(0));
  Bed bed(batch);
  Decap pipeline(bed.udp, bed.tun, bed.fib.reader(0), {kTunnel}, batch, bed.features, bed.counters,
                 SourceCheck::subnet);
  run(state, bed.kernel, pipeline);
}
BENCHMARK(decap)->Arg(1)->Arg(kBatchSize);

}  // namespace
}  // namespace flannel
