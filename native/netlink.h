// Netlink sockets (netlink(7)): one for requests to NETLINK_ROUTE, one for announcements. The
// messages themselves are built and read in TypeScript.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "syscalls.h"

namespace flannel {

using Bytes = std::vector<uint8_t>;

/// What the kernel says to one datagram of an answer.
struct NetlinkReply {
  std::vector<Bytes> messages;  // each with its header
  bool done = false;            // the answer is complete
  bool interrupted = false;  // what was dumped changed meanwhile, so that something may be missing
  int error = 0;             // errno of a refusal
  std::string detail;        // the kernel's own words about it (NLMSGERR_ATTR_MSG), if any
};

/// Takes one datagram apart: messages to `sequence` only, everything checked against the bytes that
/// are there.
NetlinkReply parse_netlink(std::span<const uint8_t> datagram, uint32_t sequence);

class NetlinkSocket {
 public:
  /// Throws SystemError.
  NetlinkSocket();

  /// Sends `message` (its header's sequence and port id are overwritten, NLM_F_ACK is added unless
  /// it is a dump) and waits for the whole answer, at most 5 s for a part of it. A dump that was
  /// interrupted by a change is repeated. Throws SystemError; its call()
  /// carries the kernel's own words where it gave some.
  std::vector<Bytes> request(std::span<const uint8_t> message);

  void close() noexcept { fd_.reset(); }

 private:
  NetlinkReply exchange(std::span<const uint8_t> message);

  UniqueFd fd_;
  uint32_t sequence_ = 0;
};

/// What the kernel has announced since it was last asked.
struct NetlinkNews {
  std::vector<Bytes> messages;  // each with its header
  /// There was more, which is lost: whoever needs to know has to ask for everything anew.
  bool overrun = false;
};

/// A subscription to announcements. A thread of its own waits for them and only says that there are
/// some: they stay in the socket, whose buffer bounds them, until read() fetches them.
class NetlinkEvents {
 public:
  /// Subscribes to groups of a family: RTNLGRP_* of NETLINK_ROUTE, NFNLGRP_* of NETLINK_NETFILTER.
  /// `readable` is called on the waiting thread, at least once after the last announcement that
  /// read() has not fetched; it must not throw. Throws SystemError.
  NetlinkEvents(int family, std::span<const uint32_t> groups, std::function<void()> readable);
  /// Over a datagram socket that exists already.
  NetlinkEvents(UniqueFd socket, std::function<void()> readable);
  ~NetlinkEvents() { close(); }
  NetlinkEvents(const NetlinkEvents&) = delete;
  NetlinkEvents& operator=(const NetlinkEvents&) = delete;

  /// Everything that waits; never blocks. Throws SystemError.
  NetlinkNews read();

  /// Joins the thread: `readable` is not called any more afterwards. Idempotent.
  void close() noexcept;

 private:
  void wait() noexcept;

  UniqueFd socket_;
  UniqueFd stop_;  // an eventfd
  UniqueFd epoll_;
  std::function<void()> readable_;
  std::thread thread_;
};

}  // namespace flannel
