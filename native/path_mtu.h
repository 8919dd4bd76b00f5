// What the path to a peer carries, as the kernel has learned it.
//
// From the start packets leave with DF (IP_MTU_DISCOVER is IP_PMTUDISC_WANT), and routers that they
// are too large for answer with an ICMP error. The kernel keeps what it says for ten minutes
// (net.ipv4.route.mtu_expires) and cuts larger datagrams into fragments meanwhile: nothing is lost
// between then and the moment when somebody asks. So asking now and then is enough.
//
// The same goes for IPv6, whose routers never cut, with IPV6_MTU_DISCOVER and
// net.ipv6.route.mtu_expires.
//
// IP_RECVERR would tell at once, but the kernel then also fails the socket's next send with the
// error, whoever that is to (sk_err in __udp4_lib_err(), net/ipv4/udp.c): a router, or whoever
// forges its ICMP, could make this host drop packets to other peers.
#pragma once

#include "peers.h"
#include "syscalls.h"

namespace flannel {

/// Asks through a socket of its own, bound as those that send: nothing but the destination and the
/// source decide about the route, and what one socket learns of it is known to all.
class PathMtuLookup {
 public:
  /// Throws SystemError.
  explicit PathMtuLookup(const Address& bind_address);

  /// Bytes of the largest outer packet that leaves for `peer` unfragmented: the MTU that was
  /// learned, else that of the route, else that of the device. 0 where there is no way to the peer.
  [[nodiscard]] size_t of(const NextHop& peer) const noexcept;

 private:
  UniqueFd fd_;
};

}  // namespace flannel
