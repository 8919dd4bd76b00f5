// Succession, as the owner: answers who calls, keeps who stands by informed, and hands over.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "handover_times.h"
#include "offer.h"
#include "succession.h"

namespace flannel {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// Inside the tunnel or around it.
bool carries_ipv6(const Estate& estate) {
  return !estate.bind_address.is_ipv4() || !estate.tunnel_addresses.ipv6.is_none();
}

}  // namespace

/// As the owner: one turn of whatever comes next.
void Succession::serve() {
  const Deadline now = steady_clock::now();
  const bool beating = now < beats_until_ && (predecessor_.valid() || standby_.valid());
  bool news = false;
  if (standby_.valid()) {
    const std::lock_guard lock(mutex_);
    news = routes_changed_;
  }
  Deadline next = Deadline::max();
  if (candidate_.valid()) next = std::min(next, candidate_until_);
  if (beating) next = std::min(next, now + kBeat);
  if (news) next = std::min(next, informed_at_ + kInform);
  int timeout = -1;
  if (next != Deadline::max()) {
    const auto left = std::chrono::ceil<milliseconds>(next - now).count();
    timeout = static_cast<int>(std::max<long>(0, left));
  }

  std::array<pollfd, 6> polled{
      pollfd{wake_.get(), POLLIN, 0},     pollfd{claim_.listener.get(), POLLIN, 0},
      pollfd{candidate_.fd(), POLLIN, 0}, pollfd{predecessor_.fd(), POLLIN, 0},
      pollfd{standby_.fd(), POLLIN, 0},   pollfd{dismissed_.fd(), POLLIN, 0}};
  if (::poll(polled.data(), polled.size(), timeout) < 0 && errno != EINTR) {
    throw SystemError(errno, "poll");
  }
  if (polled[0].revents != 0) {
    eventfd_t wakes = 0;
    ::eventfd_read(wake_.get(), &wakes);
    if (ending_) return;
  }
  if (polled[3].revents != 0) listen_to(predecessor_);
  if (polled[4].revents != 0) listen_to(standby_);
  if (standing_ != Standing::owner) return;
  stood_by_ = standby_.valid();
  if (polled[5].revents != 0) {
    Message ignored;
    const auto received = dismissed_.receive(ignored, steady_clock::now());
    if (received == Connection::Received::closed) dismissed_.close();
  }
  if (beating) beat();
  if (news && standby_.valid() && steady_clock::now() >= informed_at_ + kInform) inform_standby();
  if (polled[2].revents != 0) {
    answer();
  } else if (candidate_.valid() && steady_clock::now() >= candidate_until_) {
    dismiss(candidate_, Step::abort, "it took too long");
  }
  // Last: who has just hung up makes room.
  if (standing_ == Standing::owner && polled[1].revents != 0) accept();
}

