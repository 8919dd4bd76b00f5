// sd_notify(3) without libsystemd: Node's own datagram sockets know no unix addresses.
#pragma once

#include <string>

namespace flannel {

/// Sends `state` to the socket that NOTIFY_SOCKET names. False when there is none. Throws
/// SystemError.
bool notify_service_manager(const std::string& state);

}  // namespace flannel
