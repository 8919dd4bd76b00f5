// The owner of everything that moves packets: TUN queues, sockets, forwarding table, workers.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <semaphore>
#include <span>
#include <string>
#include <vector>

#include "caps.h"
#include "decap.h"
#include "encap.h"
#include "fib.h"
#include "mss.h"
#include "path_prober.h"
#include "snapshot.h"
#include "stats.h"
#include "syscalls.h"
#include "tun.h"
#include "worker.h"

namespace flannel {

struct DataplaneOptions {
  static constexpr uint32_t kMostQueues = 64;
  static constexpr uint32_t kMostSourcePorts = 64;  // of each queue

  std::string tun_name;  // or a template such as flannel%d
  FeatureSet features;   // wanted; those the kernel lacks are left out,
  bool required;         // or, when required, are an error
  bool split_threads;    // encap and decap on a thread each
  size_t queues;         // 1 … kMostQueues
  size_t source_ports;   // of each queue, 1 … kMostSourcePorts; 1: all packets leave from `port`
  Address bind_address =
      Address::of_ipv4(0);  // its family is that of the tunnel, and of all next hops
  uint16_t port;
  SocketBuffers buffers;
  TunnelAddresses tunnel_addresses;
  SourceCheck source_check = SourceCheck::none;
  uint16_t clamp_mtu = 0;  // see clamp_mss()
  bool probe_mtu = false;  // answers probes of peers, and sends such to peers that do
};

/// A TUN queue with the sockets that serve it.
struct Queue {
  UniqueFd tun;
  UniqueFd udp;
  std::vector<UniqueFd> senders;  // with several source ports: by these leaves what udp receives
};

/// The queues of a dataplane as another process opened them, and how.
struct Inheritance {
  std::string tun_name;
  bool multi_queue;
  bool virtio;
  FeatureSet features;  // of tso, uso and gro, what is on
  Address bind_address;
  uint16_t port;
  TunnelAddresses tunnel_addresses;
  SourceCheck source_check;
  uint16_t clamp_mtu;
  bool probe_mtu;
  std::vector<Queue> queues;
};

/// The queues as they are now, borrowed, for another process.
struct Estate {
  struct Borrowed {
    int tun;
    int udp;
    std::vector<int> senders;
  };
  bool virtio;
  FeatureSet features;
  Address bind_address;
  uint16_t port;
  TunnelAddresses tunnel_addresses;
  SourceCheck source_check;
  uint16_t clamp_mtu;
  bool probe_mtu;
  std::vector<Borrowed> queues;
};

/// What was exchanged with a peer since a route first led to it.
struct PeerFigures {
  NextHop peer;
  PeerTraffic::Sums out;  // that the kernel accepted
  PeerTraffic::Sums in;   // inner packets, as they came
  size_t path_mtu;        // bytes of an outer packet; 0: unknown
};

class Dataplane {
 public:
  /// Opens the device and the sockets. Throws SystemError and leaves nothing behind.
  explicit Dataplane(const DataplaneOptions& options, Syscalls& syscalls = kernel());
  /// Over descriptors that exist already; `options.queues` and the names in it are not used.
  Dataplane(const DataplaneOptions& options, std::vector<Queue> queues,
            Syscalls& syscalls = kernel());
  /// Over what another process has opened, which may still be at work on it: nothing is changed
  /// about it. Throws SystemError.
  Dataplane(const DataplaneOptions& options, Inheritance inheritance,
            Syscalls& syscalls = kernel());
  ~Dataplane() { close(); }
  Dataplane(const Dataplane&) = delete;
  Dataplane& operator=(const Dataplane&) = delete;

  [[nodiscard]] const std::string& tun_name() const noexcept { return tun_name_; }
  /// What is in use now, after probing and after what failed at run time.
  [[nodiscard]] FeatureSet features() const noexcept { return features_.get(); }
  [[nodiscard]] bool multi_queue() const noexcept { return multi_queue_; }
  [[nodiscard]] bool can_send_icmp() const noexcept { return icmp_.valid() || icmpv6_.valid(); }

  /// Starts the threads, once. Throws SystemError, and then the dataplane is closed.
  void start();
  [[nodiscard]] bool started() const noexcept { return state_ == State::started; }

