#include "sandbox.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "privileges.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLANNEL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FLANNEL_SANITIZED 1
#endif
#endif

#if defined(__x86_64__) && !defined(__ILP32__)
#define FLANNEL_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FLANNEL_ARCH AUDIT_ARCH_AARCH64
#endif

namespace flannel {

#if defined(FLANNEL_ARCH) && !defined(FLANNEL_SANITIZED)
namespace {

/// The most frequent first: a kernel before Linux 5.11 goes through them for every call.
constexpr auto kAllowed = std::to_array<uint32_t>({
    __NR_read,
    __NR_write,
    __NR_writev,
    __NR_recvmmsg,
    __NR_sendmmsg,
#ifdef __NR_poll
    __NR_poll,
#endif
    __NR_ppoll,
    __NR_recvmsg,
    __NR_sendmsg,
    __NR_recvfrom,
    __NR_sendto,
    __NR_futex,
    __NR_clock_gettime,
    __NR_clock_nanosleep,
    __NR_nanosleep,
    __NR_restart_syscall,
    __NR_rt_sigreturn,
    __NR_sched_yield,
    // the allocator, whose mmap and mprotect are looked at below
    __NR_brk,
    __NR_madvise,
    __NR_mremap,
    __NR_munmap,
    __NR_getrandom,
    // an end, also by abort(3)
    __NR_rt_sigprocmask,
    __NR_rt_sigaction,
    __NR_getpid,
    __NR_gettid,
    __NR_tgkill,
    __NR_exit,
    __NR_exit_group,
});

constexpr sock_filter load(size_t offset) noexcept {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}

constexpr sock_filter answer(uint32_t verdict) noexcept {
  return BPF_STMT(BPF_RET | BPF_K, verdict);
}

/// Skips `then` instructions where the loaded word equals `value`, else `otherwise`.
constexpr sock_filter equals(uint32_t value, uint8_t then, uint8_t otherwise) noexcept {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise);
}

constexpr uint32_t kRefusal = SECCOMP_RET_ERRNO | ENOSYS;

/// Both take what a page may be used for as their third argument. Its low half comes first in
/// memory on these architectures, and has all of the flags.
constexpr size_t kProtection = offsetof(seccomp_data, args) + 2 * sizeof(uint64_t);

constexpr auto kFront = std::to_array<sock_filter>({
    load(offsetof(seccomp_data, arch)),
    equals(FLANNEL_ARCH, 1, 0),
    answer(kRefusal),
    load(offsetof(seccomp_data, nr)),
});

/// No memory that code could be run from.
constexpr auto kBack = std::to_array<sock_filter>({
    equals(__NR_mmap, 1, 0),
    equals(__NR_mprotect, 0, 2),
    load(kProtection),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
    answer(kRefusal),
    answer(SECCOMP_RET_ALLOW),
});

auto build() noexcept {
  std::array<sock_filter, kFront.size() + kAllowed.size() + kBack.size()> program{};
  size_t at = 0;
  for (const sock_filter& instruction : kFront) program[at++] = instruction;
  for (size_t i = 0; i < kAllowed.size(); i++) {
    // to the last instruction
    program[at++] =
        equals(kAllowed[i], static_cast<uint8_t>(kAllowed.size() - i - 1 + kBack.size() - 1), 0);
  }
  for (const sock_filter& instruction : kBack) program[at++] = instruction;
  return program;
}

void filter_calls() noexcept {
  auto instructions = build();
  static_assert(instructions.size() < UINT8_MAX, "a jump is a byte wide");
  const sock_fprog program{.len = instructions.size(), .filter = instructions.data()};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  // Before Linux 5.16 a filter also turns mitigations of speculation on that slow every load down,
  // meant for threads that run foreign code. A kernel that does not know the flag (before 4.17) has
  // none of these.
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) ==
      0) {
    return;
  }
  ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

}  // namespace
#else
namespace {
void filter_calls() noexcept {}
}  // namespace
#endif

void confine_dataplane_thread() noexcept {
  give_up_privileges();
  filter_calls();
}

}  // namespace flannel
