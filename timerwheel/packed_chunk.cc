#include "timerwheel/packed_chunk.h"

#include <algorithm>
#include <limits>

#include "timerwheel/check.h"

namespace tidemark::timerwheel {
namespace {

constexpr uint64_t kLow32 = 0xffff'ffff;
constexpr unsigned kModeBits = 2;
constexpr uint64_t kModeMask = (1U << kModeBits) - 1;
// Bits of the due difference in the first byte of the head.
constexpr unsigned kHeadDueBits = 7 - kModeBits;

enum TagMode : uint8_t { kSameTag = 0, kSameHigh = 1, kOtherTag = 2 };

template <class Number>
void store(std::string& bytes, size_t at, Number number) {
  for (size_t i = 0; i < sizeof(Number); ++i) {
    bytes[at + i] = static_cast<char>(static_cast<uint8_t>(number >> (8 * i)));
  }
}

// Requires: `count` <= 8 bytes from `at` on.
uint64_t load(std::string_view bytes, size_t at, size_t count) {
  uint64_t number = 0;
  for (size_t i = 0; i < count; ++i) {
    number |= uint64_t{static_cast<uint8_t>(bytes[at + i])} << (8 * i);
  }
  return number;
}

void put_varint(std::string& bytes, uint64_t number) {
  for (; number >= 0x80; number >>= 7) {
    bytes.push_back(static_cast<char>(static_cast<uint8_t>(number | 0x80)));
  }
  bytes.push_back(static_cast<char>(static_cast<uint8_t>(number)));
}

// The varint of `due_difference` << 2 | `mode`, which may need 66 bits.
void put_head(std::string& bytes, uint64_t due_difference, TagMode mode) {
  const uint64_t first = (due_difference << kModeBits & 0x7f) | mode;
  const uint64_t rest = due_difference >> kHeadDueBits;
  bytes.push_back(static_cast<char>(static_cast<uint8_t>(first | (rest != 0 ? 0x80 : 0))));
  if (rest != 0) {
    put_varint(bytes, rest);
  }
}

uint64_t zigzag(uint64_t difference) { return difference << 1 ^ (0 - (difference >> 63)); }

uint64_t unzigzag(uint64_t number) { return number >> 1 ^ (0 - (number & 1)); }

void put_entry(std::string& bytes, const Entry& entry, const Entry& previous) {
  const uint64_t tag_change = entry.tag ^ previous.tag;
  const TagMode mode = tag_change == 0 ? kSameTag : tag_change <= kLow32 ? kSameHigh : kOtherTag;
  const uint64_t id_difference = entry.id - previous.id;
  put_head(bytes, entry.due - previous.due, mode);
  put_varint(bytes, zigzag(id_difference));
  put_varint(bytes, zigzag(entry.position - previous.position - id_difference));
  if (mode == kSameHigh) {
    put_varint(bytes, tag_change);
  } else if (mode == kOtherTag) {
    put_varint(bytes, tag_change >> 32);
    put_varint(bytes, entry.tag & kLow32);
  }
}

// Reads the entries one by one; false where the bytes are none.
class Decoder {
 public:
  Decoder(std::string_view bytes, Tick first_due) : bytes_(bytes) { entry_.due = first_due; }

  [[nodiscard]] bool next() {
    const Entry previous = entry_;
    uint64_t due_difference = 0;
    uint8_t mode = 0;
    uint64_t id = 0;
    uint64_t position = 0;
    if (!get_head(due_difference, mode) || !get_varint(id) || !get_varint(position) ||
        !get_tag(mode)) {
      return false;
    }
    if (due_difference > std::numeric_limits<Tick>::max() - previous.due) {
      return false;
    }
    entry_.due = previous.due + due_difference;
    entry_.id = previous.id + unzigzag(id);
    entry_.position = previous.position + unzigzag(position) + unzigzag(id);
    const bool in_order = first_ ? due_difference == 0 : previous.key() < entry_.key();
    first_ = false;
    return in_order;
  }

  [[nodiscard]] const Entry& entry() const { return entry_; }

  [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }

 private:
  [[nodiscard]] bool get_byte(uint8_t& byte) {
    if (at_ == bytes_.size()) {
      return false;
    }
    byte = static_cast<uint8_t>(bytes_[at_++]);
    return true;
  }

  [[nodiscard]] bool get_varint(uint64_t& number) {
    number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      uint8_t byte = 0;
      if (!get_byte(byte)) {
        return false;
      }
      const uint64_t bits = byte & 0x7f;
      if (shift == 63 && bits > 1) {
        return false;  // above 64 bits
      }
      number |= bits << shift;
      if (byte < 0x80) {
        return byte != 0 || shift == 0;  // else not the shortest form
      }
    }
    return false;
  }

