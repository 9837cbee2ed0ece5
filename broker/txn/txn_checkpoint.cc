// TxnTable and the checkpoint store.
#include <utility>

#include "broker/partition/stored_value.h"
#include "broker/txn/txn_table.h"
#include "log/base/checksum.h"

namespace tidemark::txn {

namespace {

constexpr uint8_t kVersion = 1;

void put_half(ByteWriter& writer, const Half& half) {
  writer.varint(half.index);
  writer.le(half.partition.topic.value());
  writer.le(half.partition.index.value());
  writer.le(half.position.value());
  writer.varint(half.bytes);
  writer.varint(half.messages);
  writer.varint(half.items.size());
  for (const HalfItem& item : half.items) {
    writer.le(static_cast<uint8_t>(item.at));
    writer.le(item.due_ms);
    writer.varint(item.offset);
    writer.varint(item.bytes);
    writer.sized_text(item.key);
  }
}

Half get_half(ByteReader& reader) {
  Half half;
  half.index = static_cast<uint32_t>(reader.varint());
  half.partition.topic = TopicId{reader.le<uint32_t>()};
  half.partition.index = PartitionIndex{reader.le<uint32_t>()};
  half.position = LogPosition{reader.le<uint64_t>()};
  half.bytes = static_cast<uint32_t>(reader.varint());
  half.messages = static_cast<uint32_t>(reader.varint());
  const uint64_t items = reader.varint();
  for (uint64_t i = 0; i < items && !reader.failed(); ++i) {
    HalfItem item;
    item.at = reader.le<uint8_t>() != 0;
    item.due_ms = reader.le<int64_t>();
    item.offset = static_cast<uint32_t>(reader.varint());
    item.bytes = static_cast<uint32_t>(reader.varint());
    item.key = reader.sized_text();
    half.items.push_back(std::move(item));
  }
  return half;
}

void put_shards(ByteWriter& writer, const std::vector<ShardId>& shards) {
  writer.varint(shards.size());
  for (const ShardId shard : shards) {
    writer.le(shard.value());
  }
}

std::vector<ShardId> get_shards(ByteReader& reader) {
  std::vector<ShardId> shards;
  const uint64_t count = reader.varint();
  for (uint64_t i = 0; i < count && !reader.failed(); ++i) {
    shards.emplace_back(reader.le<uint16_t>());
  }
  return shards;
}

std::vector<uint8_t> encode_unconfirmed(const TxnTable::Unconfirmed& unconfirmed) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.le(static_cast<uint8_t>(unconfirmed.commit));
  put_shards(writer, unconfirmed.shards);
  return out;
}

// Puts what is there, removes what the store has and is gone.
template <typename Table, typename Encode>
void freeze_table(char letter, const Table& table, std::set<TxnKey>& dirty,
                  std::set<TxnKey>& frozen, std::unordered_set<TxnKey>& stored,
                  kv::WriteBatch& batch, Encode encode) {
  for (const TxnKey& key : dirty) {
    const std::string name = store_key(letter, key);
    if (const auto it = table.find(key); it != table.end()) {
      std::vector<uint8_t> bytes = encode(it->second);
      batch.put(name, partition::seal_value(bytes, name));
      stored.insert(key);
    } else if (stored.erase(key) > 0) {
      batch.remove(name);
    }
  }
  frozen = std::exchange(dirty, {});
}

// The next freeze takes all of it again, whatever the store has of it.
void take_again(std::set<TxnKey>& dirty, std::set<TxnKey>& frozen,
                std::unordered_set<TxnKey>& stored) {
  stored.insert(frozen.begin(), frozen.end());
  dirty.merge(frozen);
  frozen.clear();
}

// Calls load(key, body) with every value of this letter; false from it: not written by us.
template <typename Load>
Status walk_keys(kv::ReadView& view, std::string_view letter, const char* what, Load load) {
  return partition::for_each_of(view, letter, [&](std::string_view key, std::string_view value) {
    const auto body = partition::open_value(key, value);
    if (key.size() != 17 || !body.has_value()) {
      return partition::damaged_value(what);
    }
    const uint8_t* const at = as_bytes(key).data();
    ByteReader reader(*body);
    const bool known = reader.le<uint8_t>() == kVersion;
    const bool sound = load(TxnKey{load_be<uint64_t>(at + 1), load_be<uint64_t>(at + 9)}, reader);
    return known && sound && !reader.failed() && reader.remaining() == 0
               ? Status()
               : partition::damaged_value(what);
  });
}

}  // namespace

