// Hand-over between this version and the one before it, which knows nothing of IPv6: its messages
// and files byte by byte, as that one writes and reads them.
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>

#include <array>

#include "succession_lab.h"

namespace flannel::test {
namespace {

/// A message of the former version: numbers in the machine's byte order, and a text.
struct FormerMessage {
  uint32_t magic = 0x464c414e;
  uint32_t version = 2;
  uint32_t step = 0;
  uint32_t generation = 0;
  uint32_t stands_by = 0;
  uint32_t descriptors = 0;
  uint32_t queues = 0;
  uint32_t senders = 0;
  uint32_t features = 0;
  uint32_t virtio = 0;
  uint32_t bind_address = 0;
  uint32_t port = 0;
  uint32_t tunnel_address = 0;
  uint32_t source_check = 0;
  std::array<char, 160> text{};
};
static_assert(sizeof(FormerMessage) == 216);

// Its steps by number.
constexpr uint32_t kHello = 1;
constexpr uint32_t kRefuse = 2;
constexpr uint32_t kOffer = 3;
constexpr uint32_t kReady = 5;
constexpr uint32_t kGo = 6;
constexpr uint32_t kTaken = 7;
constexpr uint32_t kBye = 8;

/// One end of a conversation as the former version has it.
class FormerProcess {
 public:
  explicit FormerProcess(UniqueFd socket) : socket_(std::move(socket)) {}

  void send(const FormerMessage& message, const std::vector<int>& descriptors = {}) {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(64 * sizeof(int))> control{};
    iovec piece{const_cast<FormerMessage*>(&message), sizeof message};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    const size_t size = descriptors.size() * sizeof(int);
    if (size != 0) {
      header.msg_control = control.data();
      header.msg_controllen = CMSG_SPACE(size);
      cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(size);
      std::memcpy(CMSG_DATA(rights), descriptors.data(), size);
    }
    EXPECT_EQ(::sendmsg(socket_.get(), &header, MSG_NOSIGNAL), ssize_t{sizeof message});
  }

  /// The next message, which has to be of this step and, for that version, whole. Descriptors that
  /// come with it are closed by the kernel, for want of room.
  FormerMessage expect(uint32_t step) {
    constexpr int kPatienceMs = 30'000;
    pollfd polled{socket_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&polled, 1, kPatienceMs), 1) << "no answer";
    FormerMessage message;
    EXPECT_EQ(::recv(socket_.get(), &message, sizeof message, MSG_DONTWAIT | MSG_TRUNC),
              ssize_t{sizeof message});
    EXPECT_EQ(message.magic, FormerMessage{}.magic);
    EXPECT_EQ(message.version, FormerMessage{}.version);
    EXPECT_EQ(message.step, step) << message.text.data();
    return message;
  }

