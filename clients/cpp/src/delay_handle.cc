// Handles of delayed messages as text: base64url, without padding, of these bytes.
//
//   offset bytes field (little-endian)
//        0     1 version = 1
//        1     2 shard
//        3     4 topic id
//        7     4 tag
//       11     8 due (ms since 1970)
//       19     8 delay id
//       27     8 position
//       35     4 check: low 32 bits of XXH3-64 over bytes 0 to 34
//
// 39 bytes are 52 characters of 6 bits, none of which is left over: every character counts.
#include <array>
#include <string>

#include "log/base/bytes.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "tidemark/delay.h"

namespace tidemark::client {

namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kVersionAt = 0;
constexpr size_t kShardAt = 1;
constexpr size_t kTopicAt = 3;
constexpr size_t kTagAt = 7;
constexpr size_t kDueAt = 11;
constexpr size_t kIdAt = 19;
constexpr size_t kPositionAt = 27;
constexpr size_t kCheckAt = 35;
constexpr size_t kHandleBytes = 39;
constexpr size_t kTextBytes = 52;
static_assert(kHandleBytes % 3 == 0 && kHandleBytes / 3 * 4 == kTextBytes);

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

using HandleBytes = std::array<uint8_t, kHandleBytes>;

uint32_t check_of(const HandleBytes& bytes) {
  return static_cast<uint32_t>(xxh3(ByteView(bytes).first(kCheckAt)));
}

Status not_a_handle(const std::string& why) {
  return {ErrorCode::kInvalidArgument, "not the handle of a delayed message: " + why};
}

}  // namespace

std::string DelayHandle::to_string() const {
  if (empty()) {
    return {};
  }
  HandleBytes bytes;
  bytes[kVersionAt] = kVersion;
  store_le(&bytes[kShardAt], shard);
  store_le(&bytes[kTopicAt], topic);
  store_le(&bytes[kTagAt], tag);
  store_le(&bytes[kDueAt], due_ms);
  store_le(&bytes[kIdAt], id);
  store_le(&bytes[kPositionAt], position);
  store_le(&bytes[kCheckAt], check_of(bytes));
  std::string text;
  text.reserve(kTextBytes);
  for (size_t i = 0; i < kHandleBytes; i += 3) {
    const uint32_t bits = uint32_t{bytes[i]} << 16 | uint32_t{bytes[i + 1]} << 8 | bytes[i + 2];
    for (const unsigned shift : {18u, 12u, 6u, 0u}) {
      text += kDigits[(bits >> shift) & 63];
    }
  }
  return text;
}

Result<DelayHandle> DelayHandle::parse(std::string_view text) {
  if (text.size() != kTextBytes) {
    return not_a_handle("it has " + std::to_string(text.size()) + " characters, a handle has " +
                        std::to_string(kTextBytes));
  }
  HandleBytes bytes;
  for (size_t i = 0; i < kTextBytes; i += 4) {
    uint32_t bits = 0;
    for (const char c : text.substr(i, 4)) {
      const size_t digit = kDigits.find(c);
      if (digit == std::string_view::npos) {
        return not_a_handle("a character other than A-Z a-z 0-9 - _");
      }
      bits = bits << 6 | static_cast<uint32_t>(digit);
    }
    const size_t at = i / 4 * 3;
    bytes[at] = static_cast<uint8_t>(bits >> 16);
    bytes[at + 1] = static_cast<uint8_t>(bits >> 8);
    bytes[at + 2] = static_cast<uint8_t>(bits);
  }
  if (load_le<uint32_t>(&bytes[kCheckAt]) != check_of(bytes)) {
    return not_a_handle("a character is wrong");
  }
  if (bytes[kVersionAt] != kVersion) {
    return not_a_handle("it is of version " + std::to_string(bytes[kVersionAt]) +
                        ", this library reads version " + std::to_string(kVersion));
  }
  DelayHandle handle;
  handle.shard = load_le<uint16_t>(&bytes[kShardAt]);
  handle.topic = load_le<uint32_t>(&bytes[kTopicAt]);
  handle.tag = load_le<uint32_t>(&bytes[kTagAt]);
  handle.due_ms = load_le<int64_t>(&bytes[kDueAt]);
  handle.id = load_le<uint64_t>(&bytes[kIdAt]);
  handle.position = load_le<uint64_t>(&bytes[kPositionAt]);
  if (handle.empty()) {
    return not_a_handle("it names no message");
  }
  return handle;
}

}  // namespace tidemark::client
