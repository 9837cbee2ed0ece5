#include "broker/partition/producer_table.h"

#include <algorithm>
#include <vector>

#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/coverage_mark.h"

namespace tidemark::partition {

int32_t sequence_after(int32_t first, uint32_t count) {
  return static_cast<int32_t>((static_cast<uint32_t>(first) + count) & 0x7FFFFFFFu);
}

SequenceVerdict ProducerTable::judge(const format::BatchHeader& header) const {
  using Kind = SequenceVerdict::Kind;
  const auto refuse = [](ErrorCode error, int32_t expected) {
    return SequenceVerdict{Kind::kRefuse, Offset{}, error, expected};
  };
  const auto it = producers_.find(ProducerId{static_cast<uint64_t>(header.producer_id)});
  if (it == producers_.end()) {
    // A known producer would have begun at 0: we either forgot it or never saw its beginning.
    return header.base_sequence == 0 ? SequenceVerdict{} : refuse(ErrorCode::kUnknownProducer, 0);
  }
  const Producer& producer = it->second;
  if (header.producer_epoch < producer.epoch) {
    return refuse(ErrorCode::kFenced, 0);
  }
  if (header.producer_epoch > producer.epoch) {
    return header.base_sequence == 0 ? SequenceVerdict{}
                                     : refuse(ErrorCode::kOutOfOrderSequence, 0);
  }
  if (header.base_sequence == producer.next_sequence) {
    return {};
  }
  const int32_t last = sequence_after(header.base_sequence, header.record_count - 1);
  for (size_t i = 0; i < producer.remembered; ++i) {
    const Remembered& batch = producer.batches[i];
    if (batch.first_sequence == header.base_sequence && batch.last_sequence == last) {
      TIDEMARK_COVERAGE_MARK(producer_duplicate_remembered);
      return {Kind::kDuplicate, batch.base, ErrorCode::kOk, 0};
    }
  }
  TIDEMARK_COVERAGE_MARK(producer_out_of_order);
  return refuse(ErrorCode::kOutOfOrderSequence, producer.next_sequence);
}

void ProducerTable::accept(const format::BatchHeader& header, Offset base, uint64_t use) {
  const ProducerId id{static_cast<uint64_t>(header.producer_id)};
  auto [it, inserted] = producers_.try_emplace(id);
  Producer& producer = it->second;
  if (inserted) {
    producer.idle_place = by_idleness_.insert(by_idleness_.end(), id);
  } else {
    hash_ -= hash_of(id, producer);
    by_idleness_.splice(by_idleness_.end(), by_idleness_, producer.idle_place);
  }
  if (inserted || header.producer_epoch != producer.epoch) {
    producer.remembered = 0;
  }
  producer.epoch = header.producer_epoch;
  producer.next_sequence = sequence_after(header.base_sequence, header.record_count);
  producer.last_use = use;
  std::move_backward(producer.batches.begin(), producer.batches.end() - 1, producer.batches.end());
  producer.batches[0] = {header.base_sequence,
                         sequence_after(header.base_sequence, header.record_count - 1), base};
  producer.remembered = static_cast<uint8_t>(
      std::min<size_t>(producer.remembered + 1u, limits::kProducerBatchesRemembered));
  hash_ += hash_of(id, producer);
  dirty_.insert(id);
  forget_idle();
}

void ProducerTable::forget_idle() {
  while (producers_.size() > limits::kProducersPerPartitionMax) {
    const ProducerId id = by_idleness_.front();
    const auto it = producers_.find(id);
    hash_ -= hash_of(id, it->second);
    producers_.erase(it);
    by_idleness_.pop_front();
    dirty_.insert(id);  // its removal is stored
  }
}

std::string ProducerTable::encode(const Producer& producer) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le<uint8_t>(1);  // version
  writer.le(producer.epoch);
  writer.le(producer.next_sequence);
  writer.le(producer.last_use);
  writer.le(producer.remembered);
  for (size_t i = 0; i < producer.remembered; ++i) {
    writer.le(producer.batches[i].first_sequence);
    writer.le(producer.batches[i].last_sequence);
    writer.le(producer.batches[i].base.value());
  }
  return std::string(as_text(out));
}

uint64_t ProducerTable::hash_of(ProducerId id, const Producer& producer) {
  return xxh3(as_bytes(encode(producer)), id.value());
}

void ProducerTable::freeze(PartitionId id, kv::WriteBatch& batch) {
  for (const ProducerId producer : dirty_) {
    const auto it = producers_.find(producer);
    if (it == producers_.end()) {
      batch.remove(keys::producer(id, producer));
    } else {
      batch.put(keys::producer(id, producer), encode(it->second));
    }
  }
  frozen_.merge(dirty_);
  dirty_.clear();
}

void ProducerTable::commit_failed() {
  TIDEMARK_COVERAGE_MARK(partition_checkpoint_failed);
  dirty_.merge(frozen_);
  frozen_.clear();
}

Status ProducerTable::load(ProducerId id, std::string_view value) {
  ByteReader reader(as_bytes(value));
  Producer producer;
  const auto version = reader.le<uint8_t>();
  producer.epoch = reader.le<int16_t>();
  producer.next_sequence = reader.le<int32_t>();
  producer.last_use = reader.le<uint64_t>();
  producer.remembered = reader.le<uint8_t>();
  if (version != 1 || producer.remembered > producer.batches.size()) {
    return Status(ErrorCode::kCorrupted, "producer state in the checkpoint store");
  }
  for (size_t i = 0; i < producer.remembered; ++i) {
    producer.batches[i].first_sequence = reader.le<int32_t>();
    producer.batches[i].last_sequence = reader.le<int32_t>();
    producer.batches[i].base = Offset{reader.le<uint64_t>()};
  }
  if (reader.failed() || reader.remaining() != 0) {
    return Status(ErrorCode::kCorrupted, "producer state in the checkpoint store");
  }
  hash_ += hash_of(id, producer);
  producers_.emplace(id, producer);
  return Status();
}

void ProducerTable::finish_load() {
  std::vector<std::pair<uint64_t, ProducerId>> order;
  order.reserve(producers_.size());
  for (const auto& [id, producer] : producers_) {
    order.emplace_back(producer.last_use, id);
  }
  std::sort(order.begin(), order.end());
  by_idleness_.clear();
  for (const auto& [use, id] : order) {
    producers_.at(id).idle_place = by_idleness_.insert(by_idleness_.end(), id);
  }
}

}  // namespace tidemark::partition
