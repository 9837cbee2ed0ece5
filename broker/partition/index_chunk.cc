#include "broker/partition/index_chunk.h"

#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::partition {

namespace {

constexpr uint8_t kVersion = 1;

uint64_t zigzag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}

int64_t unzigzag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

}  // namespace

std::string encode_chunk(std::span<const BatchRef> refs) {
  TIDEMARK_CHECK(!refs.empty() && refs.size() <= kChunkRefsMax);
  std::vector<uint8_t> out;
  out.reserve(refs.size() * 12 + 64);
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.varint(refs.size());
  BatchRef previous;
  for (const BatchRef& ref : refs) {
    TIDEMARK_CHECK(ref.base >= previous.end() && ref.received_ms >= previous.received_ms);
    writer.varint(ref.base - previous.end());
    writer.varint(ref.count);
    writer.varint(ref.bytes);
    writer.varint(zigzag(static_cast<int64_t>(ref.position - previous.position)));
    writer.varint(static_cast<uint64_t>(ref.received_ms - previous.received_ms));
    previous = ref;
  }
  writer.le(xxh3(out));
  return std::string(as_text(out));
}

Result<std::vector<BatchRef>> decode_chunk(std::string_view bytes) {
  const Status damaged(ErrorCode::kCorrupted, "index chunk in the checkpoint store");
  if (bytes.size() < 10) {
    return damaged;
  }
  const ByteView all = as_bytes(bytes);
  const ByteView body = all.first(all.size() - 8);
  if (load_le<uint64_t>(all.data() + body.size()) != xxh3(body)) {
    return damaged;
  }
  ByteReader reader(body);
  const auto version = reader.le<uint8_t>();
  const uint64_t count = reader.varint();
  if (version != kVersion || count == 0 || count > kChunkRefsMax) {
    return damaged;
  }
  std::vector<BatchRef> refs;
  refs.reserve(count);
  BatchRef previous;
  for (uint64_t i = 0; i < count; ++i) {
    BatchRef ref;
    ref.base = previous.end() + reader.varint();
    ref.count = static_cast<uint32_t>(reader.varint());
    ref.bytes = static_cast<uint32_t>(reader.varint());
    ref.position = previous.position + static_cast<uint64_t>(unzigzag(reader.varint()));
    ref.received_ms = previous.received_ms + static_cast<int64_t>(reader.varint());
    refs.push_back(ref);
    previous = ref;
  }
  if (reader.failed() || reader.remaining() != 0) {
    return damaged;
  }
  return refs;
}

bool join_dead(BatchRef& ref, const BatchRef& next) {
  uint32_t count = 0;
  if (!ref.is_dead() || !next.is_dead() || ref.end() != next.base ||
      __builtin_add_overflow(ref.count, next.count, &count)) {
    return false;
  }
  ref.count = count;
  ref.received_ms = next.received_ms;
  return true;
}

}  // namespace tidemark::partition
