// Views: what compaction changed is applied.
#include "broker/partition/chunk_reader.h"
#include "broker/shard/views.h"
#include "log/format/control_record.h"
#include "log/format/record_batch.h"

namespace tidemark::shard {

namespace fbs = format::fbs;

void Views::apply_compact(const format::LogRecord& record, LogPosition payload_position,
                          RecordOutcome& outcome) {
  const Result<format::CompactRecord> compact = format::decode_compact(record);
  TIDEMARK_CHECK(compact.ok(), compact.error().to_string());
  const Result<format::BatchHeader> header = format::decode_batch_header(compact->batch);
  TIDEMARK_CHECK(header.ok(), header.error().to_string());
  outcome.partition = compact->partition;
  const auto it = partitions_.find(compact->partition);
  if (it == partitions_.end()) {
    outcome.error = ErrorCode::kUnknownPartition;
    return;
  }
  const partition::MovedBatch moved{compact->base, payload_position + compact->batch_offset,
                                    header->batch_bytes};
  const bool changed =
      it->second.compact(moved, header->last_offset_delta + 1, compact->replaced_bytes);
  outcome.error = changed ? ErrorCode::kOk : ErrorCode::kConflict;
}

void Views::apply_compacted(ByteView body, RecordOutcome& outcome) {
  const auto& record = format::control_table<fbs::Compacted>(body);
  advance_time(record.time_ms());
  outcome.partition = {TopicId{record.topic()}, PartitionIndex{record.partition()}};
  const auto it = partitions_.find(outcome.partition);
  if (it == partitions_.end()) {
    outcome.error = ErrorCode::kUnknownPartition;
    return;
  }
  partition::Partition& partition = it->second;
  bool changed = true;
  switch (static_cast<CompactionStep>(record.step())) {
    case CompactionStep::kBegin:
      partition.begin_compaction();
      break;
    case CompactionStep::kDead:
      for (uint32_t i = 0; record.dead() != nullptr && i < record.dead()->size(); ++i) {
        const fbs::DeadBatch* dead = record.dead()->Get(i);
        changed = partition.compact({Offset{dead->base()}, LogPosition{dead->position()}, 0},
                                    dead->count(), dead->bytes()) &&
                  changed;
      }
      break;
    case CompactionStep::kEnd:
      changed = partition.end_compaction({LogPosition{record.low_position()},
                                          Offset{record.scan_from()}, record.dirty_bytes(),
                                          record.next_run_ms(), record.keeps_dead()});
      break;
  }
  outcome.error = changed ? ErrorCode::kOk : ErrorCode::kConflict;
}

Status Views::Delta::write_moved(kv::ReadView& view) {
  for (const Moved& one : moved) {
    RETURN_IF_ERROR(partition::move_stored(view, batch, one.id, one.start, one.batches));
  }
  return Status();
}

}  // namespace tidemark::shard
