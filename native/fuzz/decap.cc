// UDP -> TUN, whatever the datagrams and whatever the kernel says: every packet is accounted for,
// and what the tier `full` writes are the packets that `basic` writes.
#include "forwarding.h"

namespace flannel::fuzz {
namespace {

std::vector<Bytes> cut_rows(const std::vector<Bytes>& rows, size_t size) {
  if (size == 0) return rows;
  std::vector<Bytes> datagrams;
  for (const Bytes& row : rows) {
    if (row.empty()) datagrams.emplace_back();
    for (size_t at = 0; at < row.size(); at += size) {
      const auto first = row.begin() + static_cast<ptrdiff_t>(at);
      datagrams.emplace_back(first,
                             first + static_cast<ptrdiff_t>(std::min(size, row.size() - at)));
    }
  }
  return datagrams;
}

struct Receiver {
  explicit Receiver(FeatureSet features) : side(features) {}
  Side side;
  Decap decap{side.udp(),   side.tun(),    side.fib.reader(0), {kTunnel},
              side.batch(), side.features, side.counters};
};

/// The same with all that a network may ask for beside.
struct WatchfulReceiver {
  explicit WatchfulReceiver(FeatureSet features) : side(features) { clamp.set(1372); }
  Side side;
  MssClamp clamp;
  Decap decap{side.udp(),    side.tun(),    side.fib.reader(0), {kTunnel}, side.batch(),
              side.features, side.counters, SourceCheck::none,  true,      clamp};
};

bool is_reply(const Bytes& datagram) {
  const auto header = ProbeHeader::read(datagram);
  return header && header->kind == ProbeHeader::Kind::reply &&
         datagram.size() == ProbeHeader::kBytes;
}

template <typename AnyReceiver>
std::vector<Bytes> decapsulate(AnyReceiver& receiver, const std::vector<Bytes>& datagrams) {
  Side& side = receiver.side;
  side.kernel.udp_in.assign(datagrams.begin(), datagrams.end());
  for (int turns = 0; turns < 100 && !side.kernel.udp_in.empty(); turns++) receiver.decap.turn();
  EXPECT_EQ(test::unaccounted(side.counters, "decap"), 0);
  for (const auto& answer : side.kernel.udp_out) {
    if constexpr (std::is_same_v<AnyReceiver, WatchfulReceiver>) {
      if (is_reply(answer.payload)) continue;
    }
    expect_whole(answer.payload);
    EXPECT_LE(answer.payload.size(), kMaxIcmpError);
  }
  auto packets = test::singles(side.kernel.tun_out, side.virtio());
  for (const Bytes& packet : packets) expect_whole(packet);
  return packets;
}

void expect_same(const std::vector<Bytes>& expected, const std::vector<Bytes>& found) {
  test::Flows expected_flows;
  test::Flows found_flows;
  for (const Bytes& packet : expected) test::file(expected_flows, packet);
  for (const Bytes& packet : found) test::file(found_flows, packet);
  EXPECT_EQ(test::difference(expected_flows, found_flows), "");
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const size_t row = input.byte() % 2 == 0 ? 0 : 1 + input.be16();
  Faults faults(input);
  const std::vector<Bytes> rows = input.packets();
  const std::vector<Bytes> datagrams = cut_rows(rows, row);

  if (faults.any()) {
    Receiver troubled(kFull);
    troubled.side.kernel.gro_size = static_cast<int>(row);
    troubled.side.kernel.write_outcome = [&faults](const Bytes&) { return faults.next(); };
    decapsulate(troubled, rows);
    return;
  }
  auto& full = reused<Receiver>(kFull);
  full.side.kernel.gro_size = static_cast<int>(row);
  const std::vector<Bytes> written = decapsulate(full, rows);
  const std::vector<Bytes> expected = decapsulate(reused<Receiver>({}), datagrams);
  auto next = expected.begin();
  for (const Bytes& datagram : datagrams) {
    if (!is_forwardable(datagram)) continue;
    ASSERT_NE(next, expected.end());
    expect_one_hop(datagram, *next++);
  }
  EXPECT_EQ(next, expected.end());
  expect_same(expected, written);

  auto& watchful = reused<WatchfulReceiver>(kFull);
  watchful.side.kernel.gro_size = static_cast<int>(row);
  decapsulate(watchful, rows);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  for (const Bytes& datagram : golden_inputs(false, false)) {
    result.push_back(Seed().byte(0).byte(0).packet(datagram));
  }
  for (const uint8_t protocol : {6, 17}) {
    Seed stream = Seed().byte(0).byte(0);
    Seed row = Seed().byte(1).be16(static_cast<uint16_t>(protocol == 6 ? 151 : 127)).byte(0);
    Bytes joined;
    for (const Bytes& packet : test::row({.protocol = protocol}, 6)) {
      stream.packet(packet);
      joined.insert(joined.end(), packet.begin(), packet.end());
    }
    result.push_back(stream);
    result.push_back(row.packet(joined));
    Seed faulty = Seed().byte(0).byte(3).byte(5).byte(2).byte(4);
    for (const Bytes& packet : test::row({.protocol = protocol}, 6)) faulty.packet(packet);
    result.push_back(faulty);
  }
  Bytes probe(64);
  ProbeHeader{ProbeHeader::Kind::probe, 64, 7}.write(std::span(probe).first<ProbeHeader::kBytes>());
  result.push_back(Seed().byte(0).byte(0).packet(probe));
  return result;
}

}  // namespace flannel::fuzz
