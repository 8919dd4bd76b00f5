#include "path_mtu.h"

#include "udp.h"

namespace flannel {

PathMtuLookup::PathMtuLookup(uint32_t bind_address) : fd_(open_udp_sender(bind_address, 0)) {}

size_t PathMtuLookup::of(const NextHop& peer) const noexcept {
  // For UDP, to connect sends nothing: it looks up the route, which IP_MTU is asked of (ip(7)).
  const sockaddr_in to = peer.to_sockaddr();
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) return 0;
  int mtu = 0;
  socklen_t size = sizeof mtu;
  if (::getsockopt(fd_.get(), IPPROTO_IP, IP_MTU, &mtu, &size) < 0) return 0;
  return mtu > 0 ? static_cast<size_t>(mtu) : 0;
}

}  // namespace flannel
