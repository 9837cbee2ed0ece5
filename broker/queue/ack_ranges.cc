#include "broker/queue/ack_ranges.h"

#include <algorithm>

#include "log/base/coding.h"

namespace tidemark::queue {

namespace {

constexpr size_t kRangeBytesMin = 2;

Status malformed(const char* why) {
  return Status(ErrorCode::kMalformed, std::string("packed offsets: ") + why);
}

// A number as the writer writes it: without zero bytes at its end.
class NumberReader {
 public:
  explicit NumberReader(ByteView in) : reader_(in), in_(in) {}

  uint64_t next() {
    const size_t begin = reader_.consumed();
    const uint64_t value = reader_.varint();
    const size_t end = reader_.consumed();
    shortest_ = shortest_ && (end <= begin + 1 || in_[end - 1] != 0);
    return value;
  }

  [[nodiscard]] bool failed() const { return reader_.failed() || !shortest_; }

  [[nodiscard]] size_t remaining() const { return reader_.remaining(); }

 private:
  ByteReader reader_;
  ByteView in_;
  bool shortest_ = true;
};

// In order, apart, none empty.
std::vector<AckRange> join(std::vector<AckRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const AckRange& a, const AckRange& b) { return a.first < b.first; });
  std::vector<AckRange> joined;
  joined.reserve(ranges.size());
  for (const AckRange& range : ranges) {
    const Offset end = end_of(range.first, range.count);
    if (end == range.first) {
      continue;
    }
    if (!joined.empty()) {
      AckRange& last = joined.back();
      const Offset last_end = last.first + last.count;
      if (range.first <= last_end) {
        last.count = std::max(end, last_end) - last.first;
        continue;
      }
    }
    joined.push_back({range.first, end - range.first});
  }
  return joined;
}

}  // namespace

std::vector<uint8_t> pack_ranges(std::vector<AckRange> ranges) {
  const std::vector<AckRange> joined = join(std::move(ranges));
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.varint(joined.size());
  Offset end;
  for (const AckRange& range : joined) {
    writer.varint(range.first - end);
    writer.varint(range.count - 1);
    end = range.first + range.count;
  }
  return out;
}

Result<std::vector<AckRange>> unpack_ranges(ByteView packed) {
  NumberReader reader(packed);
  const uint64_t count = reader.next();
  if (reader.failed() || count > reader.remaining() / kRangeBytesMin) {
    return malformed("more ranges than bytes");
  }
  std::vector<AckRange> ranges;
  ranges.reserve(static_cast<size_t>(count));
  uint64_t end = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t gap = reader.next();
    const uint64_t others = reader.next();
    if (reader.failed()) {
      return malformed("a number is cut or too long");
    }
    if (i > 0 && gap == 0) {
      return malformed("two ranges touch");
    }
    if (gap >= UINT64_MAX - end || others >= UINT64_MAX - end - gap) {
      return malformed("beyond the largest offset");
    }
    ranges.push_back({Offset{end + gap}, others + 1});
    end += gap + others + 1;
  }
  if (reader.remaining() != 0) {
    return malformed("bytes behind the last range");
  }
  return ranges;
}

}  // namespace tidemark::queue
