#include "icmp_responder.h"

#include <netinet/in.h>

namespace flannel {
namespace {

UniqueFd open_raw(int family) noexcept {
  return UniqueFd(::socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW));
}

}  // namespace

bool IcmpResponder::within_rate() noexcept {
  if (throttle_.take()) return true;
  counters_.add(throttled_);
  return false;
}

std::span<const uint8_t> IcmpResponder::error(IcmpError error, Ipv4Packet offender,
                                              uint16_t next_hop_mtu) noexcept {
  if (source_ == 0 || !may_answer(offender) || !within_rate()) return {};
  const auto out = std::span(buffer_).first<kMaxIcmpError>();
  return build_icmp_error(error, source_, offender, out, next_hop_mtu);
}

std::span<const uint8_t> IcmpResponder::error(IcmpError error, Ipv6Packet offender,
                                              uint16_t next_hop_mtu) noexcept {
  if (source6_ == Ipv6Address{} || !may_answer(error, offender) || !within_rate()) return {};
  return build_icmpv6_error(error, source6_, offender, buffer_, next_hop_mtu);
}

UniqueFd open_icmp() noexcept {
  return open_raw(AF_INET);
}

UniqueFd open_icmpv6() noexcept {
  return open_raw(AF_INET6);
}

}  // namespace flannel
