/*
 * Datagrams of mixed sizes between two hosts, checked by what they hold:
 *
 *   datagrams receive ADDRESS PORT        says "ready"; ends once standard input is closed
 *   datagrams send ADDRESS PORT BURSTS
 *
 * Each burst is a run of equal sizes that leaves by UDP_SEGMENT where the kernel has it, single
 * ones of any size that fits the path, and at times one that is sent in fragments. The receiver
 * answers once it has all of a burst, and only then comes the next: so much fits into every queue
 * on the way, and one that is lost is a fault. Figures are a JSON object: how many, their bytes,
 * and the sum of the hashes of all datagrams, whose order may change on the way.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h since Linux 4.18 */
#endif

enum {
  kHeaders = 28,   /* IPv4 and UDP */
  kHeadersV6 = 48, /* IPv6 and UDP */
  kMaxPayload = 65535 - kHeaders,
  kLeast = 16,
  kMaxRun = 40,
  kMaxSingles = 12,
  kBurstBytes = 100000,
  kReceiveBuffer = 1 << 20, /* the system allows no less than what a burst takes */
  kFragmentsEvery = 4,      /* bursts */
  kAnswerSeconds = 20,
};

struct head {
  uint32_t sequence;
  uint32_t burst_end; /* how many have been sent once this burst is complete */
};

static struct {
  unsigned long datagrams, bytes;
  uint64_t sum;
} tally;

__attribute__((noreturn)) static void fail(const char* what) {
  fprintf(stderr, "datagrams: %s: %s after %lu\n", what, strerror(errno), tally.datagrams);
  exit(1);
}

/* FNV-1a. Each datagram has a number in it, so equal ones do not make up for one another. */
static void count(const uint8_t* bytes, size_t size) {
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3;
  tally.datagrams++;
  tally.bytes += size;
  tally.sum += hash;
}

static void print_tally(void) {
  printf("{\"datagrams\":%lu,\"bytes\":%lu,\"sum\":\"%016lx\"}\n", tally.datagrams, tally.bytes,
         (unsigned long)tally.sum);
}

static void receive_all(int fd) {
  static uint8_t buffer[kMaxPayload];
  union endpoint from;
  socklen_t from_size = sizeof from;
  ssize_t size;
  while ((size = recvfrom(fd, buffer, sizeof buffer, MSG_DONTWAIT, &from.any, &from_size)) >= 0) {
    count(buffer, (size_t)size);
    struct head head;
    memcpy(&head, buffer, sizeof head);
    if (tally.datagrams != head.burst_end) continue;
    if (sendto(fd, &head.burst_end, sizeof head.burst_end, 0, &from.any, from_size) < 0)
      fail("answer");
  }
}

static void receive(int fd) {
  puts("ready");
  fflush(stdout);
  struct pollfd inputs[] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
  while (poll(inputs, 2, -1) >= 0 && inputs[1].revents == 0) receive_all(fd);
  receive_all(fd);
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

/* xorshift: the same numbers in every run. */
static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static size_t between(size_t least, size_t most) {
  return least + next_random() % (most - least + 1);
}

struct burst {
  size_t sizes[kMaxRun + kMaxSingles + 1];
  size_t run; /* the first so many are of one size, but the last of them, which is not larger */
  size_t count, bytes;
};

static void add(struct burst* burst, size_t size) {
  if (burst->count > 0 && burst->bytes + size > kBurstBytes) return;
  burst->sizes[burst->count++] = size;
  burst->bytes += size;
}

/* `most` is what fits a packet of the path. */
static struct burst plan(size_t most, int fragments) {
  struct burst burst = {0};
  size_t size = between(kLeast, most);
  size_t room = kMaxPayload / size < kMaxRun ? kMaxPayload / size : kMaxRun;
  for (size_t i = between(1, room); i > 1; i--) add(&burst, size);
  add(&burst, between(kLeast, size));
  burst.run = burst.count;
  for (size_t i = between(0, kMaxSingles); i > 0; i--) add(&burst, between(kLeast, most));
  if (fragments && most < kMaxPayload)
    add(&burst, between(most + 1, 5 * most < kMaxPayload ? 5 * most : kMaxPayload));
  return burst;
}

/* The run as one message; 0 where this kernel has no way to. */
static int send_run(int fd, const struct burst* burst, uint8_t* bytes) {
  size_t length = 0;
  for (size_t i = 0; i < burst->run; i++) length += burst->sizes[i];
  struct iovec vector = {bytes, length};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(uint16_t))];
  } control = {0};
  struct msghdr message = {.msg_iov = &vector,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof control.bytes};
  struct cmsghdr* segment = CMSG_FIRSTHDR(&message);
  segment->cmsg_level = IPPROTO_UDP;
  segment->cmsg_type = UDP_SEGMENT;
  segment->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  uint16_t size = (uint16_t)burst->sizes[0];
  memcpy(CMSG_DATA(segment), &size, sizeof size);
  return sendmsg(fd, &message, 0) == (ssize_t)length;
}

static void send_burst(int fd, const struct burst* burst) {
  static uint8_t bytes[kBurstBytes + kMaxPayload];
  struct head head = {.burst_end = (uint32_t)(tally.datagrams + burst->count)};
  uint8_t* at = bytes;
  for (size_t i = 0; i < burst->count; at += burst->sizes[i++]) {
    head.sequence = (uint32_t)tally.datagrams;
    for (size_t j = 0; j < burst->sizes[i]; j++) at[j] = (uint8_t)next_random();
    memcpy(at, &head, sizeof head);
    count(at, burst->sizes[i]);
  }
  size_t sent = burst->run > 1 && send_run(fd, burst, bytes) ? burst->run : 0;
  at = bytes;
  for (size_t i = 0; i < burst->count; at += burst->sizes[i++])
    if (i >= sent && send(fd, at, burst->sizes[i], 0) < 0) fail("send");
  uint32_t received = 0;
  while (received != head.burst_end)
    if (recv(fd, &received, sizeof received, 0) < 0) fail("no answer");
}

/* Of a packet on the way to where the socket is connected. */
static size_t path_payload(int fd, sa_family_t family) {
  int v4 = family == AF_INET;
  int headers = v4 ? kHeaders : kHeadersV6;
  int mtu = 0;
  socklen_t size = sizeof mtu;
  if (getsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu, &size) != 0)
    fail("path MTU");
  return mtu < kMaxPayload + headers ? (size_t)(mtu - headers) : kMaxPayload;
}

static void send_bursts(int fd, size_t most, int bursts) {
  struct timeval timeout = {.tv_sec = kAnswerSeconds};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  for (int i = 0; i < bursts; i++) {
    struct burst burst = plan(most, i % kFragmentsEvery == 0);
    send_burst(fd, &burst);
  }
}

int main(int argc, char** argv) {
  if (argc < 4 || (strcmp(argv[1], "send") == 0) != (argc == 5)) {
    fputs("datagrams: write receive ADDRESS PORT or send ADDRESS PORT BURSTS\n", stderr);
    return 2;
  }
  union endpoint address;
  if (parse_address(argv[2], argv[3], &address) != 0) fail(argv[2]);
  int fd = socket(address.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (argc == 5) {
    if (connect(fd, &address.any, size_of(&address)) != 0) fail("connect");
    send_bursts(fd, path_payload(fd, address.any.sa_family), atoi(argv[4]));
  } else {
    int buffer = kReceiveBuffer;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(fd, &address.any, size_of(&address)) != 0) fail("bind");
    receive(fd);
  }
  print_tally();
  return 0;
}
