// Whatever comes over a control socket, with whatever descriptors: a message, or the end of the
// conversation; an offer that is taken is what it says; and no descriptor is left behind.
#include "handover.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "claim.h"
#include "fuzz.h"
#include "tun.h"

namespace flannel::fuzz {
namespace {

constexpr size_t kMostDescriptors = 8;

/// How many are open, of the first few hundred: one call, where /proc would take one for each.
size_t open_descriptors() {
  std::array<pollfd, 256> all{};
  for (size_t i = 0; i < all.size(); i++) all[i].fd = static_cast<int>(i);
  ::poll(all.data(), all.size(), 0);
  return static_cast<size_t>(
      std::ranges::count_if(all, [](const pollfd& one) { return (one.revents & POLLNVAL) == 0; }));
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

UniqueFd file_of(const Bytes& bytes) {
  UniqueFd file(::memfd_create("fuzz", MFD_CLOEXEC));
  EXPECT_EQ(::write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return file;
}

Bytes content_of(const UniqueFd& file) {
  Bytes bytes(static_cast<size_t>(::lseek(file.get(), 0, SEEK_END)));
  EXPECT_EQ(::pread(file.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

/// What a file of routes is made of, told by files that were written.
struct Form {
  Bytes front;
  size_t record;

  static Form of(const Route& route) {
    const Bytes one = content_of(routes_to_file(std::array{route}));
    const Bytes two = content_of(routes_to_file(std::array{route, route}));
    const size_t record = two.size() - one.size();
    return {{one.begin(), one.end() - static_cast<ptrdiff_t>(record)}, record};
  }
  [[nodiscard]] bool begins(const Bytes& bytes) const {
    return bytes.size() >= front.size() && std::equal(front.begin(), front.end(), bytes.begin());
  }
  [[nodiscard]] size_t records(const Bytes& bytes) const {
    return (bytes.size() - front.size()) / record;
  }
};

const Route kRoute{{0x0af40200, 24}, {Address::of_ipv4(1), 2}};
const Route kRoute6{{Address{0xfd00'0010'0244'0002, 0}, 64}, {Address{0xfd00, 3}, 4}};

bool same_way(const Route& a, const Route& b) {
  return a.prefix == b.prefix && a.next_hop == b.next_hop;
}

/// `both`: in the form of both families, else as it comes.
void read_routes(Input& input, bool both) {
  static const Form ipv4 = Form::of(kRoute);
  static const Form either = Form::of(kRoute6);
  EXPECT_TRUE(ipv4.front.empty());
  Bytes bytes = both ? either.front : Bytes();
  const Bytes rest = input.rest();
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  const std::vector<Route> routes = routes_from_file(file_of(bytes).get());
  EXPECT_EQ(routes.size(), (either.begins(bytes) ? either : ipv4).records(bytes));
  RouteTable table;
  try {
    table.assign(routes);
  } catch (const std::invalid_argument&) {
    return;  // so told, and the table before it stays
  }
  const std::vector<Route> again = routes_from_file(routes_to_file(table.routes()).get());
  EXPECT_TRUE(std::ranges::equal(again, table.routes(), same_way));
}

/// The owner of a control socket, who answers a caller with what an input holds. He does so within
/// the call of connect(), below: a thread of his own would be all that a run waits for.
class Owner {
 public:
  using Answers = std::vector<std::pair<Bytes, size_t>>;

  static Owner& only() {
    static Owner owner;
    return owner;
  }
  ~Owner() { ::unlink(path.c_str()); }

  void expect(Answers answers) { answers_ = std::move(answers); }

  /// What he says stays readable, the call is good for hello, and an end follows.
  void answer() {
    caller_ = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    for (const auto& [bytes, descriptors] : answers_) send_raw(caller_.get(), bytes, descriptors);
    ::shutdown(caller_.get(), SHUT_WR);
  }

  /// The message that the caller has begun with.
  void expect_hello() {
    Message hello;
    const auto receive = [&] { return ::recv(caller_.get(), &hello, sizeof hello, MSG_DONTWAIT); };
    ssize_t received = receive();
    // Told once, ahead of what was sent, where the caller has left something unread.
    if (received < 0 && errno == ECONNRESET) received = receive();
    EXPECT_EQ(received, static_cast<ssize_t>(sizeof hello));
    EXPECT_EQ(hello.step, Step::hello);
    caller_.reset();
  }

  const std::string path =
      (std::filesystem::temp_directory_path() / ("fuzz-" + std::to_string(::getpid()))).string();

 private:
  Answers answers_;
  UniqueFd listener_ = listen_at(path);
  UniqueFd caller_;
};

void claim_offer(Input& input) {
  Owner::Answers answers;
  while (!input.empty() && answers.size() < 4) {
    const size_t descriptors = input.byte() % (kMostDescriptors + 1);
    answers.emplace_back(message_from(input), descriptors);
  }
  Owner& owner = Owner::only();
  owner.expect(std::move(answers));
  try {
    const Claim claim = claim_to_stand_by(owner.path);
    ASSERT_TRUE(claim.inheritance.has_value());
    EXPECT_FALSE(claim.inheritance->queues.empty());
    EXPECT_LE(claim.inheritance->source_check, SourceCheck::subnet);
    for (const Queue& queue : claim.inheritance->queues) {
      EXPECT_TRUE(queue.tun.valid() && queue.udp.valid());
    }
  } catch (const SystemError&) {
    // So told.
  }
  owner.expect_hello();
}

}  // namespace

void run(std::span<const uint8_t> bytes) {
  static const int tun = tun_or_not();  // counted from the first time on
  ASSERT_GE(tun, 0);
  Input input(bytes);
  const uint8_t what = input.byte();
  send_raw(-1, {}, 1);  // likewise
  Owner::only();
  const size_t before = open_descriptors();
  switch (what % 3) {
    case 0:
      receive(input);
      break;
    case 1:
      read_routes(input, what % 2 == 0);
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
  const Message dual{.step = Step::offer,
                     .descriptors = 4,
                     .queues = 1,
                     .virtio = 1,
                     .source_check = 2,
                     .clamp_mtu = 1372,
                     .probe_mtu = 1,
                     .knows_ipv6 = 1,
                     .outer_address = {0xfd, 15, 1},
                     .tunnel_address_ipv6 = {0xfd, 14, 2}};
  result.push_back(Seed().byte(2).byte(4).byte(1).bytes(body(dual)));
  for (const uint8_t step : {1, 2, 3}) {
    Message message = dual;
    message.step = static_cast<Step>(step);
    result.push_back(Seed().byte(0).byte(4).byte(0).byte(1).bytes(body(message)));
  }
  for (const auto& routes : {std::vector{kRoute, kRoute}, std::vector{kRoute, kRoute6}}) {
    result.push_back(Seed().byte(1).bytes(content_of(routes_to_file(routes))));
  }
  return result;
}

}  // namespace flannel::fuzz

/// In the place of the C library's.
extern "C" int connect(int fd, const sockaddr* address, socklen_t length) {
  const auto result = static_cast<int>(::syscall(SYS_connect, fd, address, length));
  if (result == 0) flannel::fuzz::Owner::only().answer();
  return result;
}
