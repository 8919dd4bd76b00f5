#include "succession.h"

#include <pthread.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <csignal>

#include "handover_times.h"

namespace flannel {
namespace {

using std::chrono::steady_clock;

/// Over the device that the last owner left, or where that cannot be had, over a new one.
std::unique_ptr<Dataplane> open_anew(const DataplaneOptions& options, const std::string& device) {
  if (!device.empty()) {
    DataplaneOptions left = options;
    left.tun_name = device;
    try {
      return std::make_unique<Dataplane>(left);
    } catch (const SystemError& error) {
      if (error.call() != "TUNSETIFF") throw;
    }
  }
  return std::make_unique<Dataplane>(options);
}

const char* family_of(const Address& address) {
  return address.is_ipv4() ? "IPv4" : "IPv6";
}

/// Sockets cannot change their family. Throws SystemError.
void check_family(const Address& mine, const Address& inherited) {
  if (mine.is_ipv4() == inherited.is_ipv4()) return;
  throw SystemError(EBUSY, std::string("handover: its tunnel runs over ") + family_of(inherited) +
                               " and this one's is to run over " + family_of(mine) +
                               ", so it has to end first");
}

}  // namespace

Succession::Succession(Dataplane& dataplane, Claim claim, Role role)
    : dataplane_(dataplane),
      claim_(std::move(claim)),
      role_(role),
      standing_(claim_.owner.valid() ? Standing::parked : Standing::owner),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      standby_(std::move(claim_.standby)) {
  if (!wake_.valid()) throw SystemError(errno, "eventfd");
  stood_by_ = standby_.valid();
}

Succession::Opened Succession::open(const DataplaneOptions& options,
                                    const std::string& control_socket, uint32_t generation) {
  Claim found = claim(control_socket, generation);
  Opened opened;
  if (found.inheritance) {
    check_family(options.bind_address, found.inheritance->bind_address);
    opened.dataplane = std::make_unique<Dataplane>(options, std::move(*found.inheritance));
  } else {
    try {
      opened.dataplane = open_anew(options, found.device);
    } catch (...) {
      remove_files(control_socket);
      throw;
    }
  }
  opened.succession =
      std::make_unique<Succession>(*opened.dataplane, std::move(found), Role::daemon);
  return opened;
}

void Succession::start() {
  if (started_) throw SystemError(EALREADY, "start");
  if (!claim_.owner.valid()) {
    dataplane_.start();
    leave_word(claim_, dataplane_.tun_name());
    dataplane_.set_persistent(true);
  } else if (role_ == Role::standby) {
    stand_by();
  } else {
    take_over();
  }
  started_ = true;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(), "succession");
}

void Succession::set_routes(std::span<const Route> routes) {
  dataplane_.set_routes(routes);
  keep_routes();
}

void Succession::change_routes(std::span<const Route> changes) {
  dataplane_.change_routes(changes);
  keep_routes();
}

/// For the process that stands by.
void Succession::keep_routes() {
  {
    const std::lock_guard lock(mutex_);
    routes_.assign(dataplane_.routes().begin(), dataplane_.routes().end());
    routes_changed_ = true;
  }
  if (stood_by_) wake();
}

void Succession::end_thread() noexcept {
  ending_ = true;
  if (!thread_.joinable()) return;
  wake();
  thread_.join();
}

void Succession::abandon() noexcept {
  end_thread();
  closed_ = true;
  claim_.owner.close();
  for (Connection* connection : {&candidate_, &predecessor_, &successor_, &standby_}) {
    connection->close();
  }
  claim_.listener.reset();
  claim_.lock.reset();
}

void Succession::close() noexcept {
  if (closed_) return;
  end_thread();
  if (standing_ == Standing::owner) {
    if (candidate_.valid()) dismiss(candidate_, Step::refuse, "the owner ends");
    if (standby_.valid()) {
      // What was read goes out; the rest waits for the one who goes on when this connection ends.
      static_cast<void>(dataplane_.park(steady_clock::now() + kPark));
    } else {
      dataplane_.set_persistent(false);
      remove_files(claim_.control_socket);
    }
  }
  abandon();
}

void Succession::run() noexcept {
  while (!ending_) {
    try {
      switch (standing_.load()) {
        case Standing::owner:
          serve();
          break;
        case Standing::parked:
          follow();
          break;
        case Standing::handed_over:
        case Standing::deposed:
          return;
      }
    } catch (const std::exception&) {
      // For want of memory or descriptors. Nobody is told, but whoever asks will ask again.
      candidate_.close();
      std::this_thread::sleep_for(kRetry);
    }
  }
}

void Succession::note(std::string_view reason) noexcept {
  const std::lock_guard lock(mutex_);
  reason_.assign(reason.substr(0, sizeof(Message::text)));
}

std::string Succession::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

void Succession::wake() noexcept {
  ::eventfd_write(wake_.get(), 1);
}

}  // namespace flannel
