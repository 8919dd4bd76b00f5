// Who forwards: at any time one process owns a dataplane, and this is how another comes after it,
// without a packet lost. handover.h tells what is said, this who says it when.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "claim.h"
#include "dataplane.h"
#include "handover.h"

namespace flannel {

enum class Standing : uint8_t {
  owner,        // forwards
  parked,       // another process forwards, and this one goes on when that one falters
  handed_over,  // another process forwards, for good
  deposed,      // the predecessor has taken it back
};

/// The thread that answers successors, watches over them, and keeps the one that stands by
/// informed.
class Succession {
 public:
  enum class Role : uint8_t { daemon, standby };

  /// Borrows the dataplane, which was made of the claim's inheritance if it had one.
  Succession(Dataplane& dataplane, Claim claim, Role role);
  ~Succession() { close(); }
  Succession(const Succession&) = delete;
  Succession& operator=(const Succession&) = delete;

  /// Starts the dataplane: at once when there was no owner, else by taking over from him, which
  /// takes some milliseconds and blocks. One that stands by only gets ready. Throws SystemError,
  /// and then the owner goes on: ECANCELED with his words, ETIMEDOUT.
  void start();
  /// Replaces the forwarding table, here and with the process that stands by.
  void set_routes(std::span<const Route> routes);
  /// The same for Dataplane::change_routes.
  void change_routes(std::span<const Route> changes);

  /// A dataplane over what is found at `control_socket`, with its succession: a new one, one over
  /// the device that an owner left behind, or one that is to take over from the owner. Throws
  /// SystemError, as claim() and Dataplane do, and leaves nothing behind.
  struct Opened {
    std::unique_ptr<Dataplane> dataplane;
    std::unique_ptr<Succession> succession;
  };
  static Opened open(const DataplaneOptions& options, const std::string& control_socket,
                     uint32_t generation);

  [[nodiscard]] Standing standing() const noexcept { return standing_.load(); }
  /// Whether another process would take over at once.
  [[nodiscard]] bool stood_by() const noexcept { return stood_by_.load(); }
  /// Why the standing is `deposed`, or why the last attempt to hand over failed; or empty.
  [[nodiscard]] std::string reason() const;

  /// Ends the thread and drops everything, saying nothing: as if the process were killed.
  /// Idempotent.
  void abandon() noexcept;
  /// Ends the conversations. As the owner: leaves to the process that stands by, or makes the
  /// device go with the dataplane. Before Dataplane::close(). Idempotent.
  void close() noexcept;

 private:
  void keep_routes();
  void end_thread() noexcept;
  void run() noexcept;
  void note(std::string_view reason) noexcept;
  void wake() noexcept;

  // As the owner: succession_owner.cc.
  void serve();
  void accept();
  void answer();
  void offer();
  void dismiss(Connection& connection, Step step, std::string_view reason) noexcept;
  void hand_over() noexcept;
  void listen_to(Connection& parked) noexcept;
  void beat() noexcept;
  void attach_standby(Connection connection) noexcept;
  void inform_standby() noexcept;

  // While another process is: succession_parked.cc.
  void take_over();
  void stand_by();
  void follow() noexcept;
  void go_on() noexcept;

  Dataplane& dataplane_;
  Claim claim_;
  Role role_;
  std::atomic<Standing> standing_;
  std::atomic<bool> stood_by_{false};
  std::atomic<bool> ending_{false};
  bool started_ = false;
  bool closed_ = false;
  UniqueFd wake_;

  // Of the thread alone.
  Connection candidate_;    // who asks,
  bool stands_by_ = false;  // and only to stand by
  uint32_t candidate_generation_ = 0;
  Connection dismissed_;  // who was told no, and has not hung up yet
  Deadline candidate_until_;
  Connection predecessor_;  // after taking over: who has parked, and is about to leave
  Deadline beats_until_;
  Connection successor_;  // after handing over: who forwards now
  Deadline handed_over_at_;
  bool on_probation_ = false;
  Connection standby_;
  Deadline informed_at_;
  UniqueFd last_routes_;  // while standing by

  mutable std::mutex mutex_;  // of these
  std::string reason_;
  std::vector<Route> routes_;
  bool routes_changed_ = false;

  std::thread thread_;
};

}  // namespace flannel
