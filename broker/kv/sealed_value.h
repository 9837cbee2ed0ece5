// Values of a checkpoint store that end with XXH3-64 over the bytes before, seeded by their key, so
// that a value under another's key is noticed too.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "log/base/bytes.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::kv {

inline Status damaged(const char* what) {
  return Status(ErrorCode::kCorrupted, std::string(what) + " in the checkpoint store");
}

inline std::string sealed(std::vector<uint8_t>& bytes, std::string_view key) {
  ByteWriter(bytes).le(xxh3(bytes, xxh3(as_bytes(key))));
  return std::string(as_text(bytes));
}

// The bytes that were sealed; nullopt: damaged.
inline std::optional<ByteView> opened(std::string_view key, std::string_view value) {
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

// Calls load(key, value) -> Status for every key that begins with `letter`.
template <typename Load>
Status walk(ReadView& view, std::string_view letter, Load load) {
  ASSIGN_OR_RETURN(auto pair, view.seek(letter));
  while (pair.has_value() && pair->key.substr(0, 1) == letter) {
    RETURN_IF_ERROR(load(pair->key, pair->value));
    ASSIGN_OR_RETURN(pair, view.next());
  }
  return Status();
}

}  // namespace tidemark::kv
