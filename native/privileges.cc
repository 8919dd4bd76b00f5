#include "privileges.h"

#include <dirent.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "syscalls.h"

namespace flannel {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// How long a thread may take to notice a signal: one that waits for a disk notices it late.
constexpr milliseconds kPatience{5000};
constexpr milliseconds kLook{1};

constexpr int kHighest = 63;  // that a set has room for

constexpr CapabilitySet bit(int capability) noexcept {
  return CapabilitySet{1} << capability;
}

/// The second of the signals that C libraries keep for themselves (glibc's SIGSETXID): the only
/// kind that no thread of Node can have blocked, since pthread_sigmask(3) leaves them out.
constexpr int kSignal = 33;

/// struct sigaction as the kernel knows it; that of the C library refuses the signal.
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

long change_action(int signal, const KernelAction* action, KernelAction* before) noexcept {
  return ::syscall(SYS_rt_sigaction, signal, action, before, sizeof(uint64_t));
}

struct Capabilities {
  CapabilitySet effective;
  CapabilitySet permitted;
  CapabilitySet inheritable;
};

/// Of the calling thread. The functions below make nothing but system calls: they are called by a
/// signal handler.
bool read_capabilities(Capabilities& out) noexcept {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (::syscall(SYS_capget, &header, data.data()) < 0) return false;
  const auto join = [](uint32_t low, uint32_t high) { return CapabilitySet{high} << 32 | low; };
  out = {join(data[0].effective, data[1].effective), join(data[0].permitted, data[1].permitted),
         join(data[0].inheritable, data[1].inheritable)};
  return true;
}

bool write_capabilities(const Capabilities& capabilities) noexcept {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  const auto part = [](CapabilitySet set, int shift) {
    return static_cast<uint32_t>(set >> shift);
  };
  const auto& [effective, permitted, inheritable] = capabilities;
  data[0] = {part(effective, 0), part(permitted, 0), part(inheritable, 0)};
  data[1] = {part(effective, 32), part(permitted, 32), part(inheritable, 32)};
  return ::syscall(SYS_capset, &header, data.data()) == 0;
}

/// 1 or 0, and less for a capability that this kernel does not have.
long bounding_has(int capability) noexcept {
  return ::syscall(SYS_prctl, PR_CAPBSET_READ, capability, 0, 0, 0);
}

/// The calling thread keeps `keep` at most. What a reader of /proc takes for the sign that it is
/// done comes last.
void reduce_thread(CapabilitySet keep) noexcept {
  ::syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  Capabilities now{};
  if (!read_capabilities(now)) return;
  CapabilitySet bounding = 0;
  for (int i = 0; i <= kHighest; i++) {
    const long has = bounding_has(i);
    if (has < 0) break;
    if (has == 0) continue;
    const bool drop = (keep & bit(i)) == 0;
    if (!drop || ::syscall(SYS_prctl, PR_CAPBSET_DROP, i, 0, 0, 0) < 0) bounding |= bit(i);
  }
  // Nothing can be ambient that is not inheritable, so what goes there goes here, too.
  const CapabilitySet kept = now.permitted & keep;
  const CapabilitySet inheritable = kept & bounding;
  if (!write_capabilities({now.effective & keep, now.permitted, inheritable})) return;
  ::syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (int i = 0; i <= kHighest; i++) {
    if ((inheritable & bit(i)) != 0) {
      ::syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0);
    }
  }
  write_capabilities({now.effective & keep, kept, inheritable});
}

/// What the handler is to keep.
std::atomic<CapabilitySet> wanted{0};

#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread")))
#endif
void on_signal(int /*signal*/) {
  const int error = errno;
  reduce_thread(wanted.load());
  errno = error;
}

