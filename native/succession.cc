#include "succession.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "offer.h"

namespace flannel {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// While neither reads, packets wait in the queues, which hold some 200 ms of them at 10,000 a
// second. So the two steps in which that is the case have to be short, and so has the silence after
// which a successor is taken for dead.
constexpr milliseconds kPark{200};
constexpr milliseconds kTaken{100};
constexpr milliseconds kBeat{5};
/// How often the successor is looked after in vain, a beat each time, before it is taken for dead:
/// 50 ms. Looks are counted, not the time: what keeps the processors from one of the two processes
/// keeps them from the other as well, and the successor may only be next.
constexpr int kSilentLooks = 10;
/// Silence alone may also mean that it is the only one without a processor: unless packets wait,
/// and go on waiting for so many looks, it gets 500 ms.
constexpr int kWaitingLooks = 4;
constexpr int kMostSilentLooks = 100;
/// How long a successor is watched before the owner leaves.
constexpr milliseconds kProbation{1000};
constexpr milliseconds kBeatsFor{1500};

constexpr milliseconds kAnswer{2000};      // to hello; of an owner that parks
constexpr milliseconds kRetry{20};         // while an owner starts or ends
constexpr milliseconds kPreparing{60000};  // from the offer until it is accepted
constexpr milliseconds kInform{100};       // between two tables for the process that stands by

/// Over the device that the last owner left, or where that cannot be had, over a new one.
std::unique_ptr<Dataplane> open_anew(const DataplaneOptions& options, const std::string& device) {
  if (!device.empty()) {
    DataplaneOptions left = options;
    left.tun_name = device;
    try {
      return std::make_unique<Dataplane>(left);
    } catch (const SystemError& error) {
      if (error.call() != "TUNSETIFF") throw;
    }
  }
  return std::make_unique<Dataplane>(options);
}

/// Inside the tunnel or around it.
bool carries_ipv6(const Estate& estate) {
  return !estate.bind_address.is_ipv4() || !estate.tunnel_addresses.ipv6.is_none();
}

const char* family_of(const Address& address) {
  return address.is_ipv4() ? "IPv4" : "IPv6";
}

/// Sockets cannot change their family. Throws SystemError.
void check_family(const Address& mine, const Address& inherited) {
  if (mine.is_ipv4() == inherited.is_ipv4()) return;
  throw SystemError(EBUSY, std::string("handover: its tunnel runs over ") + family_of(inherited) +
                               " and this one's is to run over " + family_of(mine) +
                               ", so it has to end first");
}

}  // namespace

Succession::Succession(Dataplane& dataplane, Claim claim, Role role)
    : dataplane_(dataplane),
      claim_(std::move(claim)),
      role_(role),
      standing_(claim_.owner.valid() ? Standing::parked : Standing::owner),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      standby_(std::move(claim_.standby)) {
  if (!wake_.valid()) throw SystemError(errno, "eventfd");
  stood_by_ = standby_.valid();
}

Succession::Opened Succession::open(const DataplaneOptions& options,
                                    const std::string& control_socket, uint32_t generation) {
  Claim found = claim(control_socket, generation);
  Opened opened;
  if (found.inheritance) {
    check_family(options.bind_address, found.inheritance->bind_address);
    opened.dataplane = std::make_unique<Dataplane>(options, std::move(*found.inheritance));
  } else {
    try {
      opened.dataplane = open_anew(options, found.device);
    } catch (...) {
      remove_files(control_socket);
      throw;
    }
  }
  opened.succession =
      std::make_unique<Succession>(*opened.dataplane, std::move(found), Role::daemon);
  return opened;
}

void Succession::start() {
  if (started_) throw SystemError(EALREADY, "start");
  if (!claim_.owner.valid()) {
    dataplane_.start();
    leave_word(claim_, dataplane_.tun_name());
    dataplane_.set_persistent(true);
  } else if (role_ == Role::standby) {
    stand_by();
  } else {
    take_over();
  }
  started_ = true;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(), "succession");
}

void Succession::take_over() {
  // Threads first, parked: between the owner's last read and the first one here is no time for it.
  static_cast<void>(dataplane_.park(steady_clock::now()));
  dataplane_.start();
  Connection& owner = claim_.owner;
  Message answer;
  if (owner.send({.step = Step::ready})) {
    switch (owner.receive(answer, steady_clock::now() + kAnswer)) {
      case Connection::Received::message:
        if (answer.step == Step::go) break;
        throw SystemError(ECANCELED, "handover: " + answer.said());
      case Connection::Received::nothing:
        owner.send({.step = Step::abort});
        throw SystemError(ETIMEDOUT, "handover");
      case Connection::Received::closed:
        break;  // the owner has died: the queues are nobody's but ours
    }
  }
  dataplane_.resume();
  owner.send({.step = Step::taken});
  const auto received = owner.receive(answer, steady_clock::now() + kAnswer);
  if (received == Connection::Received::message && answer.step != Step::bye) {
    static_cast<void>(dataplane_.park(steady_clock::now() + kPark));
    standing_ = Standing::deposed;
    throw SystemError(ECANCELED, "handover: " + answer.said());
  }
  standing_ = Standing::owner;
  if (received != Connection::Received::message) return;  // he is dead, or as good as that
  beats_until_ = steady_clock::now() + kBeatsFor;
  if (answer.stands_by != 0) {
    attach_standby(std::move(owner));
  } else {
    predecessor_ = std::move(owner);
  }
}

