#include "syscalls.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace flannel {
namespace {

template <typename Result>
Result or_errno(Result result) noexcept {
  return result < 0 ? static_cast<Result>(-errno) : result;
}

class Kernel final : public Syscalls {
 public:
  ssize_t read(int fd, void* buffer, size_t size) noexcept override {
    return or_errno(::read(fd, buffer, size));
  }
  ssize_t write(int fd, const void* buffer, size_t size) noexcept override {
    return or_errno(::write(fd, buffer, size));
  }
  ssize_t writev(int fd, const iovec* pieces, int count) noexcept override {
    return or_errno(::writev(fd, pieces, count));
  }
  ssize_t recvfrom(int fd, void* buffer, size_t size, SocketAddress& from) noexcept override {
    from.length = sizeof from.v6;
    return or_errno(::recvfrom(fd, buffer, size, MSG_TRUNC, from.get(), &from.length));
  }
  ssize_t sendto(int fd, const void* buffer, size_t size,
                 const SocketAddress& to) noexcept override {
    return or_errno(::sendto(fd, buffer, size, 0, to.get(), to.length));
  }
  ssize_t recvmsg(int fd, msghdr& message) noexcept override {
    return or_errno(::recvmsg(fd, &message, MSG_TRUNC));
  }
  ssize_t sendmsg(int fd, const msghdr& message) noexcept override {
    return or_errno(::sendmsg(fd, &message, 0));
  }
  int recvmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return or_errno(::recvmmsg(fd, messages, count, MSG_TRUNC, nullptr));
  }
  int sendmmsg(int fd, mmsghdr* messages, unsigned count) noexcept override {
    return or_errno(::sendmmsg(fd, messages, count, 0));
  }
};

}  // namespace

Syscalls& kernel() noexcept {
  static Kernel instance;
  return instance;
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