 private:
  UniqueFd socket_;
};

/// An owner of the former version: at the control socket, and of a dataplane over IPv4 that does
/// not read.
class FormerOwner {
 public:
  explicit FormerOwner(const std::string& socket)
      : lock_(::open((socket + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)),
        listener_(listen_at(socket)) {
    EXPECT_EQ(::flock(lock_.get(), LOCK_EX | LOCK_NB), 0);
    set_up("flannel0");
  }

  /// Waits for a successor, and takes its hello.
  FormerProcess meet() {
    pollfd polled{listener_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&polled, 1, 30'000), 1);
    FormerProcess process(UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    EXPECT_EQ(process.expect(kHello).generation, 0U);
    return process;
  }

  void offer_to(FormerProcess& successor) {
    const Estate estate = dataplane_.estate();
    std::vector<int> descriptors{lock_.get(), listener_.get()};
    for (const auto& queue : estate.queues) {
      descriptors.push_back(queue.tun);
      descriptors.push_back(queue.udp);
    }
    successor.send({.step = kOffer,
                    .generation = 3,
                    .descriptors = static_cast<uint32_t>(descriptors.size()),
                    .queues = static_cast<uint32_t>(estate.queues.size()),
                    .features = estate.features.bits(),
                    .virtio = estate.virtio,
                    .bind_address = kLoopback,
                    .port = kPort,
                    .tunnel_address = kHere},
                   descriptors);
  }

  void hand_over_to(FormerProcess& successor) {
    successor.expect(kReady);
    successor.send({.step = kGo});
    successor.expect(kTaken);
    successor.send({.step = kBye});
  }

 private:
  UniqueFd lock_;
  UniqueFd listener_;
  Dataplane dataplane_{options_of({})};
};

class HandoverVersionsTest : public SuccessionFixture {
 protected:
  /// Runs `owner` on a thread beside `successor`.
  void beside_former_owner(const std::function<void(FormerOwner&)>& owner,
                           const std::function<void()>& successor) {
    const bool ran = in_namespace([&] {
      set_up("lo");
      FormerOwner former(socket_);
      std::thread thread([&] { owner(former); });
      successor();
      thread.join();
    });
    if (!ran) GTEST_SKIP() << "needs a TUN device and CAP_SYS_ADMIN";
  }

  FormerProcess former_successor() {
    Connection connection = Connection::to(socket_);
    return FormerProcess(UniqueFd(::fcntl(connection.fd(), F_DUPFD_CLOEXEC, 0)));
  }
};

TEST_F(HandoverVersionsTest, AnOwnerOfTheFormerVersionIsTakenOverFrom) {
  for (const Families families : {Families{}, Families{true, false}}) {
    const auto hand_over = [](FormerOwner& owner) {
      FormerProcess successor = owner.meet();
      owner.offer_to(successor);
      owner.hand_over_to(successor);
    };
    beside_former_owner(hand_over, [&] {
      Daemon successor(socket_, 0, families);
      successor.start();
      EXPECT_EQ(successor.standing(), Standing::owner);
      const Estate estate = successor.dataplane().estate();
      EXPECT_EQ(estate.bind_address, families.loopback());
      EXPECT_EQ(estate.port, kPort);
      add_address("flannel0", families.here(), families.inner_ipv6 ? 32 : 16);
      Traffic traffic(families);
      EXPECT_TRUE(
          eventually([&] { return traffic.arrived() > 100 && traffic.arrived_in() > 100; }));
      traffic.expect_whole();
    });
  }
}

TEST_F(HandoverVersionsTest, WhatTheFormerVersionOffersIsOfIpv4) {
  const auto offer = [](FormerOwner& owner) {
    FormerProcess successor = owner.meet();
    owner.offer_to(successor);
  };
  beside_former_owner(offer, [&] {
    const Claim claim = claim_to_stand_by(socket_);
    ASSERT_TRUE(claim.inheritance.has_value());
    EXPECT_EQ(claim.generation, 3U);
    EXPECT_EQ(claim.inheritance->bind_address, Address::of_ipv4(kLoopback));
    EXPECT_EQ(claim.inheritance->tunnel_addresses.ipv4, kHere);
    EXPECT_TRUE(claim.inheritance->tunnel_addresses.ipv6.is_none());
    EXPECT_EQ(claim.inheritance->clamp_mtu, 0U);
    EXPECT_FALSE(claim.inheritance->probe_mtu);
  });
}

TEST_F(HandoverVersionsTest, AnOwnerOfTheFormerVersionIsNotTakenOverFromForATunnelOverIpv6) {
  const auto offer = [](FormerOwner& owner) {
    FormerProcess successor = owner.meet();
    owner.offer_to(successor);
  };
  beside_former_owner(offer, [&] {
    try {
      const Daemon successor(socket_, 0, {false, true});
      FAIL();
    } catch (const SystemError& error) {
      EXPECT_EQ(error.code().value(), EBUSY);
      EXPECT_EQ(error.call().find("handover: its tunnel runs over IPv4"), 0U) << error.call();
    }
  });
}

TEST_F(HandoverVersionsTest, AReasonThatIsLongerThanTextsAreNowLosesItsEnd) {
  const std::string reason(150, 'x');
  const auto refuse = [&](FormerOwner& owner) {
    FormerProcess successor = owner.meet();
    FormerMessage message{.step = kRefuse};
    std::ranges::copy(reason, message.text.begin());
    successor.send(message);
  };
  beside_former_owner(refuse, [&] {
    try {
      const Daemon successor(socket_);
      FAIL();
    } catch (const SystemError& error) {
      EXPECT_EQ(error.call(), "handover: " + reason.substr(0, sizeof Message{}.text));
    }
  });
}

TEST_F(HandoverVersionsTest, ASuccessorOfTheFormerVersionTakesOverWhereThereIsNoIpv6) {
  with_owner([&](Daemon& owner) {
    FormerProcess successor = former_successor();
    successor.send({.step = kHello});
    const FormerMessage offer = successor.expect(kOffer);
    const Estate estate = owner.dataplane().estate();
    EXPECT_EQ(offer.generation, 0U);
    EXPECT_EQ(offer.stands_by, 0U);
    EXPECT_EQ(offer.descriptors, 2 + 2 * 2U);
    EXPECT_EQ(offer.queues, 2U);
    EXPECT_EQ(offer.senders, 0U);
    EXPECT_EQ(offer.features, estate.features.bits());
    EXPECT_EQ(offer.virtio, estate.virtio ? 1U : 0U);
    EXPECT_EQ(offer.bind_address, kLoopback);
    EXPECT_EQ(offer.port, kPort);
    EXPECT_EQ(offer.tunnel_address, kHere);
    EXPECT_EQ(offer.source_check, 0U);
    successor.send({.step = kReady});
    successor.expect(kGo);
    successor.send({.step = kTaken});
    successor.expect(kBye);
    EXPECT_TRUE(eventually([&] { return owner.standing() != Standing::owner; }));
  });
}

TEST_F(HandoverVersionsTest, ASuccessorOfTheFormerVersionIsRefusedIpv6) {
  for (const Families families : {Families{true, false}, Families{false, true}}) {
    const auto run = [&](Daemon& owner) {
      FormerProcess successor = former_successor();
      successor.send({.step = kHello});
      EXPECT_STREQ(successor.expect(kRefuse).text.data(),
                   "the owner carries IPv6, which it does not know");
      EXPECT_EQ(owner.standing(), Standing::owner);
    };
    with_owner(run, families);
  }
}

/// 10.244.2.0/24 by 192.168.77.2, port 8285, in a file of the former version. The network is a
/// number of the machine's byte order, address and port are as on the wire.
Bytes former_route() {
  Bytes bytes(16);
  const uint32_t network = ip(10, 244, 2, 0);
  std::memcpy(bytes.data(), &network, sizeof network);
  bytes[4] = 24;
  store_be32(&bytes[8], ip(192, 168, 77, 2));
  store_be16(&bytes[12], 8285);
  return bytes;
}

const Route kIpv4Route{{ip(10, 244, 2, 0), 24},
                       {Address::of_ipv4(ip(192, 168, 77, 2)), htons(8285)}};

Bytes content_of(const UniqueFd& file) {
  Bytes bytes(4096);
  const ssize_t size = ::pread(file.get(), bytes.data(), bytes.size(), 0);
  bytes.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
  return bytes;
}

TEST(HandoverRoutes, OfIpv4AloneAreInTheFormOfTheFormerVersion) {
  EXPECT_EQ(content_of(routes_to_file({&kIpv4Route, 1})), former_route());

  const UniqueFd file(::memfd_create("routes", MFD_CLOEXEC));
  const Bytes former = former_route();
  ASSERT_EQ(::write(file.get(), former.data(), former.size()), ssize_t{16});
  const std::vector<Route> routes = routes_from_file(file.get());
  ASSERT_EQ(routes.size(), 1U);
  EXPECT_EQ(routes[0].prefix, kIpv4Route.prefix);
  EXPECT_EQ(routes[0].next_hop, kIpv4Route.next_hop);
}

TEST(HandoverRoutes, OfBothFamiliesComeBackAndAreNoTableForTheFormerVersion) {
  const std::array routes{kIpv4Route, Families{true, false}.route(), Families{false, true}.route(),
                          Families{true, true}.route()};
  const UniqueFd file = routes_to_file(routes);
  const std::vector<Route> back = routes_from_file(file.get());
  ASSERT_EQ(back.size(), routes.size());
  for (size_t i = 0; i < routes.size(); i++) {
    EXPECT_EQ(back[i].prefix, routes[i].prefix);
    EXPECT_EQ(back[i].next_hop, routes[i].next_hop);
  }
  // It refuses a table with a prefix of IPv4 that is longer than 32, and keeps the one that it has.
  const Bytes bytes = content_of(file);
  ASSERT_GE(bytes.size(), 16U);
  EXPECT_GT(bytes[4], 32);
}

}  // namespace
}  // namespace flannel::test
