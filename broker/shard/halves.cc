// Parts of transactions: taken in like batches and schedule sets, but nobody sees them before the
// commit.
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"
#include "log/base/coverage_mark.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

constexpr uint64_t kTxnCountMask = (uint64_t{1} << 48) - 1;

Status bad(const std::string& why) { return Status(ErrorCode::kInvalidArgument, why); }

std::string ended_text(txn::TxnState state) {
  return state == txn::TxnState::kCommitted ? "the transaction is committed already"
                                            : "the transaction is rolled back already";
}

txn::TxnKey key_of(const fbs::TxnId& id) { return {id.producer(), id.number()}; }

}  // namespace

Status Shard::check_half(const fbs::HalfInfo& half) const {
  const fbs::TxnId* const id = half.txn();
  if (id == nullptr || id->producer() == 0 || (id->number() & kTxnCountMask) == 0) {
    return bad("a half message names its transaction: producer and number from 1");
  }
  if (id->shard() >= options_.shard_count) {
    return bad("coordinating shard " + std::to_string(id->shard()) + "; there are " +
               std::to_string(options_.shard_count));
  }
  if (half.index() >= limits::kTxnHalvesMax) {
    return Status(
        ErrorCode::kLimitExceeded,
        "a transaction has at most " + std::to_string(limits::kTxnHalvesMax) + " parts (batches)");
  }
  const size_t group_bytes = protocol::view(half.group()).size();
  const size_t reference_bytes = protocol::view(half.reference()).size();
  if (group_bytes == 0 || group_bytes > limits::kTxnTextBytesMax ||
      reference_bytes > limits::kTxnTextBytesMax) {
    return bad("a producer group has 1 to " + std::to_string(limits::kTxnTextBytesMax) +
               " bytes, a reference at most as many");
  }
  if (half.timeout_ms() != 0 && (half.timeout_ms() < limits::kTxnTimeoutMsMin ||
                                 half.timeout_ms() > limits::kTxnTimeoutMsMax)) {
    return bad("a timeout of " + std::to_string(half.timeout_ms()) + " ms; allowed are " +
               std::to_string(limits::kTxnTimeoutMsMin) + " to " +
               std::to_string(limits::kTxnTimeoutMsMax));
  }
  const txn::TxnKey key = key_of(*id);
  if (views_.fences().is_fenced(key.producer, key.epoch())) {
    TIDEMARK_COVERAGE_MARK(txn_part_of_fenced_producer);
    return Status(ErrorCode::kFenced, "a newer producer has taken over the name of this one");
  }
  const txn::Transaction* const known = views_.txns().find(key);
  if (known != nullptr && known->coordinator.value() != id->shard()) {
    return bad("the transaction is coordinated by shard " +
               std::to_string(known->coordinator.value()));
  }
  if (const txn::TxnState state = views_.txns().state(key); txn::is_ended(state)) {
    return Status(ErrorCode::kConflict, ended_text(state));
  }
  return Status();
}

// Only what begins a transaction needs room: for the record of its end.
Status Shard::check_half_room(const txn::TxnKey& key, std::string_view group,
                              uint32_t& retry_after_ms) {
  const txn::TxnTable& txns = views_.txns();
  if (txns.find(key) != nullptr) {
    return Status();
  }
  retry_after_ms = limits::kRetryAfterMsDefault;
  const uint64_t open_max =
      std::min<uint64_t>(limits::kTxnOpenPerShardMax,
                         options_.segment_bytes / limits::kTxnReserveSegmentPart / end_bytes_max());
  if (txns.size() + halves_under_way_ >= open_max) {
    TIDEMARK_COVERAGE_MARK(txn_too_many_open);
    ++counters_.refused_overloaded;
    return Status(ErrorCode::kOverloaded, "shard " + std::to_string(options_.shard.value()) +
                                              " has " + std::to_string(txns.size()) +
                                              " open transactions; the limit is " +
                                              std::to_string(open_max));
  }
  if (txns.find_group(group) == nullptr && txns.groups().size() >= limits::kTxnGroupsPerShardMax) {
    return Status(ErrorCode::kOverloaded, "too many producer groups; the limit is " +
                                              std::to_string(limits::kTxnGroupsPerShardMax));
  }
  return Status();
}

// The log keeps room for the end of every transaction that is open or about to be: an entry that
// begins one is refused when the disk has no room for both.
void Shard::keep_room_for_ends() {
  consensus_->reserve((views_.txns().size() + halves_under_way_) * end_bytes_max());
}

// An end may name every shard.
uint64_t Shard::end_bytes_max() const {
  return limits::kTxnEndBytesReserved + options_.shard_count * sizeof(uint16_t);
}

