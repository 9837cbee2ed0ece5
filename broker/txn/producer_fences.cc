#include "broker/txn/producer_fences.h"

#include <string>
#include <utility>
#include <vector>

#include "broker/partition/store_keys.h"
#include "broker/partition/stored_value.h"
#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::txn {

namespace keys = partition::keys;

namespace {

constexpr uint8_t kVersion = 1;
constexpr std::string_view kLetter = "F";

std::string store_key_of(uint64_t producer) {
  return std::string(kLetter) + keys::number64(producer);
}

uint64_t hash_of(uint64_t producer, uint16_t epoch) {
  return xxh3(as_bytes(store_key_of(producer)), epoch);
}

}  // namespace

uint16_t ProducerFences::lowest_epoch(uint64_t producer) const {
  const auto it = epochs_.find(producer);
  return it == epochs_.end() ? uint16_t{0} : it->second;
}

void ProducerFences::raise(uint64_t producer, uint16_t epoch) {
  const uint16_t before = lowest_epoch(producer);
  if (epoch <= before) {
    return;
  }
  if (before != 0) {
    hash_ -= hash_of(producer, before);
  }
  hash_ += hash_of(producer, epoch);
  epochs_[producer] = epoch;
  by_id_.insert(producer);
  dirty_.insert(producer);
  while (epochs_.size() > limits::kProducerNamesMax) {
    const uint64_t lowest = *by_id_.begin();
    hash_ -= hash_of(lowest, lowest_epoch(lowest));
    epochs_.erase(lowest);
    by_id_.erase(by_id_.begin());
    dirty_.insert(lowest);  // its removal is stored
  }
}

void ProducerFences::freeze(kv::WriteBatch& batch) {
  for (const uint64_t producer : dirty_) {
    std::string key = store_key_of(producer);
    const auto it = epochs_.find(producer);
    if (it == epochs_.end()) {
      batch.remove(std::move(key));
      continue;
    }
    std::vector<uint8_t> out;
    ByteWriter writer(out);
    writer.le(kVersion);
    writer.le(it->second);
    std::string value = partition::seal_value(out, key);
    batch.put(std::move(key), std::move(value));
  }
  frozen_.merge(dirty_);
  dirty_.clear();
}

void ProducerFences::commit_done() { frozen_.clear(); }

void ProducerFences::commit_failed() {
  dirty_.merge(frozen_);
  frozen_.clear();
}

Status ProducerFences::load(kv::ReadView& view) {
  TIDEMARK_CHECK(epochs_.empty(), "loaded once, at start");
  return partition::for_each_of(
      view, kLetter, [this](std::string_view key, std::string_view value) {
        const Status damaged = partition::damaged_value("fence of a producer");
        const auto body = partition::open_value(key, value);
        if (!body || key.size() != kLetter.size() + sizeof(uint64_t)) {
          return damaged;
        }
        ByteReader reader(*body);
        const auto version = reader.le<uint8_t>();
        const auto epoch = reader.le<uint16_t>();
        if (version != kVersion || epoch == 0 || reader.failed() || reader.remaining() != 0) {
          return damaged;
        }
        const uint64_t producer = load_be<uint64_t>(as_bytes(key).data() + kLetter.size());
        epochs_.emplace(producer, epoch);
        by_id_.insert(producer);
        hash_ += hash_of(producer, epoch);
        return Status();
      });
}

}  // namespace tidemark::txn
