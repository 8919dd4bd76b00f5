/*
 * Packets that nobody should send, of every kind and from a seed:
 *
 *   hostile udp ADDRESS PORT  SOURCE DESTINATION  SEED PACKETS RATE
 *   hostile device NAME -     SOURCE DESTINATION  SEED PACKETS RATE
 *
 * As datagrams to a dataplane, or into its TUN device as its host would send them. SOURCE and
 * DESTINATION are inner addresses that are good, from which the rest is made. Paced: RATE packets a
 * second. Prints a JSON object: how many were sent, how many the kernel took none of, and how many
 * of each kind.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h since Linux 4.18 */
#endif

enum {
  kMost = 65507, /* of a UDP payload */
  kUsual = 1400,
  kRow = 8, /* datagrams of a run */
  kBurst = 64,
  kIp = 20,
};

static uint8_t packet[kMost + 1];
static size_t size;
static size_t segment; /* of each datagram in a run, or 0 */
static uint32_t source, destination;
static uint64_t state;
static struct sockaddr_ll device = {.sll_family = AF_PACKET};

__attribute__((noreturn)) static void fail(const char* what) {
  fprintf(stderr, "hostile: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* splitmix64 */
static uint64_t dice(void) {
  uint64_t mixed = state += 0x9e3779b97f4a7c15;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
  return mixed ^ mixed >> 31;
}

static void put16(size_t at, unsigned value) {
  packet[at] = (uint8_t)(value >> 8);
  packet[at + 1] = (uint8_t)value;
}

static void put32(size_t at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value & 0xffff);
}

static uint32_t sum(const uint8_t* bytes, size_t length, uint32_t start) {
  uint32_t total = start;
  for (size_t i = 0; i < length; i++) total += (uint32_t)bytes[i] << (i % 2 == 0 ? 8 : 0);
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return total;
}

static void seal_ip(uint8_t* ip) {
  ip[10] = ip[11] = 0;
  const uint32_t checksum = ~sum(ip, 4U * (ip[0] & 15), 0);
  ip[10] = (uint8_t)(checksum >> 8);
  ip[11] = (uint8_t)checksum;
}

/* An IPv4 packet with right lengths and checksums, UDP or TCP, of so many bytes in all. */
static void good(int protocol, size_t length) {
  const size_t transport = protocol == IPPROTO_TCP ? 20 : 8;
  size = length < kIp + transport ? kIp + transport : length;
  memset(packet, 0, kIp + transport);
  packet[0] = 0x45;
  put16(2, (unsigned)size);
  put16(4, (unsigned)dice());
  packet[8] = 64;
  packet[9] = (uint8_t)protocol;
  put32(12, source);
  put32(16, destination);
  put16(20, 1000 + dice() % 8);
  put16(22, 9); /* discard */
  for (size_t i = kIp + transport; i < size; i++) packet[i] = (uint8_t)i;
  if (protocol == IPPROTO_TCP) {
    packet[32] = 0x50;
    packet[33] = 0x10;
  } else {
    put16(24, (unsigned)(size - kIp));
  }
  seal_ip(packet);
}

/* The transport's checksum, once everything else is in place. */
static void seal_transport(uint8_t* ip, size_t length) {
  const size_t place = ip[9] == IPPROTO_TCP ? 36 : 26;
  ip[place] = ip[place + 1] = 0;
  const uint32_t pseudo = sum(ip + 12, 8, ip[9] + (uint32_t)(length - kIp));
  const uint32_t checksum = ~sum(ip + kIp, length - kIp, pseudo);
  ip[place] = (uint8_t)(checksum >> 8);
  ip[place + 1] = (uint8_t)checksum;
}

static size_t usual(void) {
  return 28 + dice() % (kUsual - 28);
}

/* Equal packets of one flow, which the receiver would join, but for one that lies. */
static void run_of(int protocol) {
  const size_t length = 100 + dice() % 100;
  const size_t liar = dice() % kRow;
  for (size_t i = kRow; i-- > 0;) {
    good(protocol, length);
    put16(4, (unsigned)i);
    put16(20, 2000);
    if (protocol == IPPROTO_TCP) put32(24, (uint32_t)(i * (length - 40)));
    if (i == liar) packet[dice() % length] ^= (uint8_t)(1 + dice() % 255);
    if (i != liar || dice() % 2 == 0) seal_ip(packet);
    seal_transport(packet, length);
    if (i == liar && dice() % 2 == 0) packet[dice() % length] ^= 0x20;
    memmove(packet + i * length, packet, length);
  }
  size = kRow * length;
  segment = length;
}

#define KINDS(KIND)                                                                               \
  KIND(empty, size = 0)                                                                           \
  KIND(too_short, size = 1 + dice() % 19)                                                         \
  KIND(bad_version, packet[0] = (uint8_t)(dice() % 16 << 4 | 5))                                  \
  KIND(low_ihl, packet[0] = (uint8_t)(0x40 | dice() % 5))                                         \
  KIND(high_ihl, (size = kIp + dice() % 8, packet[0] = 0x4f, put16(2, (unsigned)size)))           \
  KIND(total_beyond, put16(2, (unsigned)(size + 1 + dice() % 1000)))                              \
  KIND(total_below, put16(2, (unsigned)(dice() % size)))                                          \
  KIND(total_zero, put16(2, 0))                                                                   \
  KIND(ttl_zero, (packet[8] = 0, seal_ip(packet)))                                                \
  KIND(ttl_one, (packet[8] = 1, seal_ip(packet)))                                                 \
  KIND(fragment, (put16(6, 0x2000 | dice() % 64), seal_ip(packet)))                               \
  KIND(fragment_beyond, (put16(6, 0x1fff), seal_ip(packet)))                                      \
  KIND(overlap, (put16(4, 7), put16(6, 0x2000 | dice() % 4), seal_ip(packet)))                    \
  KIND(bad_options, (packet[0] = 0x4f, put32(kIp, (uint32_t)dice()), put32(24, (uint32_t)dice()), \
                     seal_ip(packet)))                                                            \
  KIND(source_route,                                                                              \
       (packet[0] = 0x47, put32(kIp, 0x830704c0), put32(24, 0xa84d0200), seal_ip(packet)))        \
  KIND(bad_checksum, packet[10] ^= (uint8_t)(1 + dice() % 255))                                   \
  KIND(ipv6, packet[0] = 0x60)                                                                    \
  KIND(icmp_garbage,                                                                              \
       (packet[9] = 1, packet[kIp] = (uint8_t)(dice() % 2 ? 3 : 11), seal_ip(packet)))            \
  KIND(multicast, (put32(16, 0xe00000fb), seal_ip(packet)))                                       \
  KIND(broadcast, (put32(16, 0xffffffff), seal_ip(packet)))                                       \
  KIND(martian, (put32(12, 0x7f000001), seal_ip(packet)))                                         \
  KIND(to_loopback, (put32(16, 0x7f000001), seal_ip(packet)))                                     \
  KIND(from_nowhere, (put32(12, 0), seal_ip(packet)))                                             \
  KIND(class_e, (put32(12, 0xf0000001), seal_ip(packet)))                                         \
  KIND(land, (put32(12, destination), seal_ip(packet)))                                           \
  KIND(spoofed, (put32(12, (uint32_t)dice()), seal_ip(packet)))                                   \
  KIND(no_route, (put32(16, (uint32_t)dice()), seal_ip(packet)))                                  \
  KIND(udp_length, put16(24, (unsigned)dice()))                                                   \
  KIND(tcp_offset, (good(IPPROTO_TCP, usual() + 40), packet[32] = (uint8_t)(dice() % 16 << 4)))   \
  KIND(tcp_flags, (good(IPPROTO_TCP, usual() + 40), packet[33] = (uint8_t)dice()))                \
  KIND(protocol, (packet[9] = (uint8_t)dice(), seal_ip(packet)))                                  \
  KIND(jumbo, dice() % 16 == 0 ? good(IPPROTO_UDP, kMost) : good(IPPROTO_UDP, 3000))              \
  KIND(zeros, memset(packet, 0, size))                                                            \
  KIND(noise, ({                                                                                  \
         for (size_t i = 0; i < size; i++) packet[i] = (uint8_t)dice();                           \
       }))                                                                                        \
  KIND(nearly, packet[dice() % size] ^= (uint8_t)(1 << dice() % 8))                               \
  KIND(udp_run, run_of(IPPROTO_UDP))                                                              \
  KIND(tcp_run, run_of(IPPROTO_TCP))

enum kind {
#define KIND(name, how) kind_##name,
  KINDS(KIND)
#undef KIND
      kKinds
};

static const char* const names[] = {
#define KIND(name, how) #name,
    KINDS(KIND)
#undef KIND
};

static void make(enum kind kind) {
  segment = 0;
  good(IPPROTO_UDP, usual() + 40);
  switch (kind) {
#define KIND(name, how) \
  case kind_##name:     \
    (void)(how);        \
    break;
    KINDS(KIND)
#undef KIND
    case kKinds:
      break;
  }
}

static int send_packet(int fd) {
  uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {0};
  struct iovec piece = {packet, size};
  struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
  if (segment > 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    struct cmsghdr* option = CMSG_FIRSTHDR(&header);
    option->cmsg_level = IPPROTO_UDP;
    option->cmsg_type = UDP_SEGMENT;
    option->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const uint16_t value = (uint16_t)segment;
    memcpy(CMSG_DATA(option), &value, sizeof value);
  }
  return sendmsg(fd, &header, 0) < 0 ? -1 : 0;
}

/* Runs are cut up here: a device is written to packet by packet. */
static unsigned send_to_device(int fd) {
  const size_t each = segment > 0 ? segment : size;
  unsigned sent = 0;
  for (size_t at = 0; at < size || (at == 0 && size == 0); at += each) {
    const struct sockaddr* to = (const struct sockaddr*)&device;
    if (sendto(fd, packet + at, each, 0, to, sizeof device) >= 0) sent++;
    if (each == 0) break;
  }
  return sent;
}

static int open_udp(const char* address, const char* port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1) fail(address);
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr*)&to, sizeof to) < 0) fail("connect");
  return fd;
}

