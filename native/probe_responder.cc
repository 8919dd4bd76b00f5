#include "probe_responder.h"

#include <array>

namespace flannel {

size_t ProbeResponder::take(const ReceiveBatch::Datagram& row, bool from_peer) noexcept {
  const NextHop to{row.source, row.source_port};
  size_t count = 0;
  for (std::span<const uint8_t> rest = row.payload; !rest.empty(); count++) {
    const size_t size = std::min(row.segment_size, rest.size());
    const bool answered = from_peer && answer(rest.first(size), to);
    counters_.add(answered ? Counter::decap_probes_answered : Counter::decap_probes_unanswered);
    rest = rest.subspan(size);
  }
  return count;
}

/// False where there is nothing to answer, or no answer has left.
bool ProbeResponder::answer(std::span<const uint8_t> datagram, const NextHop& to) noexcept {
  const auto probe = ProbeHeader::read(datagram);
  if (!probe || probe->kind != ProbeHeader::Kind::probe || !throttle_.take()) return false;
  const auto arrived = static_cast<uint16_t>(datagram.size());
  std::array<uint8_t, ProbeHeader::kBytes> reply;
  ProbeHeader{ProbeHeader::Kind::reply, arrived, probe->nonce}.write(reply);
  return udp_.send_one(reply, to) == 0;
}

}  // namespace flannel
