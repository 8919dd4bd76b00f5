// What the kernel says of paths, and what the dataplane makes of it: real routes with MTUs of their
// own, in a network of the test's own.
#include "path_mtu.h"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "dataplane.h"
#include "netlink_messages.h"
#include "tun_lab.h"

namespace flannel::test {
namespace {

constexpr uint32_t kLoopback = ip(127, 0, 0, 1);
constexpr size_t kLinkMtu = 1500;

NextHop hop(uint32_t address) {
  return {Address::of_ipv4(address), htons(8285)};
}

/// A route through the loopback device, in place of the one before; an MTU of 0 leaves the
/// device's.
void set_route(uint32_t network, uint8_t length, uint32_t mtu) {
  rtmsg route{};
  route.rtm_family = AF_INET;
  route.rtm_dst_len = length;
  route.rtm_table = RT_TABLE_MAIN;
  route.rtm_protocol = RTPROT_BOOT;
  route.rtm_type = RTN_UNICAST;
  Bytes payload = bytes_of(route);
  append_attribute(payload, RTA_DST, bytes_of(htonl(network)));
  append_attribute(payload, RTA_OIF, bytes_of(::if_nametoindex("lo")));
  if (mtu != 0) {
    Bytes metrics;
    append_attribute(metrics, RTAX_MTU, bytes_of(mtu));
    append_attribute(payload, RTA_METRICS, metrics);
  }
  NetlinkSocket netlink;
  netlink.request(message(RTM_NEWROUTE, 0, payload, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE));
}

/// A dataplane whose packets leave by the loopback device, to whatever address.
class Forwarder {
 public:
  explicit Forwarder(std::span<const Route> routes) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    host_ = UniqueFd(pair[0]);
    std::vector<Queue> queues(1);
    queues[0].tun = UniqueFd(pair[1]);
    EXPECT_EQ(::fcntl(queues[0].tun.get(), F_SETFL, O_NONBLOCK), 0);
    queues[0].udp = open_udp(Address::of_ipv4(kLoopback), 0, {}, false);
    DataplaneOptions options{};
    options.bind_address = Address::of_ipv4(kLoopback);
    options.tunnel_addresses.ipv4 = ip(10, 244, 0, 0);
    dataplane_ = std::make_unique<Dataplane>(options, std::move(queues));
    dataplane_->set_routes(routes);
    dataplane_->start();
  }

  Dataplane& operator*() { return *dataplane_; }
  [[nodiscard]] uint64_t count(Counter counter) const {
    return dataplane_->counters()[static_cast<size_t>(counter)];
  }

