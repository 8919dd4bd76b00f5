// A kernel that does what the test wrote down: what reads return, and which sends fail with what.
#pragma once

#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "packets.h"
#include "syscalls.h"

namespace flannel::test {

class ScriptedKernel : public Syscalls {
 public:
  static constexpr int kTun = 100;
  static constexpr int kUdp = 101;
  static constexpr int kIcmp = 102;
  static constexpr int kIcmpv6 = 103;

  struct Sent {
    Bytes payload;
    SocketAddress to;
  };

  std::deque<Bytes> tun_in;  // what read(kTun) returns, then read_error
  std::deque<Bytes> udp_in;  // what receives return, then receive_error
  std::vector<Bytes> tun_out;
  std::vector<Sent> udp_out;
  std::vector<Sent> icmp_out;
  int read_error = EAGAIN;
  int receive_error = EAGAIN;
  int write_error = 0;
  int icmp_error = 0;
  int send_calls = 0;
  /// Outcome of the n-th attempt to send a datagram: 0 or an errno. Default: all succeed.
  std::function<int(const Bytes&)> send_outcome = [](const Bytes&) { return 0; };
  /// Outcome of a run sent with UDP_SEGMENT: 0 or an errno; with its bytes and the size of a
  /// datagram.
  std::function<int(const Bytes&, size_t)> run_outcome = [](const Bytes&, size_t) { return 0; };
  std::vector<size_t> runs;  // how many datagrams each run held
  /// Where all that is received comes from.
  SocketAddress udp_from = SocketAddress::of(Address::of_ipv4(ip(192, 168, 77, 2)), htons(8285));
  int gro_size = 0;  // UDP_GRO's word about every received message
  /// Outcome of a write, by all its bytes: 0 or an errno.
  std::function<int(const Bytes&)> write_outcome = [this](const Bytes&) { return write_error; };
  /// Outcome of the n-th attempt to read a packet, or to receive a message: 0 or an errno, and then
  /// what was to come stays.
  std::function<int()> read_outcome = [] { return 0; };
  std::function<int()> receive_outcome = [] { return 0; };
  /// sendmmsg takes, and recvmmsg brings, at most this many a call.
  unsigned send_most = 1024;
  unsigned receive_most = 1024;
  /// Errno of every recvmmsg and sendmmsg, or 0: a kernel without them says ENOSYS.
  int recvmmsg_error = 0;
  int sendmmsg_error = 0;

  ssize_t read(int /*fd*/, void* buffer, size_t size) noexcept override {
    const int error = read_outcome();
    return error != 0 ? -error : take(tun_in, read_error, buffer, size);
  }
  ssize_t write(int /*fd*/, const void* buffer, size_t size) noexcept override {
    Bytes bytes = copy(buffer, size);
    const int error = write_outcome(bytes);
    if (error != 0) return -error;
    tun_out.push_back(std::move(bytes));
    return static_cast<ssize_t>(size);
  }
  ssize_t writev(int fd, const iovec* pieces, int count) noexcept override {
    Bytes whole;
    for (int i = 0; i < count; i++) {
      const Bytes piece = copy(pieces[i].iov_base, pieces[i].iov_len);
      whole.insert(whole.end(), piece.begin(), piece.end());
    }
    return write(fd, whole.data(), whole.size());
  }
  ssize_t sendto(int fd, const void* buffer, size_t size,
                 const SocketAddress& to) noexcept override {
    if (fd == kIcmp || fd == kIcmpv6) {
      if (icmp_error != 0) return -icmp_error;
      if (to.address().is_ipv4() != (fd == kIcmp)) return -EAFNOSUPPORT;
      icmp_out.push_back({copy(buffer, size), to});
      return static_cast<ssize_t>(size);
    }
    send_calls++;
    return send(copy(buffer, size), to);
  }
  ssize_t recvfrom(int /*fd*/, void* buffer, size_t size, SocketAddress& from) noexcept override {
    from = udp_from;
    return receive_bytes(buffer, size);
  }
  ssize_t recvmsg(int /*fd*/, msghdr& message) noexcept override {
    return receive_message(message);
  }
  ssize_t sendmsg(int /*fd*/, const msghdr& message) noexcept override {
    send_calls++;
    return send_message(message);
  }
  int recvmmsg(int /*fd*/, mmsghdr* messages, unsigned count) noexcept override {
    if (recvmmsg_error != 0) return -recvmmsg_error;
    unsigned n = 0;
    for (; n < count && n < receive_most; n++) {
      const ssize_t size = receive_message(messages[n].msg_hdr);
      if (size < 0) {
        // As the kernel: after the first message, an error is kept for the next call, unless it is
        // only that nothing is left.
        if (n == 0) return static_cast<int>(size);
        if (size != -EAGAIN) unreported_receive_ = static_cast<int>(-size);
        break;
      }
      messages[n].msg_len = static_cast<unsigned>(size);
    }
    return static_cast<int>(n);
  }
  int sendmmsg(int /*fd*/, mmsghdr* messages, unsigned count) noexcept override {
    if (sendmmsg_error != 0) return -sendmmsg_error;
    if (count == 0) return 0;
    send_calls++;
    unsigned n = 0;
    for (; n < count && n < send_most; n++) {
      const ssize_t sent = send_message(messages[n].msg_hdr);
      if (sent >= 0) continue;
      // As the kernel: an error is reported only when it is the first entry's, so it shows on the
      // next call.
      if (n == 0) return static_cast<int>(sent);
      unreported_ = static_cast<int>(-sent);
      break;
    }
    return static_cast<int>(n);
  }

