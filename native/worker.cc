#include "worker.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace flannel {

Worker::Worker(std::string name, Encap* encap, Decap* decap)
    : name_(std::move(name)),
      encap_(encap),
      decap_(decap),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_.valid()) throw SystemError(errno, "eventfd");
  polled_[0] = {.fd = wake_.get(), .events = POLLIN, .revents = 0};
  tun_.fd = encap != nullptr ? encap->tun_fd() : -1;
  udp_.fd = encap != nullptr ? encap->udp_fd() : decap->udp_fd();
  ask(tun_, encap != nullptr ? POLLIN : 0);
  ask(udp_, decap != nullptr ? POLLIN : 0);
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
  stopping_.store(true);
  const uint64_t one = 1;
  // An eventfd refuses a write only when its counter is about to overflow.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
  thread_.join();
}

void Worker::run() noexcept {
  while (!stopping_.load()) {
    if (::poll(polled_.data(), polled_.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return fail(errno);
    }
    const bool unblocked = (udp_.events & POLLOUT) && (udp_.revents & (POLLOUT | POLLERR));
    const bool received = decap_ != nullptr && (udp_.revents & (POLLIN | POLLERR));
    if (tun_.revents != 0 || unblocked) encap_turn();
    if (received) decap_turn();
  }
}

void Worker::encap_turn() noexcept {
  const short receive = udp_.events & POLLIN;
  switch (encap_->turn()) {
    case Turn::drained:
    case Turn::more:
      ask(tun_, POLLIN);
      return ask(udp_, receive);
    case Turn::blocked:
      ask(tun_, 0);
      return ask(udp_, static_cast<short>(receive | POLLOUT));
    case Turn::failed:
      ask(tun_, 0);
      ask(udp_, receive);
      return fail(encap_->failure());
  }
}

void Worker::decap_turn() noexcept {
  if (decap_->turn() != Turn::failed) return;
  ask(udp_, static_cast<short>(udp_.events & ~POLLIN));
  fail(decap_->failure());
}

void Worker::fail(int error) noexcept {
  failure_.store(error, std::memory_order_relaxed);
}

void Worker::ask(pollfd& of, short events) noexcept {
  const bool skipped = of.fd < 0;
  if (skipped != (events == 0)) of.fd = ~of.fd;
  of.events = events;
}

}  // namespace flannel
