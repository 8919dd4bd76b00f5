// A network namespace of the test's own, with a real TUN device in it, and numbered packets both
// ways through the dataplane.
#pragma once

#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "address.h"
#include "netlink.h"
#include "packets.h"
#include "syscalls.h"

namespace flannel::test {

/// Waits for a condition; false where it has not come true in time.
template <typename Condition>
bool eventually(Condition condition,
                std::chrono::milliseconds patience = std::chrono::seconds(30)) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// Runs `body` on a thread in a network namespace of its own, which the threads it starts are in,
/// too. False where that takes rights or a driver that this process lacks.
inline bool in_namespace(const std::function<void()>& body) {
  if (::access("/dev/net/tun", R_OK | W_OK) != 0) return false;
  bool entered = false;
  std::thread([&] {
    entered = ::unshare(CLONE_NEWNET) == 0;
    if (entered) body();
  }).join();
  return entered;
}

inline void configure_link(const std::string& name, uint32_t address, uint32_t mask) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  const auto set_address = [&](unsigned long call, uint32_t value) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(value);
    std::memcpy(&request.ifr_addr, &in, sizeof in);
    ASSERT_EQ(::ioctl(fd.get(), call, &request), 0) << std::strerror(errno);
  };
  if (address != 0) {
    set_address(SIOCSIFADDR, address);
    set_address(SIOCSIFNETMASK, mask);
  }
  request.ifr_flags = IFF_UP;
  ASSERT_EQ(::ioctl(fd.get(), SIOCSIFFLAGS, &request), 0) << std::strerror(errno);
}

/// Packets that may wait in each queue of a device; to be set before traffic.
inline void set_queue_length(const std::string& name, int packets) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_qlen = packets;
  ASSERT_EQ(::ioctl(fd.get(), SIOCSIFTXQLEN, &request), 0) << std::strerror(errno);
}

inline bool link_exists(const std::string& name) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  return ::ioctl(fd.get(), SIOCGIFINDEX, &request) == 0;
}

inline void delete_link(const std::string& name) {
  struct {
    nlmsghdr header;
    ifinfomsg link;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_DELLINK;
  request.link.ifi_index = static_cast<int>(::if_nametoindex(name.c_str()));
  NetlinkSocket netlink;
  netlink.request({reinterpret_cast<const uint8_t*>(&request), sizeof request});
}

inline UniqueFd udp_at(const Address& address, uint16_t port) {
  const SocketAddress local = SocketAddress::of(address, htons(port));
  UniqueFd fd(::socket(local.get()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int bytes = 8 << 20;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  EXPECT_EQ(::bind(fd.get(), local.get(), local.length), 0) << std::strerror(errno);
  return fd;
}
inline UniqueFd udp_at(uint32_t address, uint16_t port) {
  return udp_at(Address::of_ipv4(address), port);
}

/// Numbered datagrams from one socket that should arrive at another, 10,000 a second. What a busy
/// machine kept it from sending is left out: all at once, it would be more than a queue holds.
class Probe {
 public:
  /// `number_at`: where the number stands in what is sent, with its complement beside it, so that a
  /// checksum of the packet holds for all numbers; and `number_arrives_at`: in what arrives.
  Probe(int from, int to, const SocketAddress& destination, std::vector<uint8_t> packet,
        size_t number_at, size_t number_arrives_at)
      : from_(from),
        to_(to),
        destination_(destination),
        packet_(std::move(packet)),
        number_at_(number_at),
        number_arrives_at_(number_arrives_at),
        sender_([this] { send(); }),
        receiver_([this] { receive(); }) {}
  ~Probe() { finish(); }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  void redirect(uint16_t port) { port_ = port; }
  [[nodiscard]] uint64_t sent() const { return sent_; }
  [[nodiscard]] uint64_t received() const { return received_; }
  [[nodiscard]] uint64_t out_of_order() const { return out_of_order_; }

  /// Stops sending, and waits for what is on its way.
  void finish() {
    if (!sender_.joinable()) return;
    sending_ = false;
    sender_.join();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (received_ < sent_ && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    receiving_ = false;
    receiver_.join();
  }

 private:
  static constexpr int kBurst = 10;

  void send() {
    auto next = std::chrono::steady_clock::now();
    while (sending_) {
      for (int i = 0; i < kBurst; i++) {
        const uint32_t number = static_cast<uint32_t>(sent_);
        const std::array<uint32_t, 2> balanced{number, ~number};
        std::memcpy(packet_.data() + number_at_, balanced.data(), sizeof balanced);
        const SocketAddress to =
            port_ == 0 ? destination_ : SocketAddress::of(destination_.address(), htons(port_));
        const ssize_t n = ::sendto(from_, packet_.data(), packet_.size(), 0, to.get(), to.length);
        if (n > 0) sent_++;
      }
      next = std::max(next + std::chrono::milliseconds(1),
                      std::chrono::steady_clock::now() - std::chrono::milliseconds(5));
      std::this_thread::sleep_until(next);
    }
  }

  void receive() {
    const timeval patience{0, 20'000};
    ::setsockopt(to_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    uint32_t expected = 0;
    while (receiving_) {
      std::array<uint8_t, 2048> buffer{};
      const ssize_t n = ::recv(to_, buffer.data(), buffer.size(), 0);
      if (n < static_cast<ssize_t>(number_arrives_at_ + sizeof expected)) continue;
      uint32_t number = 0;
      std::memcpy(&number, buffer.data() + number_arrives_at_, sizeof number);
      if (number != expected) out_of_order_++;
      expected = number + 1;
      received_++;
    }
  }

  int from_;
  int to_;
  SocketAddress destination_;
  std::vector<uint8_t> packet_;
  size_t number_at_;
  size_t number_arrives_at_;
  std::atomic<uint16_t> port_{0};
  std::atomic<bool> sending_{true};
  std::atomic<bool> receiving_{true};
  std::atomic<uint64_t> sent_{0};
  std::atomic<uint64_t> received_{0};
  std::atomic<uint64_t> out_of_order_{0};
  std::thread sender_;
  std::thread receiver_;
};

}  // namespace flannel::test
