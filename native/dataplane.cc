#include "dataplane.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <stdexcept>

#include "path_mtu.h"

namespace flannel {

namespace {

/// How long the workers may take to park when nothing waits for them but a change of their own.
constexpr std::chrono::milliseconds kParking{2000};
constexpr std::chrono::milliseconds kLastWords{50};
/// Turns in which the sockets that are about to be closed are emptied.
constexpr int kMostDrainTurns = 1000;

/// Paths that the kernel is asked for in a row: about a millisecond.
constexpr size_t kMostLooks = 1024;

/// A socket for each queue, and where more source ports are wanted, those to send from.
std::vector<Queue> open_sockets(const DataplaneOptions& options) {
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

/// Where no errors come from, nothing needs to be sent.
UniqueFd open_icmp_from(const TunnelAddresses& addresses) noexcept {
  return addresses.ipv4 == 0 ? UniqueFd() : open_icmp();
}
UniqueFd open_icmpv6_from(const TunnelAddresses& addresses) noexcept {
  return addresses.ipv6.is_none() ? UniqueFd() : open_icmpv6();
}

bool is_of_tun(Feature feature) noexcept {
  return feature == Feature::tso || feature == Feature::uso;
}

/// The features of the device and the sockets are taken as they are: what waits in them is of that
/// shape. Only what concerns the calls of this process is its own choice.
FeatureSet features_over(const DataplaneOptions& options, const Inheritance& inheritance,
                         Syscalls& syscalls) {
  FeatureSet features = inheritance.features;
  for (const Feature own : {Feature::batch, Feature::gso}) {
    features.remove(own);
    if (options.features.has(own)) features.add(own);
  }
  if (!has_batch_calls(inheritance.queues.front().udp.get(), syscalls)) {
    features.remove(Feature::batch);
  }
  return features;
}

/// Puts the file behind `replacement` in the place of the one behind `fd`, whose number stays.
void replace(const UniqueFd& fd, const UniqueFd& replacement) noexcept {
  // Fails only for descriptors that are none.
  [[maybe_unused]] const int result = ::dup3(replacement.get(), fd.get(), O_CLOEXEC);
}

}  // namespace

Dataplane::Dataplane(const DataplaneOptions& options, Syscalls& syscalls)
    : options_(options),
      syscalls_(syscalls),
      icmp_(open_icmp_from(options.tunnel_addresses)),
      icmpv6_(open_icmpv6_from(options.tunnel_addresses)),
      features_(options.features) {
  // The socket before the device: a port that is taken should not make a device come and go.
  std::vector<Queue> queues = open_sockets(options);
  virtio_ = options.features.has(Feature::tso) || options.features.has(Feature::uso);
  TunDevice device = open_tun(options.tun_name, options.queues, virtio_, options.features);
  for (size_t i = 0; i < queues.size(); i++) queues[i].tun = std::move(device.queues[i]);
  tun_name_ = std::move(device.name);
  multi_queue_ = device.multi_queue;
  probe(queues, device.features);
  build_lanes(std::move(queues));
  build_workers();
}

Dataplane::Dataplane(const DataplaneOptions& options, std::vector<Queue> queues, Syscalls& syscalls)
    : options_(options),
      syscalls_(syscalls),
      tun_name_(options.tun_name),
      features_(options.features) {
  probe(queues, {});
  build_lanes(std::move(queues));
  build_workers();
}

Dataplane::Dataplane(const DataplaneOptions& options, Inheritance inheritance, Syscalls& syscalls)
    : options_(options),
      syscalls_(syscalls),
      tun_name_(inheritance.tun_name),
      multi_queue_(inheritance.multi_queue),
      virtio_(inheritance.virtio),
      icmp_(open_icmp_from(options.tunnel_addresses)),
      icmpv6_(open_icmpv6_from(options.tunnel_addresses)),
      features_(features_over(options, inheritance, syscalls)) {
  FeatureSet missing = options.features;
  for (const FeatureInfo& info : kFeatures) {
    if (features_.has(info.feature)) missing.remove(info.feature);
  }
  require(missing, "inherited features ");
  options_.bind_address = inheritance.bind_address;
  options_.port = inheritance.port;
  options_.queues = inheritance.queues.size();
  build_lanes(std::move(inheritance.queues));
  build_workers();
}

/// Turns the wanted features on, and keeps those that every queue has.
void Dataplane::probe(const std::vector<Queue>& queues, FeatureSet tun_features) {
  FeatureSet missing;
  for (const Queue& queue : queues) {
    // The sockets that only send are of one kind with it.
    FeatureSet socket_features = enable_udp_offloads(queue.udp.get(), options_.features);
    if (!has_batch_calls(queue.udp.get(), syscalls_)) socket_features.remove(Feature::batch);
    for (const FeatureInfo& info : kFeatures) {
      const FeatureSet has = is_of_tun(info.feature) ? tun_features : socket_features;
      if (!features_.has(info.feature) || has.has(info.feature)) continue;
      features_.remove(info.feature);
      missing.add(info.feature);
    }
  }
  require(missing, "features ");
}

void Dataplane::require(FeatureSet missing, const char* of) const {
  if (!options_.required || missing == FeatureSet{}) return;
  std::string names;
  for (const FeatureInfo& info : kFeatures) {
    if (missing.has(info.feature)) names.append(names.empty() ? "" : ",").append(info.name);
  }
  throw SystemError(ENOTSUP, of + names);
}

void Dataplane::build_lanes(std::vector<Queue> queues) {
  const size_t batch_size = features_.has(Feature::batch) ? kBatchSize : 1;
  clamp_.set(options_.clamp_mtu);
  if (options_.probe_mtu) prober_ = std::make_unique<PathProber>();
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
    const IcmpSockets icmp{icmp_.get(), icmpv6_.get()};
    lane.encap =
        std::make_unique<Encap>(tun, senders, fib_->reader(reader), icmp, options_.tunnel_addresses,
                                batch_size, lane.encap_counters, syscalls_, clamp_);
    lane.decap = std::make_unique<Decap>(
        udp, tun, fib_->reader(reader + 1), options_.tunnel_addresses, batch_size, features_,
        lane.decap_counters, options_.source_check, options_.probe_mtu, clamp_);
  }
}

void Dataplane::build_workers() {
  for (size_t i = 0; i < lanes_.size(); i++) {
    Lane& lane = *lanes_[i];
    const std::string suffix = "-" + std::to_string(i);
    if (options_.split_threads) {
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

bool Dataplane::park(Deadline deadline) noexcept {
  if (!parking_.try_acquire_until(deadline)) return false;
  for (auto& worker : workers_) worker->request_park();
  for (auto& worker : workers_) {
    if (worker->parked(deadline)) continue;
    resume();
    return false;
  }
  return true;
}

void Dataplane::resume() noexcept {
  for (auto& worker : workers_) worker->resume();
  parking_.release();
}

bool Dataplane::has_waiting() const noexcept {
  return std::ranges::any_of(lanes_, [](const auto& lane) {
    std::array<pollfd, 2> polled{pollfd{lane->queue.tun.get(), POLLIN, 0},
                                 pollfd{lane->queue.udp.get(), POLLIN, 0}};
    return ::poll(polled.data(), polled.size(), 0) > 0;
  });
}

void Dataplane::restart() noexcept {
  if (!park(std::chrono::steady_clock::now() + kParking)) return;
  restarts_++;
  resume();
}

void Dataplane::rebind(const Address& address, uint16_t port) {
  if (address.is_ipv4() != options_.bind_address.is_ipv4()) {
    throw std::invalid_argument("the sockets cannot change their family");
  }
  DataplaneOptions options = options_;
  if (options.bind_address == address && options.port == port) return;
  options.bind_address = address;
  options.port = port;
  options.features = features_.get();
  const std::vector<Queue> sockets = open_sockets(options);
  for (const Queue& queue : sockets) enable_udp_offloads(queue.udp.get(), options.features);
  if (!park(std::chrono::steady_clock::now() + kParking)) throw SystemError(EBUSY, "rebind");
  for (size_t i = 0; i < lanes_.size(); i++) {
    Lane& lane = *lanes_[i];
    for (int turns = 0; turns < kMostDrainTurns && lane.decap->turn() == Turn::more;) turns++;
    replace(lane.queue.udp, sockets[i].udp);
    for (size_t port_index = 0; port_index < lane.queue.senders.size(); port_index++) {
      replace(lane.queue.senders[port_index], sockets[i].senders[port_index]);
    }
  }
  {
    const std::lock_guard lock(address_);
    options_.bind_address = address;
    options_.port = port;
  }
  resume();
}

void Dataplane::reopen_device(bool persistent) {
  const TunDevice device = open_tun(tun_name_, lanes_.size(), virtio_, features_.get());
  if (!park(std::chrono::steady_clock::now() + kParking)) throw SystemError(EBUSY, "reopen");
  for (size_t i = 0; i < lanes_.size(); i++) replace(lanes_[i]->queue.tun, device.queues[i]);
  for (const Feature feature : {Feature::tso, Feature::uso}) {
    if (!device.features.has(feature)) features_.remove(feature);
  }
  if (persistent) set_persistent(true);
  restarts_++;
  resume();
}

Estate Dataplane::estate() const {
  const std::lock_guard lock(address_);
  Estate estate{virtio_,       features_.get(),           options_.bind_address,
                options_.port, options_.tunnel_addresses, options_.source_check,
                clamp_.mtu(),  options_.probe_mtu,        {}};
  for (const auto& lane : lanes_) {
    auto& queue = estate.queues.emplace_back();
    queue.tun = lane->queue.tun.get();
    queue.udp = lane->queue.udp.get();
    for (const UniqueFd& sender : lane->queue.senders) queue.senders.push_back(sender.get());
  }
  return estate;
}

void Dataplane::set_persistent(bool persistent) noexcept {
  // It is the device's, not a queue's.
  if (!lanes_.empty()) flannel::set_persistent(lanes_.front()->queue.tun.get(), persistent);
}

void Dataplane::check(std::span<const Route> routes) const {
  for (const Route& route : routes) {
    if (!route.prefix.valid()) throw std::invalid_argument("prefix length beyond the address");
    const bool ipv4 = route.next_hop.address.is_ipv4();
    if (route.next_hop.port != 0 && ipv4 != options_.bind_address.is_ipv4()) {
      throw std::invalid_argument("a next hop is not of the sockets' family");
    }
  }
}

void Dataplane::set_routes(std::span<const Route> routes) {
  check(routes);
  routes_.assign(routes);
  routes_.settle();
  publish(Fib::of(routes_));
}

void Dataplane::change_routes(std::span<const Route> changes) {
  check(changes);
  for (const Route& change : changes) {
    if (change.next_hop.port == 0) {
      routes_.remove(change.prefix);
    } else {
      routes_.put(change);
    }
  }
  routes_.settle();
  publish(fib_->current().after(changes, routes_));
}

/// With room for the traffic of every peer in it.
void Dataplane::publish(std::unique_ptr<const Fib> fib) {
  const size_t slots = routes_.peers().peers().size();
  for (const auto& lane : lanes_) {
    lane->encap_counters.traffic.make_room(slots);
    lane->decap_counters.traffic.make_room(slots);
  }
  before_.resize(slots);
  looked_at_.resize(slots);
  for (const uint32_t slot : routes_.peers().take_new()) {
    before_[slot] = figures(slot);
    looked_at_[slot] = before_[slot].out.packets;
    if (prober_) prober_->forget(slot);
  }
  fib_->publish(std::move(fib));
}

/// Of a slot, since the start.
PeerFigures Dataplane::figures(uint32_t slot) const noexcept {
  PeerFigures figures{};
  for (const auto& lane : lanes_) {
    figures.out += lane->encap_counters.traffic.get(slot);
    figures.in += lane->decap_counters.traffic.get(slot);
  }
  return figures;
}

void Dataplane::learn_path_mtus(size_t link_mtu) {
  if (state_ == State::closed) return;
  PeerSlots& slots = routes_.peers();
  if (prober_) {
    prober_->turn(std::chrono::steady_clock::now(), slots, options_.bind_address, link_mtu,
                  [this](uint32_t slot) { return figures(slot).out.packets; });
  }
  const auto count = static_cast<uint32_t>(slots.peers().size());
  std::vector<uint32_t> due;
  for (uint32_t i = 0; i < count && due.size() < kMostLooks; i++) {
    const uint32_t slot = next_look_++ % count;
    const Peer& peer = slots.peers()[slot];
    if (peer.slot == Peer::kNone) continue;
    // To a peer whose path is narrow it may be that nothing is sent any more, for being too large.
    const uint64_t packets = figures(slot).out.packets;
    if (std::exchange(looked_at_[slot], packets) != packets || peer.largest != Peer::kAnySize ||
        probed_mtu(slot) != 0) {
      due.push_back(slot);
    }
  }
  if (due.empty()) return;
  const PathMtuLookup lookup(options_.bind_address);
  bool changed = false;
  for (const uint32_t slot : due) {
    size_t bytes = lookup.of(slots.peers()[slot]);
    if (const size_t probed = probed_mtu(slot); probed != 0) bytes = std::min(bytes, probed);
    changed |= slots.set_path_mtu(slot, bytes < link_mtu ? bytes : 0);
  }
  if (changed) publish(fib_->current().after({}, routes_));
}

/// What probes have found out about a path, in bytes of an outer packet; 0: nothing.
size_t Dataplane::probed_mtu(uint32_t slot) const noexcept {
  return prober_ && routes_.peers().peers()[slot].answers_probes ? prober_->path_mtu(slot) : 0;
}

std::vector<PeerFigures> Dataplane::peers() const {
  std::vector<PeerFigures> result;
  for (const Peer& peer : routes_.peers().peers()) {
    if (peer.slot == Peer::kNone) continue;
    PeerFigures now = figures(peer.slot);
    now.peer = {peer.address, peer.port};
    now.path_mtu = peer.largest == Peer::kAnySize ? 0 : peer.largest + outer_headers(peer.address);
    now.out -= before_[peer.slot].out;
    now.in -= before_[peer.slot].in;
    result.push_back(now);
  }
  return result;
}

Dataplane::Refusals Dataplane::take_refusals() {
  Refusals refusals;
  for (const auto& lane : lanes_) {
    lane->decap_counters.unknown_peers.take(refusals.unknown_peers);
    lane->decap_counters.wrong_subnets.take(refusals.wrong_subnets);
  }
  return refusals;
}

std::vector<double> Dataplane::histogram(Histogram histogram) const {
  const HistogramInfo& info = kHistograms[static_cast<size_t>(histogram)];
  std::vector<double> result(info.buckets + 2);
  for (const auto& lane : lanes_) {
    for (const Counters* counters : {&lane->encap_counters, &lane->decap_counters}) {
      for (size_t i = 0; i <= info.buckets; i++) {
        result[i] += static_cast<double>(counters->count(histogram, i));
      }
      result.back() += static_cast<double>(counters->sum(histogram)) * info.unit;
    }
  }
  return result;
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
  // Not left to the destructor: a garbage collector may take its time. Only the counters stay.
  if (state_.exchange(State::closed) == State::started) {
    // What has been read goes out first, if it can.
    static_cast<void>(park(std::chrono::steady_clock::now() + kLastWords));
  }
  workers_.clear();
  for (auto& lane : lanes_) {
    lane->encap->abandon();
    lane->encap.reset();
    lane->decap.reset();
    lane->queue = {};
  }
  icmp_.reset();
  icmpv6_.reset();
}

}  // namespace flannel
