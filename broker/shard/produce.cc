// Produce: a batch is validated, gathered into the next log entry, and answered
// when that entry is applied.
#include <utility>

#include "broker/shard/shard.h"
#include "log/base/coverage_mark.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

void Shard::on_produce(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::Produce*> request =
      protocol::read_table<fbs::Produce>(frame.table(), "Produce");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const auto* parts = (*request)->parts();
  if (parts == nullptr || parts->size() == 0 || parts->size() > limits::kPartsPerRequestMax) {
    return refuse(from, Status(ErrorCode::kInvalidArgument,
                               "a produce request has 1 to " +
                                   std::to_string(limits::kPartsPerRequestMax) + " parts"));
  }
  uint64_t bytes = 0;
  for (const auto* part : *parts) {
    bytes += part->bytes();
  }
  ByteView payload = frame.payload();
  if (bytes != payload.size()) {
    return refuse(from, Status(ErrorCode::kMalformed, "parts announce " + std::to_string(bytes) +
                                                          " bytes, the payload has " +
                                                          std::to_string(payload.size())));
  }
  auto op = std::make_shared<ProduceOp>();
  op->to = from;
  op->parts.resize(parts->size());
  op->unanswered = parts->size() + 1;  // itself, until all parts are looked at
  for (uint32_t i = 0; i < parts->size(); ++i) {
    const fbs::ProducePart& part = *parts->Get(i);
    const ByteView batch = payload.first(part.bytes());
    payload = payload.subspan(part.bytes());
    take_part(op, i, part, batch, now);
  }
  if (--op->unanswered == 0) {
    finish_produce(*op);
  }
}

void Shard::take_part(const std::shared_ptr<ProduceOp>& op, uint32_t number,
                      const fbs::ProducePart& part, ByteView payload, const Now& now) {
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kProduce;
  pending.produce = op;
  pending.part = number;
  ProduceOp::Part& result = op->parts[number];
  const PartitionId partition{TopicId{part.topic()}, PartitionIndex{part.partition()}};
  const bool schedule = part.kind() == fbs::ProduceKind::kSchedule;
  const bool half =
      part.kind() == fbs::ProduceKind::kHalf || part.kind() == fbs::ProduceKind::kHalfSchedule;
  if (part.kind() > fbs::ProduceKind::kHalfSchedule) {
    result.status = Status(ErrorCode::kUnsupportedType,
                           "produce kind " + std::to_string(static_cast<int>(part.kind())));
  } else if (half && part.half() == nullptr) {
    result.status = Status(ErrorCode::kInvalidArgument, "a half message without a transaction");
  } else if (schedule && is_repeated_set(partition, payload, result)) {
    TIDEMARK_COVERAGE_MARK(schedule_duplicate_answered_from_log);
    resolve_repeated_set(op, number);
  } else if (half ? answer_repeated_half(part, result)
                  : !schedule && answer_repeated(partition, payload, result)) {
    --op->unanswered;
  } else if (half) {
    result.status = accept_half(part, payload, now, std::move(pending), result.retry_after_ms);
  } else if (schedule) {
    result.status =
        accept_schedule(partition, payload, now, std::move(pending), result.retry_after_ms);
  } else {
    result.status = accept_batch(part, payload, now, std::move(pending), result.retry_after_ms);
  }
  if (!result.status.ok()) {
    --op->unanswered;
  }
}

// A batch that is stored already is answered at once, whatever the load: if it were refused while
// batches behind it get in, it would fall out of what the partition remembers, and its producer
// would never learn that it is stored.
bool Shard::answer_repeated(PartitionId id, ByteView batch, ProduceOp::Part& part) {
  const partition::Partition* partition = views_.find(id);
  const Result<format::BatchHeader> header = format::decode_batch_header(batch);
  if (partition == nullptr || !may_write().ok() || !header.ok() || header->producer_id < 0) {
    return false;
  }
  const partition::SequenceVerdict verdict = partition->producers().judge(*header);
  if (verdict.kind != partition::SequenceVerdict::Kind::kDuplicate ||
      !format::verify_batch(batch).ok()) {
    return false;
  }
  TIDEMARK_COVERAGE_MARK(produce_duplicate_answered_at_once);
  part.base = verdict.original_base;
  part.received_ms = partition->last_received_ms();
  part.duplicate = true;
  ++counters_.duplicates;
  return true;
}

