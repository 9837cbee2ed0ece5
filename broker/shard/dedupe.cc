// Messages with ids, for topics with a window in which a second message with an id is a duplicate.
//
//   batch --ids read--> judged against the table and what is under way
//     no message is known    stored, and behind it, in the same entry, its ids
//     some are               the others are stored as a batch of their own, which takes the
//                            sequences of the whole; and their ids
//     all are                not stored: answered at once; or, if it moves on its producer's
//                            sequence or the first delivery is under way, when a record that says
//                            so is applied, behind that delivery
//
// A message is known if its id is in the table, is under way, or comes before it in the batch.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "broker/shard/message_ids.h"
#include "broker/shard/shard.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace {

constexpr size_t kIdBytes = 16;

std::vector<uint8_t> pack(const std::vector<Hash128>& ids) {
  std::vector<uint8_t> out(ids.size() * kIdBytes);
  for (size_t i = 0; i < ids.size(); ++i) {
    store_le(out.data() + i * kIdBytes, ids[i].low);
    store_le(out.data() + i * kIdBytes + 8, ids[i].high);
  }
  return out;
}

// Beside the ids and their numbers.
constexpr size_t kIdRecordBytes = 128;

}  // namespace

bool Shard::has_window(PartitionId id) const {
  const partition::Partition* partition = views_.find(id);
  return partition != nullptr && partition->config().queue.dedupe_window_ms >= 0;
}

Shard::IdVerdict Shard::judge_ids(PartitionId id, const std::vector<MessageId>& ids,
                                  int64_t time_ms) const {
  const int64_t window_ms = views_.find(id)->config().queue.dedupe_window_ms;
  const auto under_way = ids_under_way_.find(id);
  IdVerdict verdict;
  verdict.kept.resize(ids.size(), true);
  std::unordered_map<Hash128, uint32_t, Hash128::Hasher> here;
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint32_t number = verdict.stored;
    if (!ids[i].has_value()) {
      verdict.places.push_back({true, Offset{number}});
      ++verdict.stored;
      continue;
    }
    const Hash128& hash = *ids[i];
    if (under_way != ids_under_way_.end() && under_way->second.contains(hash)) {
      verdict.kept[i] = false;
      verdict.places.push_back({});
      ++verdict.under_way;
    } else if (const auto known = views_.dedupe().find(id, hash, time_ms, window_ms);
               known.has_value()) {
      verdict.kept[i] = false;
      verdict.places.push_back({false, *known});
    } else if (const auto [it, is_new] = here.emplace(hash, number); !is_new) {
      verdict.kept[i] = false;
      verdict.places.push_back({true, Offset{it->second}});
    } else {
      verdict.places.push_back({true, Offset{number}});
      verdict.ids.push_back(hash);
      verdict.records.push_back(number);
      ++verdict.stored;
    }
  }
  return verdict;
}

Status Shard::accept_with_ids(const BatchToTake& batch, const Now& now, PendingRecord pending,
                              uint32_t& retry_after_ms) {
  ASSIGN_OR_RETURN(const std::vector<MessageId> ids, read_message_ids(batch.bytes));
  if (ids.empty()) {
    gather_batch(batch, 0, now, std::move(pending));
    return Status();
  }
  IdVerdict verdict = judge_ids(batch.partition, ids, log_time(now));
  const uint32_t duplicates = batch.header.record_count - verdict.stored;
  if (verdict.stored == 0) {
    counters_.duplicate_messages += duplicates;
    answer_known(batch, ids, verdict, now, std::move(pending));
    return Status();
  }
  if (verdict.under_way > 0) {
    // If that delivery failed, its message would be stored by neither.
    retry_after_ms = limits::kRetryAfterMsDefault;
    return Status(ErrorCode::kUnavailable,
                  "a message with the id of one in the batch is being stored: try again");
  }
  BatchToTake taken = batch;
  Buffer rest;
  if (duplicates > 0) {
    ASSIGN_OR_RETURN(rest, keep_messages(batch.bytes, verdict.kept));
    ASSIGN_OR_RETURN(taken.header, format::decode_batch_header(rest.view()));
    taken.bytes = rest.view();
    taken.sequences = batch.header.record_count;
  }
  // A number beside each id, unless they are all of the first messages. What is left may have none.
  const bool has_ids = !verdict.ids.empty();
  const bool numbered = has_ids && verdict.records.back() + 1 != verdict.records.size();
  const size_t id_bytes =
      has_ids ? kIdRecordBytes + verdict.ids.size() * (kIdBytes + (numbered ? sizeof(uint32_t) : 0))
              : 0;
  if (format::record_bytes(format::kProduceHeaderBytes + taken.bytes.size()) +
          format::record_bytes(id_bytes) >
      limits::kEntryPayloadBytesMax) {
    return Status(ErrorCode::kTooLarge,
                  "a batch of " + std::to_string(batch.bytes.size()) + " bytes with " +
                      std::to_string(verdict.ids.size()) +
                      " message ids does not fit an entry of the log; send fewer messages in one");
  }
  if (duplicates > 0) {
    pending.produce->parts[pending.part].places = std::move(verdict.places);
    counters_.duplicate_messages += duplicates;
  }
  gather_batch(taken, id_bytes, now, std::move(pending));
  if (has_ids) {
    gather_ids(batch.partition, std::move(verdict), numbered, now);
  }
  return Status();
}

