// Whatever comes over a control socket, with whatever descriptors: a message, or the end of the
// conversation; an offer that is taken is what it says; and no descriptor is left behind.
#include "handover.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "claim.h"
#include "fuzz.h"
#include "tun.h"

namespace flannel::fuzz {
namespace {

constexpr size_t kMostDescriptors = 8;

size_t open_descriptors() {
  const auto folder = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(folder), end(folder)));
}

/// A queue of a TUN device where this process may have one, since only that passes for one.
int tun_or_not() {
  static const UniqueFd tun = [] {
    try {
      if (::unshare(CLONE_NEWNET) != 0) return UniqueFd();
      return std::move(open_tun("fuzz%d", 1, true, {}).queues.front());
    } catch (const SystemError&) {
      return UniqueFd();
    }
  }();
  return tun.valid() ? tun.get() : 0;
}

void send_raw(int socket, const Bytes& bytes, size_t descriptors) {
  static const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  std::array<int, kMostDescriptors> files{};
  for (size_t i = 0; i < descriptors; i++) files[i] = i == 2 ? tun_or_not() : event.get();
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof files)> control{};
  iovec piece{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (descriptors > 0) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors * sizeof(int));
    std::memcpy(CMSG_DATA(rights), files.data(), descriptors * sizeof(int));
  }
  ::sendmsg(socket, &header, MSG_NOSIGNAL);
}

/// The bytes of a message, as a whole or broken off.
Bytes message_from(Input& input) {
  if (input.byte() % 4 == 0) return input.packet();
  Message message;
  const Bytes body = input.bytes(sizeof message - offsetof(Message, step));
  std::copy(body.begin(), body.end(),
            reinterpret_cast<uint8_t*>(&message) + offsetof(Message, step));
  const auto* bytes = reinterpret_cast<const uint8_t*>(&message);
  return {bytes, bytes + sizeof message};
}

void receive(Input& input) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd peer(ends[0]);
  Connection connection{UniqueFd(ends[1])};
  while (!input.empty()) {
    const size_t descriptors = input.byte() % (kMostDescriptors + 1);
    const bool takes = input.byte() % 2 == 0;
    send_raw(peer.get(), message_from(input), descriptors);
    Message message;
    std::vector<UniqueFd> taken;
    const auto received =
        connection.receive(message, std::chrono::steady_clock::now(), takes ? &taken : nullptr);
    if (received != Connection::Received::message) continue;
    EXPECT_EQ(message.magic, Message::kMagic);
    EXPECT_LT(message.said().size(), sizeof message.text + 1);
    EXPECT_EQ(taken.size(), takes ? descriptors : 0);
  }
}

void read_routes(Input& input) {
  const UniqueFd file(::memfd_create("fuzz", MFD_CLOEXEC));
  const Bytes bytes = input.rest();
  ASSERT_EQ(::write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const std::vector<Route> routes = routes_from_file(file.get());
  EXPECT_EQ(routes.size(), bytes.size() / sizeof(Route));
  RouteTable table;
  try {
    table.assign(routes);
    Fib::build(table.routes());
  } catch (const std::invalid_argument&) {
    return;  // so told, and the table before it stays
  }
}

void claim_offer(Input& input) {
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("fuzz-" + std::to_string(::getpid()))).string();
  const UniqueFd listener = listen_at(path);
  std::vector<std::pair<Bytes, size_t>> answers;
  while (!input.empty() && answers.size() < 4) {
    const size_t descriptors = input.byte() % (kMostDescriptors + 1);
    answers.emplace_back(message_from(input), descriptors);
  }
  std::thread owner([&] {
    pollfd polled{listener.get(), POLLIN, 0};
    ::poll(&polled, 1, -1);
    const UniqueFd caller(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    Message hello;
    ::recv(caller.get(), &hello, sizeof hello, 0);  // closed with it unread, all would be a reset
    for (const auto& [bytes, descriptors] : answers) send_raw(caller.get(), bytes, descriptors);
  });
  try {
    const Claim claim = claim_to_stand_by(path);
    ASSERT_TRUE(claim.inheritance.has_value());
    EXPECT_FALSE(claim.inheritance->queues.empty());
    for (const Queue& queue : claim.inheritance->queues) {
      EXPECT_TRUE(queue.tun.valid() && queue.udp.valid());
    }
  } catch (const SystemError&) {
    // So told.
  }
  owner.join();
  ::unlink(path.c_str());
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  static const int tun = tun_or_not();  // counted from the first time on
  ASSERT_GE(tun, 0);
  Input input(bytes);
  const uint8_t what = input.byte();
  send_raw(-1, {}, 1);  // likewise
  const size_t before = open_descriptors();
  switch (what % 3) {
    case 0:
      receive(input);
      break;
    case 1:
      read_routes(input);
      break;
    default:
      claim_offer(input);
      break;
  }
  EXPECT_EQ(open_descriptors(), before);
}

std::vector<Seed> seeds() {
  std::vector<Seed> result;
  const auto body = [](const Message& message) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&message);
    return Bytes(bytes + offsetof(Message, step), bytes + sizeof message);
  };
  for (uint32_t step = 0; step < 14; step++) {
    Message message{.step = static_cast<Step>(step)};
    message.say("a reason");
    result.push_back(Seed().byte(0).byte(step % 9).byte(step).byte(1).bytes(body(message)));
  }
  result.push_back(Seed().byte(0).byte(2).byte(0).byte(0).be16(3).bytes(Bytes(3)));
  const Message offer{.step = Step::offer, .descriptors = 4, .queues = 1, .virtio = 1};
  result.push_back(Seed().byte(2).byte(4).byte(1).bytes(body(offer)));
  const Message several{.step = Step::offer, .descriptors = 8, .queues = 2, .senders = 1};
  result.push_back(Seed().byte(2).byte(8).byte(1).bytes(body(several)));
  const Message refusal{.step = Step::refuse};
  result.push_back(Seed().byte(2).byte(0).byte(1).bytes(body(refusal)));
  const std::vector<Route> routes{{{0x0af40200, 24}, {Address::of_ipv4(1), 2}},
                                  {{0x0af40300, 24}, {Address::of_ipv4(3), 4}}};
  const auto* bytes = reinterpret_cast<const uint8_t*>(routes.data());
  result.push_back(Seed().byte(1).bytes({bytes, bytes + routes.size() * sizeof(Route)}));
  return result;
}

}  // namespace flannel::fuzz
