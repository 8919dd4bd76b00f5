/*
 * A library to preload, behind which the kernel seems to change its mind: what it took at first it
 * refuses from some time on, with the errno of kernels that do so.
 *
 *   REFUSE_LATER=gso:N  after N runs of datagrams (UDP_SEGMENT), each is refused with EIO: so did
 *                       kernels before Linux 6.11 on a device without checksum offload
 *   REFUSE_LATER=tso:N  after N super-packets of TCP to a TUN device, each is refused with EINVAL
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/udp.h>
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
int sendmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags) {
  unsigned taken = 0;
  while (taken < count && !refuses_message(&messages[taken].msg_hdr)) taken++;
  if (count > 0 && taken == 0) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(SYS_sendmmsg, fd, messages, taken, flags);
}

ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
  if (!refuses_message(message)) return syscall(SYS_sendmsg, fd, message, flags);
  errno = EIO;
  return -1;
}

static int is_super_packet_of_tcp(const struct iovec* pieces, int count) {
  if (count < 2 || pieces[0].iov_len != kVirtioHeader) return 0;
  struct virtio_net_hdr header;
  memcpy(&header, pieces[0].iov_base, sizeof header);
  const int type = header.gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
  return type == VIRTIO_NET_HDR_GSO_TCPV4 || type == VIRTIO_NET_HDR_GSO_TCPV6;
}

ssize_t writev(int fd, const struct iovec* pieces, int count) {
  if (refused != kTso || !is_super_packet_of_tcp(pieces, count) || !is_used_up())
    return syscall(SYS_writev, fd, pieces, count);
  errno = EINVAL;
  return -1;
}