  /// A packet with DF to a host of the overlay; returns when it has its outcome.
  void send(uint32_t destination, size_t size) {
    const Bytes packet =
        make_packet({.destination = destination, .fragment = 0x4000, .payload = size - 20});
    const uint64_t before = outcomes();
    ASSERT_EQ(::send(host_.get(), packet.data(), packet.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(packet.size()));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (outcomes() == before && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    ASSERT_EQ(outcomes(), before + 1);
  }

  std::vector<size_t> path_mtus() {
    std::vector<size_t> mtus;
    for (const PeerFigures& peer : dataplane_->peers()) mtus.push_back(peer.path_mtu);
    return mtus;
  }

 private:
  [[nodiscard]] uint64_t outcomes() const {
    return count(Counter::encap_packets_out) + count(Counter::encap_frag_needed);
  }

  UniqueFd host_;
  std::unique_ptr<Dataplane> dataplane_;
};

/// Two peers: 10.9.1.2 by a narrow route, 10.9.2.2 by a wide one.
constexpr std::array kTwo{Route{{ip(10, 244, 1, 0), 24}, {}}, Route{{ip(10, 244, 2, 0), 24}, {}}};

std::vector<Route> two_peers() {
  std::vector<Route> routes(kTwo.begin(), kTwo.end());
  routes[0].next_hop = hop(ip(10, 9, 1, 2));
  routes[1].next_hop = hop(ip(10, 9, 2, 2));
  set_route(ip(10, 9, 1, 0), 24, 1400);
  set_route(ip(10, 9, 2, 0), 24, 0);
  return routes;
}

class PathMtuTest : public ::testing::Test {
 protected:
  static void in_network(const std::function<void()>& body) {
    const bool ran = in_namespace([&] {
      configure_link("lo", 0, 0);
      body();
    });
    if (!ran) GTEST_SKIP() << "needs the right to make a network namespace";
  }
};

TEST_F(PathMtuTest, IsThatOfTheRouteElseOfTheDevice) {
  in_network([] {
    static_cast<void>(two_peers());
    const PathMtuLookup lookup(Address::of_ipv4(kLoopback));
    EXPECT_EQ(lookup.of(hop(ip(10, 9, 1, 2))), 1400U);
    EXPECT_EQ(lookup.of(hop(ip(10, 9, 2, 2))), 65535U) << "a packet has no more";
    EXPECT_EQ(lookup.of(hop(ip(192, 0, 2, 1))), 0U) << "there is no way";
    EXPECT_EQ(lookup.of(hop(ip(10, 9, 1, 3))), 1400U) << "after a failure";
    EXPECT_THROW(PathMtuLookup(Address::of_ipv4(ip(192, 0, 2, 9))), SystemError)
        << "no address of this host";
  });
}

TEST_F(PathMtuTest, IsLearnedOfPeersWithTrafficAndTheirSendersAreTold) {
  in_network([] {
    Forwarder forwarder(two_peers());
    (*forwarder).learn_path_mtus(kLinkMtu);
    EXPECT_EQ(forwarder.path_mtus(), (std::vector<size_t>{0, 0})) << "nobody has sent anything";
    forwarder.send(ip(10, 244, 1, 9), 1373);
    forwarder.send(ip(10, 244, 2, 9), 1373);
    EXPECT_EQ(forwarder.count(Counter::encap_packets_out), 2U);

    (*forwarder).learn_path_mtus(kLinkMtu);
    EXPECT_EQ(forwarder.path_mtus(), (std::vector<size_t>{1400, 0}));
    forwarder.send(ip(10, 244, 1, 9), 1373);
    EXPECT_EQ(forwarder.count(Counter::encap_frag_needed), 1U);
    forwarder.send(ip(10, 244, 1, 9), 1372);
    forwarder.send(ip(10, 244, 2, 9), 1373);
    EXPECT_EQ(forwarder.count(Counter::encap_packets_out), 4U);
  });
}

TEST_F(PathMtuTest, IsForgottenOnceThePathIsWideThoughNothingPassesMeanwhile) {
  in_network([] {
    Forwarder forwarder(two_peers());
    forwarder.send(ip(10, 244, 1, 9), 100);
    (*forwarder).learn_path_mtus(kLinkMtu);
    forwarder.send(ip(10, 244, 1, 9), 1400);
    EXPECT_EQ(forwarder.count(Counter::encap_frag_needed), 1U);
    (*forwarder).learn_path_mtus(kLinkMtu);
    EXPECT_EQ(forwarder.path_mtus()[0], 1400U);

    set_route(ip(10, 9, 1, 0), 24, 0);
    (*forwarder).learn_path_mtus(kLinkMtu);
    EXPECT_EQ(forwarder.path_mtus()[0], 0U);
    forwarder.send(ip(10, 244, 1, 9), 1400);
    EXPECT_EQ(forwarder.count(Counter::encap_packets_out), 2U);
  });
}

TEST_F(PathMtuTest, IsNotNarrowWhereTheLinkCarriesNoMore) {
  in_network([] {
    Forwarder forwarder(two_peers());
    forwarder.send(ip(10, 244, 1, 9), 100);
    (*forwarder).learn_path_mtus(1400);
    EXPECT_EQ(forwarder.path_mtus()[0], 0U);
  });
}

TEST_F(PathMtuTest, StaysKnownWhenRoutesChangeAndGoesWithThePeer) {
  in_network([] {
    const std::vector<Route> routes = two_peers();
    Forwarder forwarder(routes);
    forwarder.send(ip(10, 244, 1, 9), 100);
    (*forwarder).learn_path_mtus(kLinkMtu);
    (*forwarder).set_routes(routes);
    (*forwarder).change_routes({&routes[1], 1});
    EXPECT_EQ(forwarder.path_mtus(), (std::vector<size_t>{1400, 0}));

    (*forwarder).set_routes({&routes[1], 1});
    (*forwarder).set_routes(routes);
    EXPECT_EQ(forwarder.path_mtus(), (std::vector<size_t>{0, 0}));
  });
}

TEST_F(PathMtuTest, IsLearnedOfManyPeersInTurn) {
  static constexpr uint32_t kPeers = 3000;
  in_network([] {
    set_route(ip(10, 9, 0, 0), 16, 1400);
    std::vector<Route> routes;
    for (uint32_t i = 0; i < kPeers; i++) {
      routes.push_back({{ip(10, 16, 0, 0) + (i << 8), 24}, hop(ip(10, 9, 0, 1) + i)});
    }
    Forwarder forwarder(routes);
    for (uint32_t i = 0; i < kPeers; i++) forwarder.send(ip(10, 16, 0, 1) + (i << 8), 100);
    const auto known = [&] { return std::ranges::count(forwarder.path_mtus(), 1400U); };
    (*forwarder).learn_path_mtus(kLinkMtu);
    EXPECT_GT(known(), 0);
    EXPECT_LT(known(), kPeers) << "no call takes long";
    for (int call = 1; call < 4; call++) (*forwarder).learn_path_mtus(kLinkMtu);
    EXPECT_EQ(known(), kPeers);
  });
}

}  // namespace
}  // namespace flannel::test
