// Processes that hand a dataplane over to each other, and traffic through it, both in one process
// and in a network of the test's own.
#pragma once

#include <cstdlib>
#include <filesystem>

#include "network_lab.h"
#include "succession.h"
#include "transport.h"

namespace flannel::test {

using namespace std::chrono_literals;

inline constexpr uint32_t kLoopback = ip(127, 0, 0, 1);
inline constexpr uint32_t kHere = ip(10, 244, 1, 0);
inline constexpr uint32_t kThere = ip(10, 244, 2, 2);
inline constexpr uint16_t kPort = 8285;
inline constexpr uint16_t kPeerPort = 8286;
inline constexpr uint16_t kInnerPort = 7000;
inline constexpr int kQueueLength = 2000;  // as the daemon sets it

/// Of the tunnel: what is inside, and what is around it.
struct Families {
  bool inner_ipv6 = false;
  bool outer_ipv6 = false;

  [[nodiscard]] Address loopback() const {
    return outer_ipv6 ? Address::of_bytes(ip6("::1")) : Address::of_ipv4(kLoopback);
  }
  [[nodiscard]] Address here() const {
    return inner_ipv6 ? Address::of_bytes(ip6("fd00:10:244:1::")) : Address::of_ipv4(kHere);
  }
  [[nodiscard]] Address there() const {
    return inner_ipv6 ? Address::of_bytes(ip6("fd00:10:244:2::2")) : Address::of_ipv4(kThere);
  }
  [[nodiscard]] Route route() const {
    const auto length = static_cast<uint8_t>(inner_ipv6 ? 64 : Address::kMapped + 24);
    return {Prefix(there(), length).masked(), {loopback(), htons(kPeerPort)}};
  }
};

inline DataplaneOptions options_of(const Families& families) {
  DataplaneOptions options{};
  options.tun_name = "flannel%d";
  for (const FeatureInfo& info : kFeatures) options.features.add(info.feature);
  options.split_threads = true;
  options.queues = 2;
  options.source_ports = 1;
  options.bind_address = families.loopback();
  options.port = kPort;
  options.buffers = {.receive = 4 << 20, .send = 4 << 20};
  options.tunnel_addresses.ipv4 = kHere;
  if (families.inner_ipv6) options.tunnel_addresses.ipv6 = families.here();
  return options;
}

/// A process, as far as the succession is concerned.
class Daemon {
 public:
  explicit Daemon(const std::string& socket, uint32_t generation = 0, const Families& families = {})
      : opened_(Succession::open(options_of(families), socket, generation)) {
    const Route route = families.route();
    opened_.succession->set_routes({&route, 1});
  }
  ~Daemon() { close(); }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  void start() { opened_.succession->start(); }
  void close() {
    opened_.succession->close();
    opened_.dataplane->close();
  }
  Dataplane& dataplane() { return *opened_.dataplane; }
  Succession& succession() { return *opened_.succession; }
  /// Whether a process that was to come after this one was given up.
  [[nodiscard]] bool called_off() const { return !opened_.succession->reason().empty(); }
  [[nodiscard]] Standing standing() const { return opened_.succession->standing(); }

 private:
  Succession::Opened opened_;
};

/// The one that takes over from `owner`. Where it gets no processor in time and is called off,
/// `owner` goes on, as it should, and there is another attempt.
inline std::unique_ptr<Daemon> succeed(Daemon& owner, const std::string& socket,
                                       const Families& families = {}) {
  constexpr int kMostTries = 10;
  for (int tries = 0; tries < kMostTries; tries++) {
    auto successor = std::make_unique<Daemon>(socket, 0, families);
    try {
      successor->start();
    } catch (const SystemError& error) {
      EXPECT_EQ(error.code().value(), ECANCELED) << error.what();
      continue;
    }
    const auto handed_over = [&] { return owner.standing() == Standing::handed_over; };
    EXPECT_TRUE(
        eventually([&] { return handed_over() || successor->standing() == Standing::deposed; }));
    if (handed_over()) return successor;
    EXPECT_EQ(owner.standing(), Standing::owner);
  }
  throw SystemError(ETIMEDOUT, "handover: " + owner.succession().reason());
}

/// Packets both ways: into the device, to arrive at the peer's port; and to the socket, to arrive
/// behind the device.
class Traffic {
 public:
  explicit Traffic(const Families& families = {})
      : inner_(udp_at(families.here(), kInnerPort)),
        peer_(udp_at(families.loopback(), kPeerPort)),
        peer_sender_(udp_at(families.loopback(), 0)) {
    const SocketAddress overlay = SocketAddress::of(families.there(), htons(9));
    const SocketAddress underlay = SocketAddress::of(families.loopback(), htons(kPort));
    const Bytes packet = inner_packet(families);
    const size_t number_at = ip_length(packet) + 8;
    in_ = std::make_unique<Probe>(peer_sender_.get(), inner_.get(), underlay, packet, number_at, 0);
    // The kernel sends a flow to the queue by which it last came in (tun_flow_update in
    // drivers/net/tun.c), so a flow that begins before it came in may change queues on its way.
    EXPECT_TRUE(eventually([&] { return in_->received() > 0; }));
    out_ = std::make_unique<Probe>(inner_.get(), peer_.get(), overlay, Bytes(64), 0, number_at);
  }

