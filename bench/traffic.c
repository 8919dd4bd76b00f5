/*
 * Traffic for the benchmarks: cheap enough that what is measured is the forwarder between the two
 * ends.
 *
 *   traffic receive --bind ADDRESS --port PORT
 *   traffic send    --to ADDRESS[,ADDRESS…] [--flows N] --port PORT --sizes SIZE[:WEIGHT],… [--rate
 * PPS] --seconds S traffic echo    --bind ADDRESS --port PORT traffic rtt     --to ADDRESS --port
 * PORT [--interval MICROSECONDS] --seconds S traffic spin
 *
 * SIZE is the length of the whole IPv4 packet in bytes, so that "1400" fits the same links whatever
 * carries it. Results are one JSON object on standard output; times are CLOCK_MONOTONIC in
 * nanoseconds. `receive`, `echo` and `spin` print a line "ready" first and end once standard input
 * is closed.
 *
 * Every packet carries a sequence number. The receiver counts each number once, so duplicates are
 * seen as such.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  kHeaders = 28, /* IPv4 and UDP */
  kBatch = 64,
  kMaxSize = 65535,
  kMaxPattern = 256,
  kMaxTargets = 65536,
  kSocketBuffer = 16 << 20,
  kQuietMs = 150,   /* a receiver that was told to end waits until nothing has come for so long */
  kTickNs = 100000, /* pace of a limited sender: at 50,000 packets a second it sends 5 at a time */
  kMaxSequence = 1 << 28,
};

struct options {
  struct in_addr targets[kMaxTargets];
  int target_count;
  struct in_addr bind;
  uint16_t port;
  int pattern[kMaxPattern]; /* payload sizes in the order they are sent */
  int pattern_length;
  double rate;
  double seconds;
  long interval_us;
};

struct stamp {
  uint64_t sent_ns;
  uint32_t sequence;
} __attribute__((packed));

