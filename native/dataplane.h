// The owner of everything that moves packets: TUN queues, sockets, forwarding table, workers.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "caps.h"
#include "decap.h"
#include "encap.h"
#include "fib.h"
#include "snapshot.h"
#include "stats.h"
#include "syscalls.h"
#include "tun.h"
#include "worker.h"

namespace flannel {

struct DataplaneOptions {
  std::string tun_name;   // or a template such as flannel%d
  FeatureSet features;    // wanted; those the kernel lacks are left out,
  bool required;          // or, when required, are an error
  bool split_threads;     // encap and decap on a thread each
  size_t queues;          // 1 … 64
  size_t source_ports;    // of each queue, 1 … 64; 1: all packets leave from `port`
  uint32_t bind_address;  // host order, as all addresses here
  uint16_t port;
  SocketBuffers buffers;
  uint32_t tunnel_address;  // source of ICMP errors
};

/// A TUN queue with the sockets that serve it.
struct Queue {
  UniqueFd tun;
  UniqueFd udp;
  std::vector<UniqueFd> senders;  // with several source ports: by these leaves what udp receives
};

class Dataplane {
 public:
  /// Opens the device and the sockets. Throws SystemError and leaves nothing behind.
  explicit Dataplane(const DataplaneOptions& options, Syscalls& syscalls = kernel());
  /// Over descriptors that exist already; `options.queues` and the names in it are not used.
  Dataplane(const DataplaneOptions& options, std::vector<Queue> queues,
            Syscalls& syscalls = kernel());
  ~Dataplane() { close(); }
  Dataplane(const Dataplane&) = delete;
  Dataplane& operator=(const Dataplane&) = delete;

  [[nodiscard]] const std::string& tun_name() const noexcept { return tun_name_; }
  /// What is in use now, after probing and after what failed at run time.
  [[nodiscard]] FeatureSet features() const noexcept { return features_.get(); }
  [[nodiscard]] bool multi_queue() const noexcept { return multi_queue_; }
  [[nodiscard]] bool can_send_icmp() const noexcept { return icmp_.valid(); }

  /// Starts the threads, once. Throws SystemError, and then the dataplane is closed.
  void start();
  /// Replaces the forwarding table under the running workers. Throws std::invalid_argument.
  void set_routes(std::span<const Route> routes);
  [[nodiscard]] size_t routes() const noexcept;
  /// The sum over all workers.
  [[nodiscard]] std::array<uint64_t, kCounterCount> counters() const noexcept;
  /// The errno that ended a worker's direction, or 0; 0 again once closed.
  [[nodiscard]] int failure() const noexcept;
  /// Joins the threads, then closes the descriptors; the device goes with the last of them.
  /// Idempotent.
  void close() noexcept;

 private:
  /// One queue with its two pipelines. Counters first: the pipelines borrow them.
  struct Lane {
    Counters encap_counters;
    Counters decap_counters;
    Queue queue;
    std::unique_ptr<Encap> encap;
    std::unique_ptr<Decap> decap;
  };

  static std::vector<Queue> open_sockets(const DataplaneOptions& options);
  void probe(const DataplaneOptions& options, const std::vector<Queue>& queues,
             FeatureSet tun_features);
  void build_lanes(const DataplaneOptions& options, std::vector<Queue> queues);
  void build_workers(bool split_threads);

  enum class State : uint8_t { opened, started, closed };

  Syscalls& syscalls_;
  State state_ = State::opened;
  std::string tun_name_;
  bool multi_queue_ = false;
  bool virtio_ = false;
  UniqueFd icmp_;
  ActiveFeatures features_;
  std::unique_ptr<Snapshot<Fib>> fib_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace flannel
