// Succession, as long as another process forwards: takes over from it, or waits until it falters.
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>

#include "handover_times.h"
#include "succession.h"

namespace flannel {
namespace {

using std::chrono::steady_clock;

}  // namespace

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

}  // namespace flannel