static struct options options;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char* format, ...) {
  va_list args;
  va_start(args, format);
  fputs("traffic: ", stderr);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void ready(void) {
  puts("ready");
  fflush(stdout);
}

/* True once the other end of standard input is gone. */
static int input_closed(void) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  char byte;
  return poll(&input, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

static int open_socket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket: %s", strerror(errno));
  int size = kSocketBuffer;
  /* The limit of the system may be lower, and without CAP_NET_ADMIN it counts. */
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  return fd;
}

static struct sockaddr_in socket_address(struct in_addr address) {
  return (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr = address};
}

static int open_bound(void) {
  int fd = open_socket();
  struct sockaddr_in local = socket_address(options.bind);
  if (bind(fd, (struct sockaddr*)&local, sizeof local) != 0) fail("bind: %s", strerror(errno));
  struct timeval timeout = {.tv_usec = kQuietMs * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  return fd;
}

static int open_connected(void) {
  int fd = open_socket();
  struct sockaddr_in peer = socket_address(options.targets[0]);
  if (connect(fd, (struct sockaddr*)&peer, sizeof peer) != 0) fail("connect: %s", strerror(errno));
  return fd;
}

/* ---- receive
 * ---------------------------------------------------------------------------------------------- */

/* One bit a sequence number; the kernel provides the pages that are used. */
static uint8_t seen[kMaxSequence / 8];

struct tally {
  uint64_t packets, bytes, duplicates, foreign, first_ns, last_ns;
};

static void count_packet(struct tally* tally, const struct mmsghdr* message,
                         const struct stamp* stamp) {
  uint32_t sequence = stamp->sequence;
  if (message->msg_len < sizeof *stamp || sequence >= kMaxSequence) {
    tally->foreign++;
    return;
  }
  uint8_t bit = (uint8_t)(1u << (sequence & 7));
  if (seen[sequence >> 3] & bit) {
    tally->duplicates++;
    return;
  }
  seen[sequence >> 3] |= bit;
  tally->packets++;
  tally->bytes += message->msg_len;
}

static int receive(void) {
  int fd = open_bound();
  static struct stamp stamps[kBatch];
  static struct iovec vectors[kBatch];
  static struct mmsghdr messages[kBatch];
  for (int i = 0; i < kBatch; i++) {
    /* Only the stamp is copied; MSG_TRUNC still tells the length. */
    vectors[i] = (struct iovec){.iov_base = &stamps[i], .iov_len = sizeof stamps[i]};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
  }
  struct tally tally = {0};
  int told_to_end = 0;
  ready();
  for (;;) {
    int count = recvmmsg(fd, messages, kBatch, MSG_WAITFORONE | MSG_TRUNC, NULL);
    if (count < 0) {
      if (errno == EINTR || errno == ECONNREFUSED) continue;
      if (errno != EAGAIN) fail("recvmmsg: %s", strerror(errno));
      if (told_to_end) break;
      told_to_end = input_closed();
      continue;
    }
    uint64_t now = now_ns();
    if (tally.packets == 0) tally.first_ns = now;
    for (int i = 0; i < count; i++) count_packet(&tally, &messages[i], &stamps[i]);
    tally.last_ns = now;
  }
  printf(
      "{\"packets\":%lu,\"bytes\":%lu,\"duplicates\":%lu,\"foreign\":%lu,\"first_ns\":%lu,\"last_"
      "ns\":%lu}\n",
      tally.packets, tally.bytes, tally.duplicates, tally.foreign, tally.first_ns, tally.last_ns);
  return 0;
}

/* ---- send
 * -------------------------------------------------------------------------------------------------
 */

struct sender {
  int fd;
  struct mmsghdr messages[kBatch];
  struct iovec vectors[kBatch][2];
  struct stamp stamps[kBatch];
  struct sockaddr_in names[kBatch];
  uint64_t sent, bytes, refused;
};

static uint8_t filler[kMaxSize];

static void prepare(struct sender* sender) {
  for (int i = 0; i < kBatch; i++) {
    sender->vectors[i][0] =
        (struct iovec){.iov_base = &sender->stamps[i], .iov_len = sizeof sender->stamps[i]};
    sender->vectors[i][1].iov_base = filler;
    sender->messages[i].msg_hdr = (struct msghdr){.msg_iov = sender->vectors[i], .msg_iovlen = 2};
  }
  if (options.target_count == 1) {
    sender->fd = open_connected();
    return;
  }
  sender->fd = open_socket();
  for (int i = 0; i < kBatch; i++) {
    sender->messages[i].msg_hdr.msg_name = &sender->names[i];
    sender->messages[i].msg_hdr.msg_namelen = sizeof sender->names[i];
  }
}

/* Sends the next `count` packets of the pattern, at most kBatch. A packet that is refused is not
 * tried again. */
static void send_batch(struct sender* sender, int count) {
  for (int i = 0; i < count; i++) {
    uint64_t number = sender->sent + sender->refused + (uint64_t)i;
    size_t payload = (size_t)options.pattern[number % (uint64_t)options.pattern_length];
    sender->stamps[i].sequence = (uint32_t)number;
    sender->vectors[i][1].iov_len = payload - sizeof(struct stamp);
    if (options.target_count > 1) {
      sender->names[i] = socket_address(options.targets[number % (uint64_t)options.target_count]);
    }
  }
  int done = sendmmsg(sender->fd, sender->messages, (unsigned)count, 0);
  if (done < 0) {
    /* ECONNREFUSED reports an earlier packet; EMSGSIZE and the like will not mend themselves. */
    if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED && errno != EINTR)
      fail("sendmmsg: %s", strerror(errno));
    sender->refused += errno == ENOBUFS || errno == EAGAIN;
    return;
  }
  for (int i = 0; i < done; i++) sender->bytes += sender->messages[i].msg_len;
  sender->sent += (uint64_t)done;
}

static void send_flat_out(struct sender* sender, uint64_t end) {
  while (now_ns() < end) send_batch(sender, kBatch);
}

static void sleep_until(uint64_t at) {
  struct timespec time = {.tv_sec = (time_t)(at / 1000000000u),
                          .tv_nsec = (long)(at % 1000000000u)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* Sleeps between bursts instead of spinning: the processor is wanted by the forwarder. */
static void send_paced(struct sender* sender, uint64_t start, uint64_t end) {
  double owed = 0;
  /* A sender that overslept catches up on so much and no more: the rest would be a burst nobody
   * asked for. */
  double most = options.rate * 0.005 + 1;
  uint64_t before = start;
  for (uint64_t now = start; now < end; now = now_ns()) {
    owed += options.rate * (double)(now - before) * 1e-9;
    before = now;
    if (owed > most) owed = most;
    while (owed >= 1) {
      int count = owed < kBatch ? (int)owed : kBatch;
      send_batch(sender, count);
      owed -= count;
    }
    sleep_until(now + kTickNs);
  }
}

static int send_packets(void) {
  static struct sender sender;
  prepare(&sender);
  uint64_t start = now_ns();
  uint64_t end = start + (uint64_t)(options.seconds * 1e9);
  if (options.rate > 0)
    send_paced(&sender, start, end);
  else
    send_flat_out(&sender, end);
  uint64_t last = now_ns();
  printf("{\"packets\":%lu,\"bytes\":%lu,\"refused\":%lu,\"first_ns\":%lu,\"last_ns\":%lu}\n",
         sender.sent, sender.bytes, sender.refused, start, last);
  return 0;
}

/* ---- round trips
 * ------------------------------------------------------------------------------------------ */

static int echo(void) {
  int fd = open_bound();
  ready();
  for (;;) {
    char buffer[2048];
    struct sockaddr_in from;
    socklen_t from_length = sizeof from;
    ssize_t length = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr*)&from, &from_length);
    if (length < 0) {
      if (errno == EAGAIN && input_closed()) return 0;
      continue;
    }
    sendto(fd, buffer, (size_t)length, 0, (struct sockaddr*)&from, from_length);
  }
}

static int by_value(const void* a, const void* b) {
  uint32_t left = *(const uint32_t*)a, right = *(const uint32_t*)b;
  return left < right ? -1 : left > right;
}

/* The smallest time that at least `share` of the round trips do not exceed; nanoseconds. */
static uint32_t quantile(const uint32_t* sorted, size_t count, double share) {
  if (count == 0) return 0;
  size_t rank = (size_t)(share * (double)count);
  return sorted[rank < count ? rank : count - 1];
}

/*
 * Sends at fixed times, whether or not the answers have come: a sender that waited for them would
 * not ask while the path is slow, and miss just the times it is here for.
 */
static int round_trips(void) {
  int fd = open_connected();
  size_t room = (size_t)(options.seconds * 1e6 / (double)options.interval_us) + 16;
  uint32_t* times = malloc(room * sizeof *times);
  if (times == NULL) fail("no memory for %zu round trips", room);
  size_t received = 0;
  uint32_t sent = 0;
  uint64_t start = now_ns(), next = start;
  uint64_t last_send = start + (uint64_t)(options.seconds * 1e9);
  uint64_t end = last_send + 500000000u;
  uint8_t packet[64 - kHeaders] = {0};
  for (uint64_t now = start; now < end && (now < last_send || received < sent); now = now_ns()) {
    if (now >= next && now < last_send) {
      struct stamp stamp = {.sent_ns = now, .sequence = sent++};
      memcpy(packet, &stamp, sizeof stamp);
      if (send(fd, packet, sizeof packet, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS)
        fail("send: %s", strerror(errno));
      next += (uint64_t)options.interval_us * 1000u;
    }
    uint64_t wake = now < last_send ? next : end;
    now = now_ns();
    uint64_t pause = wake > now ? wake - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(pause / 1000000000u),
                               .tv_nsec = (long)(pause % 1000000000u)};
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (ppoll(&readable, 1, &timeout, NULL) <= 0) continue;
    struct stamp stamp;
    while (recv(fd, &stamp, sizeof stamp, MSG_DONTWAIT | MSG_TRUNC) >= (ssize_t)sizeof stamp) {
      if (received < room) times[received++] = (uint32_t)(now_ns() - stamp.sent_ns);
    }
  }
  qsort(times, received, sizeof *times, by_value);
  printf(
      "{\"sent\":%u,\"received\":%zu,\"p50_ns\":%u,\"p99_ns\":%u,\"p999_ns\":%u,\"max_ns\":%u}\n",
      sent, received, quantile(times, received, 0.5), quantile(times, received, 0.99),
      quantile(times, received, 0.999), quantile(times, received, 1));
  free(times);
  return 0;
}

/* ---- spin
 * -------------------------------------------------------------------------------------------------
 */

static void* spin_on(void* argument) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((int)(intptr_t)argument, &set);
  struct sched_param none = {0};
  if (sched_setaffinity(0, sizeof set, &set) != 0 || sched_setscheduler(0, SCHED_IDLE, &none) != 0)
    fail("cannot become an idle task: %s", strerror(errno));
  for (;;) __asm__ volatile("" ::: "memory");
  return NULL;
}

