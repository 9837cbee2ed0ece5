// Retention by time and size: the leader finds out how much of a partition's oldest part may go and
// writes a Trim record.
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"
#include "log/base/coverage_mark.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

// As many trims as may be under way at a time; the next round goes on behind the last partition
// looked at, so that every partition has its turn.
void Shard::check_retention(const Now& now) {
  const auto& partitions = views_.partitions();
  auto it = partitions.upper_bound(retention_reached_);
  for (size_t looked_at = 0; looked_at < partitions.size(); ++looked_at, ++it) {
    if (trims_in_flight_.size() >= limits::kColdReadsInFlightPerShardMax) {
      return;
    }
    it = it == partitions.end() ? partitions.begin() : it;
    retention_reached_ = it->first;
    plan_trim(it->second, now);
  }
}

void Shard::plan_trim(const partition::Partition& partition, const Now& now) {
  const PartitionId id = partition.id();
  const partition::PartitionConfig& config = partition.config();
  if (partition.start() == partition.end() || trims_in_flight_.contains(id) ||
      compactor_.works_on(id)) {
    return;
  }
  TrimGoal goal;
  if (config.retention_ms >= 0) {
    goal.received_before_ms = log_time(now) - config.retention_ms;
  }
  if (config.retention_bytes >= 0 &&
      partition.bytes() > static_cast<uint64_t>(config.retention_bytes)) {
    goal.bytes_over = partition.bytes() - static_cast<uint64_t>(config.retention_bytes);
  }
  if (goal.received_before_ms == INT64_MIN && goal.bytes_over == 0) {
    return;
  }
  // The store does not know yet how many bytes compaction has left: the next rounds try again.
  const bool in_memory = partition.index().complete_from(partition.start());
  if (!in_memory && partition.index().unstored_moves() > 0) {
    return;
  }
  trims_in_flight_.insert(id);
  const uint64_t compactions = partition.compaction().changes;
  if (in_memory) {
    TrimPlan plan;
    plan.compactions = compactions;
    for (const partition::BatchRef& ref : partition.index().refs()) {
      if (ref.end() > partition.start() && !plan.visit(ref, goal)) {
        break;
      }
    }
    return propose_trim(id, plan);
  }
  const auto& refs = partition.index().refs();
  const Offset until = refs.empty() ? partition.end() : refs.front().base;
  TIDEMARK_COVERAGE_MARK(retention_looks_into_store);
  source_->plan_trim(id, partition.start(), until, goal,
                     [this, id, compactions](Result<TrimPlan> plan) {
                       if (plan.ok()) {
                         plan->compactions = compactions;
                         propose_trim(id, *plan);
                       } else {
                         trims_in_flight_.erase(id);  // the next round tries again
                       }
                     });
}

void Shard::propose_trim(PartitionId id, const TrimPlan& plan) {
  const partition::Partition* partition = views_.find(id);
  if (partition == nullptr || plan.start <= partition->start() || stopping_ || !may_write().ok()) {
    trims_in_flight_.erase(id);
    return;
  }
  // A walk that ended without a batch that stays does not know where the next one lies. If there is
  // none yet, it will lie behind everything applied so far: more may be applied before the trim is.
  const bool everything = plan.start == partition->end();
  LogPosition position = everything ? views_.applied().next_position : plan.position;
  if (!everything && position == LogPosition{0}) {
    const auto next = partition->index().find(plan.start, 1, plan.start);
    if (!next.has_value() || next->empty()) {
      trims_in_flight_.erase(id);
      return;
    }
    position = next->front().position;
  }
  flatbuffers::FlatBufferBuilder body;
  format::fbs::TrimBuilder record(body);
  record.add_topic(id.topic.value());
  record.add_partition(id.index.value());
  record.add_start_offset(plan.start.value());
  record.add_position(position.value());
  record.add_bytes(plan.bytes);
  record.add_batches(plan.batches);
  record.add_compactions(plan.compactions);
  record.add_time_ms(log_time(now_));
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kTrim;
  pending.partition = id;
  gather(format::RecordKind::kTrim, body, std::move(pending));
}

}  // namespace tidemark::shard
