#include "dataplane.h"

#include <cerrno>

namespace flannel {

Dataplane::Dataplane(const DataplaneOptions& options, Syscalls& syscalls)
    : syscalls_(syscalls), icmp_(open_icmp()), features_(options.features) {
  // The socket before the device: a port that is taken should not make a device come and go.
  std::vector<Queue> queues = open_sockets(options);
  TunDevice device = open_tun(options.tun_name, options.queues, options.features);
  virtio_ = options.features.has(Feature::tso) || options.features.has(Feature::uso);
  for (size_t i = 0; i < queues.size(); i++) queues[i].tun = std::move(device.queues[i]);
  tun_name_ = std::move(device.name);
  multi_queue_ = device.multi_queue;
  probe(options, queues, device.features);
  build_lanes(options, std::move(queues));
  build_workers(options.split_threads);
}

Dataplane::Dataplane(const DataplaneOptions& options, std::vector<Queue> queues, Syscalls& syscalls)
    : syscalls_(syscalls), tun_name_(options.tun_name), features_(options.features) {
  probe(options, queues, {});
  build_lanes(options, std::move(queues));
  build_workers(options.split_threads);
}

/// A socket for each queue, and where more source ports are wanted, those to send from.
std::vector<Queue> Dataplane::open_sockets(const DataplaneOptions& options) {
  const bool several = options.queues > 1;
  // A port that is to be shared would be shared with another daemon, too. A socket that does not
  // share is refused then; where it is not, it has done its work and is closed again.
  if (several) open_udp(options.bind_address, options.port, {}, false);
  std::vector<Queue> queues(options.queues);
  for (Queue& queue : queues) {
    queue.udp = open_udp(options.bind_address, options.port, options.buffers, several);
    if (options.source_ports <= 1) continue;
    for (size_t i = 0; i < options.source_ports; i++) {
      queue.senders.push_back(open_udp_sender(options.bind_address, options.buffers.send));
    }
  }
  return queues;
}

/// Turns the wanted features on, and keeps those that every queue has.
void Dataplane::probe(const DataplaneOptions& options, const std::vector<Queue>& queues,
                      FeatureSet tun_features) {
  std::string missing;
  for (const Queue& queue : queues) {
    // The sockets that only send are of one kind with it.
    FeatureSet socket_features = enable_udp_offloads(queue.udp.get(), options.features);
    if (!has_batch_calls(queue.udp.get(), syscalls_)) socket_features.remove(Feature::batch);
    for (const FeatureInfo& info : kFeatures) {
      const bool of_tun = info.feature == Feature::tso || info.feature == Feature::uso;
      const FeatureSet has = of_tun ? tun_features : socket_features;
      if (!features_.has(info.feature) || has.has(info.feature)) continue;
      features_.remove(info.feature);
      missing.append(missing.empty() ? "" : ",").append(info.name);
    }
  }
  if (options.required && !missing.empty()) throw SystemError(ENOTSUP, "features " + missing);
}

void Dataplane::build_lanes(const DataplaneOptions& options, std::vector<Queue> queues) {
  const size_t batch_size = features_.has(Feature::batch) ? kBatchSize : 1;
  fib_ = std::make_unique<Snapshot<Fib>>(Fib::build({}), queues.size() * 2);
  for (Queue& queue : queues) {
    const size_t reader = lanes_.size() * 2;
    auto& lane = *lanes_.emplace_back(std::make_unique<Lane>());
    lane.queue = std::move(queue);
    const TunQueue tun(lane.queue.tun.get(), virtio_, syscalls_);
    const UdpSocket udp(lane.queue.udp.get(), features_, syscalls_);
    std::vector<UdpSocket> senders;
    for (const UniqueFd& sender : lane.queue.senders) {
      senders.emplace_back(sender.get(), features_, syscalls_);
    }
    if (senders.empty()) senders.push_back(udp);
    lane.encap =
        std::make_unique<Encap>(tun, senders, fib_->reader(reader), icmp_.get(),
                                options.tunnel_address, batch_size, lane.encap_counters, syscalls_);
    lane.decap = std::make_unique<Decap>(udp, tun, fib_->reader(reader + 1), options.tunnel_address,
                                         batch_size, features_, lane.decap_counters);
  }
}

void Dataplane::build_workers(bool split_threads) {
  for (size_t i = 0; i < lanes_.size(); i++) {
    Lane& lane = *lanes_[i];
    const std::string suffix = "-" + std::to_string(i);
    if (split_threads) {
      workers_.push_back(std::make_unique<Worker>("encap" + suffix, lane.encap.get(), nullptr));
      workers_.push_back(std::make_unique<Worker>("decap" + suffix, nullptr, lane.decap.get()));
    } else {
      workers_.push_back(
          std::make_unique<Worker>("forward" + suffix, lane.encap.get(), lane.decap.get()));
    }
  }
}

void Dataplane::start() {
  if (state_ != State::opened) throw SystemError(EALREADY, "start");
  try {
    for (auto& worker : workers_) worker->start();
  } catch (...) {
    close();
    throw;
  }
  state_ = State::started;
}

void Dataplane::set_routes(std::span<const Route> routes) {
  fib_->publish(Fib::build(routes));
}

size_t Dataplane::routes() const noexcept {
  return fib_->current().size();
}

std::array<uint64_t, kCounterCount> Dataplane::counters() const noexcept {
  std::array<uint64_t, kCounterCount> sums{};
  for (const auto& lane : lanes_) {
    for (size_t i = 0; i < kCounterCount; i++) {
      const auto counter = static_cast<Counter>(i);
      sums[i] += lane->encap_counters.get(counter) + lane->decap_counters.get(counter);
    }
  }
  return sums;
}

int Dataplane::failure() const noexcept {
  for (const auto& worker : workers_) {
    if (worker->failure() != 0) return worker->failure();
  }
  return 0;
}

void Dataplane::close() noexcept {
  if (state_ == State::closed) return;
  state_ = State::closed;
  // Not left to the destructor: a garbage collector may take its time. Only the counters stay.
  workers_.clear();
  for (auto& lane : lanes_) {
    lane->encap->abandon();
    lane->encap.reset();
    lane->decap.reset();
    lane->queue = {};
  }
  icmp_.reset();
}

}  // namespace flannel
