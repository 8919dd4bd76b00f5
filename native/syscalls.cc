#include "syscalls.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace flannel {
namespace {

/// A system call without the C library's function around it: those are cancellation points, which
/// in a process with several threads costs two atomic operations a call (nptl(7), pthreads(7)).
/// Nobody cancels these threads.
template <typename... Arguments>
ssize_t call(long number, Arguments... arguments) noexcept {
  const long result = ::syscall(number, arguments...);
  return result < 0 ? -errno : result;
}

class Kernel final : public Syscalls {
 public:
  ssize_t read(int fd, void* buffer, size_t size) noexcept override {
    return call(SYS_read, fd, buffer, size);
  }
  ssize_t write(int fd, const void* buffer, size_t size) noexcept override {
    return call(SYS_write, fd, buffer, size);
  }
  ssize_t writev(int fd, const iovec* pieces, int count) noexcept override {
    return call(SYS_writev, fd, pieces, count);
  }
  ssize_t recvfrom(int fd, void* buffer, size_t size, SocketAddress& from) noexcept override {
    from.length = sizeof from.v6;
    return call(SYS_recvfrom, fd, buffer, size, MSG_TRUNC, from.get(), &from.length);
  }
  ssize_t sendto(int fd, const void* buffer, size_t size,
                 const SocketAddress& to) noexcept override {
    return call(SYS_sendto, fd, buffer, size, 0, to.get(), to.length);
  }
  ssize_t recvmsg(int fd, msghdr& message) noexcept override {
    return call(SYS_recvmsg, fd, &message, MSG_TRUNC);
  }
  ssize_t sendmsg(int fd, const msghdr& message) noexcept override {
    return call(SYS_sendmsg, fd, &message, 0);
  }
  int recvmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return static_cast<int>(call(SYS_recvmmsg, fd, messages, count, MSG_TRUNC, nullptr));
  }
  int sendmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return static_cast<int>(call(SYS_sendmmsg, fd, messages, count, 0));
  }
};

}  // namespace

Syscalls& kernel() noexcept {
  static Kernel instance;
  return instance;
}

int wait_until_ready(std::span<pollfd> descriptors) noexcept {
  // arm64 has no poll.
  const ssize_t result =
      call(SYS_ppoll, descriptors.data(), descriptors.size(), nullptr, nullptr, 0);
  return result < 0 ? static_cast<int>(-result) : 0;
}

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  reset(other.release());
  return *this;
}

int UniqueFd::release() noexcept {
  return std::exchange(fd_, -1);
}

void UniqueFd::reset(int fd) noexcept {
  const int old = std::exchange(fd_, fd);
  if (old >= 0) ::close(old);
}

}  // namespace flannel
