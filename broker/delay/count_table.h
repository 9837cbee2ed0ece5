// Counts by key that are part of the checkpoint: what is zero is not there.
//
// Thread: the shard's loop.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "broker/kv/key_value_store.h"
#include "log/base/check.h"
#include "log/base/coding.h"
#include "log/base/result.h"

namespace tidemark::delay {

// `Encode` turns a key into that of the store.
template <typename Key, std::string (*Encode)(const Key&)>
class CountTable {
 public:
  void add(const Key& key, uint64_t count) {
    counts_[key] += count;
    dirty_.insert(key);
  }

  // A key that is not there, or not with so much, was dropped in the meantime: what is left goes.
  void subtract(const Key& key, uint64_t count) {
    const auto it = counts_.find(key);
    if (it == counts_.end()) {
      return;
    }
    dirty_.insert(key);
    if (it->second <= count) {
      counts_.erase(it);
    } else {
      it->second -= count;
    }
  }

  [[nodiscard]] uint64_t get(const Key& key) const {
    const auto it = counts_.find(key);
    return it == counts_.end() ? 0 : it->second;
  }

  [[nodiscard]] const std::map<Key, uint64_t>& counts() const { return counts_; }

  // Removes the keys in [first, last).
  void erase_range(const Key& first, const Key& last) {
    auto it = counts_.lower_bound(first);
    while (it != counts_.end() && it->first < last) {
      dirty_.insert(it->first);
      it = counts_.erase(it);
    }
  }

  void freeze(kv::WriteBatch& batch) {
    frozen_ = std::exchange(dirty_, {});
    for (const Key& key : frozen_) {
      const auto it = counts_.find(key);
      if (it == counts_.end()) {
        batch.remove(Encode(key));
        continue;
      }
      std::string value(8, '\0');
      store_le(reinterpret_cast<uint8_t*>(value.data()), it->second);
      batch.put(Encode(key), std::move(value));
    }
  }

  void commit_done() { frozen_.clear(); }

  void commit_failed() {
    dirty_.insert(frozen_.begin(), frozen_.end());
    frozen_.clear();
  }

  Status load(const Key& key, std::string_view value) {
    if (value.size() != 8) {
      return Status(ErrorCode::kCorrupted, "a count in the checkpoint store");
    }
    counts_[key] = load_le<uint64_t>(as_bytes(value).data());
    return Status();
  }

 private:
  std::map<Key, uint64_t> counts_;
  std::set<Key> dirty_;
  std::set<Key> frozen_;
};

}  // namespace tidemark::delay