 private:
  static Bytes copy(const void* buffer, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(buffer);
    return {bytes, bytes + size};
  }
  static ssize_t take(std::deque<Bytes>& from, int error, void* buffer, size_t size) {
    if (from.empty()) return -error;
    const Bytes packet = std::move(from.front());
    from.pop_front();
    std::copy_n(packet.begin(), std::min(size, packet.size()), static_cast<uint8_t*>(buffer));
    return static_cast<ssize_t>(packet.size());
  }
  static void put_control(msghdr& header, int type, int value) {
    cmsghdr* control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = IPPROTO_UDP;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(control), &value, sizeof value);
    header.msg_controllen = CMSG_SPACE(sizeof value);
  }
  ssize_t receive_bytes(void* buffer, size_t size) {
    const int unreported = std::exchange(unreported_receive_, 0);
    const int error = unreported != 0 ? unreported : receive_outcome();
    return error != 0 ? -error : take(udp_in, receive_error, buffer, size);
  }
  ssize_t receive_message(msghdr& header) {
    const ssize_t n = receive_bytes(header.msg_iov->iov_base, header.msg_iov->iov_len);
    if (n < 0) return n;
    std::memcpy(header.msg_name, udp_from.get(), udp_from.length);
    header.msg_namelen = udp_from.length;
    if (gro_size > 0) {
      put_control(header, UDP_GRO, gro_size);
    } else {
      header.msg_controllen = 0;
    }
    return n;
  }
  static size_t segment_size(const msghdr& header) {
    uint16_t size = 0;
    if (header.msg_control != nullptr) {
      std::memcpy(&size, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof size);
    }
    return size;
  }
  ssize_t send_message(const msghdr& header) {
    Bytes bytes;
    for (size_t i = 0; i < header.msg_iovlen; i++) {
      const Bytes piece = copy(header.msg_iov[i].iov_base, header.msg_iov[i].iov_len);
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    SocketAddress to;
    std::memcpy(to.get(), header.msg_name, header.msg_namelen);
    to.length = header.msg_namelen;
    const size_t size = segment_size(header);
    if (size == 0) return send(std::move(bytes), to);
    const int unreported = std::exchange(unreported_, 0);
    const int error = unreported != 0 ? unreported : run_outcome(bytes, size);
    if (error != 0) return -error;
    runs.push_back((bytes.size() + size - 1) / size);
    for (size_t at = 0; at < bytes.size(); at += size) {
      const auto first = bytes.begin() + static_cast<ptrdiff_t>(at);
      const auto last = bytes.begin() + static_cast<ptrdiff_t>(std::min(at + size, bytes.size()));
      udp_out.push_back({{first, last}, to});
    }
    return static_cast<ssize_t>(bytes.size());
  }
  ssize_t send(Bytes payload, const SocketAddress& to) {
    const int unreported = std::exchange(unreported_, 0);
    const int error = unreported != 0 ? unreported : send_outcome(payload);
    if (error != 0) return -error;
    const auto size = static_cast<ssize_t>(payload.size());
    udp_out.push_back({std::move(payload), to});
    return size;
  }

  int unreported_ = 0;
  int unreported_receive_ = 0;
};

}  // namespace flannel::test
