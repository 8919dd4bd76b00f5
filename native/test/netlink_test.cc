#include "netlink.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>

#include "netlink_messages.h"

namespace flannel::test {
namespace {

TEST(ParseNetlink, ReadsAnAcknowledgement) {
  const NetlinkReply reply = parse_netlink(message(NLMSG_ERROR, 7, error_payload(0, "")), 7);
  EXPECT_TRUE(reply.done);
  EXPECT_EQ(reply.error, 0);
  EXPECT_TRUE(reply.messages.empty());
}

TEST(ParseNetlink, ReadsARefusalWithTheKernelsWords) {
  const NetlinkReply reply = parse_netlink(
      message(NLMSG_ERROR, 7, error_payload(EINVAL, "mtu below minimum"), NLM_F_ACK_TLVS), 7);
  EXPECT_EQ(reply.error, EINVAL);
  EXPECT_EQ(reply.detail, "mtu below minimum");
}

TEST(ParseNetlink, CollectsADumpUntilItIsDone) {
  Bytes datagram = message(RTM_NEWLINK, 7, Bytes(16, 1));
  for (const Bytes& next :
       {message(RTM_NEWLINK, 7, Bytes(16, 2)), message(NLMSG_DONE, 7, Bytes(4, 0))}) {
    datagram.insert(datagram.end(), next.begin(), next.end());
  }
  const NetlinkReply reply = parse_netlink(datagram, 7);
  EXPECT_TRUE(reply.done);
  ASSERT_EQ(reply.messages.size(), 2U);
  EXPECT_EQ(reply.messages[1].back(), 2);
}

TEST(ParseNetlink, ReadsWhyADumpFailed) {
  Bytes payload;
  append(payload, -EINVAL);
  append(payload, nlattr{sizeof(nlattr) + 4, NLMSGERR_ATTR_MSG});
  for (char c : {'w', 'h', 'y', '\0'}) payload.push_back(static_cast<uint8_t>(c));
  const NetlinkReply reply = parse_netlink(message(NLMSG_DONE, 7, payload, NLM_F_ACK_TLVS), 7);
  EXPECT_EQ(reply.error, EINVAL);
  EXPECT_EQ(reply.detail, "why");
}

TEST(ParseNetlink, TellsADumpThatWasInterrupted) {
  const Bytes whole = message(RTM_NEWLINK, 7, Bytes(16, 1));
  EXPECT_FALSE(parse_netlink(whole, 7).interrupted);
  const Bytes torn = message(RTM_NEWLINK, 7, Bytes(16, 1), NLM_F_DUMP_INTR);
  EXPECT_TRUE(parse_netlink(torn, 7).interrupted);
}

TEST(ParseNetlink, RefusesCodesThatAreNoErrno) {
  for (int code : {1, -4096, INT_MIN}) {
    Bytes payload;
    append(payload, code);
    EXPECT_EQ(parse_netlink(message(NLMSG_ERROR, 7, payload), 7).error, EBADMSG) << code;
  }
}

TEST(ParseNetlink, SkipsAnswersToSomebodyElse) {
  const NetlinkReply reply = parse_netlink(message(NLMSG_ERROR, 6, error_payload(EPERM, "")), 7);
  EXPECT_FALSE(reply.done);
  EXPECT_EQ(reply.error, 0);
}

TEST(ParseNetlink, RefusesLengthsThatCannotBe) {
  Bytes datagram = message(RTM_NEWLINK, 7, Bytes(16, 1));
  for (uint32_t length : {0U, 15U, 33U, 0xffffffffU}) {
    std::memcpy(datagram.data(), &length, sizeof length);
    EXPECT_EQ(parse_netlink(datagram, 7).error, EBADMSG) << length;
  }
}

TEST(ParseNetlink, NeverReadsPastItsBytes) {
  std::mt19937 random(1);
  const Bytes good = message(NLMSG_ERROR, 7, error_payload(EINVAL, "words"), NLM_F_ACK_TLVS);
  for (int i = 0; i < 100'000; i++) {
    Bytes bad(good.begin(), good.begin() + static_cast<ptrdiff_t>(random() % (good.size() + 1)));
    for (int flips = 0; flips < 3 && !bad.empty(); flips++)
      bad[random() % bad.size()] = static_cast<uint8_t>(random());
    parse_netlink(bad, 7);  // the sanitizers judge
  }
}

Bytes link_request(uint16_t flags) {
  ifinfomsg body{};
  body.ifi_index = (flags & NLM_F_DUMP) != 0 ? 0 : 0x7fffffff;
  Bytes payload;
  append(payload, body);
  return message(RTM_GETLINK, 0, payload, flags);
}

TEST(NetlinkSocket, DumpsTheLinksOfThisHost) {
  NetlinkSocket socket;
  EXPECT_GE(socket.request(link_request(NLM_F_DUMP)).size(), 1U)
      << "there is always a loopback device";
}

TEST(NetlinkSocket, ThrowsTheKernelsErrno) {
  NetlinkSocket socket;
  try {
    socket.request(link_request(0));
    FAIL() << "a link that does not exist was found";
  } catch (const SystemError& error) {
    EXPECT_EQ(error.code().value(), ENODEV);
  }
  EXPECT_GE(socket.request(link_request(NLM_F_DUMP)).size(), 1U) << "the socket is still of use";
}

/// Counts the calls of `readable` and waits for them.
class Bell {
 public:
  void ring() {
    const std::lock_guard lock(mutex_);
    rings_++;
    rung_.notify_all();
  }
  bool heard(int count) {
    std::unique_lock lock(mutex_);
    return rung_.wait_for(lock, std::chrono::seconds(5), [&] { return rings_ >= count; });
  }
  int rings() {
    const std::lock_guard lock(mutex_);
    return rings_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable rung_;
  int rings_ = 0;
};

/// NetlinkEvents whose kernel is the other end of a socket pair.
struct Announcements {
  Announcements() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
      throw SystemError(errno, "socketpair");
    kernel = UniqueFd(ends[0]);
    events = std::make_unique<NetlinkEvents>(UniqueFd(ends[1]), [this] { bell.ring(); });
  }
  void announce(const Bytes& datagram) {
    ASSERT_EQ(::send(kernel.get(), datagram.data(), datagram.size(), 0),
              static_cast<ssize_t>(datagram.size()));
  }

