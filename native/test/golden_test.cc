// Golden packets: bytes in, bytes out, and the exact difference of the counters, as the files in
// golden/ tell it.
#include <algorithm>
#include <filesystem>
#include <ostream>
#include <set>

#include "golden/case.h"
#include "merging.h"
#include "pipeline.h"

namespace flannel::test {
namespace {

using golden::Case;
using golden::Network;

constexpr uint32_t kTunnel = ip(10, 244, 1, 0);
const Ipv6Address kTunnel6 = ip6("fd00:10:244:1::");
constexpr size_t kLeastCases = 650;

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> result;
    std::set<std::filesystem::path> files;
    const auto folder = std::filesystem::path(__FILE__).parent_path() / "golden";
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".txt") files.insert(entry.path());
    }
    for (const auto& file : files)
      std::ranges::move(golden::read_cases(file), std::back_inserter(result));
    return result;
  }();
  return cases;
}

struct Run {
  const Case* golden;
  std::string tier;
};

void PrintTo(const Run& run, std::ostream* out) {
  *out << run.golden->sentence;
}

std::vector<Run> all_runs() {
  std::vector<Run> runs;
  for (const Case& golden : all_cases()) {
    for (const std::string& tier : golden.tiers) runs.push_back({&golden, tier});
  }
  return runs;
}

FeatureSet features_of(const std::string& tier) {
  if (tier == "basic") return {};
  if (tier == "batch") return {Feature::batch};
  return {Feature::batch, Feature::gso, Feature::gro, Feature::tso, Feature::uso};
}

bool carries_ipv4(const Case& golden) {
  return golden.network != Network::ipv6;
}

bool carries_ipv6(const Case& golden) {
  return golden.network != Network::ipv4;
}

TunnelAddresses tunnel_of(const Case& golden) {
  TunnelAddresses addresses;
  if (carries_ipv4(golden)) addresses.ipv4 = kTunnel;
  if (carries_ipv6(golden)) addresses.ipv6 = Address::of_bytes(kTunnel6);
  return addresses;
}

NextHop peer(const Case& golden, uint8_t number) {
  Ipv6Address address = ip6("2001:db8:77::");
  address.back() = number;
  const auto of_ipv4 = Address::of_ipv4(ip(192, 168, 77, number));
  return {golden.over_ipv6 ? Address::of_bytes(address) : of_ipv4, htons(8285)};
}

std::vector<Route> routes_of(const Case& golden) {
  std::vector<Route> routes;
  for (const uint8_t number : {2, 3}) {
    const NextHop hop = peer(golden, number);
    Ipv6Address subnet = ip6("fd00:10:244::");
    subnet[7] = number;
    if (carries_ipv4(golden)) routes.push_back({{ip(10, 244, number, 0), 24}, hop});
    if (carries_ipv6(golden)) routes.push_back({{Address::of_bytes(subnet), 64}, hop});
  }
  if (golden.network == Network::dual) routes.push_back({{ip(10, 244, 4, 0), 24}, peer(golden, 4)});
  return routes;
}

std::unique_ptr<const Fib> fib_of(const Case& golden) {
  RouteTable table;
  if (!golden.routes) return Fib::of(table);
  table.assign(routes_of(golden));
  for (const golden::PathMtu& path : golden.path_mtus) {
    table.peers().set_path_mtu(table.peers().find(peer(golden, path.peer)), path.bytes);
  }
  return Fib::of(table);
}

std::string hex(std::span<const uint8_t> bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) text += {kDigits[byte >> 4], kDigits[byte & 15]};
  return text;
}

