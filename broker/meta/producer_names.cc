#include "broker/meta/producer_names.h"

#include "broker/partition/store_keys.h"
#include "broker/partition/stored_value.h"
#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::meta {

namespace keys = partition::keys;

namespace {

constexpr uint8_t kVersion = 1;
// The largest that a record batch can name.
constexpr uint16_t kEpochMax = INT16_MAX;
constexpr std::string_view kLetter = "A";

std::string store_key_of(uint64_t producer) {
  return std::string(kLetter) + keys::number64(producer);
}

}  // namespace

ProducerNames::Taken ProducerNames::take_next(std::string_view name, uint64_t new_id,
                                              uint16_t shard_count, uint64_t use) {
  auto it = names_.find(name);
  if (it != names_.end() && it->second.epoch == kEpochMax) {
    forget(it);
    it = names_.end();
  }
  const bool is_new = it == names_.end();
  if (is_new) {
    // Before the new one is there: it could be the only one that waits for no shard.
    while (!names_.empty() && names_.size() >= names_max_) {
      forget(names_.find(by_use_.begin()->second));
    }
    TIDEMARK_CHECK(!by_producer_.contains(new_id), "producer ids are given once");
    it = names_.try_emplace(std::string(name)).first;
    it->second.producer = new_id;
  } else {
    delist(it->second);
    ++it->second.epoch;
    for (uint16_t shard = 0; shard < shard_count; ++shard) {
      it->second.unfenced.insert(ShardId{shard});
    }
  }
  NamedProducer& named = it->second;
  named.last_use = use;
  enlist(it->first, named);
  dirty_.insert(named.producer);
  return {named.producer, named.epoch, is_new};
}

void ProducerNames::fenced(uint64_t producer, uint16_t epoch, ShardId shard) {
  const auto at = by_producer_.find(producer);
  if (at == by_producer_.end()) {
    return;
  }
  const auto it = names_.find(at->second);
  NamedProducer& named = it->second;
  if (named.epoch != epoch || !named.unfenced.contains(shard)) {
    return;
  }
  delist(named);
  named.unfenced.erase(shard);
  enlist(it->first, named);
  dirty_.insert(producer);
}

bool ProducerNames::is_settled(uint64_t producer, uint16_t epoch) const {
  const auto at = by_producer_.find(producer);
  if (at == by_producer_.end()) {
    return true;
  }
  const NamedProducer& named = names_.find(at->second)->second;
  return named.epoch >= epoch && named.unfenced.empty();
}

const NamedProducer* ProducerNames::find(uint64_t producer) const {
  const auto name = by_producer_.find(producer);
  return name == by_producer_.end() ? nullptr : &names_.find(name->second)->second;
}

std::vector<NamedProducer> ProducerNames::unsettled() const {
  std::vector<NamedProducer> waiting;
  waiting.reserve(unsettled_.size());
  for (const uint64_t producer : unsettled_) {
    waiting.push_back(names_.find(by_producer_.at(producer))->second);
  }
  return waiting;
}

// Into the orders that follow from its fields, and out of them before a field changes.
void ProducerNames::enlist(const std::string& name, const NamedProducer& named) {
  const bool waits = !named.unfenced.empty();
  by_producer_.emplace(named.producer, name);
  const bool placed = by_use_.emplace(std::pair(waits, named.last_use), name).second;
  TIDEMARK_CHECK(placed, "a use is one name's");
  if (waits) {
    unsettled_.insert(named.producer);
  }
}

void ProducerNames::delist(const NamedProducer& named) {
  by_use_.erase({!named.unfenced.empty(), named.last_use});
  unsettled_.erase(named.producer);
  by_producer_.erase(named.producer);
}

void ProducerNames::forget(Names::iterator it) {
  dirty_.insert(it->second.producer);  // its removal is stored
  delist(it->second);
  names_.erase(it);
}

std::string ProducerNames::encode(const std::string& name, const NamedProducer& named) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.le(named.epoch);
  writer.le(named.last_use);
  writer.sized_text(name);
  writer.varint(named.unfenced.size());
  for (const ShardId shard : named.unfenced) {
    writer.le(shard.value());
  }
  return partition::seal_value(out, store_key_of(named.producer));
}

uint64_t ProducerNames::hash() const {
  uint64_t hash = names_.size();
  for (const auto& [producer, name] : by_producer_) {
    hash = xxh3(as_bytes(encode(name, names_.find(name)->second)), hash ^ producer);
  }
  return hash;
}

void ProducerNames::freeze(kv::WriteBatch& batch) {
  for (const uint64_t producer : dirty_) {
    const auto at = by_producer_.find(producer);
    if (at == by_producer_.end()) {
      batch.remove(store_key_of(producer));
    } else {
      batch.put(store_key_of(producer), encode(at->second, names_.find(at->second)->second));
    }
  }
  frozen_.merge(dirty_);
  dirty_.clear();
}

void ProducerNames::commit_done() { frozen_.clear(); }

void ProducerNames::commit_failed() {
  dirty_.merge(frozen_);
  frozen_.clear();
}

Status ProducerNames::load(kv::ReadView& view) {
  TIDEMARK_CHECK(names_.empty(), "loaded once, at start");
  return partition::for_each_of(
      view, kLetter,
      [this](std::string_view key, std::string_view value) { return load_one(key, value); });
}

Status ProducerNames::load_one(std::string_view key, std::string_view value) {
  const Status damaged = partition::damaged_value("named producer");
  const auto body = partition::open_value(key, value);
  if (!body || key.size() != kLetter.size() + sizeof(uint64_t)) {
    return damaged;
  }
  ByteReader reader(*body);
  const auto version = reader.le<uint8_t>();
  NamedProducer named;
  named.producer = load_be<uint64_t>(as_bytes(key).data() + kLetter.size());
  named.epoch = reader.le<uint16_t>();
  named.last_use = reader.le<uint64_t>();
  const std::string name(reader.sized_text());
  const uint64_t shards = reader.varint();
  for (uint64_t i = 0; i < shards && !reader.failed(); ++i) {
    named.unfenced.insert(ShardId{reader.le<uint16_t>()});
  }
  if (version != kVersion || reader.failed() || reader.remaining() != 0 ||
      named.unfenced.size() != shards || names_.contains(name) ||
      by_use_.contains({!named.unfenced.empty(), named.last_use})) {
    return damaged;
  }
  enlist(name, names_.emplace(name, std::move(named)).first->second);
  return Status();
}

}  // namespace tidemark::meta
