// flannel-standby CONTROL_SOCKET: holds the descriptors of the flanneld that listens there, and
// forwards in its place from the moment it is gone until the next one takes over. Ends at SIGINT or
// SIGTERM; if it is the one who forwards then, the device goes with it.
#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <thread>

#include "succession.h"

namespace flannel {
namespace {

/// Between two looks at who forwards, and between two attempts to reach an owner.
constexpr int kLookMs = 100;

void say(const std::string& what) {
  std::cerr << "flannel-standby: " << what << std::endl;
}

/// Says what has changed, once.
void tell(const std::string& what) {
  static std::string before;
  if (what == before) return;
  before = what;
  say(what);
}

/// Whether a signal asks for the end, waiting for it for a while.
bool is_over(int signals, int timeout_ms) {
  pollfd polled{signals, POLLIN, 0};
  return ::poll(&polled, 1, timeout_ms) > 0;
}

DataplaneOptions options_for(const Claim& claim) {
  DataplaneOptions options{};
  for (const FeatureInfo& info : kFeatures) options.features.add(info.feature);
  options.split_threads = std::thread::hardware_concurrency() > 1;
  options.tunnel_addresses = claim.inheritance->tunnel_addresses;
  options.source_check = claim.inheritance->source_check;
  options.clamp_mtu = claim.inheritance->clamp_mtu;
  options.probe_mtu = claim.inheritance->probe_mtu;
  return options;
}

/// Stands by, forwards and stands by again until a signal or until it is no longer needed; true
/// for the signal.
bool serve(const std::string& path, int signals) {
  Claim claim = claim_to_stand_by(path);
  const DataplaneOptions options = options_for(claim);
  Dataplane dataplane(options, std::move(*claim.inheritance));
  Succession succession(dataplane, std::move(claim), Succession::Role::standby);
  succession.start();
  bool over = false;
  while (!over) {
    const Standing standing = succession.standing();
    if (standing == Standing::deposed) break;
    tell(standing == Standing::owner ? "flanneld is gone; forwarding in its place"
                                     : "standing by for the flanneld at " + path);
    over = is_over(signals, kLookMs);
  }
  succession.close();
  return over;
}

int run(const std::string& path) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, nullptr);
  const UniqueFd signals(::signalfd(-1, &ends, SFD_CLOEXEC));
  if (!signals.valid()) throw SystemError(errno, "signalfd");
  do {
    try {
      if (serve(path, signals.get())) return 0;
    } catch (const SystemError& error) {
      const int code = error.code().value();
      tell(code == ENOENT || code == ECONNREFUSED ? "waiting for a flanneld at " + path
                                                  : std::string(error.what()));
    }
  } while (!is_over(signals.get(), kLookMs));
  return 0;
}

}  // namespace
}  // namespace flannel

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    std::cerr << "Usage: flannel-standby CONTROL_SOCKET\n"
                 "Forwards in flanneld's place while it is gone; CONTROL_SOCKET is that of the "
                 "flanneld to stand by for.\n";
    return 2;
  }
  try {
    return flannel::run(argv[1]);
  } catch (const std::exception& error) {
    flannel::say(error.what());
    return 1;
  }
}
