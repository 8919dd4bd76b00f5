// What is found out by probes that travel over real sockets: the peers are sockets on the loopback
// device that answer, or do not, as a path between would have it.
#include "path_prober.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <functional>

#include "packets.h"
#include "probe_wire.h"
#include "udp.h"

namespace flannel::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kLink = 1500;
constexpr size_t kHeaders = 28;
const Address kHere = Address::of_ipv4(ip(127, 0, 0, 1));

struct Probe {
  size_t size;  // of the outer packet
  ProbeHeader header;
  SocketAddress from;
};

/// A host that probes are sent to.
class Peer {
 public:
  explicit Peer(const Address& address = kHere) : fd_(open_udp(address, 0, {}, false)) {
    SocketAddress bound;
    EXPECT_EQ(::getsockname(fd_.get(), bound.get(), &bound.length), 0);
    hop = {address, bound.port()};
  }

  /// What has arrived: on the loopback device that is all that was sent.
  std::vector<Probe> received() {
    std::vector<Probe> probes;
    std::vector<uint8_t> bytes(UINT16_MAX);
    for (;;) {
      Probe probe{};
      const ssize_t n = ::recvfrom(fd_.get(), bytes.data(), bytes.size(), 0, probe.from.get(),
                                   &probe.from.length);
      if (n < 0) return probes;
      const auto datagram = std::span(bytes).first(static_cast<size_t>(n));
      const auto header = ProbeHeader::read(datagram);
      if (!header) {
        ADD_FAILURE() << "no probe";
        continue;
      }
      probe.size = datagram.size() + outer_headers(hop.address);
      probe.header = *header;
      probes.push_back(probe);
    }
  }

  void reply(const Probe& probe) {
    const auto arrived = static_cast<uint16_t>(probe.size - outer_headers(hop.address));
    send({ProbeHeader::Kind::reply, arrived, probe.header.nonce}, probe.from);
  }
  void send(const ProbeHeader& header, const SocketAddress& to) {
    std::array<uint8_t, ProbeHeader::kBytes> bytes;
    header.write(bytes);
    EXPECT_EQ(::sendto(fd_.get(), bytes.data(), bytes.size(), 0, to.get(), to.length),
              static_cast<ssize_t>(bytes.size()));
  }

  NextHop hop;

 private:
  UniqueFd fd_;
};

class PathProberTest : public ::testing::Test {
 protected:
  void add(const NextHop& hop, bool answers_probes = true) { slots_.add(hop, answers_probes); }

  void turn() {
    now_ += seconds(1);
    prober_.turn(now_, slots_, bind_address_, kLink, [this](uint32_t) { return packets_; });
  }
  /// Turns with traffic to all, in which `peer` answers what `passes` says of.
  void run(Peer& peer, int turns, const std::function<bool(const Probe&)>& passes) {
    for (int i = 0; i < turns; i++) {
      packets_++;
      turn();
      for (const Probe& probe : peer.received()) {
        if (passes(probe)) peer.reply(probe);
      }
    }
  }
  static std::function<bool(const Probe&)> up_to(size_t size) {
    return [size](const Probe& probe) { return probe.size <= size; };
  }

  PeerSlots slots_;
  PathProber prober_;
  Address bind_address_ = kHere;
  uint64_t packets_ = 0;
  ProbeSearch::Time now_{std::chrono::hours(1)};
};

TEST_F(PathProberTest, FindsWhatANarrowPathCarries) {
  Peer peer;
  add(peer.hop);
  run(peer, 40, up_to(1400));
  EXPECT_EQ(prober_.path_mtu(0), 1400U);
}

TEST_F(PathProberTest, FindsASizeThatIsNoPlateau) {
  Peer peer;
  add(peer.hop);
  run(peer, 60, up_to(1337));
  EXPECT_EQ(prober_.path_mtu(0), 1337U);
}

TEST_F(PathProberTest, KnowsNothingNarrowOfAWidePath) {
  Peer peer;
  add(peer.hop);
  run(peer, 10, up_to(kLink));
  EXPECT_EQ(prober_.path_mtu(0), 0U);
}

TEST_F(PathProberTest, SeesAPathBecomeNarrowAndWideAgain) {
  Peer peer;
  add(peer.hop);
  run(peer, 10, up_to(kLink));
  run(peer, 40, up_to(1400));
  EXPECT_EQ(prober_.path_mtu(0), 1400U);
  now_ += ProbeSearch::kRaiseEvery;
  run(peer, 40, up_to(kLink));
  EXPECT_EQ(prober_.path_mtu(0), 0U);
}

TEST_F(PathProberTest, SilenceLowersNothing) {
  Peer peer;
  add(peer.hop);
  run(peer, 40, up_to(0));
  EXPECT_EQ(prober_.path_mtu(0), 0U);
  run(peer, 40, up_to(1400));
  run(peer, 40, up_to(0));
  EXPECT_EQ(prober_.path_mtu(0), 1400U);
}

TEST_F(PathProberTest, WhoAnnouncesNothingIsSentNothing) {
  Peer peer;
  add(peer.hop, false);
  packets_ = 1;
  for (int i = 0; i < 20; i++, packets_++) turn();
  EXPECT_TRUE(peer.received().empty());

  add(peer.hop, true);
  packets_++;
  for (int i = 0; i < 2; i++, packets_++) turn();
  EXPECT_FALSE(peer.received().empty()) << "as soon as it does";

  add(peer.hop, false);
  for (int i = 0; i < 20; i++, packets_++) turn();
  EXPECT_TRUE(peer.received().empty()) << "and no longer than it does";
}

