// Netlink messages as the kernel builds them.
#pragma once

#include <linux/netlink.h>

#include <string>

#include "netlink.h"

namespace flannel::test {

template <typename T>
inline void append(Bytes& bytes, const T& value) {
  const auto* from = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), from, from + sizeof value);
  bytes.resize(NLMSG_ALIGN(bytes.size()));
}

inline Bytes message(uint16_t type, uint32_t sequence, const Bytes& payload, uint16_t flags = 0) {
  Bytes bytes;
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(sizeof header + payload.size());
  header.nlmsg_type = type;
  header.nlmsg_flags = flags;
  header.nlmsg_seq = sequence;
  append(bytes, header);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  bytes.resize(NLMSG_ALIGN(bytes.size()));
  return bytes;
}

inline Bytes error_payload(int error, const std::string& words) {
  Bytes payload;
  nlmsgerr body{};
  body.error = -error;
  body.msg.nlmsg_len = sizeof(nlmsghdr);
  append(payload, body);
  if (!words.empty()) {
    append(payload,
           nlattr{static_cast<uint16_t>(sizeof(nlattr) + words.size() + 1), NLMSGERR_ATTR_MSG});
    payload.insert(payload.end(), words.begin(), words.end());
    payload.push_back(0);
  }
  return payload;
}

}  // namespace flannel::test
