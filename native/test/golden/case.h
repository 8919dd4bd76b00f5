// The text format of golden packets, see README.md here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../../source_check.h"
#include "../packets.h"

namespace flannel::test::golden {

/// Bytes that come from, or go to, `where`: a peer's number, an address, the size of a row, or
/// nothing.
struct Packet {
  std::string where;
  Bytes bytes;
};

struct Fault {
  std::string call;
  int error;
  bool once;
};

/// What the path to a peer carries.
struct PathMtu {
  uint8_t peer;
  size_t bytes;
};

/// The families of the packets inside the tunnel.
enum class Network : uint8_t { ipv4, ipv6, dual };

/// Two counters, neither of them 0, and their sum.
struct Share {
  std::string first;
  std::string second;
  uint64_t sum;
};

struct Case {
  std::string place;  // file and line
  std::string sentence;
  std::vector<std::string> tiers{"basic", "batch", "full"};
  std::vector<Fault> faults;
  Network network = Network::ipv4;
  bool over_ipv6 = false;  // the datagrams themselves
  bool routes = true;
  SourceCheck source_check = SourceCheck::none;
  uint8_t sender = 2;  // the peer, or whoever has such an address, that datagrams come from
  std::vector<PathMtu> path_mtus;
  uint16_t clamp_mtu = 0;
  bool probe_mtu = false;
  bool stop = false;
  std::vector<Packet> from_device;
  std::vector<Packet> from_peer;
  std::vector<Packet> to_peer;
  std::vector<Packet> to_device;
  std::vector<Packet> to_host;
  std::vector<std::string> lost;
  std::map<std::string, uint64_t> counts;
  std::vector<Share> shares;

  /// For one tier alone, so that the bytes stand there in that tier's form.
  [[nodiscard]] bool is_literal() const { return tiers.size() == 1; }
};

/// All cases of a file. Throws std::runtime_error that names the line that makes no sense.
std::vector<Case> read_cases(const std::filesystem::path& file);

}  // namespace flannel::test::golden