// What a batch and a schedule set have to pass alike.
Status Shard::check_room(PartitionId partition, size_t bytes, uint32_t& retry_after_ms) {
  RETURN_IF_ERROR(may_write());
  if (views_.find(partition) == nullptr) {
    return Status(ErrorCode::kUnknownPartition,
                  "topic id " + std::to_string(partition.topic.value()) + " partition " +
                      std::to_string(partition.index.value()) + " on shard " +
                      std::to_string(options_.shard.value()));
  }
  if (bytes > limits::kBatchBytesMax) {
    return Status(ErrorCode::kTooLarge, "a batch of " + std::to_string(bytes) +
                                            " bytes; the limit is " +
                                            std::to_string(limits::kBatchBytesMax));
  }
  // A batch larger than the whole buffer has its turn when nothing else is in it.
  if (accepted_bytes_ > 0 && accepted_bytes_ + bytes > options_.write_buffer_bytes) {
    TIDEMARK_COVERAGE_MARK(produce_write_buffer_full);
    ++counters_.refused_overloaded;
    retry_after_ms = limits::kRetryAfterMsDefault;
    return Status(ErrorCode::kOverloaded,
                  "the write buffer of shard " + std::to_string(options_.shard.value()) +
                      " is full (" + std::to_string(options_.write_buffer_bytes) + " bytes)");
  }
  return Status();
}

Status Shard::check_fence(int64_t producer_id, int16_t epoch) const {
  return views_.is_fenced(producer_id, epoch)
             ? Status(ErrorCode::kFenced, "a newer producer has taken over the name of this one")
             : Status();
}

Status Shard::accept_batch(const fbs::ProducePart& part, ByteView batch, const Now& now,
                           PendingRecord pending, uint32_t& retry_after_ms) {
  const PartitionId partition{TopicId{part.topic()}, PartitionIndex{part.partition()}};
  RETURN_IF_ERROR(check_room(partition, batch.size(), retry_after_ms));
  ASSIGN_OR_RETURN(const format::BatchHeader header, format::validate_produced_batch(batch));
  if (header.transactional) {
    return Status(ErrorCode::kInvalidArgument, "a transactional batch outside of a transaction");
  }
  RETURN_IF_ERROR(check_fence(header.producer_id, header.producer_epoch));
  const BatchToTake taken{partition, batch, header, part.ttl()};
  if (has_window(partition)) {
    return accept_with_ids(taken, now, std::move(pending), retry_after_ms);
  }
  gather_batch(taken, 0, now, std::move(pending));
  return Status();
}

// Leaves room for a record of `behind_bytes` in the same entry, if there is to be one.
void Shard::gather_batch(const BatchToTake& batch, size_t behind_bytes, const Now& now,
                         PendingRecord pending) {
  pending.bytes = static_cast<uint32_t>(batch.bytes.size() + behind_bytes);
  make_room_for(format::kProduceHeaderBytes + batch.bytes.size() +
                (behind_bytes > 0 ? format::record_bytes(behind_bytes) : 0));
  accepted_bytes_ += pending.bytes;
  records_.add_produce(batch.partition, log_time(now), batch.bytes, batch.ttl, batch.sequences);
  gathering_.push_back(std::move(pending));
  counters_.messages_in += batch.header.record_count;
  counters_.bytes_in += batch.bytes.size();
  ++counters_.batches_in;
}

void Shard::release_produce(const PendingRecord& pending) {
  accepted_bytes_ -= pending.bytes;
  halves_under_way_ -= pending.half ? 1 : 0;
  if (pending.items > 0) {
    const auto it = scheduling_.find(pending.partition);
    it->second -= pending.items;
    if (it->second == 0) {
      scheduling_.erase(it);
    }
  }
}

