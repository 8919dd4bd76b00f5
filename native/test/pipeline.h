// Fixtures that run one pipeline over a scripted kernel and check the books after every turn.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "decap.h"
#include "encap.h"
#include "scripted_kernel.h"

namespace flannel::test {

using CounterDifference = std::map<std::string, uint64_t>;

/// Every counter that is not zero, by name, without the `info` ones unless asked for.
inline CounterDifference counted(const Counters& counters, bool with_info = false) {
  CounterDifference result;
  for (size_t i = 0; i < kCounterCount; i++) {
    const uint64_t value = counters.get(static_cast<Counter>(i));
    if (value != 0 && (with_info || kCounters[i].role != "info")) {
      result[std::string(kCounters[i].name)] = value;
    }
  }
  return result;
}

/// in - out - drops of one direction; what is still pending is the only thing it may be.
inline int64_t unaccounted(const Counters& counters, std::string_view direction) {
  int64_t balance = 0;
  for (size_t i = 0; i < kCounterCount; i++) {
    const auto value = static_cast<int64_t>(counters.get(static_cast<Counter>(i)));
    if (kCounters[i].direction != direction || kCounters[i].role == "info") continue;
    balance += kCounters[i].role == "in" ? value : -value;
  }
  return balance;
}

/// The parameter is the batch size: 1 is tier `basic`, 64 tier `batch`.
class PipelineTest : public ::testing::TestWithParam<size_t> {
 protected:
  static constexpr uint32_t kTunnelAddress = ip(10, 244, 1, 0);

  PipelineTest() {
    set_routes({{{ip(10, 244, 2, 0), 24}, peer(2)}, {{ip(10, 244, 3, 0), 24}, peer(3)}});
  }

  static NextHop peer(uint8_t n) { return {Address::of_ipv4(ip(192, 168, 77, n)), htons(8285)}; }
  void set_routes(const std::vector<Route>& routes) {
    table_.assign(routes);
    table_.settle();
    counters_.traffic.make_room(table_.peers().peers().size());
    fib_.publish(Fib::of(table_));
  }
  /// What the path to peer `n` carries, in bytes of an outer packet.
  void set_path_mtu(uint8_t n, size_t bytes) {
    table_.peers().set_path_mtu(table_.peers().find(peer(n)), bytes);
    fib_.publish(Fib::of(table_));
  }
  /// What was counted for the peer of a destination.
  PeerTraffic::Sums traffic_with(uint32_t destination) {
    return counters_.traffic.get(fib_.current().lookup(destination)->slot);
  }
  [[nodiscard]] UdpSocket udp() { return {ScriptedKernel::kUdp, features_, kernel_}; }
  [[nodiscard]] TunQueue tun() { return {ScriptedKernel::kTun, false, kernel_}; }

  ActiveFeatures features_{GetParam() > 1 ? FeatureSet{Feature::batch} : FeatureSet{}};
  ScriptedKernel kernel_;
  Counters counters_;
  RouteTable table_;
  Snapshot<Fib> fib_{Fib::build({}), 1};
};

}  // namespace flannel::test
