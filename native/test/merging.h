// Streams of packets for tests of merging, and what merging and splitting make of them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "gro.h"
#include "gso.h"
#include "transport.h"

namespace flannel::test {

/// A packet of a TCP or UDP stream; after() gives the next one.
struct Spec {
  bool v6 = false;
  uint8_t protocol = 6;
  uint32_t source = ip(10, 244, 1, 2);
  uint16_t source_port = 1234;
  uint8_t ttl = 63;
  uint8_t tos = 0;
  uint16_t fragment = kDontFragment;
  uint16_t id = 0xfffe;
  uint32_t sequence = 0xffffff00;
  uint32_t acknowledgement = 7;
  uint8_t flags = kAck;
  uint16_t window = 500;
  uint16_t urgent = 0;
  uint32_t timestamp = 9;  // in 12 bytes of TCP options
  size_t ip_options = 0;   // bytes of IPv4 options, or of an IPv6 destination options header
  uint32_t flow_label = 0x12345;
  size_t payload = 100;
  uint8_t fill = 0;
};

/// The IP header, and after it a transport header and payload that count up. `fragment` of IPv6 is
/// read as IPv4 has it: without DF, if anything is left, it goes into a fragment header.
inline Bytes make_ip(const Spec& spec, size_t payload) {
  if (!spec.v6) {
    Bytes packet = make_packet({.source = spec.source,
                                .ttl = spec.ttl,
                                .protocol = spec.protocol,
                                .fragment = spec.fragment,
                                .options = spec.ip_options,
                                .payload = payload,
                                .first_payload_byte = spec.fill});
    packet[1] = spec.tos;
    store_be16(&packet[4], spec.id);
    return packet;
  }
  PacketSpec6 six{.hop_limit = spec.ttl,
                  .protocol = spec.protocol,
                  .traffic_class = spec.tos,
                  .flow_label = spec.flow_label,
                  .payload = payload,
                  .first_payload_byte = spec.fill};
  store_be32(&six.source[12], spec.source);
  if ((spec.fragment & 0x3fff) != 0) {
    const auto place = static_cast<uint16_t>(spec.fragment << 3 | (spec.fragment >> 13 & 1));
    six.extension = 44;
    six.extensions = fragment_header(spec.protocol, place);
  } else if (spec.ip_options != 0) {
    six.extension = 60;
    six.extensions = extension_header(spec.protocol, spec.ip_options);
  }
  return make_packet6(six);
}

inline Bytes make(const Spec& spec) {
  Bytes packet = make_ip(spec, (spec.protocol == 6 ? 32 : 8) + spec.payload);
  uint8_t* head = &packet[ip_length(packet)];
  store_be16(head, spec.source_port);
  store_be16(head + 2, 80);
  if (spec.protocol == 6) {
    store_be32(head + 4, spec.sequence);
    store_be32(head + 8, spec.acknowledgement);
    store_be16(head + 12, static_cast<uint16_t>(0x8000 | spec.flags));
    store_be16(head + 14, spec.window);
    store_be16(head + 18, spec.urgent);
    store_be32(head + 20, 0x0101080a);  // NOP, NOP, timestamps (RFC 7323)
    store_be32(head + 24, spec.timestamp);
    store_be32(head + 28, 8);
  } else {
    store_be16(head + 4, static_cast<uint16_t>(8 + spec.payload));
  }
  fill_checksums(packet);
  return packet;
}

/// The packet that follows in the same stream.
inline Spec after(Spec spec) {
  spec.sequence += static_cast<uint32_t>(spec.payload);
  spec.id++;
  spec.fill += 50;
  return spec;
}

struct Written {
  VirtioHeader header;
  Bytes packet;
  size_t segments;
  bool fixed_id;
};

/// One batch; the packets are copied first, since merging changes them.
inline std::vector<Written> merge(std::vector<Bytes> packets, MergeOptions options = {}) {
  Merger merger(packets.size(), options);
  size_t total = 0;
  for (auto& packet : packets) {
    packet.shrink_to_fit();
    EXPECT_TRUE(merger.add(packet));
    total += packet.size();
  }
  std::vector<Written> result;
  for (const auto& group : merger.finish()) {
    Written written{group.header, {}, group.segments, group.fixed_id};
    EXPECT_EQ(group.message[0].iov_base, static_cast<const void*>(&group.header));
    EXPECT_EQ(group.message[0].iov_len, sizeof(VirtioHeader));
    EXPECT_EQ(group.packet().size(), group.segments);
    for (const auto& piece : group.packet()) {
      const auto* bytes = static_cast<const uint8_t*>(piece.iov_base);
      written.packet.insert(written.packet.end(), bytes, bytes + piece.iov_len);
    }
    total -= group.bytes;
    result.push_back(std::move(written));
  }
  EXPECT_EQ(total, 0U);
  return result;
}

using Sizes = std::vector<size_t>;

inline Sizes sizes(const std::vector<Written>& groups) {
  Sizes result;
  for (const auto& group : groups) result.push_back(group.segments);
  return result;
}
inline Sizes merged_sizes(const std::vector<Bytes>& packets, MergeOptions options = {}) {
  return sizes(merge(packets, options));
}

inline std::vector<Bytes> row(Spec spec, size_t count) {
  std::vector<Bytes> packets;
  for (size_t i = 0; i < count; i++, spec = after(spec)) packets.push_back(make(spec));
  return packets;
}

/// What the kernel does with a super-packet when it needs the single packets again.
inline std::vector<Bytes> split(const VirtioHeader& header, std::span<const uint8_t> packet) {
  if (header.gso_type == VirtioHeader::kGsoNone) return {{packet.begin(), packet.end()}};
  HeaderArena arena(Merger::kMaxSegments);
  Splitter splitter(arena);
  EXPECT_EQ(splitter.begin(header, packet), GsoFault::none);
  std::vector<Bytes> result;
  for (Segment segment; splitter.next(segment);) {
    Bytes& bytes = result.emplace_back(segment.header.begin(), segment.header.end());
    bytes.insert(bytes.end(), segment.payload.begin(), segment.payload.end());
  }
  return result;
}

inline std::vector<Bytes> split(const Written& written) {
  auto result = split(written.header, written.packet);
  EXPECT_EQ(result.size(), written.segments);
  for (Bytes& bytes : result) {
    if (!written.fixed_id) break;
    std::copy_n(written.packet.begin() + 4, 2, bytes.begin() + 4);
    fill_ip_checksum(bytes);
  }
  return result;
}

/// A packet as it passes a device with virtio headers.
inline Bytes with_header(const VirtioHeader& header, std::span<const uint8_t> packet) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
  Bytes message(bytes, bytes + sizeof header);
  message.insert(message.end(), packet.begin(), packet.end());
  return message;
}

/// The packets that a device was given, in one write each or as super-packets.
inline std::vector<Bytes> singles(const std::vector<Bytes>& messages, bool virtio) {
  if (!virtio) return messages;
  std::vector<Bytes> result;
  for (const Bytes& message : messages) {
    VirtioHeader header;
    std::memcpy(&header, message.data(), sizeof header);
    for (Bytes& packet : split(header, std::span(message).subspan(sizeof header))) {
      result.push_back(std::move(packet));
    }
  }
  return result;
}

}  // namespace flannel::test