  UniqueFd kernel;
  Bell bell;
  std::unique_ptr<NetlinkEvents> events;  // last: its thread rings the bell
};

TEST(NetlinkEvents, SaysThatThereIsNewsAndLeavesItUntilItIsRead) {
  Announcements host;
  EXPECT_TRUE(host.events->read().messages.empty());
  Bytes two = message(RTM_NEWLINK, 0, Bytes(16, 1));
  const Bytes second = message(RTM_NEWADDR, 0, Bytes(8, 2));
  two.insert(two.end(), second.begin(), second.end());
  host.announce(two);
  ASSERT_TRUE(host.bell.heard(1));
  host.announce(message(RTM_DELLINK, 0, Bytes(16, 3)));
  ASSERT_TRUE(host.bell.heard(2)) << "each announcement is an edge";
  const NetlinkNews news = host.events->read();
  EXPECT_FALSE(news.overrun);
  ASSERT_EQ(news.messages.size(), 3U);
  EXPECT_EQ(news.messages[1], second);
  EXPECT_TRUE(host.events->read().messages.empty());
}

TEST(NetlinkEvents, TellsOfEveryNewsAfterARead) {
  Announcements host;
  for (int round = 0; round < 1000; round++) {
    const int before = host.bell.rings();
    host.announce(message(RTM_NEWLINK, 0, Bytes(16, 1)));
    ASSERT_TRUE(host.bell.heard(before + 1)) << round;
    ASSERT_EQ(host.events->read().messages.size(), 1U) << round;
  }
}

TEST(NetlinkEvents, TakesWhatItCannotReadForAnOverrun) {
  Announcements host;
  Bytes lies = message(RTM_NEWLINK, 0, Bytes(16, 1));
  const uint32_t length = 4000;
  std::memcpy(lies.data(), &length, sizeof length);
  for (const Bytes& datagram : {lies, Bytes(70'000, 0)}) {
    host.announce(datagram);
    EXPECT_TRUE(host.events->read().overrun) << datagram.size();
    EXPECT_FALSE(host.events->read().overrun) << "once";
  }
}

TEST(NetlinkEvents, StopsWhereThereIsNoEndOfNews) {
  Announcements host;
  Bytes many;
  for (int i = 0; i < 2000; i++) {
    const Bytes next = message(RTM_NEWROUTE, 0, Bytes(12, 1));
    many.insert(many.end(), next.begin(), next.end());
  }
  for (int i = 0; i < 3; i++) host.announce(many);
  const NetlinkNews news = host.events->read();
  EXPECT_TRUE(news.overrun);
  EXPECT_GE(news.messages.size(), 4096U);
}

TEST(NetlinkEvents, IsSilentOnceClosed) {
  Announcements host;
  host.events->close();
  host.events->close();
  const Bytes late = message(RTM_NEWLINK, 0, Bytes(16, 1));
  EXPECT_LT(::send(host.kernel.get(), late.data(), late.size(), MSG_NOSIGNAL), 0);
  EXPECT_EQ(host.bell.rings(), 0);
}

TEST(NetlinkEvents, SubscribesToGroupsThatExist) {
  const std::array<uint32_t, 3> groups{RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE};
  NetlinkEvents events(NETLINK_ROUTE, groups, [] {});
  EXPECT_FALSE(events.read().overrun);
  const std::array<uint32_t, 1> none{0xffff};
  EXPECT_THROW(NetlinkEvents(NETLINK_ROUTE, none, [] {}), SystemError);
}

}  // namespace
}  // namespace flannel::test
