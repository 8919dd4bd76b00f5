// Netlink messages, as the kernel builds them and as it takes them.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <string>

#include "netlink.h"

namespace flannel::test {

template <typename T>
inline void append(Bytes& bytes, const T& value) {
  const auto* from = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), from, from + sizeof value);
  bytes.resize(NLMSG_ALIGN(bytes.size()));
}

inline void append_attribute(Bytes& bytes, uint16_t type, const Bytes& value) {
  append(bytes, rtattr{static_cast<uint16_t>(RTA_LENGTH(value.size())), type});
  bytes.insert(bytes.end(), value.begin(), value.end());
  bytes.resize(NLMSG_ALIGN(bytes.size()));
}

/// An attribute that is made of attributes.
inline void append_nest(Bytes& bytes, uint16_t type, const Bytes& attributes) {
  append_attribute(bytes, static_cast<uint16_t>(type | NLA_F_NESTED), attributes);
}

template <typename T>
inline Bytes bytes_of(const T& value) {
  const auto* from = reinterpret_cast<const uint8_t*>(&value);
  return {from, from + sizeof value};
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
