#include "peers.h"

#include <algorithm>

namespace flannel {
namespace {

/// Freed slots that wait before one is given out again: a worker may still count what it has just
/// sent to the peer that had it.
constexpr size_t kResting = 1024;

/// Every module must be able to forward so much of IPv4 without fragmenting it (RFC 791 section
/// 3.2), so nobody is told less.
constexpr size_t kLeastMtu = 68;

}  // namespace

void PeerSlots::add(const NextHop& next_hop, bool answers_probes) {
  const auto [at, is_new] = holdings_.try_emplace(next_hop, Holding{Peer::kNone, 0});
  if (is_new) {
    const uint32_t slot = free_slot();
    at->second.slot = slot;
    peers_[slot] = {next_hop, slot};
    update(next_hop.address, slot, +1);
    new_.push_back(slot);
  }
  peers_[at->second.slot].answers_probes = answers_probes;
  at->second.routes++;
}

void PeerSlots::drop(const NextHop& next_hop) noexcept {
  const auto at = holdings_.find(next_hop);
  if (--at->second.routes == 0) dropped_.push_back(next_hop);
}

void PeerSlots::settle() {
  for (const NextHop& next_hop : dropped_) {
    const auto at = holdings_.find(next_hop);
    if (at == holdings_.end() || at->second.routes > 0) continue;
    const uint32_t slot = at->second.slot;
    update(next_hop.address, slot, -1);
    peers_[slot] = {};
    free_.push_back(slot);
    holdings_.erase(at);
  }
  dropped_.clear();
}

bool PeerSlots::set_path_mtu(uint32_t slot, size_t bytes) noexcept {
  uint16_t largest = Peer::kAnySize;
  if (bytes != 0 && bytes < Peer::kAnySize) {
    const size_t headers = outer_headers(peers_[slot].address);
    largest = static_cast<uint16_t>(std::max(bytes, kLeastMtu + headers) - headers);
  }
  return std::exchange(peers_[slot].largest, largest) != largest;
}

uint32_t PeerSlots::find(const NextHop& next_hop) const noexcept {
  const auto at = holdings_.find(next_hop);
  return at == holdings_.end() ? Peer::kNone : at->second.slot;
}

/// One peer more or less at an address.
void PeerSlots::update(const Address& address, uint32_t slot, int difference) {
  const auto at = neighbours_.try_emplace(address).first;
  Neighbours& all = at->second;
  all.peers += static_cast<size_t>(difference);
  all.slots ^= slot;
  if (all.peers > 0) {
    addresses_.set(address, all.peers == 1 ? all.slots : Peer::kShared);
  } else {
    addresses_.remove(address);
    neighbours_.erase(at);
  }
}

uint32_t PeerSlots::free_slot() {
  if (free_.size() <= kResting) {
    peers_.emplace_back();
    return static_cast<uint32_t>(peers_.size() - 1);
  }
  const uint32_t slot = free_.front();
  free_.pop_front();
  return slot;
}

}  // namespace flannel
