// A kernel that does what the test wrote down: what reads return, and which sends fail with what.
#pragma once

#include <algorithm>
#include <cerrno>
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

  struct Sent {
    Bytes payload;
    sockaddr_in to;
  };

  std::deque<Bytes> tun_in;  // what read(kTun) returns, then EAGAIN
  std::deque<Bytes> udp_in;  // what receives return, then EAGAIN
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
  /// sendmmsg takes at most this many a call.
  unsigned send_most = 1024;

  ssize_t read(int /*fd*/, void* buffer, size_t size) noexcept override {
    return take(tun_in, read_error, buffer, size);
  }
  ssize_t write(int /*fd*/, const void* buffer, size_t size) noexcept override {
    if (write_error != 0) return -write_error;
    tun_out.push_back(copy(buffer, size));
    return static_cast<ssize_t>(size);
  }
  ssize_t recv(int /*fd*/, void* buffer, size_t size) noexcept override {
    return take(udp_in, receive_error, buffer, size);
  }
  ssize_t sendto(int fd, const void* buffer, size_t size, const sockaddr_in& to) noexcept override {
    if (fd == kIcmp) {
      if (icmp_error != 0) return -icmp_error;
      icmp_out.push_back({copy(buffer, size), to});
      return static_cast<ssize_t>(size);
    }
    send_calls++;
    return send(copy(buffer, size), to);
  }
  int recvmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    unsigned n = 0;
    for (; n < count && !udp_in.empty(); n++) {
      const iovec& slot = *messages[n].msg_hdr.msg_iov;
      messages[n].msg_len = static_cast<unsigned>(recv(fd, slot.iov_base, slot.iov_len));
    }
    return n > 0 ? static_cast<int>(n) : -receive_error;
  }
  int sendmmsg(int /*fd*/, mmsghdr* messages, unsigned count) noexcept override {
    send_calls++;
    unsigned n = 0;
    for (; n < count && n < send_most; n++) {
      const msghdr& header = messages[n].msg_hdr;
      const ssize_t sent = send(copy(header.msg_iov->iov_base, header.msg_iov->iov_len),
                                *static_cast<const sockaddr_in*>(header.msg_name));
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
  ssize_t send(Bytes payload, const sockaddr_in& to) {
    const int unreported = std::exchange(unreported_, 0);
    const int error = unreported != 0 ? unreported : send_outcome(payload);
    if (error != 0) return -error;
    const auto size = static_cast<ssize_t>(payload.size());
    udp_out.push_back({std::move(payload), to});
    return size;
  }

  int unreported_ = 0;
};

}  // namespace flannel::test