/// Handles kSignal while it lives, and beyond that where a thread may still have one pending: the C
/// library would not know what it is asked for.
class Handler {
 public:
  Handler() {
    // The kernel needs to be told how a handler returns, which the C library knows: by an action
    // for a signal that nothing else uses.
    struct sigaction probe {};
    struct sigaction unused {};
    KernelAction action{};
    probe.sa_handler = on_signal;
    probe.sa_flags = SA_RESTART;
    if (::sigaction(SIGRTMAX, &probe, &unused) < 0 ||
        change_action(SIGRTMAX, nullptr, &action) < 0 ||
        ::sigaction(SIGRTMAX, &unused, nullptr) < 0 ||
        change_action(kSignal, &action, &before_) < 0) {
      throw SystemError(errno, "sigaction");
    }
  }
  ~Handler() {
    if (!pending_) change_action(kSignal, &before_, nullptr);
  }
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

  void set_pending(bool pending) noexcept { pending_ = pending; }

 private:
  KernelAction before_{};
  bool pending_ = false;
};

/// What /proc/self/task/<tid>/status says; nothing of a thread that has ended.
struct ThreadStatus {
  CapabilitySet permitted = 0;
  CapabilitySet effective = 0;
  CapabilitySet inheritable = 0;
  CapabilitySet bounding = 0;
  CapabilitySet ambient = 0;
  CapabilitySet no_new_privs = 0;
};

using File = std::unique_ptr<FILE, int (*)(FILE*)>;

std::optional<ThreadStatus> read_status(pid_t tid) {
  const std::string path = "/proc/self/task/" + std::to_string(tid) + "/status";
  const File file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (!file) return std::nullopt;
  ThreadStatus status;
  size_t found = 0;
  std::array<char, 256> line{};
  while (std::fgets(line.data(), line.size(), file.get()) != nullptr) {
    const std::string_view text(line.data());
    const auto take = [&](std::string_view name, CapabilitySet& out) {
      if (!text.starts_with(name)) return;
      const char* end = text.data() + text.size();
      if (std::from_chars(text.data() + name.size(), end, out, 16).ec == std::errc{}) found++;
    };
    take("CapInh:\t", status.inheritable);
    take("CapPrm:\t", status.permitted);
    take("CapEff:\t", status.effective);
    take("CapBnd:\t", status.bounding);
    take("CapAmb:\t", status.ambient);
    take("NoNewPrivs:\t", status.no_new_privs);
  }
  // A thread that ends while it is read has no such lines.
  return found == 6 ? std::optional(status) : std::nullopt;
}

std::set<pid_t> threads() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/task"), &::closedir);
  if (!folder) throw SystemError(errno, "open /proc/self/task");
  std::set<pid_t> result;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name(entry->d_name);
    pid_t tid = 0;
    std::from_chars(name.data(), name.data() + name.size(), tid);
    if (tid > 0) result.insert(tid);
  }
  return result;
}

}  // namespace

CapabilitySet reduce_privileges(CapabilitySet keep) {
  Capabilities before{};
  if (!read_capabilities(before)) throw SystemError(errno, "capget");
  const bool bounded = (before.effective & bit(CAP_SETPCAP)) != 0;
  const auto is_reduced = [&](const ThreadStatus& status) {
    const CapabilitySet all = status.permitted | status.effective | status.inheritable |
                              status.ambient | (bounded ? status.bounding : 0);
    return (all & ~keep) == 0 && status.no_new_privs == 1;
  };
  wanted.store(keep);
  Handler handler;
  reduce_thread(keep);
  std::set<pid_t> signalled;
  const auto deadline = steady_clock::now() + kPatience;
  for (;;) {
    // A thread that one with more has made meanwhile is in the next list, at the latest in the one
    // that was made after the last such thread was done.
    size_t left = 0;
    for (const pid_t tid : threads()) {
      const auto status = read_status(tid);
      if (!status || is_reduced(*status)) continue;
      left++;
      if (signalled.insert(tid).second) ::syscall(SYS_tgkill, ::getpid(), tid, kSignal);
    }
    if (left == 0) break;
    if (steady_clock::now() >= deadline) {
      handler.set_pending(true);
      throw SystemError(ETIMEDOUT, "reduce the privileges of a thread");
    }
    std::this_thread::sleep_for(kLook);
  }
  Capabilities after{};
  if (!read_capabilities(after)) throw SystemError(errno, "capget");
  return after.permitted;
}

void give_up_privileges() noexcept {
  reduce_thread(0);
}

}  // namespace flannel
