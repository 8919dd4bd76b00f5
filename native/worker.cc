#include "worker.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace flannel {

Worker::Worker(std::string name, Encap* encap, Decap* decap)
    : name_(std::move(name)),
      encap_(encap),
      decap_(decap),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_.valid() || !wake_.valid()) throw SystemError(errno, "epoll_create1 or eventfd");
  Watch wake{wake_.get(), 0};
  watch(wake, EPOLLIN);
  tun_.fd = encap != nullptr ? encap->tun_fd() : -1;
  udp_.fd = encap != nullptr ? encap->udp_fd() : decap->udp_fd();
  if (encap != nullptr) watch(tun_, EPOLLIN);
  if (decap != nullptr) watch(udp_, EPOLLIN);
  if (failure() != 0) throw SystemError(failure(), "epoll_ctl");
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
  std::array<epoll_event, 3> events{};
  while (!stopping_.load()) {
    const int n = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (n < 0 && errno != EINTR) return fail(errno);
    bool tun_ready = false;
    uint32_t udp_ready = 0;
    for (int i = 0; i < n; i++) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      if (event.data.fd == tun_.fd) tun_ready = true;
      if (event.data.fd == udp_.fd) udp_ready = event.events;
    }
    const bool unblocked = (udp_.events & EPOLLOUT) && (udp_ready & (EPOLLOUT | EPOLLERR));
    if (tun_ready || unblocked) encap_turn();
    if (decap_ != nullptr && (udp_ready & (EPOLLIN | EPOLLERR))) decap_turn();
  }
}

void Worker::encap_turn() noexcept {
  const uint32_t receive = udp_.events & EPOLLIN;
  switch (encap_->turn()) {
    case Turn::drained:
    case Turn::more:
      watch(tun_, EPOLLIN);
      return watch(udp_, receive);
    case Turn::blocked:
      watch(tun_, 0);
      return watch(udp_, receive | EPOLLOUT);
    case Turn::failed:
      watch(tun_, 0);
      watch(udp_, receive);
      return fail(encap_->failure());
  }
}

void Worker::decap_turn() noexcept {
  if (decap_->turn() != Turn::failed) return;
  watch(udp_, udp_.events & ~uint32_t{EPOLLIN});
  fail(decap_->failure());
}

void Worker::fail(int error) noexcept {
  failure_.store(error, std::memory_order_relaxed);
}

/// A descriptor of which nothing is asked leaves the set: epoll would go on reporting its errors.
void Worker::watch(Watch& watch, uint32_t events) noexcept {
  if (watch.events == events) return;
  epoll_event event{};
  event.events = events;
  event.data.fd = watch.fd;
  const int operation = watch.events == 0 ? EPOLL_CTL_ADD
                        : events == 0     ? EPOLL_CTL_DEL
                                          : EPOLL_CTL_MOD;
  if (::epoll_ctl(epoll_.get(), operation, watch.fd, &event) < 0) return fail(errno);
  watch.events = events;
}

}  // namespace flannel
