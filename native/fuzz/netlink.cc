// Whatever arrives at a netlink socket: messages that lie within it, or an error.
#include "netlink.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>

#include "../test/netlink_messages.h"
#include "fuzz.h"

namespace flannel::fuzz {
namespace {

/// Announcements from this end of a pair of sockets; made once, since a thread comes with it.
struct Announcements {
  Announcements() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    kernel.reset(ends[0]);
    events = std::make_unique<NetlinkEvents>(UniqueFd(ends[1]), [] {});
  }
  UniqueFd kernel;
  std::unique_ptr<NetlinkEvents> events;
};

/// Each message tells its own length, and all of them were in the datagram.
void expect_within(const std::vector<Bytes>& messages, const Bytes& datagram) {
  size_t total = 0;
  for (const Bytes& message : messages) {
    ASSERT_GE(message.size(), sizeof(nlmsghdr));
    nlmsghdr header{};
    std::memcpy(&header, message.data(), sizeof header);
    EXPECT_EQ(header.nlmsg_len, message.size());
    EXPECT_NE(std::search(datagram.begin(), datagram.end(), message.begin(), message.end()),
              datagram.end());
    total += message.size();
  }
  EXPECT_LE(total, datagram.size());
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  Input input(bytes);
  const Bytes datagram = input.rest();
  const NetlinkReply reply = parse_netlink(datagram, 7);
  expect_within(reply.messages, datagram);
  EXPECT_TRUE(reply.done || reply.error == 0);
  EXPECT_TRUE(reply.error >= 0 && reply.error <= 4095);
  EXPECT_TRUE(reply.detail.empty() || reply.error != 0);
  EXPECT_EQ(reply.detail.find('\0'), std::string::npos);

  if (datagram.size() > 32768) return;  // beyond what the pair of sockets carries at once
  static Announcements announcements;
  ASSERT_EQ(::send(announcements.kernel.get(), datagram.data(), datagram.size(), 0),
            static_cast<ssize_t>(datagram.size()));
  const NetlinkNews news = announcements.events->read();
  expect_within(news.messages, datagram);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  const auto add = [&](const std::vector<Bytes>& messages) {
    Seed seed;
    for (const Bytes& message : messages) seed.bytes(message);
    result.push_back(seed);
  };
  using test::error_payload;
  using test::message;
  add({message(NLMSG_ERROR, 7, error_payload(0, ""))});
  add({message(NLMSG_ERROR, 7, error_payload(EINVAL, "mtu below minimum"), NLM_F_ACK_TLVS)});
  add({message(NLMSG_ERROR, 7, error_payload(EPERM, "no"), NLM_F_ACK_TLVS | NLM_F_CAPPED)});
  add({message(NLMSG_ERROR, 6, error_payload(EINVAL, "")), message(NLMSG_DONE, 7, Bytes(4))});
  add({message(RTM_NEWLINK, 7, Bytes(16, 1)), message(RTM_NEWLINK, 7, Bytes(16, 2)),
       message(NLMSG_DONE, 7, Bytes(4, 0))});
  add({message(RTM_NEWROUTE, 7, Bytes(12, 1), NLM_F_DUMP_INTR), message(NLMSG_NOOP, 7, {})});
  add({message(NLMSG_DONE, 7, {})});
  add({Bytes(15, 0xff)});
  return result;
}

}  // namespace flannel::fuzz
