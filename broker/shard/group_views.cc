// Views: records about consumer groups.
#include "broker/shard/views.h"
#include "log/format/control_record.h"

namespace tidemark::shard {

namespace fbs = format::fbs;
using format::control_table;
using format::control_text;

void Views::apply_group_commit(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::GroupCommit>(body);
  advance_time(record.time_ms());
  outcome.first_receipt = static_cast<uint32_t>(group_commits_.size());
  if (record.positions() == nullptr) {
    return;
  }
  for (const fbs::GroupPosition* position : *record.positions()) {
    const PartitionId id{TopicId{position->topic()}, PartitionIndex{position->partition()}};
    const partition::Partition* const partition = find(id);
    if (partition == nullptr) {
      group_commits_.push_back({ErrorCode::kUnknownPartition, {}});
      continue;
    }
    group::GroupPositions::Commit commit;
    commit.kind = static_cast<group::CommitKind>(record.kind());
    commit.epoch = position->epoch();
    commit.offset = Offset{position->offset()};
    commit.end = partition->end();
    commit.now_ms = log_time_ms_;
    group_commits_.push_back(positions_.commit(control_text(record.group()), id, commit));
  }
  outcome.receipts = static_cast<uint32_t>(group_commits_.size()) - outcome.first_receipt;
}

void Views::apply_group_lease(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::GroupLease>(body);
  advance_time(record.time_ms());
  outcome.partition = {TopicId{record.topic()}, PartitionIndex{record.partition()}};
  if (find(outcome.partition) == nullptr) {
    outcome.error = ErrorCode::kUnknownPartition;
    return;
  }
  const group::CommitOutcome leased =
      positions_.lease(control_text(record.group()), outcome.partition);
  outcome.error = leased.error;
  outcome.group_epoch = leased.position.epoch;
}

void Views::apply_group_drop(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::GroupDrop>(body);
  advance_time(record.time_ms());
  const std::string_view group = control_text(record.group());
  outcome.receipts =
      static_cast<uint32_t>(positions_.drop_group(group) + queues_.drop_group(group));
}

}  // namespace tidemark::shard
