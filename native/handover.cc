#include "handover.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace flannel {
namespace {

using std::chrono::steady_clock;

/// The kernel's own limit for one message (SCM_MAX_FD, net/scm.h) is 253.
constexpr size_t kMostDescriptors = 253;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw SystemError(ENAMETOOLONG, "control socket");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

UniqueFd new_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) throw SystemError(errno, "socket(AF_UNIX)");
  return fd;
}

void take_descriptors(msghdr& header, std::vector<UniqueFd>* descriptors) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
       control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(control) + i * sizeof number, sizeof number);
      UniqueFd fd(number);
      if (descriptors != nullptr) descriptors->push_back(std::move(fd));
    }
  }
}

/// Whether there is something to receive before `deadline`.
bool wait_for(int fd, Deadline deadline) noexcept {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
    pollfd polled{fd, POLLIN, 0};
    const int n = ::poll(&polled, 1, static_cast<int>(std::clamp<long>(left, 0, 1'000'000)));
    if (n > 0) return true;
    if (n < 0 && errno == EINTR) continue;
    return false;
  }
}

}  // namespace

void Message::say(std::string_view reason) noexcept {
  const size_t length = std::min(reason.size(), sizeof text - 1);
  std::memcpy(text, reason.data(), length);
  text[length] = '\0';
}

std::string Message::said() const {
  return {text, ::strnlen(text, sizeof text)};
}

Connection Connection::to(const std::string& path) {
  const sockaddr_un address = address_of(path);
  UniqueFd fd = new_socket();
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    throw SystemError(errno, "connect to the control socket");
  }
  return Connection(std::move(fd));
}

bool Connection::trusted() const noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

bool Connection::send(const Message& message, std::span<const int> descriptors) noexcept {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> control;
  iovec piece{const_cast<Message*>(&message), sizeof message};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    if (descriptors.size() > kMostDescriptors) return false;
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t n = 0;
  do {
    n = ::sendmsg(fd_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  return n == static_cast<ssize_t>(sizeof message);
}

Connection::Received Connection::receive(Message& message, Deadline deadline,
                                         std::vector<UniqueFd>* descriptors) noexcept {
  if (!wait_for(fd_.get(), deadline)) return Received::nothing;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> control;
  iovec piece{&message, sizeof message};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t n = 0;
  do {
    n = ::recvmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return Received::nothing;
  if (n < 0) return Received::closed;
  // Also those of an empty message, which looks like an end.
  take_descriptors(header, descriptors);
  if (n == 0) return Received::closed;
  // Another version's message may have another length, but tells in its front what it is.
  const bool complete = (header.msg_flags & MSG_CTRUNC) == 0;
  const bool whole = n == static_cast<ssize_t>(sizeof message);
  const bool foreign = n >= static_cast<ssize_t>(offsetof(Message, generation)) &&
                       message.version != Message::kVersion;
  if (!complete || message.magic != Message::kMagic || !(whole || foreign)) return Received::closed;
  return Received::message;
}

UniqueFd listen_at(const std::string& path) {
  const sockaddr_un address = address_of(path);
  UniqueFd fd = new_socket();
  // The mode of the file that bind() makes (unix(7)).
  ::fchmod(fd.get(), 0600);
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) throw SystemError(errno, "control socket");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    throw SystemError(errno, "control socket");
  }
  if (::listen(fd.get(), 8) < 0) throw SystemError(errno, "control socket");
  return fd;
}

static_assert(std::is_trivially_copyable_v<Route>);

UniqueFd routes_to_file(std::span<const Route> routes) noexcept {
  UniqueFd fd(::memfd_create("flannel-routes", MFD_CLOEXEC));
  const auto* bytes = reinterpret_cast<const char*>(routes.data());
  for (size_t done = 0; fd.valid() && done < routes.size_bytes();) {
    const ssize_t n = ::write(fd.get(), bytes + done, routes.size_bytes() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return {};
    done += static_cast<size_t>(n);
  }
  return fd;
}

std::vector<Route> routes_from_file(int fd) {
  struct stat facts {};
  if (::fstat(fd, &facts) < 0 || facts.st_size < 0) return {};
  std::vector<Route> routes(static_cast<size_t>(facts.st_size) / sizeof(Route));
  auto* bytes = reinterpret_cast<char*>(routes.data());
  const size_t size = routes.size() * sizeof(Route);
  for (size_t done = 0; done < size;) {
    const ssize_t n = ::pread(fd, bytes + done, size - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return {};
    done += static_cast<size_t>(n);
  }
  return routes;
}

}  // namespace flannel
