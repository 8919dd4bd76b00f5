#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "checksum.h"
#include "gro.h"
#include "gso.h"
#include "ipv4.h"

namespace flannel {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kTcpHeaders = 20 + 32;
constexpr size_t kUdpHeaders = 20 + 8;
constexpr uint16_t kMss = 1380;

/// Registers checksum/<implementation> for this processor.
[[maybe_unused]] const bool kChecksums = [] {
  for (const auto& implementation : checksum_implementations()) {
    const auto run = [implementation](benchmark::State& state) {
      const Bytes bytes(static_cast<size_t>(state.range(0)), 0x5a);
      for (auto _ : state) benchmark::DoNotOptimize(implementation.folded_sum(bytes));
      state.SetBytesProcessed(state.iterations() * state.range(0));
    };
    auto* benchmark =
        benchmark::RegisterBenchmark(("checksum/" + std::string(implementation.name)).c_str(), run);
    for (int64_t size : {20, 64, 128, 256, 576, 1440, 9000, 65535}) benchmark->Arg(size);
  }
  return true;
}();

void fill_checksums(std::span<uint8_t> packet) {
  const auto transport = packet.subspan(20);
  uint8_t* field = &transport[packet[9] == 6 ? 16 : 6];
  store_be16(field, 0);
  const uint64_t pseudo = checksum_pseudo_ipv4(load_be32(&packet[12]), load_be32(&packet[16]),
                                               packet[9], static_cast<uint32_t>(transport.size()));
  store_be16(field, checksum_finish_udp(checksum_add(transport, pseudo)));
  store_be16(&packet[10], 0);
  store_be16(&packet[10], checksum_finish(checksum_add(packet.first(20), 0)));
}

/// The `index`th packet of a stream, TCP (6) or UDP (17).
Bytes make_packet(uint8_t protocol, size_t payload, size_t index) {
  Bytes packet((protocol == 6 ? kTcpHeaders : kUdpHeaders) + payload, 0x5a);
  packet[0] = 0x45;
  packet[1] = 0;
  store_be16(&packet[2], static_cast<uint16_t>(packet.size()));
  store_be16(&packet[4], static_cast<uint16_t>(index));
  store_be16(&packet[6], 0x4000);
  packet[9] = protocol;
  if (protocol == 6) {
    store_be32(&packet[24], static_cast<uint32_t>(index * payload));
    store_be16(&packet[32], 0x8010);
  } else {
    store_be16(&packet[24], static_cast<uint16_t>(8 + payload));
  }
  fill_checksums(packet);
  return packet;
}

VirtioHeader super_header(uint8_t protocol, uint16_t gso_size) {
  VirtioHeader header{.flags = VirtioHeader::kNeedsChecksum};
  header.gso_type = protocol == 6 ? VirtioHeader::kGsoTcp4 : VirtioHeader::kGsoUdpL4;
  header.gso_size = gso_size;
  header.csum_start = 20;
  header.csum_offset = protocol == 6 ? 16 : 6;
  return header;
}

void split(benchmark::State& state, uint8_t protocol, size_t payload, uint16_t gso_size) {
  const Bytes packet = make_packet(protocol, payload, 0);
  const VirtioHeader header = super_header(protocol, gso_size);
  HeaderArena arena(128);
  Splitter splitter(arena);
  int64_t segments = 0;
  for (auto _ : state) {
    splitter.begin(header, packet);
    Segment segment;
    while (splitter.next(segment)) {
      benchmark::DoNotOptimize(segment);
      segments++;
    }
    arena.reset();
  }
  state.SetItemsProcessed(segments);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(packet.size()));
}
BENCHMARK_CAPTURE(split, tcp_64k, 6, 47 * kMss, kMss);
BENCHMARK_CAPTURE(split, udp_64x64, 17, 64 * 64, 64);

/// Merging changes headers, so each round starts from them as they came; copying them back is part
/// of the figure, see `restore`.
void merge(benchmark::State& state, uint8_t protocol, size_t payload, size_t count, bool merge) {
  std::vector<Bytes> packets;
  for (size_t i = 0; i < count; i++) packets.push_back(make_packet(protocol, payload, i));
  const Bytes first = packets[0];
  Merger merger(count, {.tcp = merge, .udp = merge, .max_segments = 128});
  for (auto _ : state) {
    std::copy_n(first.begin(), kTcpHeaders, packets[0].begin());
    for (auto& packet : packets) merger.add(packet);
    benchmark::DoNotOptimize(merger.finish());
    merger.clear();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(count));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(count * first.size()));
}
BENCHMARK_CAPTURE(merge, tcp_64k, 6, kMss, 47, true);
BENCHMARK_CAPTURE(merge, udp_64x64, 17, 64, 64, true);
BENCHMARK_CAPTURE(merge, off_64x64, 17, 64, 64, false);

}  // namespace
}  // namespace flannel
