// Networks of a test's own, by rtnetlink(7): addresses of either family that are ready for use, and
// cables between namespaces.
#pragma once

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/veth.h>

#include "address.h"
#include "netlink_messages.h"
#include "tun_lab.h"

namespace flannel::test {

inline std::vector<Bytes> ask_kernel(uint16_t type, const Bytes& payload, uint16_t flags = 0) {
  return NetlinkSocket().request(
      message(type, 0, payload, static_cast<uint16_t>(NLM_F_REQUEST | flags)));
}

/// An address as an attribute has it: of its family's length.
inline Bytes wire_form(const Address& address) {
  const auto bytes = address.to_bytes();
  return {bytes.begin() + (address.is_ipv4() ? 12 : 0), bytes.end()};
}
inline uint8_t family_of(const Address& address) {
  return address.is_ipv4() ? AF_INET : AF_INET6;
}

/// Brings a device up. It gets no link-local address, which it would announce in packets that
/// nobody has sent.
inline void set_up(const std::string& device) {
  ifinfomsg link{};
  link.ifi_index = static_cast<int>(::if_nametoindex(device.c_str()));
  Bytes inet6;
  append_attribute(inet6, IFLA_INET6_ADDR_GEN_MODE, bytes_of(uint8_t{IN6_ADDR_GEN_MODE_NONE}));
  Bytes families;
  append_nest(families, AF_INET6, inet6);
  Bytes quiet = bytes_of(link);
  append_nest(quiet, IFLA_AF_SPEC, families);
  ask_kernel(RTM_SETLINK, quiet);
  // Afterwards: of one request, the kernel heeds the flags first.
  link.ifi_flags = IFF_UP;
  link.ifi_change = IFF_UP;
  ask_kernel(RTM_SETLINK, bytes_of(link));
}

/// Whether the kernel takes packets to an address as its own.
inline bool is_local(const Address& address) try {
  rtmsg route{};
  route.rtm_family = family_of(address);
  Bytes request = bytes_of(route);
  append_attribute(request, RTA_DST, wire_form(address));
  const Bytes answer = ask_kernel(RTM_GETROUTE, request).at(0);
  std::memcpy(&route, answer.data() + NLMSG_HDRLEN, sizeof route);
  return route.rtm_type == RTN_LOCAL;
} catch (const SystemError&) {
  return false;  // there is no way there at all
}

/// Gives a device an address, with the route to the prefix around it, and waits until it is in use:
/// one of IPv6 is so a while later, even where nothing is to be found out about it first
/// (addrconf_dad_work() in net/ipv6/addrconf.c).
inline void add_address(const std::string& device, const Address& address, uint8_t prefix_length) {
  ifaddrmsg header{};
  header.ifa_family = family_of(address);
  header.ifa_prefixlen = prefix_length;
  header.ifa_index = ::if_nametoindex(device.c_str());
  header.ifa_flags = IFA_F_NODAD;
  Bytes request = bytes_of(header);
  append_attribute(request, IFA_LOCAL, wire_form(address));
  ask_kernel(RTM_NEWADDR, request, NLM_F_CREATE);
  ASSERT_TRUE(eventually([&] { return is_local(address); }));
}

/// The network namespace of the thread that makes it, for others to enter.
class Namespace {
 public:
  void enter() const { ASSERT_EQ(::setns(fd_.get(), CLONE_NEWNET), 0) << std::strerror(errno); }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  UniqueFd fd_{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)};
};

/// A pair of devices, one end here and one, of the same name, in another namespace.
inline void lay_cable(const std::string& name, const Namespace& to) {
  const Bytes text(name.begin(), name.end());
  Bytes peer = bytes_of(ifinfomsg{});
  append_attribute(peer, IFLA_IFNAME, text);
  append_attribute(peer, IFLA_NET_NS_FD, bytes_of(to.fd()));
  Bytes data;
  append_nest(data, VETH_INFO_PEER, peer);
  const std::string kind = "veth";
  Bytes info;
  append_attribute(info, IFLA_INFO_KIND, {kind.begin(), kind.end()});
  append_nest(info, IFLA_INFO_DATA, data);
  Bytes request = bytes_of(ifinfomsg{});
  append_attribute(request, IFLA_IFNAME, text);
  append_nest(request, IFLA_LINKINFO, info);
  ask_kernel(RTM_NEWLINK, request, NLM_F_CREATE | NLM_F_EXCL);
}

}  // namespace flannel::test
