#include "path_prober.h"

#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "probe_wire.h"
#include "udp.h"

namespace flannel {
namespace {

/// Answers taken in a row: those to four turns, and then the rest is not from peers.
constexpr size_t kMostAnswers = 4 * PathProber::kMostProbes;

/// Below this no path is looked for, in bytes: what every host takes (RFC 1122 section 3.3.2), and
/// what every link of IPv6 carries (RFC 8200 section 5).
constexpr uint16_t least_for(const Address& peer) noexcept {
  return peer.is_ipv4() ? 576 : 1280;
}

uint64_t random_number() noexcept {
  uint64_t number = 0;
  // So few bytes come whole (getrandom(2)).
  [[maybe_unused]] const ssize_t n = ::getrandom(&number, sizeof number, 0);
  return number;
}

}  // namespace

PathProber::PathProber() : datagram_(UINT16_MAX) {}

void PathProber::bind_to(const Address& address) {
  if (fd_.valid() && bound_ == address) return;
  fd_ = open_udp_prober(address);
  bound_ = address;
}

/// An answer counts that comes from where its probe went to, and repeats what only the two know.
void PathProber::take_answers(const PeerSlots& slots) noexcept {
  for (size_t i = 0; i < kMostAnswers; i++) {
    std::array<uint8_t, ProbeHeader::kBytes + 1> bytes;
    SocketAddress from;
    const ssize_t n =
        ::recvfrom(fd_.get(), bytes.data(), bytes.size(), 0, from.get(), &from.length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    const auto reply = ProbeHeader::read(std::span(bytes).first(static_cast<size_t>(n)));
    if (n != ProbeHeader::kBytes || !reply || reply->kind != ProbeHeader::Kind::reply) continue;
    const NextHop peer{from.address(), from.port()};
    const uint32_t slot = slots.find(peer);
    if (slot >= states_.size() || !states_[slot] || states_[slot]->nonce != reply->nonce) continue;
    const size_t size = reply->length + outer_headers(peer.address);
    if (size <= UINT16_MAX) states_[slot]->search.acknowledge(static_cast<uint16_t>(size));
  }
}

/// Sends the probes that are due to one peer; how many.
size_t PathProber::probe(Time now, const Peer& peer, size_t link_mtu, uint64_t packets) noexcept {
  const uint16_t least = least_for(peer.address);
  if (link_mtu <= least) return 0;
  auto& state = states_[peer.slot];
  if (!state) state.emplace(State{.search = ProbeSearch(least), .packets = packets});
  if (std::exchange(state->packets, packets) != packets) state->last_packet = now;
  const bool busy = state->last_packet != Time{} && now - state->last_packet < kBusyFor;
  const auto link = static_cast<uint16_t>(std::min<size_t>(link_mtu, UINT16_MAX));
  const std::span<const uint16_t> sizes = state->search.plan(now, link, busy);
  if (std::exchange(state->round, state->search.round()) != state->search.round()) {
    state->nonce = random_number();
  }
  for (const uint16_t size : sizes) send(peer, size, state->nonce);
  return sizes.size();
}

/// What cannot be sent has got no answer, which says all that there is to say.
void PathProber::send(const Peer& to, uint16_t size, uint64_t nonce) noexcept {
  const auto length = static_cast<uint16_t>(size - outer_headers(to.address));
  const std::span<uint8_t> datagram = std::span(datagram_).first(length);
  ProbeHeader{ProbeHeader::Kind::probe, length, nonce}.write(datagram.first<ProbeHeader::kBytes>());
  const SocketAddress address = to.to_sockaddr();
  ssize_t n = 0;
  do {
    n = ::sendto(fd_.get(), datagram.data(), datagram.size(), 0, address.get(), address.length);
  } while (n < 0 && errno == EINTR);
}

}  // namespace flannel
