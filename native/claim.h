// What a process finds at a control socket: an empty place, or an owner to come after.
#pragma once

#include <optional>
#include <string>

#include "dataplane.h"
#include "handover.h"

namespace flannel {

/// What a process finds at a control socket.
struct Claim {
  std::string control_socket{};
  uint32_t generation = 0;
  UniqueFd lock{};      // whoever has it (flock(2)) is the owner, or comes after him
  UniqueFd listener{};  // where successors call
  /// Nobody was the owner; the name of the device that the last one left behind, or empty.
  std::string device{};
  /// Somebody is: the conversation with him, and what he offers.
  Connection owner{};
  std::optional<Inheritance> inheritance{};
  Connection standby{};  // to the process that stands by, if there is one
};

/// Takes the empty place of the owner of `control_socket`, or asks the owner for his. Throws
/// SystemError: EBUSY with the owner's own words when he refuses, ETIMEDOUT when he does not
/// answer.
Claim claim(const std::string& control_socket, uint32_t generation);
/// The same for a process that only stands by: ENOENT or ECONNREFUSED when there is no owner.
Claim claim_to_stand_by(const std::string& control_socket);

/// Who is at `control_socket`, without claiming it: whether an owner, or one that stands by, is
/// alive, and the name of the device, or empty. Throws SystemError.
struct Finding {
  bool alive = false;
  std::string device{};
};
Finding find_owner(const std::string& control_socket);

/// Writes down, for whoever finds the place empty, which device there is.
void leave_word(const Claim& claim, const std::string& device) noexcept;
/// Removes what the owner of `control_socket` has made beside it.
void remove_files(const std::string& control_socket) noexcept;

}  // namespace flannel
