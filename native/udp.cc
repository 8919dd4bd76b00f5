#include "udp.h"

#include <linux/filter.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103  // linux/udp.h, since Linux 4.18
#endif
#ifndef UDP_GRO
#define UDP_GRO 104  // since Linux 5.0
#endif

namespace flannel {
namespace {

/// Which counter a packet ends in when its send failed with `error`.
Counter send_fault(int error) noexcept {
  switch (error) {
    case EMSGSIZE:
      return Counter::encap_too_big;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
      return Counter::encap_unreachable;
    case EPERM:
    case EACCES:
      return Counter::encap_refused;
    case ENOBUFS:
    case ENOMEM:
      return Counter::encap_no_buffer;
    default:
      return Counter::encap_send_error;
  }
}

void set_option(int fd, int level, int option, int value, const char* name) {
  if (::setsockopt(fd, level, option, &value, sizeof value) < 0) throw SystemError(errno, name);
}

void set_buffer(int fd, int force, int option, int bytes, const char* name) {
  if (bytes == 0) return;
  // FORCE goes beyond net.core.rmem_max and wmem_max, but needs CAP_NET_ADMIN.
  if (::setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) == 0) return;
  set_option(fd, SOL_SOCKET, option, bytes, name);
}

UniqueFd new_socket(const Address& address) {
  const int family = address.is_ipv4() ? AF_INET : AF_INET6;
  UniqueFd fd(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
  if (!fd.valid()) throw SystemError(errno, "socket");
  if (family == AF_INET) return fd;
  // The IPv4 port of the same number is somebody else's.
  set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
  // As with IPv4 by default: the kernel keeps to the path MTUs that it learns, by cutting what is
  // larger.
  set_option(fd.get(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT, "IPV6_MTU_DISCOVER");
  return fd;
}

void bind_to(int fd, const Address& address, uint16_t port) {
  const SocketAddress local = SocketAddress::of(address, htons(port));
  if (::bind(fd, local.get(), local.length) < 0) throw SystemError(errno, "bind");
}

/// Bytes for the probes of a second, which leave at once.
constexpr int kProberBuffer = 1 << 20;

/// In place of the errno of a refused run, once it has been learned from.
constexpr int kLearned = -1;
/// Runs refused without one that passed in between, after which none is tried any more.
constexpr unsigned kMostRefused = 1000;

/// Whether the kernel refused a run for being one, so that its datagrams may pass singly.
bool refuses_run(int error) noexcept {
  switch (error) {
    case EMSGSIZE:  // a datagram is beyond the path's MTU: singly they are fragmented or refused
                    // one by one
    case EINVAL:    // too many datagrams for this kernel
    case EIO:       // before Linux 6.11 and on a device without checksum offload
    case EOPNOTSUPP:
      return true;
    default:
      return false;
  }
}

/// The size of the datagrams in a message, from its UDP_GRO control message; `length` where there
/// is none.
size_t segment_size_of(msghdr& header, size_t length) noexcept {
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
       control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_GRO) continue;
    int size = 0;
    std::memcpy(&size, CMSG_DATA(control), sizeof size);
    if (size > 0) return static_cast<size_t>(size);
  }
  return length;
}

}  // namespace

UniqueFd open_udp(const Address& address, uint16_t port, const SocketBuffers& buffers,
                  bool reuse_port) {
  UniqueFd fd = new_socket(address);
  set_buffer(fd.get(), SO_RCVBUFFORCE, SO_RCVBUF, buffers.receive, "SO_RCVBUF");
  set_buffer(fd.get(), SO_SNDBUFFORCE, SO_SNDBUF, buffers.send, "SO_SNDBUF");
  // Only for several queues: without it the kernel itself refuses a second daemon on the port.
  if (reuse_port) set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  bind_to(fd.get(), address, port);
  return fd;
}

UniqueFd open_udp_sender(const Address& address, int send_buffer) {
  UniqueFd fd = new_socket(address);
  set_buffer(fd.get(), SO_SNDBUFFORCE, SO_SNDBUF, send_buffer, "SO_SNDBUF");
  // Nobody reads here, so nothing may pile up: a program for every packet that keeps 0 bytes of it
  // (linux/filter.h).
  sock_filter keep_nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program{1, &keep_nothing};
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) {
    throw SystemError(errno, "SO_ATTACH_FILTER");
  }
  bind_to(fd.get(), address, 0);
  return fd;
}