std::string address(const SocketAddress& to) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (to.address().is_ipv4()) {
    inet_ntop(AF_INET, &to.v4.sin_addr, text.data(), text.size());
  } else {
    inet_ntop(AF_INET6, &to.v6.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

using Lines = std::vector<std::string>;

Lines sent(const std::vector<ScriptedKernel::Sent>& packets) {
  Lines lines;
  for (const auto& packet : packets)
    lines.push_back(address(packet.to) + " " + hex(packet.payload));
  return lines;
}

class GoldenTest : public ::testing::TestWithParam<Run> {
 protected:
  GoldenTest() : virtio_(GetParam().tier == "full") {
    for (const golden::Fault& fault : golden_.faults) script(fault);
    clamp_.set(golden_.clamp_mtu);
    kernel_.udp_from = peer(golden_, golden_.sender).to_sockaddr();
    for (const golden::Packet& packet : golden_.from_device) {
      kernel_.tun_in.push_back(virtio_ && !golden_.is_literal() ? with_header({}, packet.bytes)
                                                                : packet.bytes);
    }
    for (const golden::Packet& packet : golden_.from_peer) {
      if (!packet.where.empty()) kernel_.gro_size = std::stoi(packet.where);
      kernel_.udp_in.push_back(packet.bytes);
    }
  }

  void script(const golden::Fault& fault) {
    auto outcome = [error = fault.error, once = fault.once, left = 1]() mutable {
      return once && left-- <= 0 ? 0 : error;
    };
    if (fault.call == "send") {
      kernel_.send_outcome = [outcome](const Bytes&) mutable { return outcome(); };
    } else if (fault.call == "run") {
      kernel_.run_outcome = [outcome](const Bytes&, size_t) mutable { return outcome(); };
    } else if (fault.call == "write") {
      kernel_.write_outcome = [outcome](const Bytes&) mutable { return outcome(); };
    } else if (fault.call == "read") {
      kernel_.read_error = fault.error;
    } else if (fault.call == "receive") {
      kernel_.receive_error = fault.error;
    } else if (fault.call == "icmp") {
      kernel_.icmp_error = fault.error;
    } else {
      FAIL() << "no call to script: " << fault.call;
    }
  }

  void run() {
    const TunQueue tun(ScriptedKernel::kTun, virtio_, kernel_);
    const UdpSocket udp(ScriptedKernel::kUdp, features_, kernel_);
    const size_t batch = features_.has(Feature::batch) ? kBatchSize : 1;
    if (golden_.from_peer.empty()) {
      Encap encap(tun, udp, fib_.reader(0), {ScriptedKernel::kIcmp, ScriptedKernel::kIcmpv6},
                  tunnel_of(golden_), batch, counters_, kernel_, clamp_);
      Turn turn = Turn::more;
      for (int i = 0;
           i < kMostTurns && (turn == Turn::more || (turn == Turn::blocked && !golden_.stop)); i++)
        turn = encap.turn();
      if (golden_.stop) encap.abandon();
    } else {
      Decap decap(udp, tun, fib_.reader(0), tunnel_of(golden_), batch, features_, counters_,
                  golden_.source_check, golden_.probe_mtu, clamp_);
      while (decap.turn() == Turn::more) {
      }
    }
  }

  /// What the device was given, in the form in which the case tells it.
  [[nodiscard]] Lines to_device() {
    Lines lines;
    const bool in_form = golden_.is_literal();
    for (const Bytes& packet : in_form ? kernel_.tun_out : singles(kernel_.tun_out, virtio_)) {
      lines.push_back(hex(packet));
    }
    return lines;
  }

  /// Sums that are only known together take no part in it.
  [[nodiscard]] CounterDifference told() {
    CounterDifference all = counted(counters_, true);
    for (const char* per_call : {"encap_send_calls", "decap_receive_calls"}) {
      if (!golden_.counts.contains(per_call)) all.erase(per_call);
    }
    for (const golden::Share& share : golden_.shares) {
      EXPECT_GT(all[share.first], 0U) << share.first;
      EXPECT_GT(all[share.second], 0U) << share.second;
      EXPECT_EQ(all[share.first] + all[share.second], share.sum);
      all.erase(share.first);
      all.erase(share.second);
    }
    return all;
  }

  [[nodiscard]] std::set<std::string> lost() {
    std::set<std::string> names;
    for (const FeatureInfo& info : kFeatures) {
      if (features_of(GetParam().tier).has(info.feature) && !features_.has(info.feature))
        names.insert(std::string(info.name));
    }
    return names;
  }

  static constexpr int kMostTurns = 100;

  const Case& golden_ = *GetParam().golden;
  bool virtio_;
  ActiveFeatures features_{features_of(GetParam().tier)};
  ScriptedKernel kernel_;
  Counters counters_;
  MssClamp clamp_;
  Snapshot<Fib> fib_{fib_of(golden_), 1};
};

TEST_P(GoldenTest, Holds) {
  SCOPED_TRACE(golden_.sentence);
  run();
  Lines peers;
  for (const auto& packet : golden_.to_peer) {
    const NextHop to = peer(golden_, static_cast<uint8_t>(std::stoi(packet.where)));
    peers.push_back(address(to.to_sockaddr()) + " " + hex(packet.bytes));
  }
  Lines device;
  for (const auto& packet : golden_.to_device) device.push_back(hex(packet.bytes));
  Lines host;
  for (const auto& packet : golden_.to_host) host.push_back(packet.where + " " + hex(packet.bytes));
  EXPECT_EQ(to_device(), device);
  EXPECT_EQ(sent(kernel_.udp_out), peers);
  // Each error about what the shared counters tell is one of them.
  if (golden_.shares.empty()) {
    EXPECT_EQ(sent(kernel_.icmp_out), host);
  }
  EXPECT_EQ(told(), golden_.counts);
  EXPECT_EQ(lost(), std::set<std::string>(golden_.lost.begin(), golden_.lost.end()));
  EXPECT_EQ(unaccounted(counters_, "encap"), 0);
  EXPECT_EQ(unaccounted(counters_, "decap"), 0);
}

INSTANTIATE_TEST_SUITE_P(Packets, GoldenTest, ::testing::ValuesIn(all_runs()),
                         [](const auto& info) {
                           std::string name = info.param.golden->place + "_" + info.param.tier;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

/// The counters that the cases of some networks change.
std::set<std::string> counters_hit(const std::set<Network>& networks) {
  std::set<std::string> hit;
  for (const Case& golden : all_cases()) {
    if (!networks.contains(golden.network)) continue;
    for (const auto& [name, count] : golden.counts) {
      if (count > 0) hit.insert(name);
    }
    for (const golden::Share& share : golden.shares) hit.insert({share.first, share.second});
  }
  return hit;
}

TEST(Golden, EveryCounterHasACase) {
  const auto hit = counters_hit({Network::ipv4, Network::ipv6, Network::dual});
  for (const CounterInfo& counter : kCounters) {
    EXPECT_TRUE(hit.contains(std::string(counter.name)))
        << counter.name << " has no case in native/test/golden: " << counter.help;
  }
  EXPECT_GE(all_cases().size(), kLeastCases);
}

TEST(Golden, EveryDropHasACaseInANetworkThatCarriesIpv6) {
  const auto hit = counters_hit({Network::ipv6, Network::dual});
  for (const CounterInfo& counter : kCounters) {
    if (counter.role != "drop") continue;
    EXPECT_TRUE(hit.contains(std::string(counter.name)))
        << counter.name << " has no case with IPv6 in native/test/golden: " << counter.help;
  }
}

}  // namespace
}  // namespace flannel::test
