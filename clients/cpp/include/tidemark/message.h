// Messages as they are sent, handed back and received.
//
// Keys and values are bytes; std::string_view is used for them because it is what most programs
// have at hand.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tidemark/delay.h"

namespace tidemark::client {

// A named value that travels with a message. At most 64 per message.
struct Header {
  std::string_view key = {};
  std::optional<std::string_view> value = std::string_view();  // nullopt: null
};

// What send() takes: views that must stay valid during the call only; send() copies.
// Key, value and headers together: at most 1 MiB.
struct Message {
  std::optional<std::string_view> key = {};                    // nullopt: no key
  std::optional<std::string_view> value = std::string_view();  // nullopt: null
  std::span<const Header> headers = {};
  std::optional<int64_t> timestamp_ms = {};  // since 1970; nullopt: when send() was called
  // nullopt: by the delay's key, else by the message's key, or in turn when there is neither.
  std::optional<uint32_t> partition = {};
  std::optional<Delay> delay = {};  // nullopt: at once
  // What the message asks of the queue; it travels as headers (tm-tag, tm-id, tm-ttl, tm-priority),
  // which count like the others. kInvalidArgument from send(): out of range.
  std::span<const std::string_view> tags = {};  // for filters; 1 to 255 bytes each
  std::optional<std::string_view> id = {};      // 1 to 255 bytes: dedupe, see TopicConfig
  std::optional<int64_t> ttl_ms = {};  // not delivered later than this after it is visible; from 1
  std::optional<int> priority = {};    // 0 to 7 in queue mode; 7 goes first
};

// A message that owns its bytes; what flush() and close() hand back.
struct OwnedMessage {
  std::string topic;
  std::optional<uint32_t> partition;  // nullopt: not yet chosen
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
  int64_t timestamp_ms = 0;
  uint64_t opaque = 0;
  std::optional<OwnedDelay> delay = {};  // to send it again: delay->view()
};

// A message as read from a partition. Its views live as long as what it came from: see
// Consumer::poll().
struct ReceivedMessage {
  uint64_t offset = 0;
  int64_t timestamp_ms = 0;
  std::optional<std::string_view> key;
  std::optional<std::string_view> value;
  std::span<const Header> headers;
};

}  // namespace tidemark::client
