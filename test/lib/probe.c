/*
 * What a path loses: numbered datagrams at a fixed rate, one way.
 *
 *   probe receive ADDRESS PORT
 *   probe send ADDRESS PORT RATE       RATE in packets a second, up to 100,000
 *
 * Both print a line "ready" and run until standard input is closed or SIGTERM comes. Then they
 * print a summary, one JSON object in a line; for every line that is written to standard input
 * before, they print one as well and go on:
 *
 *   sent            numbers used; one that the kernel refused (no route, no buffer) is lost as well
 *   refused         those among them
 *   received        different numbers that arrived
 *   missing         numbers below the highest one received that have not arrived (yet)
 *   duplicated      arrivals of a number that was there already
 *   reordered       arrivals after that of a higher number
 *   foreign         datagrams that are none of this sender's
 *   gap_ms          longest time between two arrivals since the previous summary
 *   gap_at_ms       when that began, in milliseconds since the epoch; 0 for no gap
 *
 * Stop the sender first: the receiver then waits for what is under way. Arrival is when the kernel
 * got a datagram, so a receiver that has to wait for a processor tells no gap that was none.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "endpoint.h"

enum {
  kBatch = 128,
  kMaxRate = 100000,
  kTickNs = 1000000,
  kMostLateNs = 5000000, /* a sender that overslept sends at once what was due since then */
  kReceiveBuffer = 8 << 20,
  kQuietMs = 200,
  kPayload = 64,
};

static const uint64_t kMaxNumber = 1u << 30; /* 29 h at 10,000 packets a second */

struct datagram {
  uint64_t run; /* tells senders apart */
  uint64_t number;
  uint8_t filler[kPayload - 16];
};

static volatile sig_atomic_t told_to_end;

__attribute__((noreturn)) static void fail(const char* what) {
  fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void end_on_signal(int number) {
  (void)number;
  told_to_end = 1;
}

static uint64_t nanoseconds(struct timespec time) {
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return nanoseconds(now);
}

static int open_socket(int family) {
  int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  int size = kReceiveBuffer;
  /* The limit of the system may be lower, and without CAP_NET_ADMIN it counts. */
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  return fd;
}

/* What has been written to standard input: how many summaries to print now. Its end ends all. */
static int summaries_wanted(void) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  char text[256];
  if (poll(&input, 1, 0) <= 0) return 0;
  ssize_t length = read(STDIN_FILENO, text, sizeof text);
  if (length == 0 || (length < 0 && errno != EINTR && errno != EAGAIN)) told_to_end = 1;
  int lines = 0;
  for (ssize_t i = 0; i < length; i++) lines += text[i] == '\n';
  return lines;
}

static void ready(void) {
  puts("ready");
  fflush(stdout);
}

/* ---- receive ---- */

static struct {
  uint64_t received, duplicated, reordered, foreign;
  uint64_t run, next; /* one more than the highest number */
  uint64_t last_ns, gap_ns, gap_at_ns;
} arrivals;

/* One bit a number; the kernel provides the pages that are used. */
static uint8_t seen[(1u << 30) / 8];

static void count(const struct datagram* datagram, size_t size, uint64_t at_ns) {
  if (arrivals.received == 0) arrivals.run = datagram->run;
  uint64_t number = datagram->number;
  if (size != sizeof *datagram || datagram->run != arrivals.run || number >= kMaxNumber) {
    arrivals.foreign++;
    return;
  }
  if (arrivals.received > 0 && at_ns > arrivals.last_ns &&
      at_ns - arrivals.last_ns > arrivals.gap_ns) {
    arrivals.gap_ns = at_ns - arrivals.last_ns;
    arrivals.gap_at_ns = arrivals.last_ns;
  }
  arrivals.last_ns = at_ns;
  uint8_t bit = (uint8_t)(1u << (number & 7));
  if (seen[number >> 3] & bit) {
    arrivals.duplicated++;
    return;
  }
  seen[number >> 3] |= bit;
  arrivals.received++;
  if (number < arrivals.next)
    arrivals.reordered++;
  else
    arrivals.next = number + 1;
}

static void print_arrivals(void) {
  printf("{\"received\":%" PRIu64 ",\"missing\":%" PRIu64 ",\"duplicated\":%" PRIu64
         ",\"reordered\":%" PRIu64 ",\"foreign\":%" PRIu64 ",\"gap_ms\":%.3f,\"gap_at_ms\":%" PRIu64
         "}\n",
         arrivals.received, arrivals.next - arrivals.received, arrivals.duplicated,
         arrivals.reordered, arrivals.foreign, (double)arrivals.gap_ns * 1e-6,
         arrivals.gap_at_ns / 1000000u);
  fflush(stdout);
  arrivals.gap_ns = arrivals.gap_at_ns = 0;
}

/* CLOCK_REALTIME at arrival, as the kernel noted it. */
static uint64_t arrival_ns(struct msghdr* message) {
  for (struct cmsghdr* note = CMSG_FIRSTHDR(message); note != NULL;
       note = CMSG_NXTHDR(message, note)) {
    if (note->cmsg_level != SOL_SOCKET || note->cmsg_type != SO_TIMESTAMPNS) continue;
    struct timespec time;
    memcpy(&time, CMSG_DATA(note), sizeof time);
    return nanoseconds(time);
  }
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return nanoseconds(now);
}