TEST_F(PathProberTest, WhoIsSentNothingElseIsSentNoProbes) {
  Peer peer;
  add(peer.hop);
  for (int i = 0; i < 20; i++) turn();
  EXPECT_TRUE(peer.received().empty());
  run(peer, 3, up_to(kLink));
  run(peer, 1, up_to(kLink));
  for (int i = 0; i < 30; i++) turn();
  static_cast<void>(peer.received());
  for (int i = 0; i < 20; i++) turn();
  EXPECT_TRUE(peer.received().empty()) << "the last traffic was half a minute ago";
}

TEST_F(PathProberTest, ProbesSayHowLongTheyAreAndEndInZeros) {
  Peer peer;
  add(peer.hop);
  run(peer, 6, [](const Probe& probe) {
    EXPECT_EQ(probe.header.kind, ProbeHeader::Kind::probe);
    EXPECT_EQ(probe.header.length, probe.size - kHeaders);
    return false;
  });
}

/// What answers a path's every probe, but is no answer.
void expect_ignored(
    const std::function<void(Peer& peer, Peer& other, const Probe& probe)>& answer) {
  Peer peer;
  Peer other;
  PeerSlots slots;
  slots.add(peer.hop, true);
  PathProber prober;
  ProbeSearch::Time now{std::chrono::hours(1)};
  uint64_t packets = 0;
  size_t probes = 0;
  for (int i = 0; i < 40; i++) {
    packets++;
    now += seconds(1);
    prober.turn(now, slots, kHere, kLink, [&](uint32_t) { return packets; });
    for (const Probe& probe : peer.received()) {
      probes++;
      if (probe.size <= 1400) answer(peer, other, probe);
    }
  }
  EXPECT_GT(probes, 0U);
  EXPECT_EQ(prober.path_mtu(0), 0U);
}

TEST_F(PathProberTest, AnAnswerFromAnotherPortCountsForNothing) {
  expect_ignored([](Peer&, Peer& other, const Probe& probe) { other.reply(probe); });
}

TEST_F(PathProberTest, AnAnswerWithAnotherNonceCountsForNothing) {
  expect_ignored([](Peer& peer, Peer&, const Probe& probe) {
    const auto length = static_cast<uint16_t>(probe.size - kHeaders);
    peer.send({ProbeHeader::Kind::reply, length, probe.header.nonce + 1}, probe.from);
  });
}

TEST_F(PathProberTest, AnAnswerOfASizeThatWasNotTriedCountsForNothing) {
  expect_ignored([](Peer& peer, Peer&, const Probe& probe) {
    for (const uint16_t length : {uint16_t{1}, uint16_t{0xffff}}) {
      peer.send({ProbeHeader::Kind::reply, length, probe.header.nonce}, probe.from);
    }
  });
}

TEST_F(PathProberTest, AProbeIsNoAnswer) {
  expect_ignored(
      [](Peer& peer, Peer&, const Probe& probe) { peer.send(probe.header, probe.from); });
}

TEST_F(PathProberTest, TheNextPeerOfASlotBeginsAnew) {
  Peer peer;
  add(peer.hop);
  run(peer, 40, up_to(1400));
  ASSERT_EQ(prober_.path_mtu(0), 1400U);
  prober_.forget(0);
  EXPECT_EQ(prober_.path_mtu(0), 0U);
}

TEST_F(PathProberTest, ManyPeersHaveTheirTurnWithoutAFlood) {
  std::vector<Peer> peers(100);
  for (const Peer& peer : peers) add(peer.hop);
  for (int i = 0; i < 120; i++) {
    packets_++;
    turn();
    size_t probes = 0;
    for (Peer& peer : peers) {
      for (const Probe& probe : peer.received()) {
        probes++;
        if (probe.size <= 1400) peer.reply(probe);
      }
    }
    EXPECT_LE(probes, PathProber::kMostProbes);
  }
  for (uint32_t slot = 0; slot < peers.size(); slot++) {
    EXPECT_EQ(prober_.path_mtu(slot), 1400U) << slot;
  }
}

TEST_F(PathProberTest, OverIpv6) {
  const Address here = Address::of_bytes(ip6("::1"));
  bind_address_ = here;
  Peer peer(here);
  add(peer.hop);
  run(peer, 40, up_to(1420));
  EXPECT_EQ(prober_.path_mtu(0), 1420U);
}

TEST_F(PathProberTest, FollowsTheAddressThatItIsBoundTo) {
  Peer peer;
  add(peer.hop);
  run(peer, 10, up_to(kLink));
  bind_address_ = Address::of_ipv4(ip(192, 0, 2, 9));
  EXPECT_THROW(turn(), SystemError) << "no address of this host";
  bind_address_ = Address::of_ipv4(ip(127, 0, 0, 2));
  run(peer, 40, [](const Probe& probe) {
    EXPECT_EQ(probe.from.address(), Address::of_ipv4(ip(127, 0, 0, 2)));
    return probe.size <= 1400;
  });
  EXPECT_EQ(prober_.path_mtu(0), 1400U);
}

}  // namespace
}  // namespace flannel::test