void Succession::stand_by() {
  static_cast<void>(dataplane_.park(steady_clock::now()));
  dataplane_.start();
  Connection& owner = claim_.owner;
  owner.send({.step = Step::ready});
  Message answer;
  const auto received = owner.receive(answer, steady_clock::now() + kAnswer);
  if (received == Connection::Received::nothing) throw SystemError(ETIMEDOUT, "handover");
  if (received == Connection::Received::message && answer.step != Step::hold) {
    throw SystemError(ECANCELED, "handover: " + answer.said());
  }
  // An owner that is gone already is noticed by the thread.
  successor_ = std::move(owner);
  on_probation_ = false;
}

void Succession::set_routes(std::span<const Route> routes) {
  dataplane_.set_routes(routes);
  keep_routes();
}

void Succession::change_routes(std::span<const Route> changes) {
  dataplane_.change_routes(changes);
  keep_routes();
}

/// For the process that stands by.
void Succession::keep_routes() {
  {
    const std::lock_guard lock(mutex_);
    routes_.assign(dataplane_.routes().begin(), dataplane_.routes().end());
    routes_changed_ = true;
  }
  if (stood_by_) wake();
}

void Succession::end_thread() noexcept {
  ending_ = true;
  if (!thread_.joinable()) return;
  wake();
  thread_.join();
}

void Succession::abandon() noexcept {
  end_thread();
  closed_ = true;
  claim_.owner.close();
  for (Connection* connection : {&candidate_, &predecessor_, &successor_, &standby_}) {
    connection->close();
  }
  claim_.listener.reset();
  claim_.lock.reset();
}

void Succession::close() noexcept {
  if (closed_) return;
  end_thread();
  if (standing_ == Standing::owner) {
    if (candidate_.valid()) dismiss(candidate_, Step::refuse, "the owner ends");
    if (standby_.valid()) {
      // What was read goes out; the rest waits for the one who goes on when this connection ends.
      static_cast<void>(dataplane_.park(steady_clock::now() + kPark));
    } else {
      dataplane_.set_persistent(false);
      remove_files(claim_.control_socket);
    }
  }
  abandon();
}

void Succession::run() noexcept {
  while (!ending_) {
    try {
      switch (standing_.load()) {
        case Standing::owner:
          serve();
          break;
        case Standing::parked:
          follow();
          break;
        case Standing::handed_over:
        case Standing::deposed:
          return;
      }
    } catch (const std::exception&) {
      // For want of memory or descriptors. Nobody is told, but whoever asks will ask again.
      candidate_.close();
      std::this_thread::sleep_for(kRetry);
    }
  }
}

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

/// While another process forwards: until it falters, or is trusted.
void Succession::follow() noexcept {
  int silent = 1;   // looks since it was heard, which it has not been yet,
  int waiting = 0;  // and of them the last ones that found packets
  while (!ending_) {
    const bool passed = silent == 0 && steady_clock::now() - handed_over_at_ > kProbation;
    if (on_probation_ && passed) {
      on_probation_ = false;
      if (role_ == Role::daemon) {
        standing_ = Standing::handed_over;
        return;
      }
    }
    std::array<pollfd, 2> polled{pollfd{wake_.get(), POLLIN, 0},
                                 pollfd{successor_.fd(), POLLIN, 0}};
    const int n =
        ::poll(polled.data(), polled.size(), on_probation_ ? static_cast<int>(kBeat.count()) : -1);
    if (n > 0 && polled[0].revents != 0) {
      eventfd_t wakes = 0;
      ::eventfd_read(wake_.get(), &wakes);
    }
    if (n > 0 && polled[1].revents != 0) {
      Message message;
      std::vector<UniqueFd> files;
      switch (successor_.receive(message, steady_clock::now(), &files)) {
        case Connection::Received::closed:
          successor_.close();
          return go_on();
        case Connection::Received::message:
          silent = 0;
          if (message.step == Step::routes && !files.empty()) last_routes_ = std::move(files[0]);
          continue;
        case Connection::Received::nothing:
          continue;
      }
    }
    if (!on_probation_ || n != 0) continue;
    silent++;
    waiting = dataplane_.has_waiting() ? waiting + 1 : 0;
    if (silent > kMostSilentLooks || (silent > kSilentLooks && waiting >= kWaitingLooks)) {
      go_on();
      return dismiss(successor_, Step::abort, "it fell silent");
    }
  }
}

/// Forwards (again).
void Succession::go_on() noexcept {
  if (last_routes_.valid()) {
    try {
      set_routes(routes_from_file(last_routes_.get()));
    } catch (const std::exception&) {
      // The table as it was is better than none.
    }
    last_routes_.reset();
  }
  dataplane_.resume();
  on_probation_ = false;
  standing_ = Standing::owner;
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

void Succession::note(std::string_view reason) noexcept {
  const std::lock_guard lock(mutex_);
  reason_.assign(reason.substr(0, sizeof(Message::text)));
}

std::string Succession::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
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

void Succession::wake() noexcept {
  ::eventfd_write(wake_.get(), 1);
}

}  // namespace flannel