Status Shard::check_half_batch(PartitionId partition, ByteView batch) const {
  ASSIGN_OR_RETURN(const format::BatchHeader header, format::validate_produced_batch(batch));
  if (header.producer_id >= 0 || header.transactional) {
    return bad("the batch of a half message has no producer of its own");
  }
  return refuse_ids(partition, batch);
}

// What happens at the commit must not depend on what others do meanwhile.
Status Shard::check_half_set(PartitionId partition, ByteView set, uint32_t& retry_after_ms) const {
  RETURN_IF_ERROR(check_schedule(partition, set, retry_after_ms));
  ASSIGN_OR_RETURN(format::ScheduleReader reader, format::ScheduleReader::open(set));
  if (reader.header().producer_id >= 0) {
    return bad("the set of a half message has no producer of its own");
  }
  format::ScheduleItem item;
  while (reader.next(item)) {
    if (item.recurrence != format::RecurrenceKind::kNone) {
      return bad("a recurring message cannot be part of a transaction");
    }
    if (!item.key.empty() && !item.replace) {
      return bad("a delayed message with a key that is part of a transaction has to replace");
    }
  }
  if (views_.txns().delayed() + reader.header().items > limits::kTxnDelayedPerShardMax) {
    retry_after_ms = limits::kRetryAfterMsDefault;
    return Status(ErrorCode::kOverloaded,
                  "too many delayed messages in open transactions; the limit is " +
                      std::to_string(limits::kTxnDelayedPerShardMax));
  }
  return reader.status();
}

// A part that is stored already is answered at once, whatever the load.
bool Shard::answer_repeated_half(const fbs::ProducePart& part, ProduceOp::Part& result) const {
  if (!may_write().ok() || !check_half(*part.half()).ok()) {
    return false;
  }
  const txn::Transaction* const known = views_.txns().find(key_of(*part.half()->txn()));
  if (known == nullptr || known->find_half(part.half()->index()) == nullptr) {
    return false;
  }
  TIDEMARK_COVERAGE_MARK(txn_part_answered_at_once);
  result.duplicate = true;
  result.received_ms = known->born_ms;
  return true;
}

Status Shard::accept_half(const fbs::ProducePart& part, ByteView payload, const Now& now,
                          PendingRecord pending, uint32_t& retry_after_ms) {
  const PartitionId partition{TopicId{part.topic()}, PartitionIndex{part.partition()}};
  const fbs::HalfInfo& half = *part.half();
  RETURN_IF_ERROR(check_room(partition, payload.size(), retry_after_ms));
  RETURN_IF_ERROR(check_half(half));
  format::HalfRecord record;
  record.partition = partition;
  record.producer = half.txn()->producer();
  record.number = half.txn()->number();
  record.coordinator = ShardId{half.txn()->shard()};
  record.schedule = part.kind() == fbs::ProduceKind::kHalfSchedule;
  record.index = half.index();
  record.timeout_ms = half.timeout_ms() == 0 ? limits::kTxnTimeoutMsDefault : half.timeout_ms();
  record.group = protocol::view(half.group());
  record.reference = protocol::view(half.reference());
  record.payload = payload;
  RETURN_IF_ERROR(check_half_room({record.producer, record.number}, record.group, retry_after_ms));
  RETURN_IF_ERROR(record.schedule ? check_half_set(partition, payload, retry_after_ms)
                                  : check_half_batch(partition, payload));
  record.received_ms = log_time(now);
  pending.bytes = static_cast<uint32_t>(payload.size());
  pending.half = true;
  make_room_for(
      format::half_body_bytes(record.group.size(), record.reference.size(), payload.size()));
  accepted_bytes_ += payload.size();
  ++halves_under_way_;
  keep_room_for_ends();
  records_.add_half(format::RecordKind::kHalf, record);
  gathering_.push_back(std::move(pending));
  counters_.bytes_in += payload.size();
  ++counters_.batches_in;
  return Status();
}

void Shard::settle_half(PendingRecord& pending, const RecordOutcome& outcome) {
  ProduceOp::Part& part = pending.produce->parts[pending.part];
  part.received_ms = outcome.append.received_ms;
  part.duplicate = outcome.append.duplicate;
  counters_.duplicates += outcome.append.duplicate ? 1 : 0;
  counters_.txn_begun += outcome.txn_first ? 1 : 0;
  if (outcome.error == ErrorCode::kConflict) {
    part.status = Status(outcome.error, txn::is_ended(outcome.txn_state)
                                            ? ended_text(outcome.txn_state)
                                            : "the transaction has another coordinator");
  } else if (outcome.error != ErrorCode::kOk) {
    part.status = Status(outcome.error, "half message");
  }
  if (--pending.produce->unanswered == 0) {
    finish_produce(*pending.produce);
  }
}

}  // namespace tidemark::shard
