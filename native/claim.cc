#include "claim.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "handover_times.h"
#include "offer.h"

namespace flannel {
namespace {

using std::chrono::steady_clock;

std::string lock_path(const std::string& control_socket) {
  return control_socket + ".lock";
}

/// The lock's file, locked; invalid while somebody else has it.
UniqueFd try_lock(const std::string& path) {
  for (;;) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) throw SystemError(errno, "open the lock file " + path);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0) {
      if (errno == EWOULDBLOCK) return {};
      throw SystemError(errno, "lock " + path);
    }
    // The one who had it may have removed the file before it was locked here.
    struct stat mine {};
    struct stat there {};
    if (::fstat(fd.get(), &mine) == 0 && ::stat(path.c_str(), &there) == 0 &&
        mine.st_ino == there.st_ino && mine.st_dev == there.st_dev) {
      return fd;
    }
  }
}

std::string read_device(int lock) {
  std::array<char, 64> text{};
  const ssize_t n = ::pread(lock, text.data(), text.size(), 0);
  std::string name(text.data(), n > 0 ? static_cast<size_t>(n) : 0);
  name.resize(std::min(name.find('\n'), name.size()));
  return name;
}

/// Says hello, and takes in the offer. Throws SystemError.
void ask(Claim& claim, bool stands_by) {
  const Deadline deadline = steady_clock::now() + kAnswer;
  Message hello{.step = Step::hello,
                .generation = claim.generation,
                .stands_by = stands_by,
                .knows_ipv6 = true};
  if (!claim.owner.send(hello)) throw SystemError(ECONNRESET, "handover");
  Message offer;
  std::vector<UniqueFd> descriptors;
  switch (claim.owner.receive(offer, deadline, &descriptors)) {
    case Connection::Received::closed:
      throw SystemError(ECONNRESET, "handover");
    case Connection::Received::nothing:
      throw SystemError(ETIMEDOUT, "handover");
    case Connection::Received::message:
      break;
  }
  if (offer.step == Step::refuse) throw SystemError(EBUSY, "handover: " + offer.said());
  if (offer.step != Step::offer || offer.version != Message::kVersion) {
    throw SystemError(EPROTO, "handover");
  }
  Message more;
  while (descriptors.size() < offer.descriptors) {
    const size_t before = descriptors.size();
    if (claim.owner.receive(more, deadline, &descriptors) != Connection::Received::message) {
      throw SystemError(ETIMEDOUT, "handover");
    }
    // One who only talks on would otherwise be listened to beyond the deadline.
    if (descriptors.size() == before) throw SystemError(EPROTO, "handover");
  }
  take_offer(offer, std::move(descriptors), claim);
  claim.generation = std::max(claim.generation, offer.generation);
}

}  // namespace

Claim claim(const std::string& control_socket, uint32_t generation) {
  const Deadline deadline = steady_clock::now() + kAnswer;
  for (;;) {
    Claim claim{.control_socket = control_socket, .generation = generation};
    claim.lock = try_lock(lock_path(control_socket));
    if (claim.lock.valid()) {
      claim.device = read_device(claim.lock.get());
      claim.listener = listen_at(control_socket);
      return claim;
    }
    try {
      claim.owner = Connection::to(control_socket);
      ask(claim, false);
      return claim;
    } catch (const SystemError& error) {
      // An owner that has just begun does not listen yet; one that ends does so no more.
      const int code = error.code().value();
      const bool passes = code == ECONNREFUSED || code == ENOENT || code == ECONNRESET;
      if (!passes) throw;
      if (steady_clock::now() >= deadline) throw SystemError(ETIMEDOUT, "handover");
    }
    std::this_thread::sleep_for(kRetry);
  }
}

Claim claim_to_stand_by(const std::string& control_socket) {
  Claim claim{.control_socket = control_socket};
  claim.owner = Connection::to(control_socket);
  ask(claim, true);
  return claim;
}

Finding find_owner(const std::string& control_socket) {
  const std::string path = lock_path(control_socket);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    if (errno == ENOENT) return {};
    throw SystemError(errno, "open the lock file " + path);
  }
  const bool alive = ::flock(fd.get(), LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
  return {alive, read_device(fd.get())};
}

void leave_word(const Claim& claim, const std::string& device) noexcept {
  const std::string line = device + "\n";
  const int lock = claim.lock.get();
  // Without it, only a restart after a crash finds its device no more.
  [[maybe_unused]] const bool written =
      ::ftruncate(lock, 0) == 0 && ::pwrite(lock, line.data(), line.size(), 0) > 0;
}

void remove_files(const std::string& control_socket) noexcept {
  ::unlink(control_socket.c_str());
  ::unlink(lock_path(control_socket).c_str());
}

}  // namespace flannel
