// One thread that drives one or both directions of one queue.
#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "decap.h"
#include "encap.h"

namespace flannel {

/// epoll, then one turn of each direction that is ready, and again. The budget of a turn bounds how
/// long the other direction or a stop request waits, however many packets arrive.
class Worker {
 public:
  /// Borrows the pipelines; either may be null. Throws SystemError.
  Worker(std::string name, Encap* encap, Decap* decap);
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Throws SystemError when no thread can be had.
  void start();
  /// Returns when the thread has ended. Idempotent.
  void stop() noexcept;

  /// The errno that ended a direction, or 0.
  [[nodiscard]] int failure() const noexcept { return failure_.load(std::memory_order_relaxed); }

 private:
  /// A descriptor in the epoll set with what is asked of it.
  struct Watch {
    int fd = -1;
    uint32_t events = 0;
  };

  int try_start() noexcept;
  void run() noexcept;
  void encap_turn() noexcept;
  void decap_turn() noexcept;
  void fail(int error) noexcept;
  void watch(Watch& watch, uint32_t events) noexcept;

  std::string name_;
  Encap* encap_;
  Decap* decap_;
  UniqueFd epoll_;
  UniqueFd wake_;
  Watch tun_;
  Watch udp_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> failure_{0};
  std::thread thread_;
};

}  // namespace flannel
