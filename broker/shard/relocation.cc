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
#include "log/base/coverage_mark.h"
#include "log/base/logging.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace {

// Appended in one go: in the order of due times within it.
constexpr size_t kRelocatedBytesAtATime = 8 * limits::kMiB;

// What was read from disk is checked before it is written again.
Status check_relocated_half(const txn::Half& half, const Result<SharedBytes>& payload) {
  if (!payload.ok()) {
    return payload.error();
  }
  return half.items.empty() ? format::verify_batch(payload->view()).status()
                            : format::verify_schedule_check(payload->view());
}

}  // namespace

void Shard::check_relocation() {
  if (relocation_.has_value() || !may_write().ok()) {
    return;
  }
  const std::optional<LogPosition> end = source_->oldest_segment_end();
  const delay::PendingDelays& delays = views_.delays();
  if (!end.has_value() || others_low_position() < *end) {
    return;  // something else holds it
  }
  if (relocate_halves(*end) || delays.low_position() >= *end) {
    return;  // another round goes on, or it goes by itself
  }
  // Worth it when less than half of it lives: what stays on disk is at most twice what is alive,
  // and no message is copied more often than the log grows by as much again.
  if (delays.bytes_below(*end) > options_.segment_bytes / 2) {
    return;
  }
  relocation_ = Relocation{.end = *end};
  read_relocated();
}

// Parts of undecided transactions that lie before `end` are appended again, some at a time; true if
// there are any.
bool Shard::relocate_halves(LogPosition end) {
  const txn::TxnTable& txns = views_.txns();
  if (relocating_halves_ > 0 || txns.low_position() >= end) {
    return relocating_halves_ > 0;
  }
  uint64_t alive = 0;
  for (auto it = txns.by_position().begin(); it != txns.by_position().end() && it->first < end;
       ++it) {
    alive += txns.find(it->second.key)->find_half(it->second.index)->bytes;
  }
  if (alive > options_.segment_bytes / 2) {
    return true;
  }
  size_t bytes = 0;
  TIDEMARK_COVERAGE_MARK(txn_half_relocated);
  for (auto it = txns.by_position().begin();
       it != txns.by_position().end() && it->first < end && bytes < kRelocatedBytesAtATime; ++it) {
    const txn::Half* const half = txns.find(it->second.key)->find_half(it->second.index);
    bytes += half->bytes;
    ++relocating_halves_;
    source_->read_log(half->position, half->bytes,
                      [this, place = it->second](Result<SharedBytes> payload) {
                        append_relocated_half(place, payload);
                      });
  }
  return true;
}

void Shard::append_relocated_half(const txn::TxnTable::Place& place,
                                  const Result<SharedBytes>& payload) {
  const txn::Transaction* const txn = views_.txns().find(place.key);
  const txn::Half* const half = txn == nullptr ? nullptr : txn->find_half(place.index);
  if (half == nullptr || stopping_ || !may_write().ok()) {
    --relocating_halves_;
    return;
  }
  if (const Status intact = check_relocated_half(*half, payload); !intact.ok()) {
    log_line(LogLevel::kError, "relocation_failed shard=" + std::to_string(options_.shard.value()) +
                                   " error=\"" + intact.to_string() + "\"");
    --relocating_halves_;
    return;
  }
  format::HalfRecord record;
  record.partition = half->partition;
  record.received_ms = txn->born_ms;
  record.producer = place.key.producer;
  record.number = place.key.number;
  record.coordinator = txn->coordinator;
  record.schedule = !half->items.empty();
  record.index = half->index;
  record.timeout_ms = txn->timeout_ms;
  record.group = txn->group->name;
  record.reference = txn->reference;
  record.payload = payload->view();
  make_room_for(
      format::half_body_bytes(record.group.size(), record.reference.size(), record.payload.size()));
  records_.add_half(format::RecordKind::kRelocateHalf, record);
  TxnPending pending;
  pending.kind = TxnPending::Kind::kRelocate;
  gathering_.push_back(txn_record(std::move(pending)));
  counters_.relocated_bytes += record.payload.size();
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
