// The underlay side: one UDP socket, batched where the tier allows.
#pragma once

#include <array>
#include <vector>

#include "fib.h"
#include "packet.h"
#include "stats.h"
#include "syscalls.h"

namespace flannel {

/// Bytes that may wait in a socket, each way; 0 leaves the system's default.
struct SocketBuffers {
  int receive = 0;
  int send = 0;
};

/// Opens a non-blocking socket bound to `address:port` (host order). Its buffers go beyond
/// net.core.rmem_max and wmem_max where CAP_NET_ADMIN allows. Throws SystemError.
UniqueFd open_udp(uint32_t address, uint16_t port, const SocketBuffers& buffers, bool reuse_port);

/// Datagrams on their way out. Borrows the packets until the batch is empty again.
class SendBatch {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == count_; }
  [[nodiscard]] size_t pending() const noexcept { return count_ - first_; }
  void push(std::span<uint8_t> packet, const NextHop& to) noexcept;

 private:
  friend class UdpSocket;
  void clear() noexcept { first_ = count_ = 0; }

  std::array<mmsghdr, kBatchSize> messages_{};
  std::array<iovec, kBatchSize> payloads_{};
  std::array<sockaddr_in, kBatchSize> peers_{};
  size_t first_ = 0;  // the first entry that has no outcome yet
  size_t count_ = 0;
};

/// Datagrams on their way in: the message headers that recvmmsg fills, bound to the pool's slots.
class ReceiveBatch {
 public:
  explicit ReceiveBatch(PacketPool& pool);

  /// A received datagram. One that did not fit its slot is marked, so that nobody takes the part
  /// for the whole.
  struct Datagram {
    std::span<uint8_t> payload;
    bool truncated;
  };

  /// What the last receive brought; borrowed until the next one.
  [[nodiscard]] std::span<const Datagram> datagrams() const noexcept { return datagrams_; }

 private:
  friend class UdpSocket;
  void take(size_t slot, size_t length) noexcept;

  PacketPool& pool_;
  std::vector<mmsghdr> messages_;
  std::vector<iovec> payloads_;
  std::vector<Datagram> datagrams_;
};

/// One socket. Borrows the descriptor; encap and decap may use it from two threads.
class UdpSocket {
 public:
  /// `batched`: recvmmsg and sendmmsg instead of one call a datagram.
  UdpSocket(int fd, bool batched, Syscalls& syscalls) noexcept
      : fd_(fd), batched_(batched), syscalls_(syscalls) {}

  [[nodiscard]] int fd() const noexcept { return fd_; }

  /// Fills `batch` with what has arrived, at most one datagram a slot.
  ReadResult receive(ReceiveBatch& batch) noexcept;

  /// Sends every entry and counts each in exactly one counter of `counters`. A failed entry does
  /// not hold up its neighbours. False when the socket is full: what is left stays in the batch, to
  /// be sent again when the socket is writable.
  bool send(SendBatch& batch, Counters& counters) noexcept;

  /// Sends one datagram beside the batches; 0 or the errno.
  int send_one(std::span<const uint8_t> packet, const NextHop& to) noexcept;

 private:
  int send_some(SendBatch& batch) noexcept;

  int fd_;
  bool batched_;
  Syscalls& syscalls_;
};

}  // namespace flannel
