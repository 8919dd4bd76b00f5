#include "tun.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

namespace flannel {
namespace {

constexpr const char* kDevice = "/dev/net/tun";

UniqueFd open_queue() {
  UniqueFd fd(::open(kDevice, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) throw SystemError(errno, "open /dev/net/tun");
  return fd;
}

}  // namespace

TunDevice open_tun(const std::string& name_template, size_t queues) {
  TunDevice device{name_template, false, {}};
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
        static_cast<short>(IFF_TUN | IFF_NO_PI | (device.multi_queue ? IFF_MULTI_QUEUE : 0));
    if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) throw SystemError(errno, "TUNSETIFF");
    device.name = request.ifr_name;  // the next queue joins the device by its full name
    device.queues.push_back(std::move(fd));
  }
  return device;
}

ReadResult TunQueue::read(PacketPool& pool, std::vector<std::span<uint8_t>>& packets) noexcept {
  packets.clear();
  while (packets.size() < pool.slots()) {
    const auto slot = pool.slot(packets.size());
    const ssize_t n = syscalls_.read(fd_, slot.data(), slot.size());
    if (n == -EINTR) continue;
    if (n < 0) return {packets.size(), static_cast<int>(-n)};
    packets.push_back(slot.first(static_cast<size_t>(n)));
  }
  return {packets.size(), 0};
}

int TunQueue::write(std::span<const uint8_t> packet) noexcept {
  ssize_t n = 0;
  do {
    n = syscalls_.write(fd_, packet.data(), packet.size());
  } while (n == -EINTR);
  return n < 0 ? static_cast<int>(-n) : 0;
}

}  // namespace flannel