  /// Makes every worker forward what it has read and then keep off the descriptors, where whatever
  /// arrives waits. False when one is not done by the deadline; then all go on as before.
  bool park(Deadline deadline) noexcept;
  /// The end of park(), also for a worker that had failed.
  void resume() noexcept;
  /// Whether packets wait in a queue, either way.
  [[nodiscard]] bool has_waiting() const noexcept;
  /// Starts what has failed again; counts it.
  void restart() noexcept;
  [[nodiscard]] uint64_t restarts() const noexcept { return restarts_.load(); }

  /// Moves the sockets to another local address of their family, under running workers: what waits
  /// in the old ones is forwarded first. Throws SystemError, or std::invalid_argument for another
  /// family, and then nothing has changed. Nothing to do where they are bound so already.
  void rebind(const Address& address, uint16_t port);
  /// Opens the device again, after somebody has deleted it, under its old name. It comes without
  /// addresses, routes and MTU. Throws SystemError, and then nothing has changed.
  void reopen_device(bool persistent);

  /// What another process needs to go on with these queues.
  [[nodiscard]] Estate estate() const;
  /// Lets the device stay when no process holds it any more.
  void set_persistent(bool persistent) noexcept;
  /// Replaces the forwarding table under the running workers. Throws std::invalid_argument, also
  /// for a next hop that is not of the sockets' family, and then nothing has changed.
  void set_routes(std::span<const Route> routes);
  /// Adds, replaces and, where the next hop's port is 0, removes routes, on top of those before.
  /// Throws std::invalid_argument, and then nothing has changed.
  void change_routes(std::span<const Route> changes);
  /// As the thread that sets them sees them.
  [[nodiscard]] const std::vector<Route>& routes() const noexcept { return routes_.routes(); }
  /// The sum over all workers.
  [[nodiscard]] std::array<uint64_t, kCounterCount> counters() const noexcept;
  /// Counts a bucket, one more bucket for what is beyond the last bound, and the sum of the values.
  [[nodiscard]] std::vector<double> histogram(Histogram histogram) const;
  /// The sources refused since the last call, by reason; see SourceCheck.
  struct Refusals {
    std::vector<Refusal> unknown_peers;
    std::vector<Refusal> wrong_subnets;
  };
  Refusals take_refusals();
  /// Lowers the segment sizes that TCP announces, both ways, to packets of `mtu` bytes, and to what
  /// a narrower path carries; 0: no more. Under running workers.
  void clamp_mss(uint16_t mtu) noexcept { clamp_.set(mtu); }
  /// Asks the kernel what the paths to peers carry: those that packets were sent to since it was
  /// last asked, and those whose path was narrow, a bounded number a call and in turn. With
  /// `probe_mtu` the peers are asked as well, and the smaller answer counts. A path counts as
  /// narrow below `link_mtu`, in bytes. To be called every second or so, by the thread that sets
  /// routes.
  void learn_path_mtus(size_t link_mtu);
  /// As the thread that sets routes sees them, in the order of their slots.
  [[nodiscard]] std::vector<PeerFigures> peers() const;
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

  void probe(const std::vector<Queue>& queues, FeatureSet tun_features);
  void require(FeatureSet missing, const char* of) const;
  void build_lanes(std::vector<Queue> queues);
  void build_workers();

  void check(std::span<const Route> routes) const;
  void publish(std::unique_ptr<const Fib> fib);
  [[nodiscard]] PeerFigures figures(uint32_t slot) const noexcept;
  [[nodiscard]] size_t probed_mtu(uint32_t slot) const noexcept;

  enum class State : uint8_t { opened, started, closed };

  DataplaneOptions options_;
  Syscalls& syscalls_;
  std::atomic<State> state_ = State::opened;
  std::string tun_name_;
  bool multi_queue_ = false;
  bool virtio_ = false;
  UniqueFd icmp_;  // as far as there are tunnel addresses of the family
  UniqueFd icmpv6_;
  ActiveFeatures features_;
  RouteTable routes_;
  std::vector<PeerFigures> before_;  // by slot: what was counted there for the peers before
  std::vector<uint64_t> looked_at_;  // by slot: packets out when the kernel was asked for its path
  uint32_t next_look_ = 0;           // the slot to go on with
  std::unique_ptr<PathProber> prober_;  // with probe_mtu
  MssClamp clamp_;
  std::unique_ptr<Snapshot<Fib>> fib_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::binary_semaphore parking_{1};  // taken while the workers are parked
  mutable std::mutex address_;        // of the address in options_, which changes under estate()
  std::atomic<uint64_t> restarts_{0};
};

}  // namespace flannel