static void receive_waiting(int fd) {
  static struct datagram datagrams[kBatch];
  static struct iovec vectors[kBatch];
  static struct mmsghdr messages[kBatch];
  static union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct timespec))];
  } notes[kBatch];
  for (;;) {
    for (int i = 0; i < kBatch; i++) {
      vectors[i] = (struct iovec){&datagrams[i], sizeof datagrams[i]};
      messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i],
                                            .msg_iovlen = 1,
                                            .msg_control = &notes[i],
                                            .msg_controllen = sizeof notes[i]};
    }
    int number = recvmmsg(fd, messages, kBatch, MSG_DONTWAIT, NULL);
    if (number < 0 && errno != EAGAIN && errno != EINTR) fail("recvmmsg");
    for (int i = 0; i < number; i++)
      count(&datagrams[i], messages[i].msg_len, arrival_ns(&messages[i].msg_hdr));
    if (number < kBatch) return;
  }
}

static void receive(int fd) {
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  ready();
  struct pollfd inputs[] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
  const struct timespec tick = {.tv_nsec = kTickNs};
  while (!told_to_end) {
    /* Not for ever: a signal may have come just before. */
    if (poll(inputs, 2, kQuietMs) < 0 && errno != EINTR) fail("poll");
    receive_waiting(fd);
    for (int wanted = summaries_wanted(); wanted > 0; wanted--) print_arrivals();
    /* At high rates several are worth one turn. */
    nanosleep(&tick, NULL);
  }
  while (poll(inputs, 1, kQuietMs) > 0) receive_waiting(fd);
  print_arrivals();
}

/* ---- send ---- */

struct departures {
  uint64_t sent, refused;
};

static struct departures departures;

static void print_departures(void) {
  printf("{\"sent\":%" PRIu64 ",\"refused\":%" PRIu64 "}\n", departures.sent, departures.refused);
  fflush(stdout);
}

/* Not connected: an ICMP error about one datagram must not keep the next one from leaving. */
static void send_numbers(int fd, const union endpoint* to, uint64_t run, unsigned number) {
  static struct datagram datagrams[kBatch];
  static struct iovec vectors[kBatch];
  static struct mmsghdr messages[kBatch];
  for (unsigned i = 0; i < number; i++) {
    datagrams[i].run = run;
    datagrams[i].number = departures.sent + i;
    vectors[i] = (struct iovec){&datagrams[i], sizeof datagrams[i]};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = (void*)to, .msg_namelen = size_of(to), .msg_iov = &vectors[i], .msg_iovlen = 1};
  }
  for (unsigned done = 0; done < number;) {
    int taken = sendmmsg(fd, messages + done, number - done, 0);
    if (taken < 0 && errno == EINTR) continue;
    if (taken < 0) departures.refused++;
    done += taken < 0 ? 1 : (unsigned)taken;
  }
  departures.sent += number;
}

static void send_paced(int fd, const union endpoint* to, unsigned rate) {
  uint64_t run;
  if (getrandom(&run, sizeof run, 0) != sizeof run) fail("getrandom");
  const uint64_t interval = 1000000000u / rate;
  ready();
  uint64_t due = now_ns();
  while (!told_to_end) {
    uint64_t now = now_ns();
    if (now - due > kMostLateNs && now > due) due = now - kMostLateNs;
    while (due <= now) {
      uint64_t number = (now - due) / interval + 1;
      if (number > kBatch) number = kBatch;
      send_numbers(fd, to, run, (unsigned)number);
      due += number * interval;
    }
    for (int wanted = summaries_wanted(); wanted > 0; wanted--) print_departures();
    uint64_t wake = due > now + kTickNs ? due : now + kTickNs;
    struct timespec until = {.tv_sec = (time_t)(wake / 1000000000u),
                             .tv_nsec = (long)(wake % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
  }
  print_departures();
}

int main(int argc, char** argv) {
  const int sends = argc == 5 && strcmp(argv[1], "send") == 0;
  if (!sends && !(argc == 4 && strcmp(argv[1], "receive") == 0)) {
    fputs("probe: write receive ADDRESS PORT or send ADDRESS PORT RATE\n", stderr);
    return 2;
  }
  union endpoint address;
  if (parse_address(argv[2], argv[3], &address) != 0) fail(argv[2]);
  /* No SA_RESTART: the signal is to end waiting as well. */
  struct sigaction action = {.sa_handler = end_on_signal};
  sigaction(SIGTERM, &action, NULL);
  prctl(PR_SET_TIMERSLACK, 1);
  int fd = open_socket(address.any.sa_family);
  if (sends) {
    int rate = atoi(argv[4]);
    if (rate < 1 || rate > kMaxRate) {
      errno = ERANGE;
      fail("RATE");
    }
    send_paced(fd, &address, (unsigned)rate);
  } else {
    if (bind(fd, &address.any, size_of(&address)) != 0) fail("bind");
    receive(fd);
  }
  return 0;
}
