#include "send_batch.h"

#include <netinet/udp.h>

#include <algorithm>
#include <cstring>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103  // linux/udp.h, since Linux 4.18
#endif

namespace flannel {

static_assert(SendBatch::kMaxEntries < UINT8_MAX, "entry numbers are kept in bytes");

SendBatch::SendBatch() : entries_(kMaxEntries) {}

void SendBatch::push(const Pieces& packet, const Peer& to, Order order,
                     size_t max_segments) noexcept {
  Entry* run = max_segments > 1 ? find_run(packet, to, order, max_segments) : nullptr;
  if (run == nullptr) run = &open_entry(packet, to);
  append(*run, packet);
  const auto number = static_cast<size_t>(run - entries_.data());
  last_entry_[order.flow % kFlows] = static_cast<uint8_t>(number + 1);
  if (order.barrier) barrier_ = number;
}

/// An open run that the packet may join: one of its size that still waits to be sent, not before
/// the entry that holds its flow's last packet; else, as a shorter last one, the run of that last
/// packet itself.
SendBatch::Entry* SendBatch::find_run(const Pieces& packet, const NextHop& to, Order order,
                                      size_t max_segments) noexcept {
  const size_t last = last_entry_[order.flow % kFlows];
  size_t earliest = std::max({first_, barrier_, last > 0 ? last - 1 : 0});
  if (order.barrier && count_ > 0) earliest = std::max(earliest, count_ - 1);
  for (size_t i = open_count_; i-- > 0;) {
    const size_t number = open_runs_[i];
    Entry& entry = entries_[number];
    if (number < earliest || entry.segment_size != packet.size()) continue;
    if (fits(entry, packet, to, max_segments)) return &entry;
  }
  if (last == 0 || last - 1 < earliest) return nullptr;
  Entry& entry = entries_[last - 1];
  const bool shorter = packet.size() < entry.segment_size;
  return shorter && fits(entry, packet, to, max_segments) ? &entry : nullptr;
}

bool SendBatch::fits(const Entry& entry, const Pieces& packet, const NextHop& to,
                     size_t max_segments) noexcept {
  return entry.open && entry.segments < max_segments && entry.bytes + packet.size() <= kMaxBytes &&
         entry.to == to && entry.pieces == (packet.header.empty() ? 1 : 2);
}

void SendBatch::append(Entry& entry, const Pieces& packet) noexcept {
  size_t at = entry.segments * entry.pieces;
  // The kernel only reads what sendmmsg points to, though iovec cannot say so.
  const auto put = [&](std::span<const uint8_t> bytes) {
    entry.iov[at++] = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  };
  if (!packet.header.empty()) put(packet.header);
  put(packet.payload);
  entry.segments++;
  entry.bytes += packet.size();
  if (packet.size() < entry.segment_size) entry.open = false;
}

SendBatch::Entry& SendBatch::open_entry(const Pieces& packet, const Peer& to) noexcept {
  Entry& entry = entries_[count_];
  entry.to = static_cast<const NextHop&>(to);
  entry.name.set(to.address, to.port);
  entry.slot = to.slot;
  entry.segment_size = packet.size();
  entry.bytes = 0;
  entry.segments = 0;
  entry.pieces = packet.header.empty() ? 1 : 2;
  entry.open = true;
  entry.refusal = 0;
  entry.done = 0;
  if (open_count_ == kOpenRuns) {
    // The oldest makes room: of all it is the least likely to be joined again.
    std::shift_left(open_runs_.begin(), open_runs_.end(), 1);
    open_count_--;
  }
  open_runs_[open_count_++] = static_cast<uint8_t>(count_++);
  return entry;
}

std::span<mmsghdr> SendBatch::messages(size_t most) noexcept {
  const size_t end = std::min(count_, first_ + most);
  for (size_t i = first_; i < end; i++) {
    Entry& entry = entries_[i];
    msghdr& header = messages_[i].msg_hdr;
    header = {};
    header.msg_name = entry.name.get();
    header.msg_namelen = entry.name.length;
    header.msg_iov = entry.iov.data();
    header.msg_iovlen = entry.segments * entry.pieces;
    if (entry.segments == 1) continue;
    header.msg_control = entry.control.data();
    header.msg_controllen = entry.control.size();
    cmsghdr* control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = IPPROTO_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const auto size = static_cast<uint16_t>(entry.segment_size);
    std::memcpy(CMSG_DATA(control), &size, sizeof size);
  }
  return {&messages_[first_], end - first_};
}

size_t SendBatch::pending() const noexcept {
  size_t datagrams = 0;
  for (size_t i = first_; i < count_; i++) datagrams += entries_[i].segments - entries_[i].done;
  return datagrams;
}

void SendBatch::clear() noexcept {
  first_ = count_ = open_count_ = barrier_ = 0;
  last_entry_.fill(0);
}

}  // namespace flannel