UniqueFd open_udp_prober(const Address& address) {
  UniqueFd fd = new_socket(address);
  if (address.is_ipv4()) {
    set_option(fd.get(), IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, "IP_MTU_DISCOVER");
  } else {
    set_option(fd.get(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER");
  }
  set_buffer(fd.get(), SO_SNDBUFFORCE, SO_SNDBUF, kProberBuffer, "SO_SNDBUF");
  bind_to(fd.get(), address, 0);
  return fd;
}

FeatureSet enable_udp_offloads(int fd, FeatureSet wanted) noexcept {
  FeatureSet has = wanted;
  // Zero turns it off, and is refused where it is unknown.
  const int zero = 0;
  if (::setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &zero, sizeof zero) < 0) has.remove(Feature::gso);
  const int gro = wanted.has(Feature::gro) ? 1 : 0;
  if (::setsockopt(fd, IPPROTO_UDP, UDP_GRO, &gro, sizeof gro) < 0) has.remove(Feature::gro);
  return has;
}

bool has_batch_calls(int fd, Syscalls& syscalls) noexcept {
  // ENOSYS is an old kernel's answer, EPERM that of a container's seccomp profile.
  const auto is_there = [](int result) { return result != -ENOSYS && result != -EPERM; };
  return is_there(syscalls.recvmmsg(fd, nullptr, 0)) && is_there(syscalls.sendmmsg(fd, nullptr, 0));
}

ReceiveBatch::ReceiveBatch(PacketPool& pool)
    : pool_(pool),
      messages_(pool.slots()),
      payloads_(pool.slots()),
      controls_(pool.slots()),
      sources_(pool.slots()) {
  for (size_t i = 0; i < pool.slots(); i++) {
    payloads_[i] = {pool.slot(i).data(), pool.slot(i).size()};
    messages_[i].msg_hdr.msg_iov = &payloads_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
    messages_[i].msg_hdr.msg_control = controls_[i].bytes.data();
    messages_[i].msg_hdr.msg_name = sources_[i].get();
  }
  datagrams_.reserve(pool.slots());
}

/// The kernel writes the lengths of what it put there over those of the room.
std::span<mmsghdr> ReceiveBatch::prepare(size_t most) noexcept {
  const auto messages = std::span(messages_).first(most);
  for (mmsghdr& message : messages) {
    message.msg_hdr.msg_controllen = sizeof(Control);
    message.msg_hdr.msg_namelen = sizeof(sockaddr_in6);
  }
  return messages;
}

inline void ReceiveBatch::take(size_t slot, size_t length, size_t segment_size) noexcept {
  const auto buffer = pool_.slot(slot);
  // Field by field: a temporary would be copied from the stack by loads wider than its stores.
  Datagram& datagram = datagrams_.emplace_back();
  datagram.payload = buffer.first(std::min(length, buffer.size()));
  datagram.segment_size = segment_size;
  datagram.truncated = length > buffer.size();
  datagram.source = sources_[slot].address();
  datagram.source_port = sources_[slot].port();
}

ReadResult UdpSocket::receive(ReceiveBatch& batch) noexcept {
  batch.datagrams_.clear();
  const auto messages = batch.prepare(batched_ ? batch.messages_.size() : 1);
  int n = 0;
  do {
    n = receive_some(batch, messages);
  } while (n == -EINTR);
  if (n < 0) return {0, -n};
  const auto result = static_cast<size_t>(n);
  for (size_t i = 0; i < result; i++) {
    batch.take(i, messages[i].msg_len, segment_size_of(messages[i].msg_hdr, messages[i].msg_len));
  }
  // A batch that is not full emptied the socket; poll tells when there is more.
  return {result, result < messages.size() ? EAGAIN : 0};
}

/// One system call: how many of the messages it filled, or the negated errno. Without batches it is
/// one that every kernel has, and the plainest that tells all: a message header costs the kernel a
/// copy. As in send_some.
int UdpSocket::receive_some(ReceiveBatch& batch, std::span<mmsghdr> messages) noexcept {
  if (batched_) {
    return syscalls_->recvmmsg(fd_, messages.data(), static_cast<unsigned>(messages.size()));
  }
  mmsghdr& message = messages.front();
  msghdr& header = message.msg_hdr;
  if (!rows_) header.msg_controllen = 0;
  const iovec& room = *header.msg_iov;
  const ssize_t n = rows_
                        ? syscalls_->recvmsg(fd_, header)
                        : syscalls_->recvfrom(fd_, room.iov_base, room.iov_len, batch.sources_[0]);
  if (n < 0) return static_cast<int>(n);
  message.msg_len = static_cast<unsigned>(n);
  return 1;
}

bool UdpSocket::send(SendBatch& batch, Counters& counters) noexcept {
  while (!batch.empty()) {
    SendBatch::Entry& entry = batch.entries_[batch.first_];
    if (entry.refusal != 0) {
      if (!send_singly(entry, counters)) return false;
      batch.first_++;
      continue;
    }
    const int n = send_some(batch);
    counters.add(Counter::encap_send_calls);
    if (n > 0) {
      accepted(batch, static_cast<size_t>(n), counters);
      continue;
    }
    const int error = n == 0 ? EIO : -n;
    if (error == EINTR) continue;
    if (error == EAGAIN) {
      counters.add(Counter::encap_blocked);
      return false;
    }
    if (entry.segments > 1 && refuses_run(error)) {
      entry.refusal = error;
      continue;
    }
    counters.add(send_fault(error), entry.segments);
    batch.first_++;
  }
  batch.clear();
  return true;
}

/// The kernel has taken the first `entries` without an outcome.
void UdpSocket::accepted(SendBatch& batch, size_t entries, Counters& counters) noexcept {
  size_t packets = 0;
  for (const size_t end = batch.first_ + entries; batch.first_ < end; batch.first_++) {
    const SendBatch::Entry& entry = batch.entries_[batch.first_];
    counters.add(Counter::encap_bytes, entry.bytes);
    counters.traffic.add(entry.slot, entry.segments, entry.bytes);
    packets += entry.segments;
    if (entry.segments > 1) refused_in_a_row_ = 0;
  }
  counters.add(Counter::encap_packets_out, packets);
  counters.record(Histogram::encap_call_packets, packets);
}

/// One system call from the first entry without an outcome on: how many entries it sent, or the
/// negated errno. A datagram on its own takes the plainest call, since a message header costs the
/// kernel a copy: under light load most are.
int UdpSocket::send_some(SendBatch& batch) noexcept {
  const SendBatch::Entry& entry = batch.entries_[batch.first_];
  const bool last = batch.first_ + 1 == batch.count_;
  if (batched_ && !last) {
    const auto messages = batch.messages(SendBatch::kMaxEntries);
    return syscalls_->sendmmsg(fd_, messages.data(), static_cast<unsigned>(messages.size()));
  }
  const bool plain = entry.pieces == 1 && entry.segments == 1;
  const iovec& payload = entry.iov[0];
  const ssize_t n = plain ? syscalls_->sendto(fd_, payload.iov_base, payload.iov_len, entry.name)
                          : syscalls_->sendmsg(fd_, batch.messages(1).front().msg_hdr);
  return n < 0 ? static_cast<int>(n) : 1;
}

/// The datagrams of a refused run, from the first without an outcome on; false when the socket is
/// full.
bool UdpSocket::send_singly(SendBatch::Entry& entry, Counters& counters) noexcept {
  for (; entry.done < entry.segments; entry.done++) {
    msghdr message{};
    message.msg_name = entry.name.get();
    message.msg_namelen = entry.name.length;
    message.msg_iov = &entry.iov[entry.done * entry.pieces];
    message.msg_iovlen = entry.pieces;
    ssize_t n = 0;
    do {
      n = syscalls_->sendmsg(fd_, message);
      counters.add(Counter::encap_send_calls);
    } while (n == -EINTR);
    if (n == -EAGAIN) {
      counters.add(Counter::encap_blocked);
      return false;
    }
    if (n < 0) {
      counters.add(send_fault(static_cast<int>(-n)));
      continue;
    }
    learn(entry);
    const size_t before = entry.done * entry.segment_size;
    const size_t bytes = std::min(entry.segment_size, entry.bytes - before);
    counters.add(Counter::encap_packets_out);
    counters.add(Counter::encap_bytes, bytes);
    counters.traffic.add(entry.slot, 1, bytes);
    counters.record(Histogram::encap_call_packets, 1);
  }
  return true;
}

/// What a refused run teaches once a datagram of it has passed singly: before that, it may have
/// been the peer's route that was refused.
void UdpSocket::learn(SendBatch::Entry& entry) noexcept {
  const int error = std::exchange(entry.refusal, kLearned);
  if (error == kLearned) return;
  if (error == EIO || error == EOPNOTSUPP) return features_->remove(Feature::gso);
  if (error == EINVAL && entry.segments > SendBatch::kMaxSegmentsBefore69) {
    segments_limit_ = SendBatch::kMaxSegmentsBefore69;
    return;
  }
  // A datagram beyond the MTU of one peer's path (EMSGSIZE; EINVAL before Linux 6.14) says nothing
  // about the others. Where no run at all passes, it does.
  if (++refused_in_a_row_ == kMostRefused) features_->remove(Feature::gso);
}

int UdpSocket::send_one(std::span<const uint8_t> packet, const NextHop& to) noexcept {
  ssize_t n = 0;
  do {
    n = syscalls_->sendto(fd_, packet.data(), packet.size(), to.to_sockaddr());
  } while (n == -EINTR);
  return n < 0 ? static_cast<int>(-n) : 0;
}

}  // namespace flannel