/* Keeps every processor out of its idle states with a thread that yields to anything else. */
static int spin(void) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    fail("sched_getaffinity: %s", strerror(errno));
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    pthread_t thread;
    if (!CPU_ISSET(cpu, &allowed)) continue;
    if (pthread_create(&thread, NULL, spin_on, (void*)(intptr_t)cpu) != 0)
      fail("cannot start a thread");
  }
  ready();
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) continue;
  return 0;
}

/* ---- command line
 * ----------------------------------------------------------------------------------------- */

static void parse_targets(char* text, int flows) {
  /* Flows differ in their destination: the last number of the address counts up. */
  for (char* part = strtok(text, ","); part != NULL; part = strtok(NULL, ",")) {
    struct in_addr base;
    if (inet_pton(AF_INET, part, &base) != 1) fail("%s is not an IPv4 address", part);
    for (int flow = 0; flow < flows; flow++) {
      if (options.target_count == kMaxTargets) fail("more than %d flows", kMaxTargets);
      options.targets[options.target_count++].s_addr = htonl(ntohl(base.s_addr) + (uint32_t)flow);
    }
  }
  /* Neighbours in the list go to different hosts, as packets of many users would. */
  static struct in_addr mixed[kMaxTargets];
  int hosts = options.target_count / flows;
  for (int i = 0; i < options.target_count; i++)
    mixed[i] = options.targets[(i % hosts) * flows + i / hosts];
  memcpy(options.targets, mixed, sizeof mixed);
}

