// Message ids, applied.
#include "broker/shard/views.h"
#include "log/base/coding.h"
#include "log/format/control_record.h"

namespace tidemark::shard {

namespace fbs = format::fbs;
using format::control_table;

namespace {

constexpr size_t kIdBytes = 16;

std::vector<Hash128> unpack(const flatbuffers::Vector<uint8_t>* packed) {
  std::vector<Hash128> ids;
  for (size_t at = 0; packed != nullptr && at + kIdBytes <= packed->size(); at += kIdBytes) {
    ids.push_back(
        {load_le<uint64_t>(packed->data() + at), load_le<uint64_t>(packed->data() + at + 8)});
  }
  return ids;
}

}  // namespace

void Views::apply_message_ids(ByteView body, const std::optional<Appended>& before,
                              RecordOutcome& outcome) {
  const auto& record = control_table<fbs::MessageIds>(body);
  advance_time(record.time_ms());
  const PartitionId id{TopicId{record.topic()}, PartitionIndex{record.partition()}};
  outcome.partition = id;
  if (record.known()) {
    return apply_known_ids(record, outcome);
  }
  const partition::Partition* partition = find(id);
  if (partition == nullptr || partition->config().queue.dedupe_window_ms < 0 ||
      !before.has_value() || before->partition != id) {
    return;  // its batch was refused, or ids mean nothing any more
  }
  const std::vector<Hash128> ids = unpack(record.ids());
  std::vector<partition::DedupeTable::Item> items;
  items.reserve(ids.size());
  for (uint32_t i = 0; i < ids.size(); ++i) {
    const bool numbered = record.records() != nullptr && i < record.records()->size();
    items.push_back({ids[i], before->base + (numbered ? record.records()->Get(i) : i)});
  }
  dedupe_.add(id, items, log_time_ms_, partition->config().queue.dedupe_window_ms);
}

// The messages are where their first deliveries are, if none of those failed.
void Views::apply_known_ids(const fbs::MessageIds& record, RecordOutcome& outcome) {
  const auto it = partitions_.find(outcome.partition);
  outcome.append.error = is_fenced(record.producer_id(), record.producer_epoch())
                             ? ErrorCode::kFenced
                         : it == partitions_.end() ? ErrorCode::kUnknownPartition
                                                   : ErrorCode::kOk;
  outcome.error = outcome.append.error;
  if (outcome.error != ErrorCode::kOk) {
    return;
  }
  partition::Partition& partition = it->second;
  const std::vector<Hash128> ids = unpack(record.ids());
  format::BatchHeader header;
  header.producer_id = record.producer_id();
  header.producer_epoch = record.producer_epoch();
  header.base_sequence = record.base_sequence();
  header.record_count = static_cast<uint32_t>(ids.size());
  std::vector<Offset> offsets;
  for (const Hash128& id : ids) {
    if (const auto offset = dedupe_.find(outcome.partition, id); offset.has_value()) {
      offsets.push_back(*offset);
    }
  }
  const bool moves_on = header.producer_id < 0 || partition.producers().judge(header).kind ==
                                                      partition::SequenceVerdict::Kind::kAccept;
  if (moves_on && (ids.empty() || offsets.size() != ids.size())) {
    outcome.error = outcome.append.error = ErrorCode::kUnavailable;
    return;
  }
  const Offset base = moves_on ? offsets.front() : Offset{0};
  outcome.append = partition.accept_sequence(header, base, log_time_ms_, records_applied_);
  outcome.error = outcome.append.error;
  if (moves_on) {
    outcome.append.base = base;
    outcome.append.duplicate = true;
    outcome.append.received_ms = partition.last_received_ms();
    outcome.first_receipt = static_cast<uint32_t>(known_offsets_.size());
    outcome.receipts = static_cast<uint32_t>(offsets.size());
    known_offsets_.insert(known_offsets_.end(), offsets.begin(), offsets.end());
  }
}

}  // namespace tidemark::shard
