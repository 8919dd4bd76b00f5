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

namespace {

/// A route of IPv4 in a file.
struct Ipv4Record {
  uint32_t network;  // host order
  uint8_t length;
  std::array<uint8_t, 3> unused;
  in_addr_t address;  // network order, as the port
  in_port_t port;
  std::array<uint8_t, 2> also_unused;
};
static_assert(sizeof(Ipv4Record) == 16);

/// A route of either family in a file.
struct Record {
  Prefix prefix;
  NextHop next_hop;
};
static_assert(std::is_trivially_copyable_v<Record>);

/// The first bytes of a file of another form: as a record, one with a length of 255.
constexpr auto kBothFamilies = [] {
  std::array<uint8_t, sizeof(Ipv4Record)> bytes{};
  bytes.fill(0xff);
  return bytes;
}();

bool write_all(int fd, std::span<const uint8_t> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

std::vector<uint8_t> read_all(int fd) {
  struct stat facts {};
  if (::fstat(fd, &facts) < 0 || facts.st_size < 0) return {};
  std::vector<uint8_t> bytes(static_cast<size_t>(facts.st_size));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n =
        ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return {};
    done += static_cast<size_t>(n);
  }
  return bytes;
}

template <typename T>
std::span<const uint8_t> bytes_of(const std::vector<T>& values) noexcept {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

/// As many whole values as the bytes hold.
template <typename T>
std::vector<T> values_of(std::span<const uint8_t> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

bool is_of_ipv4(const Route& route) noexcept {
  return route.prefix.is_ipv4() && route.next_hop.address.is_ipv4();
}

Ipv4Record to_ipv4_record(const Route& route) noexcept {
  const uint8_t length = route.prefix.ipv4_length();
  const in_addr_t address = htonl(route.next_hop.address.ipv4());
  return {route.prefix.network.ipv4(), length, {}, address, route.next_hop.port, {}};
}

Record to_record(const Route& route) noexcept {
  return {route.prefix, route.next_hop};
}

Route from_record(const Record& record) noexcept {
  return {record.prefix, record.next_hop};
}

Route from_ipv4_record(const Ipv4Record& record) noexcept {
  return {{record.network, record.length}, {Address::of_ipv4(ntohl(record.address)), record.port}};
}

template <typename T, typename Convert>
auto converted(std::span<const T> values, Convert convert) {
  std::vector<decltype(convert(values.front()))> result(values.size());
  std::ranges::transform(values, result.begin(), convert);
  return result;
}

}  // namespace

UniqueFd routes_to_file(std::span<const Route> routes) noexcept try {
  UniqueFd fd(::memfd_create("flannel-routes", MFD_CLOEXEC));
  if (!fd.valid()) return fd;
  bool written = false;
  if (std::ranges::all_of(routes, is_of_ipv4)) {
    written = write_all(fd.get(), bytes_of(converted(routes, to_ipv4_record)));
  } else {
    written = write_all(fd.get(), kBothFamilies) &&
              write_all(fd.get(), bytes_of(converted(routes, to_record)));
  }
  return written ? std::move(fd) : UniqueFd();
} catch (const std::bad_alloc&) {
  return {};
}

std::vector<Route> routes_from_file(int fd) {
  const std::vector<uint8_t> bytes = read_all(fd);
  const std::span all(bytes);
  const size_t front = kBothFamilies.size();
  if (all.size() >= front && std::ranges::equal(all.first(front), kBothFamilies)) {
    return converted(std::span<const Record>(values_of<Record>(all.subspan(front))), from_record);
  }
  return converted(std::span<const Ipv4Record>(values_of<Ipv4Record>(all)), from_ipv4_record);
}

}  // namespace flannel
