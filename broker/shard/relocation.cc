// Relocation: when most of the oldest segment is dead and only delayed messages still lie in it,
// they are appended again, those due first at the front, so that the segment can go.
//
//   idle --oldest segment pays off--> reading --found--> appending --all applied--> reading ...
//                                        \--end of the segment--> Relocated proposed --applied-->
//                                        idle
//
// A crash at any point leaves messages that lie twice in the log, and nothing worse.
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"
#include "log/base/logging.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace {

// Appended in one go: in the order of due times within it.
constexpr size_t kRelocatedBytesAtATime = 8 * limits::kMiB;

}  // namespace

void Shard::check_relocation() {
  if (relocation_.has_value() || !may_write().ok()) {
    return;
  }
  const std::optional<LogPosition> end = source_->oldest_segment_end();
  const delay::PendingDelays& delays = views_.delays();
  if (!end.has_value() || delays.low_position() >= *end || others_low_position() < *end) {
    return;  // it goes by itself, or something else holds it
  }
  // Worth it when less than half of it lives: what stays on disk is at most twice what is alive,
  // and no message is copied more often than the log grows by as much again.
  if (delays.bytes_below(*end) > options_.segment_bytes / 2) {
    return;
  }
  relocation_ = Relocation{.end = *end};
  read_relocated();
}

LogPosition Shard::others_low_position() const {
  LogPosition low = views_.applied().next_position;
  for (const auto& [id, partition] : views_.partitions()) {
    low = std::min(low, partition.low_position());
  }
  return low;
}

void Shard::read_relocated() {
  source_->read_delays(
      relocation_->cursor, kRelocatedBytesAtATime, [this](Result<DelaysFound> found) {
        if (!found.ok() || stopping_ || !may_write().ok()) {
          if (!found.ok()) {
            log_line(LogLevel::kError,
                     "relocation_failed shard=" + std::to_string(options_.shard.value()) +
                         " error=\"" + found.error().to_string() + "\"");
          }
          relocation_.reset();
          return;
        }
        relocation_->cursor = found->next;
        append_relocated(found->delays);
      });
}

// Appends what is still pending where it was found.
void Shard::append_relocated(std::vector<StoredDelay>& found) {
  const delay::PendingDelays& delays = views_.delays();
  std::erase_if(found, [&](StoredDelay& one) {
    if (const timerwheel::Entry* moved = delays.rescheduled_at(one.position); moved != nullptr) {
      one.id = moved->id;
      one.due_ms = static_cast<int64_t>(moved->due);
    }
    return delays.state(one.id) != delay::DelayState::kPending;
  });
  std::sort(found.begin(), found.end(), [](const StoredDelay& a, const StoredDelay& b) {
    return std::pair(a.due_ms, a.id) < std::pair(b.due_ms, b.id);
  });
  for (const StoredDelay& one : found) {
    format::RelocateRecord record;
    record.partition = one.partition;
    record.id = one.id;
    record.due_ms = one.due_ms;
    record.batch = one.batch.view();
    make_room_for(format::kRelocateHeaderBytes + record.batch.size());
    records_.add_relocate(record);
    PendingRecord pending;
    pending.kind = PendingRecord::Kind::kRelocate;
    gathering_.push_back(std::move(pending));
    counters_.relocated_bytes += record.batch.size();
    ++relocation_->unapplied;
  }
  if (relocation_->unapplied == 0) {
    continue_relocation();
  }
}

void Shard::continue_relocation() {
  if (!relocation_->cursor.end) {
    return read_relocated();
  }
  flatbuffers::FlatBufferBuilder body;
  format::fbs::RelocatedBuilder record(body);
  record.add_position(relocation_->end.value());
  record.add_time_ms(log_time(now_));
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kRelocated;
  gather(format::RecordKind::kRelocated, body, std::move(pending));
}

// One of its records was applied, or it never will be: then all of it is given up.
void Shard::settle_relocate(bool applied) {
  if (!relocation_.has_value()) {
    return;
  }
  if (!applied) {
    relocation_->failed = true;
  }
  if (--relocation_->unapplied > 0) {
    return;
  }
  if (relocation_->failed) {
    relocation_.reset();
  } else {
    continue_relocation();
  }
}

}  // namespace tidemark::shard
