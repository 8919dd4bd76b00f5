// A NETLINK_ROUTE socket (netlink(7)). The messages themselves are built and read in TypeScript.
#pragma once

#include <cstdint>
#include <span>
#include <string>
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

}  // namespace flannel
