// The TUN side: opening a device with its queues, and moving packets through one queue.
#pragma once

#include <string>
#include <vector>

#include "caps.h"
#include "packet.h"
#include "syscalls.h"
#include "virtio.h"

namespace flannel {

struct TunDevice {
  std::string name;  // as the kernel completed the template
  bool multi_queue;
  FeatureSet features;  // of tso and uso, what was wanted and is there
  std::vector<UniqueFd> queues;
};

/// Opens /dev/net/tun (linux/if_tun.h) once per queue: layer 3, no packet information header, with
/// virtio headers (IFF_VNET_HDR) where `virtio` says so, which the offloads need. IFF_MULTI_QUEUE
/// is set wherever the kernel knows it, since a device cannot become multi-queue later. A device
/// that has outlived its process is taken up by its name. Throws SystemError, ENOTSUP when several
/// queues are wanted and the kernel has only one.
TunDevice open_tun(const std::string& name_template, size_t queues, bool virtio, FeatureSet wanted);

/// Whether the device stays when no process holds it (TUNSETPERSIST). Packets sent into it then are
/// dropped, but its addresses and routes stay.
void set_persistent(int fd, bool persistent) noexcept;

/// What is known of a queue that another process opened.
struct TunFacts {
  std::string name;
  bool multi_queue;
  bool virtio;  // packets are preceded by a VirtioHeader
};

/// Throws SystemError, also for a descriptor that is no queue of a TUN device, or one whose packets
/// look otherwise than those of open_tun().
TunFacts inspect_tun(int fd);

/// A packet as the kernel handed it over: with a virtio header, it may be a super-packet.
struct TunPacket {
  VirtioHeader header;
  std::span<uint8_t> bytes;
};

/// One queue of the device. Borrows the descriptor.
class TunQueue {
 public:
  /// `virtio`: every packet is preceded by a VirtioHeader, both ways.
  TunQueue(int fd, bool virtio, Syscalls& syscalls) noexcept
      : fd_(fd), virtio_(virtio), syscalls_(&syscalls) {}

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] bool virtio() const noexcept { return virtio_; }

  /// Reads one packet a call into slots 0, 1, … (the kernel has no call that reads several), until
  /// the slots or kBatchBytes are full.
  ReadResult read(PacketPool& pool, std::vector<TunPacket>& packets) noexcept;

  /// Writes a packet to a queue without virtio headers; 0, or the errno.
  int write(std::span<const uint8_t> packet) noexcept;

  /// Writes a packet in pieces, of which the first is its virtio header; 0, or the errno.
  int write(std::span<const iovec> message) noexcept;

 private:
  int fd_;
  bool virtio_;
  Syscalls* syscalls_;
};

}  // namespace flannel
