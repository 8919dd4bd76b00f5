/*
 * The least a userspace tunnel can do with one thread and one packet a system call: read a packet
 * from the TUN device, send it to the peer; receive a datagram, write it to the device. No table,
 * no checks, no counters. It is here as a yardstick: the benchmark's `classic` must not cost more a
 * packet than this by more than a little.
 *
 *   classic-loop TUN LOCAL_ADDRESS PEER_ADDRESS PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  kMaxPacket = 65536,
  kTurn = 64, /* packets one way before the other way is looked at */
};

static void fail(const char* what) {
  fprintf(stderr, "classic-loop: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_tun(const char* name) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) fail("open /dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ioctl(fd, TUNSETIFF, &request) != 0) fail("TUNSETIFF");
  return fd;
}

static struct sockaddr_in address_of(const char* text, const char* port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((unsigned short)atoi(port))};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) fail(text);
  return address;
}

static int open_udp(const struct sockaddr_in* local) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (bind(fd, (const struct sockaddr*)local, sizeof *local) != 0) fail("bind");
  return fd;
}

/* A packet that cannot be passed on is dropped, as on any wire. Returns whether there was one. */
static int tun_to_udp(int tun, int udp, const struct sockaddr_in* peer) {
  static char packet[kMaxPacket];
  ssize_t length = read(tun, packet, sizeof packet);
  if (length < 0) return 0;
  if (sendto(udp, packet, (size_t)length, 0, (const struct sockaddr*)peer, sizeof *peer) < 0)
    return 1;
  return 1;
}

static int udp_to_tun(int udp, int tun) {
  static char packet[kMaxPacket];
  ssize_t length = recvfrom(udp, packet, sizeof packet, 0, NULL, NULL);
  if (length < 0) return 0;
  if (write(tun, packet, (size_t)length) < 0) return 1;
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 5) {
    fputs("usage: classic-loop TUN LOCAL_ADDRESS PEER_ADDRESS PORT\n", stderr);
    return 2;
  }
  struct sockaddr_in local = address_of(argv[2], argv[4]);
  struct sockaddr_in peer = address_of(argv[3], argv[4]);
  int tun = open_tun(argv[1]);
  int udp = open_udp(&local);
  struct pollfd ends[] = {{.fd = tun, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
  for (;;) {
    if (poll(ends, 2, -1) < 0 && errno != EINTR) fail("poll");
    for (int i = 0; i < kTurn && ends[0].revents != 0 && tun_to_udp(tun, udp, &peer); i++) continue;
    for (int i = 0; i < kTurn && ends[1].revents != 0 && udp_to_tun(udp, tun); i++) continue;
  }
}
