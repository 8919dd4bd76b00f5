#include <arpa/inet.h>
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "fib.h"

namespace flannel {
namespace {

/// `count` /24s from 10.0.0.0 on, each with a next hop of its own.
std::vector<Route> routes(size_t count) {
  std::vector<Route> result;
  for (uint32_t i = 0; i < count; i++) {
    result.push_back(
        {{0x0a000000 + (i << 8), 24}, {Address::of_ipv4(0xc0a80000 + i), htons(8285)}});
  }
  return result;
}

void build(benchmark::State& state) {
  const auto table = routes(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(Fib::build(table));
}
BENCHMARK(build)->Arg(1)->Arg(1024)->Arg(65536)->Unit(benchmark::kMillisecond);

/// Lookups of random destinations that all have a route.
void lookup(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  const auto fib = Fib::build(routes(count));
  std::mt19937 random(1);
  std::vector<uint32_t> destinations(1 << 16);
  for (auto& destination : destinations) {
    destination = 0x0a000000 + static_cast<uint32_t>(random() % count << 8 | random() % 256);
  }
  size_t i = 0;
  for (auto _ : state) {
    // The next hop is read, as the packet path reads it.
    benchmark::DoNotOptimize(fib->lookup(destinations[i++ & 0xffff])->port);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(lookup)->Arg(1)->Arg(1024)->Arg(65536);

}  // namespace
}  // namespace flannel
