#include "notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "syscalls.h"

namespace flannel {

bool notify_service_manager(const std::string& state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length >= sizeof address.sun_path) throw SystemError(ENAMETOOLONG, "NOTIFY_SOCKET");
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract socket

  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) throw SystemError(errno, "socket(AF_UNIX)");
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  // The caller has other things to do than to wait for a receiver that is busy.
  if (::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address), size) < 0) {
    throw SystemError(errno, "send to NOTIFY_SOCKET");
  }
  return true;
}

}  // namespace flannel