/* Spreads the sizes evenly by their weights (smooth weighted round robin). */
static void parse_sizes(char* text) {
  int sizes[16], weights[16], credit[16] = {0}, count = 0, total = 0;
  for (char* part = strtok(text, ","); part != NULL && count < 16;
       part = strtok(NULL, ","), count++) {
    weights[count] = 1;
    if (sscanf(part, "%d:%d", &sizes[count], &weights[count]) < 1) fail("%s is not a size", part);
    if (sizes[count] < kHeaders + (int)sizeof(struct stamp) || sizes[count] > kMaxSize)
      fail("a packet of %d bytes cannot be sent", sizes[count]);
    total += weights[count];
  }
  if (total < 1 || total > kMaxPattern) fail("the weights must add up to 1 to %d", kMaxPattern);
  for (options.pattern_length = 0; options.pattern_length < total; options.pattern_length++) {
    int best = 0;
    for (int i = 0; i < count; i++) {
      credit[i] += weights[i];
      if (credit[i] > credit[best]) best = i;
    }
    credit[best] -= total;
    options.pattern[options.pattern_length] = sizes[best] - kHeaders;
  }
}

static void parse_options(int argc, char** argv) {
  static const struct option names[] = {
      {"bind", required_argument, NULL, 'b'},
      {"to", required_argument, NULL, 't'},
      {"port", required_argument, NULL, 'p'},
      {"flows", required_argument, NULL, 'f'},
      {"sizes", required_argument, NULL, 's'},
      {"rate", required_argument, NULL, 'r'},
      {"seconds", required_argument, NULL, 'd'},
      {"interval", required_argument, NULL, 'i'},
      {NULL, 0, NULL, 0},
  };
  options.seconds = 1;
  options.interval_us = 1000;
  char* targets = NULL;
  int flows = 1;
  for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    switch (option) {
      case 'b':
        if (inet_pton(AF_INET, optarg, &options.bind) != 1)
          fail("%s is not an IPv4 address", optarg);
        break;
      case 't':
        targets = optarg;
        break;
      case 'p':
        options.port = (uint16_t)atoi(optarg);
        break;
      case 'f':
        flows = atoi(optarg);
        break;
      case 's':
        parse_sizes(optarg);
        break;
      case 'r':
        options.rate = atof(optarg);
        break;
      case 'd':
        options.seconds = atof(optarg);
        break;
      case 'i':
        options.interval_us = atol(optarg);
        break;
      default:
        exit(2);
    }
  }
  if (flows < 1 || options.interval_us < 1) fail("flows and interval must be 1 or more");
  if (targets != NULL) parse_targets(targets, flows);
}

int main(int argc, char** argv) {
  const char* command = argc > 1 ? argv[1] : "";
  prctl(PR_SET_TIMERSLACK, 1);
  if (argc > 1) parse_options(argc - 1, argv + 1);
  if (strcmp(command, "receive") == 0) return receive();
  if (strcmp(command, "echo") == 0) return echo();
  if (strcmp(command, "spin") == 0) return spin();
  if (strcmp(command, "rtt") == 0 && options.target_count > 0) return round_trips();
  if (strcmp(command, "send") == 0 && options.target_count > 0 && options.pattern_length > 0)
    return send_packets();
  fail("write receive, send, echo, rtt or spin, with the options in traffic.c");
}
