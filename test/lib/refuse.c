/*
 * refuse CALL[,CALL…] -- COMMAND…: runs a command on a kernel that seems to lack these calls, as an
 * older one does:
 *
 *   sendmmsg, recvmmsg   ENOSYS
 *   UDP_SEGMENT, UDP_GRO ENOPROTOOPT from setsockopt
 *   TUN_F_USO            EINVAL from TUNSETOFFLOAD with the flags for UDP
 *   TUNSETOFFLOAD        EINVAL from TUNSETOFFLOAD
 *
 * A seccomp filter sees numbers only, nothing that an argument points to: what a control message or
 * a struct ifreq asks for cannot be refused this way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "the numbers of system calls are known for little-endian x86-64 and arm64 only"
#endif

enum {
  kUdpSegment = 103, /* linux/udp.h since Linux 4.18 */
  kUdpGro = 104,     /* since Linux 5.0 */
  kTunUso = 0x60,    /* TUN_F_USO4 and TUN_F_USO6 of linux/if_tun.h, since Linux 6.2 */
  kMaxRules = 16,
  kRuleLength = 7,
};

/* A system call is refused when its second and third argument are these. Only their low halves are
 * looked at: all of them are ints or flags. */
struct rule {
  const char* name;
  uint32_t call;
  uint32_t second; /* 0: any */
  uint32_t third;  /* a value, or with `bits` flags of which one is enough; 0: any */
  int bits;
  uint32_t error;
};

static const struct rule kRules[] = {
    {"sendmmsg", __NR_sendmmsg, 0, 0, 0, ENOSYS},
    {"recvmmsg", __NR_recvmmsg, 0, 0, 0, ENOSYS},
    {"UDP_SEGMENT", __NR_setsockopt, IPPROTO_UDP, kUdpSegment, 0, ENOPROTOOPT},
    {"UDP_GRO", __NR_setsockopt, IPPROTO_UDP, kUdpGro, 0, ENOPROTOOPT},
    {"TUN_F_USO", __NR_ioctl, TUNSETOFFLOAD, kTunUso, 1, EINVAL},
    {"TUNSETOFFLOAD", __NR_ioctl, TUNSETOFFLOAD, 0, 0, EINVAL},
};

static struct sock_filter load(size_t offset) {
  return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset);
}

static struct sock_filter answer(uint32_t verdict) {
  return (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
}

/* Goes on with the next instruction where the loaded word fits, else skips `rest` of them. */
static struct sock_filter fits(uint16_t test, uint32_t value, int rest) {
  return (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_K | test, value, 0, (uint8_t)rest);
}

/* Any value fits where a rule names none. */
static struct sock_filter argument_fits(uint32_t value, int bits, int rest) {
  if (value == 0) return fits(BPF_JGE, 0, rest);
  return fits(bits ? BPF_JSET : BPF_JEQ, value, rest);
}

static struct sock_filter* append(struct sock_filter* at, const struct rule* rule) {
  *at++ = load(offsetof(struct seccomp_data, nr));
  *at++ = fits(BPF_JEQ, rule->call, 5);
  *at++ = load(offsetof(struct seccomp_data, args[1]));
  *at++ = argument_fits(rule->second, 0, 3);
  *at++ = load(offsetof(struct seccomp_data, args[2]));
  *at++ = argument_fits(rule->third, rule->bits, 1);
  *at++ = answer(SECCOMP_RET_ERRNO | rule->error);
  return at;
}

static const struct rule* find(const char* name) {
  for (size_t i = 0; i < sizeof kRules / sizeof *kRules; i++)
    if (strcmp(kRules[i].name, name) == 0) return &kRules[i];
  return NULL;
}

int main(int argc, char** argv) {
  if (argc < 4 || strcmp(argv[2], "--") != 0) {
    fputs("refuse: write refuse CALL[,CALL…] -- COMMAND…\n", stderr);
    return 2;
  }
  struct sock_filter filter[3 + kMaxRules * kRuleLength + 1];
  struct sock_filter* end = filter;
  *end++ = load(offsetof(struct seccomp_data, arch));
  /* Calls of another architecture have other numbers. Nothing here makes any, so none may slip
   * through. */
  *end++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, THIS_ARCH, 1, 0);
  *end++ = answer(SECCOMP_RET_KILL_PROCESS);
  int count = 0;
  for (char* name = strtok(argv[1], ","); name != NULL; name = strtok(NULL, ",")) {
    const struct rule* rule = find(name);
    if (rule == NULL || ++count > kMaxRules) {
      fprintf(stderr, "refuse: cannot refuse %s\n", name);
      return 2;
    }
    end = append(end, rule);
  }
  *end++ = answer(SECCOMP_RET_ALLOW);
  struct sock_fprog program = {.len = (unsigned short)(end - filter), .filter = filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("refuse: cannot install the filter");
    return 1;
  }
  execvp(argv[3], argv + 3);
  fprintf(stderr, "refuse: cannot run %s: %s\n", argv[3], strerror(errno));
  return 1;
}
