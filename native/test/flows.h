// Sets of packets compared flow by flow: offloads may change the order between flows, never within.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "transport.h"

namespace flannel::test {

/// Packets by flow, each flow in order. IP ids of packets that may not be fragmented mean nothing
/// (RFC 6864), and the kernel's own segmentation counts them up; so they are not compared.
using Flows = std::map<std::string, std::vector<Bytes>>;

inline void file(Flows& flows, Bytes packet) {
  const bool v6 = !packet.empty() && packet[0] >> 4 == 6;
  if (packet.size() < (v6 ? 44U : 24U)) {
    flows[{}].push_back(std::move(packet));
    return;
  }
  const Place place = place_of(packet);
  std::string key(packet.begin() + (v6 ? 8 : 12), packet.begin() + (v6 ? 40 : 20));
  key.push_back(static_cast<char>(place.protocol));
  const bool is_part = v6 ? packet[6] == 44 : (load_be16(&packet[6]) & 0x3fff) != 0;
  for (size_t at = place.length; !is_part && at < std::min(place.length + 4, packet.size()); at++) {
    key.push_back(static_cast<char>(packet[at]));
  }
  if (!v6) {
    if ((packet[6] & 0x40) != 0) store_be16(&packet[4], 0);
    store_be16(&packet[10], 0);
  }
  flows[key].push_back(std::move(packet));
}

/// Where two sets of flows differ first, for a message.
inline std::string difference(const Flows& expected, const Flows& found) {
  const auto show = [](const Bytes* packet) {
    std::string text = packet == nullptr ? "nothing" : std::to_string(packet->size()) + " bytes:";
    for (size_t i = 0; packet != nullptr && i < std::min<size_t>(packet->size(), 80); i++) {
      constexpr const char* kDigits = "0123456789abcdef";
      if (i % 4 == 0) text += ' ';
      text += {kDigits[(*packet)[i] >> 4], kDigits[(*packet)[i] & 15]};
    }
    return text;
  };
  Flows all = expected;
  all.insert(found.begin(), found.end());
  for (const auto& [key, unused] : all) {
    const auto& a = expected.contains(key) ? expected.at(key) : std::vector<Bytes>{};
    const auto& b = found.contains(key) ? found.at(key) : std::vector<Bytes>{};
    for (size_t i = 0; i < std::max(a.size(), b.size()); i++) {
      const Bytes* x = i < a.size() ? &a[i] : nullptr;
      const Bytes* y = i < b.size() ? &b[i] : nullptr;
      if (x != nullptr && y != nullptr && *x == *y) continue;
      return "packet " + std::to_string(i) + " of its flow\nexpected " + show(x) + "\nfound    " +
             show(y);
    }
  }
  return "";
}

}  // namespace flannel::test
