// What names a transaction within a shard, and what can become of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "broker/partition/store_keys.h"
#include "log/base/ids.h"

namespace tidemark::txn {

// `number` has the producer's epoch in its high 16 bits; below it the producer counts from 1.
struct TxnKey {
  uint64_t producer = 0;
  uint64_t number = 0;

  [[nodiscard]] uint16_t epoch() const { return static_cast<uint16_t>(number >> 48); }

  friend constexpr auto operator<=>(const TxnKey&, const TxnKey&) = default;
};

// Values as on the wire.
enum class TxnState : uint8_t {
  kNone = 0,
  kOpen = 1,
  kParked = 2,
  kCommitted = 3,
  kRolledBack = 4
};

inline bool is_ended(TxnState state) {
  return state == TxnState::kCommitted || state == TxnState::kRolledBack;
}

inline std::string store_key(char letter, const TxnKey& key) {
  return letter + partition::keys::number64(key.producer) + partition::keys::number64(key.number);
}

}  // namespace tidemark::txn

template <>
struct std::hash<tidemark::txn::TxnKey> {
  size_t operator()(const tidemark::txn::TxnKey& key) const {
    const uint64_t mixed = (key.producer * 0x9E3779B97F4A7C15ull) ^ key.number;
    return static_cast<size_t>(mixed * 0xC2B2AE3D27D4EB4Full >> 7);
  }
};
