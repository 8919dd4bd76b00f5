#include "offer.h"

#include <algorithm>
#include <cerrno>

namespace flannel {
namespace {

constexpr size_t kDescriptorsAtOnce = 200;

}  // namespace

bool send_offer(Connection& candidate, const Claim& claim, const Connection& standby,
                const Estate& estate) {
  std::vector<int> descriptors{claim.lock.get(), claim.listener.get()};
  if (standby.valid()) descriptors.push_back(standby.fd());
  for (const auto& queue : estate.queues) {
    descriptors.push_back(queue.tun);
    descriptors.push_back(queue.udp);
    descriptors.insert(descriptors.end(), queue.senders.begin(), queue.senders.end());
  }
  Message message{.step = Step::offer,
                  .generation = claim.generation,
                  .stands_by = standby.valid(),
                  .descriptors = static_cast<uint32_t>(descriptors.size()),
                  .queues = static_cast<uint32_t>(estate.queues.size()),
                  .senders = static_cast<uint32_t>(estate.queues.front().senders.size()),
                  .features = estate.features.bits(),
                  .virtio = estate.virtio,
                  .bind_address = estate.bind_address.ipv4(),
                  .port = estate.port,
                  .tunnel_address = estate.tunnel_addresses.ipv4,
                  .source_check = static_cast<uint32_t>(estate.source_check),
                  .clamp_mtu = estate.clamp_mtu,
                  .probe_mtu = estate.probe_mtu,
                  .knows_ipv6 = true};
  std::ranges::copy(estate.bind_address.to_bytes(), message.outer_address);
  std::ranges::copy(estate.tunnel_addresses.ipv6.to_bytes(), message.tunnel_address_ipv6);
  const std::span<const int> all(descriptors);
  for (size_t done = 0; done < all.size();) {
    const size_t count = std::min(kDescriptorsAtOnce, all.size() - done);
    if (!candidate.send(message, all.subspan(done, count))) return false;
    message.step = Step::descriptors;
    done += count;
  }
  return true;
}

void take_offer(const Message& offer, std::vector<UniqueFd> descriptors, Claim& claim) {
  if (offer.queues > DataplaneOptions::kMostQueues ||
      offer.senders > DataplaneOptions::kMostSourcePorts) {
    throw SystemError(EPROTO, "offer");
  }
  const size_t each = size_t{2} + offer.senders;
  const size_t expected = 2 + (offer.stands_by != 0 ? 1 : 0) + offer.queues * each;
  if (offer.queues == 0 || descriptors.size() != expected) throw SystemError(EPROTO, "offer");
  size_t next = 0;
  claim.lock = std::move(descriptors[next++]);
  claim.listener = std::move(descriptors[next++]);
  if (offer.stands_by != 0) claim.standby = Connection(std::move(descriptors[next++]));
  const TunFacts tun = inspect_tun(descriptors[next].get());
  if (offer.source_check > static_cast<uint32_t>(SourceCheck::subnet)) {
    throw SystemError(EPROTO, "offer");
  }
  if (tun.virtio != (offer.virtio != 0)) throw SystemError(EPROTO, "offer");
  const bool ipv6 = offer.knows_ipv6 != 0;
  const auto bind_address =
      ipv6 ? Address::of_bytes(offer.outer_address) : Address::of_ipv4(offer.bind_address);
  const TunnelAddresses tunnel_addresses{
      offer.tunnel_address, ipv6 ? Address::of_bytes(offer.tunnel_address_ipv6) : Address{}};
  Inheritance inheritance{tun.name,
                          tun.multi_queue,
                          tun.virtio,
                          FeatureSet::of_bits(static_cast<uint8_t>(offer.features)),
                          bind_address,
                          static_cast<uint16_t>(offer.port),
                          tunnel_addresses,
                          static_cast<SourceCheck>(offer.source_check),
                          static_cast<uint16_t>(offer.clamp_mtu),
                          offer.probe_mtu != 0,
                          {}};
  for (uint32_t i = 0; i < offer.queues; i++) {
    Queue& queue = inheritance.queues.emplace_back();
    queue.tun = std::move(descriptors[next++]);
    queue.udp = std::move(descriptors[next++]);
    for (uint32_t j = 0; j < offer.senders; j++) {
      queue.senders.push_back(std::move(descriptors[next++]));
    }
  }
  claim.inheritance = std::move(inheritance);
}

}  // namespace flannel
