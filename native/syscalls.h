// The kernel as the packet path sees it. Tests put a scripted one in its place; production pays one
// indirect call beside each system call.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <string>
#include <system_error>

#include "address.h"

namespace flannel {

/// Every function returns what the system call returns, or the negated errno. None of them blocks:
/// the descriptors are non-blocking.
class Syscalls {
 public:
  Syscalls() = default;
  virtual ~Syscalls() = default;
  Syscalls(const Syscalls&) = delete;
  Syscalls& operator=(const Syscalls&) = delete;

  virtual ssize_t read(int fd, void* buffer, size_t size) noexcept = 0;
  virtual ssize_t write(int fd, const void* buffer, size_t size) noexcept = 0;
  virtual ssize_t writev(int fd, const iovec* pieces, int count) noexcept = 0;
  /// All receives with MSG_TRUNC, so that the result is the datagram's own length even where it
  /// exceeds the room for it.
  virtual ssize_t recvfrom(int fd, void* buffer, size_t size, SocketAddress& from) noexcept = 0;
  virtual ssize_t sendto(int fd, const void* buffer, size_t size,
                         const SocketAddress& to) noexcept = 0;
  virtual ssize_t recvmsg(int fd, msghdr& message) noexcept = 0;
  virtual ssize_t sendmsg(int fd, const msghdr& message) noexcept = 0;
  virtual int recvmmsg(int fd, mmsghdr* messages, unsigned count) noexcept = 0;
  virtual int sendmmsg(int fd, mmsghdr* messages, unsigned count) noexcept = 0;
};

/// The real kernel.
Syscalls& kernel() noexcept;

/// poll(2) without a time limit: 0 when a descriptor is ready, or the errno.
int wait_until_ready(std::span<pollfd> descriptors) noexcept;

/// A system call that failed while something was set up. `what()` is the call, `code().value()` the
/// errno.
class SystemError : public std::system_error {
 public:
  SystemError(int error, std::string call)
      : std::system_error(error, std::generic_category(), call), call_(std::move(call)) {}
  [[nodiscard]] const std::string& call() const noexcept { return call_; }

 private:
  std::string call_;
};

/// A descriptor that closes itself.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  int release() noexcept;
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

}  // namespace flannel
