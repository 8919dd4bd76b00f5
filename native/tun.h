// The TUN side: opening a device with its queues, and moving packets through one queue.
#pragma once

#include <string>
#include <vector>

#include "packet.h"
#include "syscalls.h"

namespace flannel {

struct TunDevice {
  std::string name;  // as the kernel completed the template
  bool multi_queue;
  std::vector<UniqueFd> queues;
};

/// Opens /dev/net/tun (linux/if_tun.h) once per queue: layer 3, no packet information header, not
/// persistent. IFF_MULTI_QUEUE is set wherever the kernel knows it, since a device cannot become
/// multi-queue later. Throws SystemError, ENOTSUP when several queues are wanted and the kernel has
/// only one.
TunDevice open_tun(const std::string& name_template, size_t queues);

/// One queue of the device. Borrows the descriptor.
class TunQueue {
 public:
  TunQueue(int fd, Syscalls& syscalls) noexcept : fd_(fd), syscalls_(syscalls) {}

  [[nodiscard]] int fd() const noexcept { return fd_; }

  /// Reads one packet a call into slots 0, 1, …; the kernel has no call that reads several.
  ReadResult read(PacketPool& pool, std::vector<std::span<uint8_t>>& packets) noexcept;

  /// 0, or the errno of the failed write.
  int write(std::span<const uint8_t> packet) noexcept;

 private:
  int fd_;
  Syscalls& syscalls_;
};

}  // namespace flannel
