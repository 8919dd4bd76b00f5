#include "netlink.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace flannel {
namespace {

constexpr size_t kReceiveBuffer = 65536;  // the kernel builds dumps in pieces of at most 32 KB
constexpr timeval kTimeout{5, 0};
constexpr int kMaxErrno = 4095;  // include/linux/err.h
constexpr int kDumpTries = 5;
constexpr size_t kMostNews = 4096;  // messages of one NetlinkEvents::read()

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

namespace {

UniqueFd subscribe(int family, std::span<const uint32_t> groups) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family));
  if (!fd.valid()) throw SystemError(errno, "socket(AF_NETLINK)");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    throw SystemError(errno, "bind(AF_NETLINK)");
  for (const uint32_t group : groups) {
    if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
      throw SystemError(errno, "NETLINK_ADD_MEMBERSHIP");
  }
  return fd;
}

void watch(int epoll, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) throw SystemError(errno, "epoll_ctl");
}

/// Adds the messages of one datagram; false when it is not made of messages.
bool split(std::span<const uint8_t> datagram, std::vector<Bytes>& messages) {
  while (datagram.size() >= sizeof(nlmsghdr)) {
    const auto length = load<nlmsghdr>(datagram).nlmsg_len;
    if (length < sizeof(nlmsghdr) || length > datagram.size()) return false;
    const auto message = datagram.first(length);
    messages.emplace_back(message.begin(), message.end());
    datagram = datagram.subspan(std::min<size_t>(NLMSG_ALIGN(length), datagram.size()));
  }
  return true;
}

}  // namespace

NetlinkEvents::NetlinkEvents(int family, std::span<const uint32_t> groups,
                             std::function<void()> readable)
    : NetlinkEvents(subscribe(family, groups), std::move(readable)) {}

NetlinkEvents::NetlinkEvents(UniqueFd socket, std::function<void()> readable)
    : socket_(std::move(socket)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      readable_(std::move(readable)) {
  if (!stop_.valid() || !epoll_.valid()) throw SystemError(errno, "eventfd or epoll_create1");
  watch(epoll_.get(), stop_.get(), EPOLLIN);
  // Edges, since the thread itself reads nothing. An overrun makes one of its own (EPOLLERR).
  watch(epoll_.get(), socket_.get(), EPOLLIN | EPOLLET);
  try {
    thread_ = std::thread([this] { wait(); });
  } catch (const std::system_error& error) {
    throw SystemError(error.code().value(), "create a thread");
  }
}

void NetlinkEvents::wait() noexcept {
  // Signals belong to the process's own threads.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  pthread_setname_np(pthread_self(), "flannel-netlink");
  std::array<epoll_event, 2> ready{};
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), -1);
    if (count < 0 && errno != EINTR) return;
    for (int i = 0; i < count; i++) {
      if (ready[static_cast<size_t>(i)].data.fd == stop_.get()) return;
    }
    if (count > 0) readable_();
  }
}

NetlinkNews NetlinkEvents::read() {
  NetlinkNews news;
  Bytes buffer(kReceiveBuffer);
  // Stopping short is safe: what is left was announced before the caller asks for everything anew.
  while (news.messages.size() < kMostNews) {
    const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (n >= 0) {
      const auto size = static_cast<size_t>(n);
      if (size > buffer.size() || !split({buffer.data(), size}, news.messages)) news.overrun = true;
    } else if (errno == ENOBUFS) {
      news.overrun = true;
    } else if (errno == EAGAIN) {
      return news;
    } else if (errno != EINTR) {
      throw SystemError(errno, "netlink receive");
    }
  }
  news.overrun = true;
  return news;
}

void NetlinkEvents::close() noexcept {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
  socket_.reset();
}

}  // namespace flannel