  void redirect(uint16_t port) { in_->redirect(port); }

  /// Not one packet lost or doubled, nor, unless told otherwise, out of order: as it may be where a
  /// hand-over was called off, after which two processes read for a moment.
  void expect_whole(bool in_order = true) {
    out_->finish();
    in_->finish();
    EXPECT_GT(out_->sent(), 0U);
    EXPECT_GT(in_->sent(), 0U);
    EXPECT_EQ(out_->received(), out_->sent());
    EXPECT_EQ(in_->received(), in_->sent());
    if (!in_order) return;
    EXPECT_EQ(out_->out_of_order(), 0U);
    EXPECT_EQ(in_->out_of_order(), 0U);
  }
  [[nodiscard]] uint64_t arrived() const { return out_->received(); }
  [[nodiscard]] uint64_t arrived_in() const { return in_->received(); }
  void finish() {
    out_->finish();
    in_->finish();
  }

 private:
  /// UDP from the other side, with room for a number and its complement at its front.
  static Bytes inner_packet(const Families& families) {
    constexpr uint16_t kUdp = 64;
    Bytes packet = families.inner_ipv6
                       ? make_packet6({.source = ip6("fd00:10:244:2::2"),
                                       .destination = ip6("fd00:10:244:1::"),
                                       .payload = kUdp})
                       : make_packet({.source = kThere, .destination = kHere, .payload = kUdp});
    uint8_t* udp = &packet[ip_length(packet)];
    store_be16(udp, 9);
    store_be16(udp + 2, kInnerPort);
    store_be16(udp + 4, kUdp);
    store_be32(udp + 8, 0);
    store_be32(udp + 12, 0xffffffff);
    fill_checksums(packet);
    return packet;
  }

  UniqueFd inner_;
  UniqueFd peer_;
  UniqueFd peer_sender_;
  std::unique_ptr<Probe> out_;
  std::unique_ptr<Probe> in_;
};

class SuccessionFixture : public ::testing::Test {
 protected:
  SuccessionFixture() {
    std::string name = (std::filesystem::temp_directory_path() / "succession-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    socket_ = folder_ / "control.sock";
  }
  ~SuccessionFixture() override { std::filesystem::remove_all(folder_); }

  /// Runs `body` beside a first owner whose device is configured.
  void with_owner(const std::function<void(Daemon&)>& body, const Families& families = {}) {
    const bool ran = in_namespace([&] {
      set_up("lo");
      ASSERT_TRUE(eventually([&] { return is_local(families.loopback()); }));
      Daemon owner(socket_, 0, families);
      owner.start();
      set_queue_length("flannel0", kQueueLength);
      set_up("flannel0");
      add_address("flannel0", families.here(), families.inner_ipv6 ? 32 : 16);
      body(owner);
    });
    if (!ran) GTEST_SKIP() << "needs a TUN device and CAP_SYS_ADMIN";
  }

  std::filesystem::path folder_;
  std::string socket_;
};

/// The process that stands by, in the role of flannel-standby.
struct Standby {
  explicit Standby(const std::string& socket, const Families& families = {})
      : Standby(claim_to_stand_by(socket), families) {}
  Standby(Claim claim, const Families& families)
      : dataplane(options_of(families), std::move(*claim.inheritance)),
        succession(dataplane, std::move(claim), Succession::Role::standby) {
    succession.start();
  }
  ~Standby() { succession.close(); }
  Dataplane dataplane;
  Succession succession;
};

}  // namespace flannel::test
