#include "netlink.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace flannel {
namespace {

constexpr size_t kReceiveBuffer = 65536;  // the kernel builds dumps in pieces of at most 32 KB
constexpr timeval kTimeout{5, 0};
constexpr int kMaxErrno = 4095;  // include/linux/err.h
constexpr int kDumpTries = 5;

template <typename T>
T load(std::span<const uint8_t> bytes) noexcept {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// Where the attributes begin that explain an NLMSG_ERROR or NLMSG_DONE.
size_t explanation_offset(const nlmsghdr& header, std::span<const uint8_t> message) {
  if (header.nlmsg_type == NLMSG_DONE) return sizeof(nlmsghdr) + sizeof(int);
  const size_t bare = sizeof(nlmsghdr) + sizeof(nlmsgerr);
  if ((header.nlmsg_flags & NLM_F_CAPPED) != 0 || message.size() < bare) return bare;
  // The kernel echoes the request whose header is the second half of nlmsgerr.
  const auto echo = load<nlmsgerr>(message.subspan(sizeof(nlmsghdr)));
  return bare + NLMSG_ALIGN(std::max<size_t>(echo.msg.nlmsg_len, sizeof(nlmsghdr))) -
         sizeof(nlmsghdr);
}

/// The text of NLMSGERR_ATTR_MSG, or nothing.
std::string extended_ack(const nlmsghdr& header, std::span<const uint8_t> message) {
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  size_t at = explanation_offset(header, message);
  while (at + sizeof(nlattr) <= message.size()) {
    const auto attribute = load<nlattr>(message.subspan(at));
    if (attribute.nla_len < sizeof(nlattr) || at + attribute.nla_len > message.size()) break;
    if (attribute.nla_type == NLMSGERR_ATTR_MSG) {
      const auto text = message.subspan(at + sizeof(nlattr), attribute.nla_len - sizeof(nlattr));
      return {text.begin(), std::find(text.begin(), text.end(), 0)};
    }
    at += NLA_ALIGN(attribute.nla_len);
  }
  return {};
}

void read_end(const nlmsghdr& header, std::span<const uint8_t> message, NetlinkReply& reply) {
  reply.done = true;
  reply.error = EBADMSG;
  if (message.size() < sizeof(nlmsghdr) + sizeof(int)) return;
  // nlmsgerr and the payload of NLMSG_DONE both begin with the negated errno.
  const int code = load<int>(message.subspan(sizeof(nlmsghdr)));
  if (code > 0 || code < -kMaxErrno) return;
  reply.error = -code;
  if (reply.error != 0) reply.detail = extended_ack(header, message);
}

}  // namespace

NetlinkReply parse_netlink(std::span<const uint8_t> datagram, uint32_t sequence) {
  NetlinkReply reply;
  while (datagram.size() >= sizeof(nlmsghdr) && !reply.done) {
    const auto header = load<nlmsghdr>(datagram);
    if (header.nlmsg_len < sizeof(nlmsghdr) || header.nlmsg_len > datagram.size()) {
      reply.done = true;
      reply.error = EBADMSG;
      return reply;
    }
    const auto message = datagram.first(header.nlmsg_len);
    datagram = datagram.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), datagram.size()));
    if (header.nlmsg_seq != sequence) continue;  // the rest of an answer that was given up
    reply.interrupted |= (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
      read_end(header, message, reply);
    } else if (header.nlmsg_type != NLMSG_NOOP) {
      reply.messages.emplace_back(message.begin(), message.end());
    }
  }
  return reply;
}

NetlinkSocket::NetlinkSocket() : fd_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {
  if (!fd_.valid()) throw SystemError(errno, "socket(AF_NETLINK)");
  const int on = 1;
  // Words instead of a bare errno; kernels before 4.12 do not know it.
  ::setsockopt(fd_.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof kTimeout);
}

std::vector<Bytes> NetlinkSocket::request(std::span<const uint8_t> message) {
  if (message.size() < sizeof(nlmsghdr)) throw SystemError(EINVAL, "netlink request");
  for (int tries = 1;; tries++) {
    NetlinkReply answer = exchange(message);
    if (answer.error != 0) {
      throw SystemError(answer.error,
                        answer.detail.empty() ? "netlink request" : "netlink: " + answer.detail);
    }
    if (!answer.interrupted) return std::move(answer.messages);
    if (tries == kDumpTries) throw SystemError(EAGAIN, "netlink dump, which kept changing");
  }
}

/// One request and the parts of its answer put together.
NetlinkReply NetlinkSocket::exchange(std::span<const uint8_t> message) {
  Bytes bytes(message.begin(), message.end());
  auto header = load<nlmsghdr>(bytes);
  header.nlmsg_len = static_cast<uint32_t>(bytes.size());
  header.nlmsg_flags |= NLM_F_REQUEST;
  // A dump ends with NLMSG_DONE; anything else needs an acknowledgement to have an end.
  if ((header.nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) header.nlmsg_flags |= NLM_F_ACK;
  header.nlmsg_seq = ++sequence_;
  header.nlmsg_pid = 0;
  std::memcpy(bytes.data(), &header, sizeof header);
  if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0)
    throw SystemError(errno, "netlink send");

  NetlinkReply answer;
  Bytes buffer(kReceiveBuffer);
  while (!answer.done) {
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_TRUNC);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SystemError(errno == EAGAIN ? ETIMEDOUT : errno, "netlink receive");
    const auto size = static_cast<size_t>(n);
    if (size > buffer.size()) throw SystemError(EMSGSIZE, "netlink receive");
    NetlinkReply part = parse_netlink({buffer.data(), size}, sequence_);
    std::move(part.messages.begin(), part.messages.end(), std::back_inserter(answer.messages));
    answer.interrupted |= part.interrupted;
    answer.done = part.done;
    answer.error = part.error;
    answer.detail = std::move(part.detail);
  }
  return answer;
}

}  // namespace flannel
