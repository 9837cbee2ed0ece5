// Values of the checkpoint store that carry their own proof: they end with XXH3-64 over the bytes
// before, seeded by their key, so that a value under another's key is noticed, too.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "log/base/bytes.h"
#include "log/base/result.h"

namespace tidemark::partition {

// `bytes` with their hash behind them.
std::string seal_value(std::vector<uint8_t>& bytes, std::string_view key);
// What was sealed; nullopt if it is damaged. Views `value`.
std::optional<ByteView> open_value(std::string_view key, std::string_view value);

// kCorrupted.
Status damaged_value(const char* what);

// Calls `load(key, value)` for every pair of one letter.
template <typename Load>
Status for_each_of(kv::ReadView& view, std::string_view letter, Load load) {
  ASSIGN_OR_RETURN(auto pair, view.seek(letter));
  while (pair.has_value() && pair->key.substr(0, 1) == letter) {
    RETURN_IF_ERROR(load(pair->key, pair->value));
    ASSIGN_OR_RETURN(pair, view.next());
  }
  return Status();
}

}  // namespace tidemark::partition
