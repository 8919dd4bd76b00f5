/*
 * A library to preload, behind which the kernel seems to change its mind: what it took at first it
 * refuses from some time on, with the errno of kernels that do so.
 *
 *   REFUSE_LATER=gso:N  after N runs of datagrams (UDP_SEGMENT), each is refused with EIO: so did
 *                       kernels before Linux 6.11 on a device without checksum offload
 *   REFUSE_LATER=tso:N  after N super-packets of TCP to a TUN device, each is refused with EINVAL
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h since Linux 4.18 */
#endif

enum { kVirtioHeader = sizeof(struct virtio_net_hdr) };

static atomic_long passes;
static enum { kNothing, kGso, kTso } refused;

__attribute__((constructor)) static void read_settings(void) {
  const char* settings = getenv("REFUSE_LATER");
  if (settings == NULL || strlen(settings) < 5 || settings[3] != ':') return;
  passes = atol(settings + 4);
  refused = strncmp(settings, "gso", 3) == 0 ? kGso : kTso;
}

static int is_used_up(void) {
  return atomic_fetch_sub(&passes, 1) <= 0;
}

static int is_run(const struct msghdr* message) {
  const struct cmsghdr* control = CMSG_FIRSTHDR(message);
  return control != NULL && control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_SEGMENT;
}

static int refuses_message(const struct msghdr* message) {
  return refused == kGso && is_run(message) && is_used_up();
}

/* As the kernel does it: what comes before the first one that is refused is sent. */
static unsigned taken_of(const struct mmsghdr* messages, unsigned count) {
  unsigned taken = 0;
  while (taken < count && !refuses_message(&messages[taken].msg_hdr)) taken++;
  return taken;
}

static int is_super_packet_of_tcp(const struct iovec* pieces, int count) {
  if (count < 2 || pieces[0].iov_len != kVirtioHeader) return 0;
  struct virtio_net_hdr header;
  memcpy(&header, pieces[0].iov_base, sizeof header);
  const int type = header.gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
  return type == VIRTIO_NET_HDR_GSO_TCPV4 || type == VIRTIO_NET_HDR_GSO_TCPV6;
}

static int refuses_write(const struct iovec* pieces, int count) {
  return refused == kTso && is_super_packet_of_tcp(pieces, count) && is_used_up();
}

static long refuse_with(int error) {
  errno = error;
  return -1;
}

/* The dataplane calls the kernel through this function of the C library alone. */
long syscall(long number, ...) {
  static long (*next)(long, ...);
  if (next == NULL) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  switch (number) {
    case SYS_sendmmsg: {
      const unsigned count = (unsigned)a[2];
      const unsigned taken = taken_of((const struct mmsghdr*)a[1], count);
      if (count > 0 && taken == 0) return refuse_with(EIO);
      a[2] = taken;
      break;
    }
    case SYS_sendmsg:
      if (refuses_message((const struct msghdr*)a[1])) return refuse_with(EIO);
      break;
    case SYS_writev:
      if (refuses_write((const struct iovec*)a[1], (int)a[2])) return refuse_with(EINVAL);
      break;
    default:
      break;
  }
  return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
