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

/// What is asked of datagrams, and whether probes are answered.
struct Admission {
  explicit Admission(uint8_t bits)
      : check(static_cast<SourceCheck>((bits >> 3 & 3U) % 3U)), probes((bits & 0x40) != 0) {}

  [[nodiscard]] size_t kind() const { return static_cast<size_t>(check) << 1 | (probes ? 1U : 0U); }

  SourceCheck check;
  bool probes;
};

struct Receiver {
  Receiver(FeatureSet features, const Options& options, const Admission& admission)
      : side(features, options),
        decap(side.udp(), side.tun(), side.fib.reader(0), side.addresses, side.batch(),
              side.features, side.counters, admission.check, admission.probes, side.clamp) {}

  Side side;
  Decap decap;
  int uses = 0;
};

/// Where datagrams come from: a peer, or with 0 a stranger.
NextHop sender(uint8_t n, const Options& options) {
  NextHop from = peer(n == 0 ? 99 : n, options.over_ipv6);
  from.port = htons(40000);  // as behind a NAT
  return from;
}

bool is_probe_or_reply(const Bytes& datagram) {
  return ProbeHeader::read(datagram).has_value();
}

/// One run's worth of choices.
struct Choice {
  Options options;
  Admission admission;
  uint8_t from;
};

void expect_answers(const Side& side, const Choice& choice, const std::vector<Bytes>& datagrams) {
  for (const auto& answer : side.kernel.udp_out) {
    if (is_probe_or_reply(answer.payload)) {
      EXPECT_TRUE(choice.admission.probes && choice.from != 0);
      EXPECT_EQ(answer.payload.size(), ProbeHeader::kBytes);
      EXPECT_EQ(ProbeHeader::read(answer.payload)->kind, ProbeHeader::Kind::reply);
      EXPECT_EQ(answer.to.address(), sender(choice.from, choice.options).address);
      continue;
    }
    expect_error_about(answer.payload, datagrams);
    const uint8_t n = destination_peer(answer.payload);
    ASSERT_NE(n, 0);
    EXPECT_EQ(answer.to.address(), peer(n, choice.options.over_ipv6).address);
  }
}

/// `row`: of how many bytes each datagram of a row is; 0: they come one by one. `datagrams`: taken
/// apart.
std::vector<Bytes> decapsulate(Receiver& receiver, const Choice& choice,
                               const std::vector<Bytes>& rows, size_t row,
                               const std::vector<Bytes>& datagrams) {
  Side& side = receiver.side;
  const NextHop from = sender(choice.from, choice.options);
  side.kernel.udp_from = from.to_sockaddr();
  side.kernel.gro_size = static_cast<int>(row);
  side.kernel.udp_in.assign(rows.begin(), rows.end());
  for (int turns = 0; turns < 100 && !side.kernel.udp_in.empty(); turns++) receiver.decap.turn();
  EXPECT_EQ(test::unaccounted(side.counters, "decap"), 0);
  expect_answers(side, choice, datagrams);
  auto packets = test::singles(side.kernel.tun_out, side.virtio());
  for (const Bytes& packet : packets) {
    EXPECT_TRUE(is_packet(packet, choice.options.carries_ipv6));
    if (choice.admission.check != SourceCheck::none) EXPECT_NE(choice.from, 0);
    if (choice.admission.check == SourceCheck::subnet) {
      EXPECT_EQ(source_peer(packet), choice.from);
    }
  }
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
  static Pipelines<Receiver> pipelines;
  Input input(bytes);
  const size_t row = input.byte() % 2 == 0 ? 0 : 1 + input.be16();
  const uint8_t bits = input.byte();
  constexpr std::array<uint8_t, 4> kSenders{2, 2, kNarrowPeer, 0};
  const Choice choice{Options(bits), Admission(bits), kSenders[input.byte() % kSenders.size()]};
  const Options& options = choice.options;
  const Admission& admission = choice.admission;
  Faults faults(input);
  const std::vector<Bytes> rows = input.packets();
  const std::vector<Bytes> datagrams = cut_rows(rows, row);
  const auto receiver = [&](FeatureSet features) -> Receiver& {
    const size_t kind = admission.kind() << 8 | features.bits();
    return pipelines.get(kind, options, features, options, admission);
  };

  Receiver& full = receiver(kFull);
  full.side.kernel.write_outcome = [&faults](const Bytes&) { return faults.next(); };
  const bool calm = !faults.any();
  const std::vector<Bytes> written = decapsulate(full, choice, rows, row, datagrams);
  if (full.side.features.get().bits() != kFull.bits()) pipelines.forget(full);
  // A row is one of probes by its first datagram, so that it matters how they come.
  if (!calm || (admission.probes && std::ranges::any_of(datagrams, is_probe_or_reply))) return;

  const std::vector<Bytes> found = decapsulate(receiver({}), choice, datagrams, 0, datagrams);
  auto next = found.begin();
  for (const Bytes& datagram : datagrams) {
    if (!is_forwardable(datagram, options.carries_ipv6)) continue;
    if (choice.from == 0 && admission.check != SourceCheck::none) continue;
    if (admission.check == SourceCheck::subnet && source_peer(datagram) != choice.from) continue;
    ASSERT_NE(next, found.end());
    EXPECT_EQ(comparable(one_hop(datagram, options, source_peer(datagram))), comparable(*next++));
  }
  EXPECT_EQ(next, found.end());
  expect_same(found, written);
}

std::vector<Seed> seeds() {
  // Bits: both families, clamped; from a peer's subnet; with probes answered.
  constexpr uint8_t kBoth = 0x06;
  constexpr uint8_t kChecked = 0x10;
  constexpr uint8_t kProbes = 0x40;
  std::vector<Seed> result;
  std::vector<Bytes> datagrams = golden_inputs(false, false);
  for (const Bytes& packet : packets6()) datagrams.push_back(packet);
  for (const Bytes& datagram : datagrams) {
    result.push_back(Seed().byte(0).byte(kBoth).byte(2).byte(0).packet(datagram));
    result.push_back(Seed().byte(0).byte(1 | kBoth | kChecked).byte(0).byte(0).packet(datagram));
  }
  for (const bool v6 : {false, true}) {
    for (const uint8_t protocol : {6, 17}) {
      Seed stream = Seed().byte(0).byte(kBoth).byte(0).byte(0);
      const auto packets = test::row({.v6 = v6, .protocol = protocol}, 6);
      Bytes joined;
      for (const Bytes& packet : packets) {
        stream.packet(packet);
        joined.insert(joined.end(), packet.begin(), packet.end());
      }
      result.push_back(stream);
      const auto size = static_cast<uint16_t>(packets.front().size() - 1);
      result.push_back(Seed().byte(1).be16(size).byte(kBoth).byte(0).byte(0).packet(joined));
      Seed faulty = Seed().byte(0).byte(kBoth).byte(0).byte(3).byte(5).byte(2).byte(4);
      for (const Bytes& packet : packets) faulty.packet(packet);
      result.push_back(faulty);
    }
  }
  Bytes probe(64);
  ProbeHeader{ProbeHeader::Kind::probe, 64, 7}.write(std::span(probe).first<ProbeHeader::kBytes>());
  for (const uint8_t from : {0, 3}) {
    result.push_back(Seed().byte(0).byte(kProbes).byte(from).byte(0).packet(probe));
  }
  result.push_back(Seed().byte(1).be16(63).byte(1 | kProbes).byte(0).byte(0).packet(probe));
  return result;
}

}  // namespace flannel::fuzz
