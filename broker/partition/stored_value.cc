#include "broker/partition/stored_value.h"

#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::partition {

std::string seal_value(std::vector<uint8_t>& bytes, std::string_view key) {
  ByteWriter(bytes).le(xxh3(bytes, xxh3(as_bytes(key))));
  return std::string(as_text(bytes));
}

std::optional<ByteView> open_value(std::string_view key, std::string_view value) {
  const ByteView all = as_bytes(value);
  if (all.size() < 8) {
    return std::nullopt;
  }
  const ByteView body = all.first(all.size() - 8);
  if (load_le<uint64_t>(all.data() + body.size()) != xxh3(body, xxh3(as_bytes(key)))) {
    return std::nullopt;
  }
  return body;
}

Status damaged_value(const char* what) {
  return Status(ErrorCode::kCorrupted, std::string(what) + " in the checkpoint store");
}

}  // namespace tidemark::partition