void Shard::settle_produce(PendingRecord& pending, const RecordOutcome& outcome) {
  release_produce(pending);
  if (pending.half) {
    return settle_half(pending, outcome);
  }
  ProduceOp::Part& part = pending.produce->parts[pending.part];
  if (outcome.error == ErrorCode::kOk) {
    part.base = outcome.append.base;
    part.received_ms = outcome.append.received_ms;
    part.duplicate = outcome.append.duplicate;
    const bool by_ids = outcome.kind == format::RecordKind::kMessageIds;
    counters_.duplicates += outcome.append.duplicate && !by_ids ? 1 : 0;
    if (pending.items > 0 && part.duplicate) {
      TIDEMARK_COVERAGE_MARK(schedule_duplicate_found_at_apply);
      return resolve_repeated_set(pending.produce, pending.part);
    }
    if (by_ids) {
      take_known_offsets(part, outcome);
    } else if (part.duplicate) {
      part.places.clear();
    } else {
      place_messages(part, part.base);
    }
    if (outcome.kind == format::RecordKind::kSchedule) {
      const auto first = views_.receipts().begin() + outcome.first_receipt;
      part.receipts.assign(first, first + outcome.receipts);
    }
  } else if (outcome.error == ErrorCode::kUnavailable) {
    part.retry_after_ms = limits::kRetryAfterMsDefault;
    part.status = Status(outcome.error,
                         "the first delivery of a message with one of these ids failed: try again");
  } else if (outcome.error == ErrorCode::kOutOfOrderSequence) {
    part.status = Status(outcome.error,
                         "expected sequence " + std::to_string(outcome.append.expected_sequence));
  } else {
    part.status =
        Status(outcome.error, "topic id " + std::to_string(outcome.partition.topic.value()) +
                                  " partition " + std::to_string(outcome.partition.index.value()));
  }
  if (--pending.produce->unanswered == 0) {
    finish_produce(*pending.produce);
  }
}

namespace {

flatbuffers::Offset<flatbuffers::Vector<const fbs::DelayReceipt*>> build_receipts(
    flatbuffers::FlatBufferBuilder& builder, const std::vector<DelayReceipt>& receipts) {
  std::vector<fbs::DelayReceipt> out;
  out.reserve(receipts.size());
  for (const DelayReceipt& receipt : receipts) {
    out.emplace_back(receipt.id, receipt.due_ms, receipt.position.value(), receipt.tag,
                     static_cast<uint16_t>(receipt.error), uint16_t{0});
  }
  return builder.CreateVectorOfStructs(out);
}

flatbuffers::Offset<flatbuffers::Vector<uint64_t>> build_offsets(
    flatbuffers::FlatBufferBuilder& builder, const std::vector<ProduceOp::Place>& places) {
  std::vector<uint64_t> out;
  out.reserve(places.size());
  for (const ProduceOp::Place& place : places) {
    out.push_back(place.offset.value());
  }
  return builder.CreateVector(out);
}

}  // namespace

void Shard::finish_produce(ProduceOp& op) {
  std::vector<flatbuffers::Offset<fbs::ProducePartReply>> parts;
  parts.reserve(op.parts.size());
  for (const ProduceOp::Part& part : op.parts) {
    const auto error = protocol::build_error(builder_, part.status, part.retry_after_ms);
    flatbuffers::Offset<flatbuffers::Vector<const fbs::DelayReceipt*>> receipts;
    if (!part.receipts.empty() && part.status.ok()) {
      receipts = build_receipts(builder_, part.receipts);
    }
    flatbuffers::Offset<flatbuffers::Vector<uint64_t>> offsets;
    if (!part.places.empty() && part.status.ok()) {
      offsets = build_offsets(builder_, part.places);
    }
    fbs::ProducePartReplyBuilder reply(builder_);
    if (!part.status.ok()) {
      reply.add_error(error);
    }
    reply.add_offsets(offsets);
    reply.add_base_offset(part.receipts.empty() ? part.base.value() : 0);
    reply.add_receipts(receipts);
    reply.add_received_ms(part.received_ms);
    reply.add_duplicate(part.duplicate);
    parts.push_back(reply.Finish());
  }
  const auto all = builder_.CreateVector(parts);
  fbs::ProduceReplyBuilder reply(builder_);
  reply.add_parts(all);
  send_reply(op.to, reply.Finish());
}

}  // namespace tidemark::shard