void Succession::accept() {
  UniqueFd fd(::accept4(claim_.listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd.valid()) return;
  Connection caller(std::move(fd));
  if (!caller.trusted()) return;
  if (candidate_.valid()) {
    return dismiss(caller, Step::refuse, "another process is about to take over");
  }
  candidate_ = std::move(caller);
  candidate_until_ = steady_clock::now() + kAnswer;
}

/// What the candidate says.
void Succession::answer() {
  Message message;
  switch (candidate_.receive(message, steady_clock::now())) {
    case Connection::Received::nothing:
      return;
    case Connection::Received::closed:
      return candidate_.close();
    case Connection::Received::message:
      break;
  }
  if (message.version != Message::kVersion) {
    return dismiss(candidate_, Step::refuse,
                   "it speaks version " + std::to_string(message.version) +
                       " of the handover protocol, and the owner version " +
                       std::to_string(Message::kVersion));
  }
  switch (message.step) {
    case Step::hello:
      if (message.stands_by != 0 && standby_.valid()) {
        return dismiss(candidate_, Step::refuse, "another process stands by already");
      }
      if (message.stands_by == 0 && message.generation < claim_.generation) {
        return dismiss(candidate_, Step::refuse,
                       "the owner is of generation " + std::to_string(claim_.generation) +
                           ", and it of " + std::to_string(message.generation));
      }
      if (message.knows_ipv6 == 0 && carries_ipv6(dataplane_.estate())) {
        return dismiss(candidate_, Step::refuse, "the owner carries IPv6, which it does not know");
      }
      stands_by_ = message.stands_by != 0;
      candidate_generation_ = message.generation;
      return offer();
    case Step::ready:
      if (!stands_by_) return hand_over();
      if (candidate_.send({.step = Step::hold})) attach_standby(std::move(candidate_));
      return candidate_.close();
    default:
      return dismiss(candidate_, Step::refuse, "it said what has no place here");
  }
}

void Succession::offer() {
  if (!send_offer(candidate_, claim_, standby_, dataplane_.estate())) return candidate_.close();
  candidate_until_ = steady_clock::now() + kPreparing;
}

/// Says no, or calls it off with a successor that may believe to be the owner. The connection stays
/// until he has hung up: closed with a message of his unread, the kernel would give him a reset in
/// place of this one (unix(7)), and he might take the owner for dead.
void Succession::dismiss(Connection& connection, Step step, std::string_view reason) noexcept {
  Message message{.step = step};
  message.say(reason);
  connection.send(message);
  if (step == Step::abort) note(reason);
  dismissed_ = std::move(connection);
}

/// The moment itself. Whatever goes wrong before `taken`, this process goes on.
void Succession::hand_over() noexcept {
  if (!dataplane_.park(steady_clock::now() + kPark)) {
    return dismiss(candidate_, Step::abort, "the owner has packets that it cannot get rid of");
  }
  Message message;
  auto received = Connection::Received::closed;
  if (candidate_.send({.step = Step::go})) {
    received = candidate_.receive(message, steady_clock::now() + kTaken);
  }
  if (received != Connection::Received::message || message.step != Step::taken) {
    dataplane_.resume();
    return dismiss(candidate_, Step::abort, "it did not begin in time");
  }
  claim_.generation = std::max(claim_.generation, candidate_generation_);
  handed_over_at_ = steady_clock::now();
  on_probation_ = true;
  standing_ = Standing::parked;
  successor_ = std::move(candidate_);
  successor_.send({.step = Step::bye, .stands_by = role_ == Role::standby});
}

/// What a process that has parked says: nothing, as a rule.
void Succession::listen_to(Connection& parked) noexcept {
  Message message;
  switch (parked.receive(message, steady_clock::now())) {
    case Connection::Received::nothing:
      return;
    case Connection::Received::closed:
      return parked.close();
    case Connection::Received::message:
      break;
  }
  if (message.step != Step::abort) return;
  // He reads already. What was read here is still forwarded.
  static_cast<void>(dataplane_.park(steady_clock::now() + kPark));
  note(message.said());
  standing_ = Standing::deposed;
}

/// Shows whoever has just parked that this process lives.
void Succession::beat() noexcept {
  for (Connection* parked : {&predecessor_, &standby_}) {
    if (parked->valid()) parked->send({.step = Step::alive});
  }
  // He leaves by himself. Should he not, he is none of our concern.
  if (steady_clock::now() >= beats_until_) predecessor_.close();
}

void Succession::attach_standby(Connection connection) noexcept {
  standby_ = std::move(connection);
  informed_at_ = {};
  const std::lock_guard lock(mutex_);
  routes_changed_ = true;
  stood_by_ = true;
}

void Succession::inform_standby() noexcept {
  UniqueFd file;
  {
    const std::lock_guard lock(mutex_);
    routes_changed_ = false;
    file = routes_to_file(routes_);
  }
  informed_at_ = steady_clock::now();
  const int descriptor = file.get();
  if (file.valid() && standby_.send({.step = Step::routes}, {&descriptor, 1})) return;
  const std::lock_guard lock(mutex_);
  routes_changed_ = true;  // later, then
}

}  // namespace flannel
