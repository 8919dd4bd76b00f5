#include "path_mtu.h"

#include "udp.h"

namespace flannel {

PathMtuLookup::PathMtuLookup(const Address& bind_address) : fd_(open_udp_sender(bind_address, 0)) {}

size_t PathMtuLookup::of(const NextHop& peer) const noexcept {
  // For UDP, to connect sends nothing: it looks up the route, which IP_MTU is asked of (ip(7),
  // ipv6(7)).
  const SocketAddress to = peer.to_sockaddr();
  if (::connect(fd_.get(), to.get(), to.length) < 0) return 0;
  int mtu = 0;
  socklen_t size = sizeof mtu;
  const bool ipv4 = peer.address.is_ipv4();
  const int level = ipv4 ? IPPROTO_IP : IPPROTO_IPV6;
  if (::getsockopt(fd_.get(), level, ipv4 ? IP_MTU : IPV6_MTU, &mtu, &size) < 0) return 0;
  return mtu > 0 ? static_cast<size_t>(mtu) : 0;
}

}  // namespace flannel
