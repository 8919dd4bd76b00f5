// How a running dataplane passes from one process to another: what the two say to each other over a
// unix socket (SOCK_SEQPACKET), with the descriptors beside it (SCM_RIGHTS, unix(7)).
//
//   successor                      owner
//     hello       ->
//                 <-  offer, descriptors …     or refuse, and the owner goes on
//     ready       ->                           it has checked them and could go on from here
//                 <-  go                       the owner has parked: what arrives waits in the
//                 queues
//     taken       ->                           the successor reads
//                 <-  bye                      the owner lets go
//     alive …     ->                           for a while; silence, and the owner goes on again
//
// A connection that ends before `taken` leaves the owner where it was. Whenever in doubt, both
// read: two readers of a queue lose and duplicate nothing, at worst they reorder.
//
// A process that stands by asks like a successor, and is told to `hold`: it takes over when the
// connection ends, with the last `routes` that it was sent.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fib.h"
#include "syscalls.h"
#include "worker.h"

namespace flannel {

enum class Step : uint32_t {
  hello = 1,
  refuse,
  offer,
  descriptors,
  ready,
  go,
  taken,
  bye,
  alive,
  abort,
  hold,
  routes,
};

struct Message {
  static constexpr uint32_t kMagic = 0x464c414e;
  static constexpr uint32_t kVersion = 2;

  // These three stay as they are in every version, so that another one can be refused by name.
  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  Step step{};

  uint32_t generation = 0;   // hello: an owner refuses one below its own
  uint32_t stands_by = 0;    // hello: wants to; bye: will; offer: a connection to one is in it
  uint32_t descriptors = 0;  // offer: how many follow
  uint32_t queues = 0;       // offer, as all below
  uint32_t senders = 0;      // of each queue
  uint32_t features = 0;     // bits in the order of kFeatures
  uint32_t virtio = 0;
  uint32_t bind_address = 0;  // where it is IPv4: host order
  uint32_t port = 0;
  uint32_t tunnel_address = 0;  // IPv4
  uint32_t source_check = 0;
  char text[116] = {};  // refuse, abort: the reason
  // What follows was the end of the text in processes that do not know of it: zeros, unless they
  // refuse or abort.
  uint32_t clamp_mtu = 0;                // offer: see Dataplane::clamp_mss()
  uint32_t probe_mtu = 0;                // offer: whether probes are answered
  uint32_t knows_ipv6 = 0;               // hello, offer: the sender does, and
  uint8_t outer_address[16] = {};        // offer: where it is bound to, either family,
  uint8_t tunnel_address_ipv6[16] = {};  // and the source of its ICMPv6 errors

  void say(std::string_view reason) noexcept;
  [[nodiscard]] std::string said() const;
};

/// One end of such a conversation.
class Connection {
 public:
  enum class Received : uint8_t { message, nothing, closed };

  Connection() = default;
  explicit Connection(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  /// To whoever listens at `path`. Throws SystemError.
  static Connection to(const std::string& path);

  [[nodiscard]] bool valid() const noexcept { return fd_.valid(); }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  /// Whether the other end is a process of the same user, or of root (SO_PEERCRED).
  [[nodiscard]] bool trusted() const noexcept;

  /// False when the other end is gone, or has not read for so long that there is no room.
  bool send(const Message& message, std::span<const int> descriptors = {}) noexcept;
  /// The next message, waiting for it until `deadline`. Descriptors that come with it are added to
  /// `descriptors`, or closed where that is null. What is no message of this protocol ends the
  /// conversation.
  Received receive(Message& message, Deadline deadline,
                   std::vector<UniqueFd>* descriptors = nullptr) noexcept;

  void close() noexcept { fd_.reset(); }

 private:
  UniqueFd fd_;
};

/// A socket that listens at `path`, for this user only; one that is there already is replaced.
/// Throws SystemError.
UniqueFd listen_at(const std::string& path);

/// A forwarding table as a memory file, and back; invalid, and empty, when that fails. One of IPv4
/// alone has the form that it always had. Any other begins with what is no prefix in that form, so
/// that a process that knows no other keeps the table that it has.
UniqueFd routes_to_file(std::span<const Route> routes) noexcept;
std::vector<Route> routes_from_file(int fd);

}  // namespace flannel