  [[nodiscard]] bool get_head(uint64_t& due_difference, uint8_t& mode) {
    uint8_t first = 0;
    if (!get_byte(first)) {
      return false;
    }
    mode = first & kModeMask;
    due_difference = (first & 0x7f) >> kModeBits;
    if (first < 0x80) {
      return true;
    }
    uint64_t rest = 0;
    if (!get_varint(rest) || rest == 0 || rest >> (64 - kHeadDueBits) != 0) {
      return false;
    }
    due_difference |= rest << kHeadDueBits;
    return true;
  }

  [[nodiscard]] bool get_tag(uint8_t mode) {
    uint64_t first = 0;
    uint64_t low = 0;
    switch (mode) {
      case kSameTag:
        return true;
      case kSameHigh:
        if (!get_varint(first) || first == 0 || first > kLow32) {
          return false;
        }
        entry_.tag ^= first;
        return true;
      case kOtherTag:
        if (!get_varint(first) || first == 0 || first > kLow32 || !get_varint(low) ||
            low > kLow32) {
          return false;
        }
        entry_.tag = ((entry_.tag >> 32 ^ first) << 32) | low;
        return true;
      default:
        return false;
    }
  }

  std::string_view bytes_;
  size_t at_ = 0;
  bool first_ = true;
  Entry entry_;
};

uint64_t mix(uint64_t state, uint64_t word) {
  state = (state ^ word) * kChecksumFactor;
  return state ^ state >> 29;
}

}  // namespace

uint64_t chunk_checksum(std::string_view chunk) {
  uint64_t state = mix(kChecksumSeed, load(chunk, 0, 8));
  size_t at = kChunkFirstDueAt;
  for (; chunk.size() - at >= 8; at += 8) {
    state = mix(state, load(chunk, at, 8));
  }
  if (at < chunk.size()) {
    state = mix(state, load(chunk, at, chunk.size() - at));
  }
  return mix(state, chunk.size());
}

std::string pack_chunk(std::span<const Entry> entries) {
  require(!entries.empty() && entries.size() <= kLow32, "a chunk has 1 to 2^32 - 1 entries");
  std::string bytes(kChunkHeaderBytes, '\0');
  bytes.reserve(kChunkHeaderBytes + 16 * entries.size());
  bytes[0] = static_cast<char>(kChunkVersion);
  store(bytes, kChunkCountAt, static_cast<uint32_t>(entries.size()));
  store(bytes, kChunkFirstDueAt, entries.front().due);
  Entry previous;
  previous.due = entries.front().due;
  for (size_t i = 0; i < entries.size(); ++i) {
    require(i == 0 || previous.key() < entries[i].key(), "the keys of a chunk ascend");
    put_entry(bytes, entries[i], previous);
    previous = entries[i];
  }
  store(bytes, kChunkChecksumAt, chunk_checksum(bytes));
  return bytes;
}

Failure unpack_chunk(std::string_view chunk, std::vector<Entry>& out) {
  if (chunk.size() < kChunkHeaderBytes) {
    return "packed chunk: " + std::to_string(chunk.size()) + " bytes, shorter than its header";
  }
  if (static_cast<uint8_t>(chunk[0]) != kChunkVersion || load(chunk, 1, 3) != 0) {
    return "packed chunk: version " + std::to_string(load(chunk, 0, 4)) + " is not known";
  }
  if (load(chunk, kChunkChecksumAt, 8) != chunk_checksum(chunk)) {
    return "packed chunk: checksum mismatch";
  }
  const uint64_t count = load(chunk, kChunkCountAt, 4);
  if (count == 0 || count > (chunk.size() - kChunkHeaderBytes) / kChunkEntryBytesMin) {
    return "packed chunk: " + std::to_string(count) + " entries in " +
           std::to_string(chunk.size()) + " bytes";
  }
  const size_t before = out.size();
  if (out.capacity() < before + count) {
    out.reserve(std::max(2 * out.capacity(), before + count));
  }
  Decoder decoder(chunk.substr(kChunkHeaderBytes), load(chunk, kChunkFirstDueAt, 8));
  for (uint64_t i = 0; i < count; ++i) {
    if (!decoder.next()) {
      out.resize(before);
      return "packed chunk: entry " + std::to_string(i) + " is malformed";
    }
    out.push_back(decoder.entry());
  }
  if (!decoder.at_end()) {
    out.resize(before);
    return "packed chunk: bytes behind the last entry";
  }
  return std::nullopt;
}

}  // namespace tidemark::timerwheel
