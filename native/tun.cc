#include "tun.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace flannel {
namespace {

constexpr const char* kDevice = "/dev/net/tun";

// linux/if_tun.h since Linux 6.2
constexpr unsigned kUso4 = 0x20;
constexpr unsigned kUso6 = 0x40;

constexpr unsigned kTso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
constexpr unsigned kUso = TUN_F_CSUM | kUso4 | kUso6;  // the kernel takes these two together only

UniqueFd open_queue() {
  UniqueFd fd(::open(kDevice, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) throw SystemError(errno, "open /dev/net/tun");
  return fd;
}

/// TUNSETOFFLOAD with what is wanted, then with less; returns what the device took. Nothing wanted
/// is asked for, too: a device that outlived its process has kept what that one asked for.
FeatureSet enable_tun_offloads(int fd, FeatureSet wanted) noexcept {
  const bool tso = wanted.has(Feature::tso);
  const bool uso = wanted.has(Feature::uso);
  FeatureSet has;
  if (uso && ::ioctl(fd, TUNSETOFFLOAD, (tso ? kTso : 0U) | kUso) == 0) {
    has.add(Feature::uso);
    if (tso) has.add(Feature::tso);
  } else if (tso && ::ioctl(fd, TUNSETOFFLOAD, kTso) == 0) {
    has.add(Feature::tso);
  } else {
    ::ioctl(fd, TUNSETOFFLOAD, 0U);
  }
  return has;
}

}  // namespace

TunDevice open_tun(const std::string& name_template, size_t queues, bool virtio,
                   FeatureSet wanted) {
  TunDevice device{name_template, false, {}, {}};
  unsigned features = 0;
  for (size_t i = 0; i < queues; i++) {
    UniqueFd fd = open_queue();
    if (i == 0) {
      if (::ioctl(fd.get(), TUNGETFEATURES, &features) < 0)
        throw SystemError(errno, "TUNGETFEATURES");
      device.multi_queue = (features & IFF_MULTI_QUEUE) != 0;
      if (queues > 1 && !device.multi_queue) throw SystemError(ENOTSUP, "IFF_MULTI_QUEUE");
    }
    ifreq request{};
    if (device.name.size() >= sizeof request.ifr_name) throw SystemError(ENAMETOOLONG, "TUNSETIFF");
    std::memcpy(request.ifr_name, device.name.data(), device.name.size());
    request.ifr_flags =
        static_cast<short>(IFF_TUN | IFF_NO_PI | (device.multi_queue ? IFF_MULTI_QUEUE : 0) |
                           (virtio ? IFF_VNET_HDR : 0));
    if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) throw SystemError(errno, "TUNSETIFF");
    device.name = request.ifr_name;  // the next queue joins the device by its full name
    // The offloads are the device's, not a queue's.
    if (i == 0) device.features = enable_tun_offloads(fd.get(), wanted);
    device.queues.push_back(std::move(fd));
  }
  return device;
}

void set_persistent(int fd, bool persistent) noexcept {
  // Without it, the device goes with its process: as it always did.
  [[maybe_unused]] const int result = ::ioctl(fd, TUNSETPERSIST, persistent ? 1UL : 0UL);
}

TunFacts inspect_tun(int fd) {
  ifreq request{};
  if (::ioctl(fd, TUNGETIFF, &request) < 0) throw SystemError(errno, "TUNGETIFF");
  const auto flags = static_cast<unsigned short>(request.ifr_flags);
  if ((flags & IFF_TUN) == 0 || (flags & IFF_NO_PI) == 0) throw SystemError(EINVAL, "TUNGETIFF");
  const bool virtio = (flags & IFF_VNET_HDR) != 0;
  int header = 0;
  if (virtio && ::ioctl(fd, TUNGETVNETHDRSZ, &header) < 0)
    throw SystemError(errno, "TUNGETVNETHDRSZ");
  if (virtio && header != static_cast<int>(sizeof(VirtioHeader)))
    throw SystemError(EINVAL, "TUNGETVNETHDRSZ");
  return {request.ifr_name, (flags & IFF_MULTI_QUEUE) != 0, virtio};
}

ReadResult TunQueue::read(PacketPool& pool, std::vector<TunPacket>& packets) noexcept {
  packets.clear();
  const size_t front = virtio_ ? sizeof(VirtioHeader) : 0;
  for (size_t bytes = 0; packets.size() < pool.slots() && bytes < kBatchBytes;) {
    const auto slot = pool.slot(packets.size());
    uint8_t* start = slot.data() - front;
    const ssize_t n = syscalls_->read(fd_, start, slot.size() + front);
    if (n == -EINTR) continue;
    if (n < 0) return {packets.size(), static_cast<int>(-n)};
    TunPacket packet{{}, {}};
    if (virtio_) std::memcpy(&packet.header, start, sizeof packet.header);
    const size_t length = std::max(static_cast<size_t>(n), front) - front;
    packet.bytes = slot.first(length);
    packets.push_back(packet);
    bytes += length;
  }
  return {packets.size(), 0};
}

int TunQueue::write(std::span<const uint8_t> packet) noexcept {
  ssize_t n = 0;
  do {
    n = syscalls_->write(fd_, packet.data(), packet.size());
  } while (n == -EINTR);
  return n < 0 ? static_cast<int>(-n) : 0;
}

int TunQueue::write(std::span<const iovec> message) noexcept {
  ssize_t n = 0;
  do {
    n = syscalls_->writev(fd_, message.data(), static_cast<int>(message.size()));
  } while (n == -EINTR);
  return n < 0 ? static_cast<int>(-n) : 0;
}

}  // namespace flannel
