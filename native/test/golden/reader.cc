#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "case.h"

namespace flannel::test::golden {
namespace {

using Words = std::vector<std::string>;

Words words_of(const std::string& line) {
  std::istringstream stream(line);
  Words words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string rest_of(const Words& words, size_t from, const char* between = " ") {
  std::string text;
  for (size_t i = from; i < words.size(); i++) text += (i > from ? between : "") + words[i];
  return text;
}

uint64_t number_of(const std::string& text) {
  size_t used = 0;
  const uint64_t number = std::stoull(text, &used);
  if (used != text.size()) throw std::runtime_error("no number: " + text);
  return number;
}

bool is_hex(const std::string& text) {
  return !text.empty() && text.size() % 2 == 0 &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Bytes bytes_of(const std::string& hex) {
  if (!is_hex(hex)) throw std::runtime_error("neither bytes nor a packet: " + hex);
  Bytes bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

SourceCheck source_check_of(const std::string& name) {
  if (name == "peer") return SourceCheck::peer;
  if (name == "subnet") return SourceCheck::subnet;
  throw std::runtime_error("no source check is called " + name);
}

Network network_of(const std::string& name) {
  if (name == "ipv4") return Network::ipv4;
  if (name == "ipv6") return Network::ipv6;
  if (name == "dual") return Network::dual;
  throw std::runtime_error("no network is called " + name);
}

int errno_of(const std::string& name) {
  static const std::map<std::string, int> kNames{
      {"EAGAIN", EAGAIN},
      {"EBADF", EBADF},
      {"EBADFD", EBADFD},
      {"ECONNREFUSED", ECONNREFUSED},
      {"EACCES", EACCES},
      {"EHOSTDOWN", EHOSTDOWN},
      {"EHOSTUNREACH", EHOSTUNREACH},
      {"EINVAL", EINVAL},
      {"EIO", EIO},
      {"EMSGSIZE", EMSGSIZE},
      {"ENETUNREACH", ENETUNREACH},
      {"ENETDOWN", ENETDOWN},
      {"EADDRNOTAVAIL", EADDRNOTAVAIL},
      {"ENOBUFS", ENOBUFS},
      {"ENOMEM", ENOMEM},
      {"EPERM", EPERM},
  };
  const auto found = kNames.find(name);
  if (found == kNames.end()) throw std::runtime_error("unknown errno " + name);
  return found->second;
}

/// Reads the lines of one file.
class Reader {
 public:
  void read(const std::string& line, const std::string& place) {
    const Words words = words_of(line.substr(0, line.find('#')));
    if (words.empty()) return;
    if (words[0] == "packet") {
      packets_[words.at(1)] = expression(words, 2);
    } else if (words[0] == "network") {
      network_ = network_of(words.at(1));
    } else if (words[0] == "case") {
      cases_.emplace_back();
      cases_.back().place = place;
      cases_.back().sentence = rest_of(words, 1);
      cases_.back().network = network_;
    } else {
      read_part(words);
    }
  }

  [[nodiscard]] std::vector<Case> cases() { return std::move(cases_); }

 private:
  void read_part(const Words& words) {
    if (cases_.empty()) throw std::runtime_error("no case before it");
    Case& last = cases_.back();
    const std::string& key = words[0];
    if (key == "from-device") return take(last.from_device, words, 1);
    if (key == "from-peer") return take(last.from_peer, words, 1);
    if (key == "from-peer-row") return take(last.from_peer, words, 2);
    if (key == "to-device") return add(last.to_device, words, 1);
    if (key == "to-peer") return add(last.to_peer, words, 2);
    if (key == "to-host") return add(last.to_host, words, 2);
    if (key == "kernel") {
      last.faults.push_back({words.at(1), errno_of(words.at(2)), words.size() > 3});
    } else if (key == "tiers") {
      last.tiers.assign(words.begin() + 1, words.end());
    } else if (key == "lost") {
      last.lost.push_back(words.at(1));
    } else if (key == "over-ipv6") {
      last.over_ipv6 = true;
    } else if (key == "routes") {
      last.routes = words.at(1) != "none";
    } else if (key == "source-check") {
      last.source_check = source_check_of(words.at(1));
    } else if (key == "sender") {
      last.sender = static_cast<uint8_t>(number_of(words.at(1)));
    } else if (key == "path-mtu") {
      last.path_mtus.push_back(
          {static_cast<uint8_t>(number_of(words.at(1))), number_of(words.at(2))});
    } else if (key == "clamp-mss") {
      last.clamp_mtu = static_cast<uint16_t>(number_of(words.at(1)));
    } else if (key == "probe-mtu") {
      last.probe_mtu = true;
    } else if (key == "stop") {
      last.stop = true;
    } else if (key == "share") {
      last.shares.push_back({words.at(1), words.at(2), number_of(words.at(3))});
    } else if (key == "count") {
      read_counts(rest_of(words, 1), last);
    } else {
      throw std::runtime_error("unknown word " + key);
    }
  }

  static void read_counts(const std::string& text, Case& last) {
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, ',');) {
      const Words pair = words_of(part);
      last.counts[pair.at(0)] = number_of(pair.at(1));
    }
  }

  /// `words` from `from` on are bytes, before them stands where they belong.
  void add(std::vector<Packet>& packets, const Words& words, size_t from) {
    uint64_t times = 1;
    const std::string where = from > 1 ? words.at(1) : "";
    if (words.size() > from + 1 && words[from + 1] == "*") {
      times = number_of(words[from]);
      from += 2;
    }
    packets.insert(packets.end(), times, {where, expression(words, from)});
  }

  /// The same for what goes in, which the lines below call `in`.
  void take(std::vector<Packet>& packets, const Words& words, size_t from) {
    add(packets, words, from);
    packets_["in"] = packets.back().bytes;
  }

  [[nodiscard]] Bytes expression(const Words& words, size_t from) const {
    Bytes all;
    for (size_t i = from; i < words.size();) {
      const auto end = static_cast<size_t>(
          std::find(words.begin() + static_cast<ptrdiff_t>(i), words.end(), "|") - words.begin());
      const Bytes piece = term(words, i, end);
      all.insert(all.end(), piece.begin(), piece.end());
      i = end + 1;
    }
    return all;
  }

  /// A name or hexadecimal digits, and changes to them.
  [[nodiscard]] Bytes term(const Words& words, size_t from, size_t end) const {
    Bytes bytes;
    for (size_t i = from; i < end; i++) {
      const std::string& word = words[i];
      if (word[0] == '@') {
        put(bytes, word);
      } else if (word[0] == '+') {
        append(bytes, bytes_of(word.substr(1)));
      } else if (word[0] == '-') {
        bytes.resize(bytes.size() - std::min(bytes.size(), number_of(word.substr(1))));
      } else if (word == "fill") {
        bytes.resize(number_of(words.at(++i)), bytes.back());
      } else if (const auto found = packets_.find(word); found != packets_.end()) {
        append(bytes, found->second);
      } else {
        append(bytes, bytes_of(word));
      }
    }
    return bytes;
  }

  static void append(Bytes& bytes, const Bytes& more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  }

  static void put(Bytes& bytes, const std::string& change) {
    const size_t equals = change.find('=');
    const size_t at = number_of(change.substr(1, equals - 1));
    const Bytes value = bytes_of(change.substr(equals + 1));
    if (at + value.size() > bytes.size()) throw std::runtime_error("beyond the packet: " + change);
    std::copy(value.begin(), value.end(), bytes.begin() + static_cast<ptrdiff_t>(at));
  }

  std::map<std::string, Bytes> packets_;
  Network network_ = Network::ipv4;
  std::vector<Case> cases_;
};

}  // namespace

std::vector<Case> read_cases(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) throw std::runtime_error("cannot read " + file.string());
  Reader reader;
  int number = 0;
  for (std::string line; std::getline(stream, line);) {
    const std::string place = file.stem().string() + "_" + std::to_string(++number);
    try {
      reader.read(line, place);
    } catch (const std::exception& error) {
      throw std::runtime_error(file.filename().string() + ":" + std::to_string(number) + ": " +
                               error.what());
    }
  }
  return reader.cases();
}

}  // namespace flannel::test::golden
