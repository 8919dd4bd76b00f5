// One thread that drives one or both directions of one queue.
#pragma once

#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "decap.h"
#include "encap.h"

namespace flannel {

using Deadline = std::chrono::steady_clock::time_point;

/// poll(2), then one turn of each direction that is ready, and again. The budget of a turn bounds
/// how long the other direction or a stop request waits, however many packets arrive.
///
/// Not epoll: its callback hangs on a descriptor even while the thread is busy, and the kernel
/// calls it, under two locks, for every packet that is queued and for every one that was sent. poll
/// hangs on it only while the thread sleeps.
///
/// A worker can be parked: it forwards what it has read, and then keeps off its descriptors until
/// it is told to go on. Meanwhile another thread, or another process, may use them.
class Worker {
 public:
  /// Borrows the pipelines; either may be null. Throws SystemError.
  Worker(std::string name, Encap* encap, Decap* decap);
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Throws SystemError when no thread can be had.
  void start();
  /// Asks the thread to park, and returns at once.
  void request_park() noexcept { order(Order::park); }
  /// Whether it has parked before `deadline`. A thread that does not run is always parked.
  bool parked(Deadline deadline) noexcept;
  /// Goes on. A direction that had failed tries again.
  void resume() noexcept { order(Order::run); }
  /// Returns when the thread has ended. Idempotent.
  void stop() noexcept;

  /// The errno that ended a direction, or 0.
  [[nodiscard]] int failure() const noexcept { return failure_.load(std::memory_order_relaxed); }

 private:
  enum class Order : uint8_t { run, park, stop };

  void order(Order order) noexcept;
  int try_start() noexcept;
  void run() noexcept;
  void arm() noexcept;
  bool settle() noexcept;
  void wait_for_order() noexcept;
  void encap_turn() noexcept;
  void decap_turn() noexcept;
  void fail(int error) noexcept;

  std::string name_;
  Encap* encap_;
  Decap* decap_;
  UniqueFd wake_;
  // A descriptor of which nothing is asked is -1, which poll skips: it would go on reporting
  // errors.
  std::array<pollfd, 4> polled_{};
  pollfd& tun_ = polled_[1];
  pollfd& udp_ = polled_[2];
  pollfd& full_ = polled_[3];  // the socket that encap waits for
  std::atomic<Order> order_{Order::run};
  std::mutex mutex_;  // of parked_, and of order_ where somebody waits for it to change
  std::condition_variable changed_;
  bool parked_ = false;
  std::atomic<int> failure_{0};
  std::thread thread_;
};

}  // namespace flannel
