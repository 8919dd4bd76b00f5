#include "udp.h"

#include <algorithm>
#include <cerrno>

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

}  // namespace

UniqueFd open_udp(uint32_t address, uint16_t port, const SocketBuffers& buffers, bool reuse_port) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
  if (!fd.valid()) throw SystemError(errno, "socket");
  set_buffer(fd.get(), SO_RCVBUFFORCE, SO_RCVBUF, buffers.receive, "SO_RCVBUF");
  set_buffer(fd.get(), SO_SNDBUFFORCE, SO_SNDBUF, buffers.send, "SO_SNDBUF");
  // Only for several queues: without it the kernel itself refuses a second daemon on the port.
  if (reuse_port) set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  const sockaddr_in local = NextHop{htonl(address), htons(port)}.to_sockaddr();
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) < 0) {
    throw SystemError(errno, "bind");
  }
  return fd;
}

void SendBatch::push(std::span<uint8_t> packet, const NextHop& to) noexcept {
  payloads_[count_] = {packet.data(), packet.size()};
  peers_[count_] = to.to_sockaddr();
  msghdr& header = messages_[count_].msg_hdr;
  header = {};
  header.msg_name = &peers_[count_];
  header.msg_namelen = sizeof peers_[count_];
  header.msg_iov = &payloads_[count_];
  header.msg_iovlen = 1;
  count_++;
}

ReceiveBatch::ReceiveBatch(PacketPool& pool)
    : pool_(pool), messages_(pool.slots()), payloads_(pool.slots()) {
  for (size_t i = 0; i < pool.slots(); i++) {
    payloads_[i] = {pool.slot(i).data(), pool.slot(i).size()};
    messages_[i].msg_hdr.msg_iov = &payloads_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
  datagrams_.reserve(pool.slots());
}

void ReceiveBatch::take(size_t slot, size_t length) noexcept {
  const auto buffer = pool_.slot(slot);
  datagrams_.push_back({buffer.first(std::min(length, buffer.size())), length > buffer.size()});
}

ReadResult UdpSocket::receive(ReceiveBatch& batch) noexcept {
  batch.datagrams_.clear();
  ssize_t n = 0;
  do {
    if (batched_) {
      n = syscalls_.recvmmsg(fd_, batch.messages_.data(),
                             static_cast<unsigned>(batch.messages_.size()));
    } else {
      n = syscalls_.recv(fd_, batch.payloads_[0].iov_base, batch.payloads_[0].iov_len);
    }
  } while (n == -EINTR);
  if (n < 0) return {0, static_cast<int>(-n)};
  if (!batched_) {
    batch.take(0, static_cast<size_t>(n));
    return {1, 0};
  }
  const auto count = static_cast<size_t>(n);
  for (size_t i = 0; i < count; i++) batch.take(i, batch.messages_[i].msg_len);
  // A batch that is not full emptied the socket; epoll tells when there is more.
  return {count, count < batch.messages_.size() ? EAGAIN : 0};
}

bool UdpSocket::send(SendBatch& batch, Counters& counters) noexcept {
  while (!batch.empty()) {
    const int n = send_some(batch);
    counters.add(Counter::encap_send_calls);
    if (n > 0) {
      const size_t end = batch.first_ + static_cast<size_t>(n);
      for (; batch.first_ < end; batch.first_++) {
        counters.add(Counter::encap_packets_out);
        counters.add(Counter::encap_bytes, batch.payloads_[batch.first_].iov_len);
      }
      continue;
    }
    const int error = n == 0 ? EIO : -n;
    if (error == EINTR) continue;
    if (error == EAGAIN) {
      counters.add(Counter::encap_blocked);
      return false;
    }
    counters.add(send_fault(error));
    batch.first_++;
  }
  batch.clear();
  return true;
}

/// One system call from the first entry without an outcome on: how many it sent, or the negated
/// errno.
int UdpSocket::send_some(SendBatch& batch) noexcept {
  const size_t i = batch.first_;
  if (batched_) {
    return syscalls_.sendmmsg(fd_, &batch.messages_[i], static_cast<unsigned>(batch.pending()));
  }
  const iovec& payload = batch.payloads_[i];
  const ssize_t n = syscalls_.sendto(fd_, payload.iov_base, payload.iov_len, batch.peers_[i]);
  return n < 0 ? static_cast<int>(n) : 1;
}

int UdpSocket::send_one(std::span<const uint8_t> packet, const NextHop& to) noexcept {
  ssize_t n = 0;
  do {
    n = syscalls_.sendto(fd_, packet.data(), packet.size(), to.to_sockaddr());
  } while (n == -EINTR);
  return n < 0 ? static_cast<int>(-n) : 0;
}

}  // namespace flannel