// Right behind its batch, for which room was made together.
void Shard::gather_ids(PartitionId id, IdVerdict verdict, bool numbered, const Now& now) {
  flatbuffers::FlatBufferBuilder body;
  const auto packed = body.CreateVector(pack(verdict.ids));
  const auto records = numbered ? body.CreateVector(verdict.records)
                                : flatbuffers::Offset<flatbuffers::Vector<uint32_t>>();
  format::fbs::MessageIdsBuilder record(body);
  record.add_topic(id.topic.value());
  record.add_partition(id.index.value());
  record.add_ids(packed);
  record.add_records(records);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  records_.add(format::RecordKind::kMessageIds, protocol::finished(body));
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kMessageIds;
  pending.partition = id;
  ids_under_way_[id].insert(verdict.ids.begin(), verdict.ids.end());
  pending.ids = std::make_unique<std::vector<Hash128>>(std::move(verdict.ids));
  gathering_.push_back(std::move(pending));
}

// All messages of the batch are known.
void Shard::answer_known(const BatchToTake& batch, const std::vector<MessageId>& ids,
                         const IdVerdict& verdict, const Now& now, PendingRecord pending) {
  ProduceOp::Part& part = pending.produce->parts[pending.part];
  if (batch.header.producer_id < 0 && verdict.under_way == 0) {
    part.base = verdict.places.front().offset;
    part.places = verdict.places;
    part.received_ms = views_.find(batch.partition)->last_received_ms();
    part.duplicate = true;
    --pending.produce->unanswered;
    return;
  }
  std::vector<Hash128> all;
  all.reserve(ids.size());
  for (const MessageId& id : ids) {
    all.push_back(*id);
  }
  flatbuffers::FlatBufferBuilder body;
  const auto packed = body.CreateVector(pack(all));
  format::fbs::MessageIdsBuilder record(body);
  record.add_topic(batch.partition.topic.value());
  record.add_partition(batch.partition.index.value());
  record.add_ids(packed);
  record.add_time_ms(log_time(now));
  record.add_known(true);
  record.add_producer_id(batch.header.producer_id);
  record.add_producer_epoch(batch.header.producer_epoch);
  record.add_base_sequence(batch.header.base_sequence);
  body.Finish(record.Finish());
  pending.bytes = static_cast<uint32_t>(body.GetSize());
  accepted_bytes_ += pending.bytes;
  gather(format::RecordKind::kMessageIds, body, std::move(pending));
}

void Shard::release_ids(const PendingRecord& pending) {
  const auto it = ids_under_way_.find(pending.partition);
  for (const Hash128& id : *pending.ids) {
    it->second.erase(id);
  }
  if (it->second.empty()) {
    ids_under_way_.erase(it);
  }
}

// Where the messages of a part are, once its batch is stored at `base`.
void Shard::place_messages(ProduceOp::Part& part, Offset base) {
  for (ProduceOp::Place& place : part.places) {
    if (place.in_batch) {
      place = {false, base + place.offset.value()};
    }
  }
}

// Of a record that says that all messages are known.
void Shard::take_known_offsets(ProduceOp::Part& part, const RecordOutcome& outcome) {
  const auto first = views_.known_offsets().begin() + outcome.first_receipt;
  for (auto it = first; it != first + outcome.receipts; ++it) {
    part.places.push_back({false, *it});
  }
}

// Their ids would have to be judged when they are delivered.
Status Shard::refuse_ids(PartitionId id, ByteView batch) const {
  if (!has_window(id)) {
    return Status();
  }
  ASSIGN_OR_RETURN(const std::vector<MessageId> ids, read_message_ids(batch));
  return ids.empty() ? Status()
                     : Status(ErrorCode::kInvalidArgument,
                              "a message with an id (header tm-id) for a topic with "
                              "dedupe_window_ms can be neither delayed nor part of a transaction");
}

}  // namespace tidemark::shard
