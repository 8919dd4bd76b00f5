// IPv6 inside the tunnel and around it between two hosts: namespaces with a cable, real TUN devices
// and sockets of the kernel at both ends.
#include <map>

#include "dataplane.h"
#include "network_lab.h"

namespace flannel::test {
namespace {

constexpr uint16_t kPort = 8285;
constexpr uint16_t kInnerPort = 7000;
constexpr int kPackets = 200;
constexpr size_t kMostPayload = 1300;
using Counts = std::map<std::string, uint64_t>;

/// Of a host that has sent all packets, and has got as many.
const Counts kBothWays{{"encap_packets_in", kPackets},
                       {"encap_packets_out", kPackets},
                       {"decap_packets_in", kPackets},
                       {"decap_packets_out", kPackets}};

struct Tunnel {
  const char* name;
  bool inner_ipv6;
  bool outer_ipv6;
  bool offloads;
};

/// Of two hosts, 0 and 1.
Address outer_address(const Tunnel& tunnel, size_t host) {
  if (!tunnel.outer_ipv6)
    return Address::of_ipv4(ip(192, 168, 77, 1) + static_cast<uint32_t>(host));
  return Address::of_bytes(ip6(host == 0 ? "2001:db8::1" : "2001:db8::2"));
}
Address inner_address(const Tunnel& tunnel, size_t host) {
  if (!tunnel.inner_ipv6) return Address::of_ipv4(ip(10, 244, static_cast<uint8_t>(1 + host), 0));
  return Address::of_bytes(ip6(host == 0 ? "fd00:10:244:1::" : "fd00:10:244:2::"));
}

/// A datagram that comes in time, else nothing.
Bytes receive(const UniqueFd& socket, std::chrono::seconds patience = std::chrono::seconds(30)) {
  const timeval time{patience.count(), 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  Bytes bytes(2000);
  const ssize_t size = ::recv(socket.get(), bytes.data(), bytes.size(), 0);
  bytes.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
  return bytes;
}

bool send(const UniqueFd& socket, const Bytes& payload, const Address& address, uint16_t port) {
  const SocketAddress to = SocketAddress::of(address, htons(port));
  return ::sendto(socket.get(), payload.data(), payload.size(), 0, to.get(), to.length) ==
         static_cast<ssize_t>(payload.size());
}

/// A host whose namespace the thread that makes it is in.
class Host {
 public:
  Host(const Tunnel& tunnel, size_t number) : tunnel_(tunnel), number_(number) {
    DataplaneOptions options{};
    options.tun_name = "flannel%d";
    if (tunnel.offloads) {
      for (const FeatureInfo& info : kFeatures) options.features.add(info.feature);
    }
    options.split_threads = true;
    options.queues = 1;
    options.source_ports = 1;
    options.bind_address = outer_address(tunnel, number);
    options.port = kPort;
    options.tunnel_addresses.ipv4 = ip(10, 244, static_cast<uint8_t>(1 + number), 0);
    if (tunnel.inner_ipv6) options.tunnel_addresses.ipv6 = inner_address(tunnel, number);
    options.source_check = SourceCheck::subnet;
    dataplane_ = std::make_unique<Dataplane>(options);
    const Route route = route_to_other();
    dataplane_->set_routes({&route, 1});
    dataplane_->start();
    const std::string& device = dataplane_->tun_name();
    set_up(device);
    add_address(device, inner_address(tunnel, number), tunnel.inner_ipv6 ? 32 : 16);
    inner_ = udp_at(inner_address(tunnel, number), kInnerPort);
  }

  [[nodiscard]] Route route_to_other() const {
    const auto length = static_cast<uint8_t>(tunnel_.inner_ipv6 ? 64 : Address::kMapped + 24);
    return {Prefix(inner_address(tunnel_, 1 - number_), length).masked(),
            {outer_address(tunnel_, 1 - number_), htons(kPort)}};
  }
  Dataplane& dataplane() { return *dataplane_; }

  /// Packets of all sizes, each of which has to arrive before the next one leaves.
  void expect_to_reach(const Host& other) const {
    for (int i = 0; i < kPackets; i++) {
      Bytes payload(1 + static_cast<size_t>(i) * 37 % kMostPayload);
      for (size_t at = 0; at < payload.size(); at++) {
        payload[at] = static_cast<uint8_t>(at * 7 + static_cast<size_t>(i));
      }
      ASSERT_TRUE(send(inner_, payload, inner_address(tunnel_, other.number_), kInnerPort))
          << std::strerror(errno);
      ASSERT_EQ(receive(other.inner_), payload) << i;
    }
  }

  /// What the sender of a packet to where no route leads is told, as errno.
  [[nodiscard]] int error_of_sending_to(const Address& nowhere) const {
    const UniqueFd socket = udp_at(inner_address(tunnel_, number_), 0);
    const SocketAddress to = SocketAddress::of(nowhere, htons(9));
    EXPECT_EQ(::connect(socket.get(), to.get(), to.length), 0) << std::strerror(errno);
    // Else a socket is only told what ends a connection (RFC 1122 section 4.1.3.3).
    const int on = 1;
    const bool ipv6 = tunnel_.inner_ipv6;
    EXPECT_EQ(::setsockopt(socket.get(), ipv6 ? IPPROTO_IPV6 : IPPROTO_IP,
                           ipv6 ? IPV6_RECVERR : IP_RECVERR, &on, sizeof on),
              0);
    EXPECT_EQ(::send(socket.get(), "x", 1, 0), 1);
    int error = 0;
    EXPECT_TRUE(eventually([&] {
      socklen_t size = sizeof error;
      ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      return error != 0;
    }));
    return error;
  }

  /// Counters that are not 0, but for those that only inform.
  [[nodiscard]] Counts counts() const {
    const auto sums = dataplane_->counters();
    Counts result;
    for (size_t i = 0; i < kCounterCount; i++) {
      if (sums[i] != 0 && kCounters[i].role != "info") {
        result[std::string(kCounters[i].name)] = sums[i];
      }
    }
    return result;
  }
  /// A packet is counted after it has left.
  void expect_counts(const Counts& expected) const {
    eventually([&] { return counts() == expected; }, std::chrono::seconds(5));
    EXPECT_EQ(counts(), expected);
  }

 private:
  Tunnel tunnel_;
  size_t number_;
  std::unique_ptr<Dataplane> dataplane_;
  UniqueFd inner_;
};

class DataplaneIpv6Test : public ::testing::TestWithParam<Tunnel> {
 protected:
  /// Runs `body` with two hosts on one cable.
  static void with_two_hosts(const std::function<void(Host&, Host&)>& body) {
    const bool ran = in_namespace([&] {
      const Namespace first;
      ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
      const Namespace second;
      lay_cable("eth0", first);
      const UniqueFd there = prepare(1);
      first.enter();
      const UniqueFd here = prepare(0);
      // A link that has come up may still be without a queue, and drop what it is to send.
      const auto passes = [](const UniqueFd& from, const UniqueFd& to, size_t to_host) {
        return eventually([&] {
          return send(from, {1}, outer_address(GetParam(), to_host), kPort + 1) &&
                 !receive(to, std::chrono::seconds(1)).empty();
        });
      };
      ASSERT_TRUE(passes(here, there, 1));
      ASSERT_TRUE(passes(there, here, 0));
      Host a(GetParam(), 0);
      second.enter();
      Host b(GetParam(), 1);
      first.enter();
      body(a, b);
    });
    if (!ran) GTEST_SKIP() << "needs a TUN device and CAP_SYS_ADMIN";
  }

 private:
  /// Gives a host its end of the cable; a socket there.
  static UniqueFd prepare(size_t host) {
    set_up("lo");
    set_up("eth0");
    add_address("eth0", outer_address(GetParam(), host), GetParam().outer_ipv6 ? 64 : 24);
    return udp_at(outer_address(GetParam(), host), kPort + 1);
  }
};

INSTANTIATE_TEST_SUITE_P(Tunnels, DataplaneIpv6Test,
                         ::testing::Values(Tunnel{"Ipv6OverIpv4_basic", true, false, false},
                                           Tunnel{"Ipv6OverIpv4_offloads", true, false, true},
                                           Tunnel{"Ipv6OverIpv6_basic", true, true, false},
                                           Tunnel{"Ipv6OverIpv6_offloads", true, true, true},
                                           Tunnel{"Ipv4OverIpv6_basic", false, true, false},
                                           Tunnel{"Ipv4OverIpv6_offloads", false, true, true}),
                         [](const auto& info) { return info.param.name; });

TEST_P(DataplaneIpv6Test, CarriesPacketsOfTheKernelBothWaysWhole) {
  with_two_hosts([](Host& a, Host& b) {
    a.expect_to_reach(b);
    b.expect_to_reach(a);
    a.expect_counts(kBothWays);
    b.expect_counts(kBothWays);
  });
}

/// Tables with other routes beside the one that is in use, `turn` after `turn`: all at once, then
/// by changes.
void swap_tables(Host& host, uint8_t turn) {
  const Route used = host.route_to_other();
  const auto beside = [&](uint8_t number) {
    const Address network{0xfd00'0010'0245'0000 + number, 0};
    return Route{{network, 64}, used.next_hop};
  };
  const std::array table{used, beside(turn)};
  host.dataplane().set_routes(table);
  const std::array changes{beside(static_cast<uint8_t>(turn + 1)), used,
                           Route{beside(turn).prefix, {}}};
  host.dataplane().change_routes(changes);
}

TEST_P(DataplaneIpv6Test, LosesNothingWhileItsRoutesChange) {
  with_two_hosts([](Host& a, Host& b) {
    std::atomic<bool> done{false};
    std::thread traffic([&] {
      a.expect_to_reach(b);
      b.expect_to_reach(a);
      done = true;
    });
    for (uint8_t turn = 0; !done; turn++) {
      swap_tables(a, turn);
      swap_tables(b, turn);
    }
    traffic.join();
    a.expect_counts(kBothWays);
    b.expect_counts(kBothWays);
  });
}

TEST_P(DataplaneIpv6Test, TellsASenderOfThisHostThatThereIsNoRoute) {
  with_two_hosts([](Host& a, Host& b) {
    const Address nowhere = GetParam().inner_ipv6 ? Address::of_bytes(ip6("fd00:10:244:9::1"))
                                                  : Address::of_ipv4(ip(10, 244, 9, 1));
    EXPECT_EQ(a.error_of_sending_to(nowhere), ENETUNREACH);
    a.expect_counts({{"encap_packets_in", 1}, {"encap_no_route", 1}});
    b.expect_counts({});
  });
}

}  // namespace
}  // namespace flannel::test
