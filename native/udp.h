// The underlay side: one UDP socket, batched and offloaded where the kernel allows.
#pragma once

#include <vector>

#include "caps.h"
#include "packet.h"
#include "send_batch.h"
#include "stats.h"
#include "syscalls.h"

namespace flannel {

/// Bytes that may wait in a socket, each way; 0 leaves the system's default.
struct SocketBuffers {
  int receive = 0;
  int send = 0;
};

/// Opens a non-blocking socket of the family of `address`, bound to it and `port` (host order). Its
/// buffers go beyond net.core.rmem_max and wmem_max where CAP_NET_ADMIN allows. Throws SystemError.
///
/// With `reuse_port` the port may be shared (SO_REUSEPORT): also with another process of the same
/// user, so whoever wants it for himself has to find out first whether it is free.
UniqueFd open_udp(const Address& address, uint16_t port, const SocketBuffers& buffers,
                  bool reuse_port);

/// Opens a socket like the above that only sends, from a port that the kernel chooses: what arrives
/// there is dropped by a filter. Throws SystemError.
UniqueFd open_udp_sender(const Address& address, int send_buffer);

/// Opens a socket like the above that probes what paths carry, from a port that the kernel chooses:
/// nothing that it sends is ever cut, whatever the kernel knows of the path. Throws SystemError.
UniqueFd open_udp_prober(const Address& address);

/// Turns on what `wanted` asks of a socket (gso, gro); returns what the kernel has of it.
FeatureSet enable_udp_offloads(int fd, FeatureSet wanted) noexcept;

/// Whether recvmmsg and sendmmsg can be called on a socket, found out by calls without a message.
bool has_batch_calls(int fd, Syscalls& syscalls) noexcept;

/// Datagrams on their way in: the message headers that recvmmsg fills, bound to the pool's slots.
class ReceiveBatch {
 public:
  explicit ReceiveBatch(PacketPool& pool);

  /// A received datagram, or with UDP_GRO a row of them.
  struct Datagram {
    std::span<uint8_t> payload;
    size_t segment_size;    // of each in the row but the last, which may be shorter
    bool truncated;         // did not fit its slot: nobody may take the part for the whole
    Address source;         // it came from,
    in_port_t source_port;  // in network order
  };

  /// What the last receive brought; borrowed until the next one.
  [[nodiscard]] std::span<const Datagram> datagrams() const noexcept { return datagrams_; }

 private:
  friend class UdpSocket;
  struct Control {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> bytes;
  };

  std::span<mmsghdr> prepare(size_t most) noexcept;
  void take(size_t slot, size_t length, size_t segment_size) noexcept;

  PacketPool& pool_;
  std::vector<mmsghdr> messages_;
  std::vector<iovec> payloads_;
  std::vector<Control> controls_;
  std::vector<SocketAddress> sources_;
  std::vector<Datagram> datagrams_;
};

/// One socket. Borrows the descriptor; encap and decap may use it from two threads, each through a
/// UdpSocket of its own.
class UdpSocket {
 public:
  UdpSocket(int fd, ActiveFeatures& features, Syscalls& syscalls) noexcept
      : fd_(fd),
        batched_(features.has(Feature::batch)),
        rows_(features.has(Feature::gro)),
        features_(&features),
        syscalls_(&syscalls) {}

  [[nodiscard]] int fd() const noexcept { return fd_; }

  /// How many datagrams an entry of a SendBatch may hold now; 1 = no runs.
  [[nodiscard]] size_t max_segments() const noexcept {
    return features_->has(Feature::gso) ? segments_limit_ : 1;
  }

  /// Fills `batch` with what has arrived, at most one message a slot.
  ReadResult receive(ReceiveBatch& batch) noexcept;

  /// Sends every datagram and counts each in exactly one counter of `counters`. One that fails does
  /// not hold up its neighbours; a run that the kernel refuses as such is sent one by one. False
  /// when the socket is full: what is left stays in the batch, to be sent again when the socket is
  /// writable.
  bool send(SendBatch& batch, Counters& counters) noexcept;

  /// Sends one datagram beside the batches; 0 or the errno.
  int send_one(std::span<const uint8_t> packet, const NextHop& to) noexcept;

 private:
  int receive_some(ReceiveBatch& batch, std::span<mmsghdr> messages) noexcept;
  int send_some(SendBatch& batch) noexcept;
  void accepted(SendBatch& batch, size_t entries, Counters& counters) noexcept;
  bool send_singly(SendBatch::Entry& entry, Counters& counters) noexcept;
  void learn(SendBatch::Entry& entry) noexcept;

  int fd_;
  bool batched_;
  bool rows_;  // a message may be several datagrams, which only its control message tells
  unsigned refused_in_a_row_ = 0;
  size_t segments_limit_ = SendBatch::kMaxSegments;
  ActiveFeatures* features_;
  Syscalls* syscalls_;
};

}  // namespace flannel