std::vector<uint8_t> TxnTable::encode(const Transaction& txn) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.le(txn.coordinator.value());
  writer.le(static_cast<uint8_t>(txn.state));
  writer.sized_text(txn.group->name);
  writer.sized_text(txn.reference);
  writer.le(txn.born_ms);
  writer.le(txn.pending_since_ms);
  writer.le(txn.timeout_ms);
  writer.varint(txn.checks);
  writer.le(txn.next_check_ms);
  writer.varint(txn.halves.size());
  for (const Half& half : txn.halves) {
    put_half(writer, half);
  }
  put_shards(writer, txn.participants);
  return out;
}

bool TxnTable::load_transaction(const TxnKey& key, ByteReader& reader) {
  Transaction& txn = open_[key];
  txn.key = key;
  txn.coordinator = ShardId{reader.le<uint16_t>()};
  txn.state = static_cast<TxnState>(reader.le<uint8_t>());
  txn.group = &use_group(reader.sized_text());
  txn.reference = reader.sized_text();
  txn.born_ms = reader.le<int64_t>();
  txn.pending_since_ms = reader.le<int64_t>();
  txn.timeout_ms = reader.le<uint32_t>();
  txn.checks = static_cast<uint32_t>(reader.varint());
  txn.next_check_ms = reader.le<int64_t>();
  const uint64_t halves = reader.varint();
  for (uint64_t i = 0; i < halves && !reader.failed(); ++i) {
    Half half = get_half(reader);
    by_position_.emplace(half.position, Place{key, half.index});
    half_bytes_ += half.bytes;
    delayed_ += half.items.size();
    txn.halves.push_back(std::move(half));
  }
  txn.participants = get_shards(reader);
  enlist(txn);
  stored_.insert(key);
  return txn.state == TxnState::kOpen || txn.state == TxnState::kParked;
}

uint64_t TxnTable::hash() const {
  uint64_t hash = outcomes_.hash();
  for (const auto& [key, txn] : open_) {
    hash += xxh3(encode(txn), xxh3(as_bytes(store_key('H', key))));
  }
  for (const auto& [key, unconfirmed] : unconfirmed_) {
    hash += xxh3(encode_unconfirmed(unconfirmed), xxh3(as_bytes(store_key('U', key))));
  }
  return hash;
}

void TxnTable::freeze(kv::WriteBatch& batch) {
  freeze_table('H', open_, dirty_, frozen_, stored_, batch, encode);
  freeze_table('U', unconfirmed_, dirty_unconfirmed_, frozen_unconfirmed_, stored_unconfirmed_,
               batch, encode_unconfirmed);
  outcomes_.freeze(batch);
}

void TxnTable::commit_done() {
  frozen_.clear();
  frozen_unconfirmed_.clear();
  outcomes_.commit_done();
}

void TxnTable::commit_failed() {
  take_again(dirty_, frozen_, stored_);
  take_again(dirty_unconfirmed_, frozen_unconfirmed_, stored_unconfirmed_);
  outcomes_.commit_failed();
}

Status TxnTable::load(kv::ReadView& view) {
  RETURN_IF_ERROR(walk_keys(
      view, "H", "a transaction",
      [this](const TxnKey& key, ByteReader& reader) { return load_transaction(key, reader); }));
  RETURN_IF_ERROR(walk_keys(view, "U", "the end of a transaction",
                            [this](const TxnKey& key, ByteReader& reader) {
                              Unconfirmed& unconfirmed = unconfirmed_[key];
                              unconfirmed.commit = reader.le<uint8_t>() != 0;
                              unconfirmed.shards = get_shards(reader);
                              stored_unconfirmed_.insert(key);
                              return true;
                            }));
  return outcomes_.load(view);
}

}  // namespace tidemark::txn
