#include "worker.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "sandbox.h"

namespace flannel {
namespace {

constexpr std::chrono::milliseconds kPollPause{10};

}  // namespace

Worker::Worker(std::string name, Encap* encap, Decap* decap)
    : name_(std::move(name)),
      encap_(encap),
      decap_(decap),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_.valid()) throw SystemError(errno, "eventfd");
  polled_[0] = {.fd = wake_.get(), .events = POLLIN, .revents = 0};
  tun_ = {.fd = -1, .events = POLLIN, .revents = 0};
  udp_ = {.fd = -1, .events = POLLIN, .revents = 0};
  full_ = {.fd = -1, .events = POLLOUT, .revents = 0};
}

void Worker::start() {
  // Signals belong to the process's own threads: a thread starts with the mask of its creator.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = try_start();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) throw SystemError(error, "start a dataplane thread");
  pthread_setname_np(thread_.native_handle(), name_.c_str());
}

/// 0, or the errno.
int Worker::try_start() noexcept {
  try {
    thread_ = std::thread([this] { run(); });
    return 0;
  } catch (const std::system_error& error) {
    return error.code().value();
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
}

void Worker::stop() noexcept {
  if (!thread_.joinable()) return;
  order(Order::stop);
  thread_.join();
}

void Worker::order(Order order) noexcept {
  {
    const std::lock_guard lock(mutex_);
    order_.store(order);
  }
  changed_.notify_all();
  const uint64_t one = 1;
  // An eventfd refuses a write only when its counter is about to overflow.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

bool Worker::parked(Deadline deadline) noexcept {
  if (!thread_.joinable()) return true;
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [this] { return parked_; });
}

void Worker::run() noexcept {
  confine_dataplane_thread();
  arm();
  for (;;) {
    const Order order = order_.load();
    if (order == Order::stop) return;
    if (order == Order::park && settle()) {
      wait_for_order();
      arm();
      continue;
    }
    if (const int error = wait_until_ready(polled_); error != 0) {
      if (error == EINTR) continue;
      // For want of memory, since the rest of it is right. Whoever sees the failure may restart.
      fail(error);
      std::this_thread::sleep_for(kPollPause);
      continue;
    }
    if (polled_[0].revents != 0) {
      uint64_t orders = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &orders, sizeof orders);
      continue;  // what else is ready is so at the next poll, too
    }
    // Before the turns, which change what is asked.
    const bool encap_ready = (tun_.revents | full_.revents) != 0;
    const bool decap_ready = udp_.revents != 0;
    if (encap_ready) encap_turn();
    if (decap_ready) decap_turn();
  }
}

/// Asks for everything, as at the start.
void Worker::arm() noexcept {
  failure_.store(0, std::memory_order_relaxed);
  tun_.fd = encap_ != nullptr ? encap_->tun_fd() : -1;
  udp_.fd = decap_ != nullptr ? decap_->udp_fd() : -1;
  full_.fd = -1;
}

/// Forwards what was read. False when the socket has no room for it: then the next poll waits for
/// that, and for nothing new.
bool Worker::settle() noexcept {
  tun_.fd = -1;
  if (encap_ == nullptr || encap_->finish()) return true;
  full_.fd = encap_->blocked_fd();
  return false;
}

/// Parked, until there is an order to do something else.
void Worker::wait_for_order() noexcept {
  std::unique_lock lock(mutex_);
  parked_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return order_.load() != Order::park; });
  parked_ = false;
}

void Worker::encap_turn() noexcept {
  tun_.fd = -1;
  full_.fd = -1;
  switch (encap_->turn()) {
    case Turn::drained:
    case Turn::more:
      tun_.fd = encap_->tun_fd();
      return;
    case Turn::blocked:
      full_.fd = encap_->blocked_fd();
      return;
    case Turn::failed:
      return fail(encap_->failure());
  }
}

void Worker::decap_turn() noexcept {
  if (decap_->turn() != Turn::failed) return;
  udp_.fd = -1;
  fail(decap_->failure());
}

void Worker::fail(int error) noexcept {
  failure_.store(error, std::memory_order_relaxed);
}

}  // namespace flannel
