// Started and ended again and again, with packets on their way, on a real TUN device: nothing is
// left behind. FLANNEL_CYCLES in the environment says how often.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "succession.h"
#include "tun_lab.h"

namespace flannel::test {
namespace {

constexpr uint32_t kLoopback = ip(127, 0, 0, 1);
constexpr uint32_t kHere = ip(10, 244, 1, 0);
constexpr uint32_t kThere = ip(10, 244, 2, 2);
constexpr uint16_t kPort = 8285;
constexpr int kPackets = 50;

int cycles() {
  const char* wanted = std::getenv("FLANNEL_CYCLES");
  return wanted != nullptr ? std::atoi(wanted) : 20;
}

size_t entries_of(const char* folder) {
  const auto entries = std::filesystem::directory_iterator(folder);
  return static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

/// Whether a thread goes on: one that was joined may stand in /proc for a moment more.
bool is_alive(const std::filesystem::path& thread) {
  constexpr unsigned kExiting = 0x4;  // PF_EXITING of linux/sched.h
  std::ifstream file(thread / "stat");
  std::string stat;
  std::getline(file, stat);
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return false;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < 6; i++) fields >> skipped;  // from state to tpgid of proc(5)
  unsigned flags = kExiting;
  fields >> flags;
  return (flags & kExiting) == 0;
}

size_t live_threads() {
  size_t count = 0;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    if (is_alive(thread.path())) count++;
  }
  return count;
}

/// What a process may leave behind of a dataplane.
struct Holdings {
  size_t descriptors = entries_of("/proc/self/fd");
  size_t threads = live_threads();
};

/// Each time another shape of it.
DataplaneOptions options_of(int cycle) {
  DataplaneOptions options{};
  options.tun_name = "flannel%d";
  if (cycle % 3 != 0) {
    for (const FeatureInfo& info : kFeatures) options.features.add(info.feature);
  }
  options.split_threads = cycle % 2 == 0;
  options.queues = 1 + static_cast<size_t>(cycle % 4);
  options.source_ports = cycle % 5 == 0 ? 4 : 1;
  options.bind_address = Address::of_ipv4(kLoopback);
  options.port = kPort;
  options.tunnel_addresses.ipv4 = kHere;
  return options;
}

void send_packets() {
  const UniqueFd into_device = udp_at(kHere, 0);
  const UniqueFd to_port = udp_at(kLoopback, 0);
  const Bytes packet = make_packet({.source = kThere, .destination = kHere});
  const auto send = [&](const UniqueFd& from, uint32_t address, uint16_t port) {
    const SocketAddress to = NextHop{Address::of_ipv4(address), htons(port)}.to_sockaddr();
    ::sendto(from.get(), packet.data(), packet.size(), MSG_DONTWAIT, to.get(), to.length);
  };
  for (int i = 0; i < kPackets; i++) {
    send(into_device, kThere, 9);
    send(to_port, kLoopback, kPort);
  }
}

void run_once(int cycle, const std::string& socket) {
  auto opened = Succession::open(options_of(cycle), socket, 0);
  const Route route{{ip(10, 244, 2, 0), 24}, {Address::of_ipv4(kLoopback), htons(8286)}};
  opened.succession->set_routes({&route, 1});
  opened.succession->start();
  configure_link("flannel0", kHere, ip(255, 255, 0, 0));
  send_packets();
  opened.succession->close();
  opened.dataplane->close();
}

TEST(Cycles, NothingIsLeftBehind) {
  std::string name = (std::filesystem::temp_directory_path() / "cycles-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  const bool ran = in_namespace([&] {
    configure_link("lo", 0, 0);
    run_once(1, folder / "control.sock");
    const Holdings before;
    for (int cycle = 0; cycle < cycles(); cycle++) {
      SCOPED_TRACE(cycle);
      run_once(cycle, folder / "control.sock");
      ASSERT_FALSE(link_exists("flannel0"));
      ASSERT_TRUE(std::filesystem::is_empty(folder));
      const Holdings after;
      ASSERT_EQ(after.descriptors, before.descriptors);
      ASSERT_EQ(after.threads, before.threads);
    }
  });
  std::filesystem::remove_all(folder);
  if (!ran) GTEST_SKIP() << "needs a TUN device and CAP_SYS_ADMIN";
}

}  // namespace
}  // namespace flannel::test