static int open_device(const char* name) {
  device.sll_protocol = htons(ETH_P_IP);
  device.sll_ifindex = (int)if_nametoindex(name);
  /* Protocol 0: it receives nothing. */
  const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || device.sll_ifindex == 0) fail(name);
  return fd;
}

static uint32_t parse(const char* text) {
  struct in_addr address;
  if (inet_pton(AF_INET, text, &address) != 1) fail(text);
  return ntohl(address.s_addr);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char** argv) {
  if (argc != 9) {
    fprintf(stderr, "usage: hostile udp|device TO PORT SOURCE DESTINATION SEED PACKETS RATE\n");
    return 2;
  }
  const int to_device = strcmp(argv[1], "device") == 0;
  const int fd = to_device ? open_device(argv[2]) : open_udp(argv[2], argv[3]);
  source = parse(argv[4]);
  destination = parse(argv[5]);
  state = strtoull(argv[6], NULL, 10);
  const unsigned long wanted = strtoul(argv[7], NULL, 10);
  const double rate = strtod(argv[8], NULL);
  static unsigned long kinds[kKinds];
  unsigned long sent = 0, refused = 0;
  const double start = now();
  while (sent + refused < wanted) {
    const enum kind kind = (enum kind)(dice() % kKinds);
    make(kind);
    const unsigned count = segment > 0 ? kRow : 1;
    kinds[kind] += count;
    if (to_device) {
      const unsigned taken = send_to_device(fd);
      sent += taken;
      refused += count - taken;
    } else if (send_packet(fd) == 0) {
      sent += count;
    } else {
      refused += count;
    }
    const double ahead = (double)(sent + refused) / rate - (now() - start);
    if (ahead > 0.001) usleep((useconds_t)(ahead * 1e6));
  }
  printf("{\"sent\":%lu,\"refused\":%lu,\"kinds\":{", sent, refused);
  for (int i = 0; i < kKinds; i++) printf("%s\"%s\":%lu", i > 0 ? "," : "", names[i], kinds[i]);
  printf("}}\n");
  return 0;
}
