// A thread that is confined, and what it can still do.
#include "sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

namespace flannel {
namespace {

/// What `call` fails with on a thread that is confined first; 0 where it does not.
template <typename Call>
int error_when_confined(Call call) {
  int error = 0;
  std::thread([&] {
    confine_dataplane_thread();
    error = call() < 0 ? errno : 0;
  }).join();
  return error;
}

/// Lines of /proc/thread-self/status. Opened before, since nothing can be opened afterwards.
std::string status_when_confined() {
  std::string text;
  std::thread([&] {
    const int fd = ::open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
    confine_dataplane_thread();
    std::vector<char> bytes(8192);
    const ssize_t n = ::read(fd, bytes.data(), bytes.size());
    text.assign(bytes.data(), static_cast<size_t>(std::max<ssize_t>(n, 0)));
  }).join();
  return text;
}

bool is_filtered() {
  return status_when_confined().find("Seccomp:\t2\n") != std::string::npos;
}

TEST(SandboxTest, LeavesNoCapability) {
  const std::string status = status_when_confined();
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
    EXPECT_NE(status.find(std::string(set) + ":\t0000000000000000\n"), std::string::npos) << status;
  }
}

TEST(SandboxTest, RefusesWhatThePacketPathDoesNotNeed) {
  if (!is_filtered()) GTEST_SKIP() << "no filter in this build or on this kernel";
  EXPECT_EQ(error_when_confined([] { return ::open("/etc/passwd", O_RDONLY | O_CLOEXEC); }),
            ENOSYS);
  EXPECT_EQ(error_when_confined([] { return ::socket(AF_INET, SOCK_DGRAM, 0); }), ENOSYS);
  EXPECT_EQ(
      error_when_confined([] { return ::syscall(SYS_execve, "/bin/true", nullptr, nullptr); }),
      ENOSYS);
}

TEST(SandboxTest, RefusesMemoryToRunCodeFrom) {
  if (!is_filtered()) GTEST_SKIP() << "no filter in this build or on this kernel";
  const auto map = [](int protection) {
    return [protection] {
      void* at = ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      return at == MAP_FAILED ? -1 : ::munmap(at, 4096);
    };
  };
  EXPECT_EQ(error_when_confined(map(PROT_READ | PROT_WRITE)), 0);
  EXPECT_EQ(error_when_confined(map(PROT_READ | PROT_EXEC)), ENOSYS);
}

TEST(SandboxTest, LeavesTheOtherThreadsAlone) {
  const int before = ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
  std::thread([] { confine_dataplane_thread(); }).join();
  EXPECT_EQ(::prctl(PR_GET_SECCOMP, 0, 0, 0, 0), before);
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_GE(fd, 0);
  ::close(fd);
}

}  // namespace
}  // namespace flannel
