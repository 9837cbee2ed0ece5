#include "broker/shard/compactor.h"

#include <algorithm>
#include <string>
#include <utility>

#include "log/base/logging.h"

namespace tidemark::shard {

namespace {

namespace fbs = format::fbs;
using Fate = CompactionItem::Fate;

// Of the log, written again by one run so that its oldest segments can go.
constexpr uint64_t kMovedPart = 8;

static_assert(limits::kRecordsPerBatchMax <= limits::kCompactionKeysMax,
              "the keys of a batch fit, so every run gets on");

}  // namespace

void Compactor::tick(MonotonicTime now, const std::set<PartitionId>& busy) {
  if (run_ != nullptr) {
    if (run_->paused) {
      run_->paused = false;
      go_on();
    }
    return;
  }
  if (now < next_look_ || !host_.may_write().ok()) {
    return;
  }
  const std::optional<Wanted> wanted = choose(busy);
  if (!wanted.has_value()) {
    next_look_ = MonotonicTime{now.ns + options_.retention_interval_ms * 1'000'000};
    return;
  }
  if (!busy.contains(wanted->partition)) {
    begin(*wanted);
    next_look_ = MonotonicTime{now.ns + options_.retention_interval_ms * 1'000'000};
  }
}

// Queues count by offsets, so a partition waits until it has none.
bool Compactor::may_compact(const partition::Partition& partition) const {
  return partition.config().compaction.on() && partition.start() < partition.end() &&
         !views_.queues().has(partition.id());
}

bool Compactor::is_due(const partition::Partition& partition, int64_t now_ms) const {
  const partition::CompactionState& state = partition.compaction();
  const uint64_t dirty = std::min(state.dirty_bytes, partition.bytes());
  return dirty >= options_.compaction_bytes_min && dirty * 2 >= partition.bytes() - dirty &&
         now_ms >= state.next_run_ms;
}

// What lies below is to be written again; 0: nothing is.
LogPosition Compactor::move_below() const {
  const std::optional<LogPosition> oldest_end = source_->oldest_segment_end();
  if (!oldest_end.has_value()) {
    return {};
  }
  const LogPosition next = views_.applied().next_position;
  uint64_t alive = views_.delays().bytes_below(next);
  for (const auto& [id, partition] : views_.partitions()) {
    if (partition.low_position() < *oldest_end && !may_compact(partition)) {
      return {};
    }
    alive += partition.bytes();
  }
  const uint64_t first =
      oldest_end->value() - std::min(oldest_end->value(), options_.segment_bytes);
  const uint64_t stored = next.value() - first;
  if (stored / 2 < alive) {
    return {};
  }
  return std::max(*oldest_end, LogPosition{first + stored / kMovedPart});
}

// A partition that has grown, in turn; else one that holds the oldest segment.
std::optional<Compactor::Wanted> Compactor::choose(const std::set<PartitionId>& busy) {
  const int64_t now_ms = host_.compaction_time();
  const auto& partitions = views_.partitions();
  auto it = partitions.upper_bound(reached_);
  for (size_t looked_at = 0; looked_at < partitions.size(); ++looked_at, ++it) {
    it = it == partitions.end() ? partitions.begin() : it;
    if (may_compact(it->second) && is_due(it->second, now_ms)) {
      reached_ = busy.contains(it->first) ? reached_ : it->first;
      return Wanted{it->first, true};
    }
  }
  const LogPosition below = move_below();
  if (below == LogPosition{}) {
    return std::nullopt;
  }
  const LogPosition oldest_end = *source_->oldest_segment_end();
  std::erase_if(stuck_, [&](const auto& one) { return !partitions.contains(one.first); });
  for (const auto& [id, partition] : partitions) {
    const LogPosition low = partition.low_position();
    const auto stuck = stuck_.find(id);
    if (low < oldest_end && (stuck == stuck_.end() || stuck->second != low)) {
      return Wanted{id, false};
    }
  }
  return std::nullopt;
}

void Compactor::begin(const Wanted& wanted) {
  const partition::Partition& partition = *views_.find(wanted.partition);
  run_ = std::make_unique<Run>();
  run_->number = next_run_++;
  run_->partition = wanted.partition;
  run_->with_keys = wanted.with_keys;
  run_->rules.move_below = move_below();
  run_->rules.tombstones_stay = partition.compaction().keeps_dead;
  gather(CompactionStep::kBegin, {}, nullptr);
}

void Compactor::settle(uint64_t run, bool done) {
  if (run_ == nullptr || run_->number != run) {
    return;
  }
  run_->failed = run_->failed || !done;
  if (--run_->unapplied == 0) {
    go_on();
  }
}

void Compactor::give_up(const Status& why) {
  log_line(LogLevel::kWarning,
           "compaction_given_up shard=" + std::to_string(options_.shard.value()) +
               " topic=" + std::to_string(run_->partition.topic.value()) +
               " partition=" + std::to_string(run_->partition.index.value()) + " error=\"" +
               why.to_string() + "\"");
  run_.reset();
}

const partition::Partition* Compactor::partition_of(uint64_t run) {
  if (run_ == nullptr || run_->number != run) {
    return nullptr;
  }
  const partition::Partition* const partition = views_.find(run_->partition);
  if (partition == nullptr || !partition->config().compaction.on() || !host_.may_write().ok()) {
    run_.reset();  // it is not wanted any more
    return nullptr;
  }
  return partition;
}

// All records of a step are applied.
void Compactor::go_on() {
  if (run_->failed) {
    return give_up(Status(ErrorCode::kConflict, "a record of the run was not taken"));
  }
  if (run_->ending) {
    ++runs_;
    const partition::Partition* const partition = views_.find(run_->partition);
    if (partition != nullptr && run_->low < run_->rules.move_below) {
      stuck_[run_->partition] = partition->low_position();
    } else {
      stuck_.erase(run_->partition);
    }
    run_.reset();
    return;
  }
  const partition::Partition* const partition = partition_of(run_->number);
  if (partition == nullptr) {
    return;
  }
  if (partition->index().unstored_moves() >= options_.compaction_moves_max) {
    run_->paused = true;
    return;
  }
  run_->begun ? step() : begun();
}

void Compactor::begun() {
  const partition::Partition& partition = *views_.find(run_->partition);
  const partition::CompactionConfig& config = partition.config().compaction;
  Run& run = *run_;
  run.begun = true;
  run.end = partition.compaction().run_end;
  run.visible = std::min(host_.visible_end(partition), run.end);
  run.written_from = views_.applied().next_position;
  run.now_ms = host_.compaction_time();
  run.cursor = partition.start();
  if (partition.compaction().has_references) {
    run.rules.refers_from = partition.low_position();
  }
  if (run.with_keys) {
    run.scanning = true;
    run.cursor = std::max(partition.start(), partition.compaction().scan_from);
    run.rules.scanned_from = run.cursor;
    run.rules.keys = std::make_shared<NewestOffsets>(options_.compaction_keys_max);
    run.rules.dead_before_ms = run.now_ms - config.after_ms;
    run.rules.tombstone_before_ms = run.now_ms - config.tombstone_after_ms();
  }
  step();
}

// Looks up the batches at the cursor.
void Compactor::step() {
  const partition::Partition& partition = *views_.find(run_->partition);
  if (run_->scanning && run_->cursor >= run_->visible) {
    run_->scanning = false;
    run_->rules.scanned_to = run_->cursor;
    run_->cursor = partition.start();
  }
  if (run_->cursor >= run_->end) {
    return end();
  }
  auto refs = partition.index().find(run_->cursor, limits::kCompactionStepBytes, partition.start());
  if (refs.has_value()) {
    return take_refs(std::move(*refs));
  }
  source_->find(run_->partition, run_->cursor, limits::kCompactionStepBytes,
                [this, number = run_->number](Result<Refs> found) {
                  const partition::Partition* const waiting = partition_of(number);
                  if (waiting == nullptr) {
                    return;
                  }
                  if (!found.ok()) {
                    return give_up(found.error());
                  }
                  waiting->index().amend(*found);
                  take_refs(std::move(*found));
                });
}

void Compactor::take_refs(Refs refs) {
  const partition::Partition& partition = *views_.find(run_->partition);
  const Offset limit = run_->scanning ? run_->visible : run_->end;
  const auto batches = std::make_shared<CompactionBatches>();
  batches->rules = run_->rules;
  for (const partition::BatchRef& ref : refs) {
    if (ref.base >= limit) {
      break;
    }
    CompactionItem item;
    item.ref = ref;
    item.look = wants_look(partition, ref);
    batches->items.push_back(std::move(item));
  }
  if (batches->items.empty()) {
    return give_up(
        Status(ErrorCode::kNotFound, "no batch at offset " + std::to_string(run_->cursor.value())));
  }
  read(batches);
}

// References hold more of the log than themselves: how much is written in them only.
bool Compactor::wants_look(const partition::Partition& partition,
                           const partition::BatchRef& ref) const {
  if (ref.is_dead()) {
    return false;
  }
  const CompactionRules& rules = run_->rules;
  const bool selects =
      run_->with_keys && ref.base < rules.scanned_to && ref.received_ms <= rules.dead_before_ms;
  return run_->scanning || selects || ref.position < rules.move_below ||
         partition.compaction().has_references;
}

void Compactor::read(const Batches& batches) {
  Refs missing;
  for (CompactionItem& item : batches->items) {
    item.bytes = item.look ? source_->cached(item.ref) : std::nullopt;
    if (item.look && !item.bytes.has_value()) {
      missing.push_back(item.ref);
    }
  }
  if (missing.empty()) {
    return work(batches);
  }
  // Batches that were moved before do not lie in order of offset.
  std::sort(missing.begin(), missing.end(),
            [](const auto& a, const auto& b) { return a.position < b.position; });
  std::map<LogPosition, size_t> places;
  for (size_t i = 0; i < missing.size(); ++i) {
    places.emplace(missing[i].position, i);
  }
  source_->read(std::move(missing),
                [this, number = run_->number, batches,
                 places = std::move(places)](std::vector<Result<SharedBytes>> read) {
                  if (partition_of(number) == nullptr) {
                    return;
                  }
                  for (CompactionItem& item : batches->items) {
                    if (!item.look || item.bytes.has_value()) {
                      continue;
                    }
                    Result<SharedBytes>& bytes = read[places.at(item.ref.position)];
                    if (bytes.ok()) {
                      item.bytes = std::move(*bytes);
                    } else if (bytes.error().code() == ErrorCode::kCorrupted ||
                               bytes.error().code() == ErrorCode::kIoError) {
                      item.unread = bytes.error();  // the next one may be readable
                    } else {
                      return give_up(bytes.error());
                    }
                  }
                  work(batches);
                });
}

void Compactor::work(const Batches& batches) {
  const bool scanning = run_->scanning;
  source_->run([batches, scanning] { scanning ? scan_keys(*batches) : select_live(*batches); },
               [this, number = run_->number, batches, scanning] {
                 if (partition_of(number) != nullptr) {
                   scanning ? scanned(batches) : selected(batches);
                 }
               });
}

void Compactor::scanned(const Batches& batches) {
  for (size_t i = 0; i < batches->scanned; ++i) {
    note_unread(batches->items[i]);
    run_->cursor = batches->items[i].ref.end();
  }
  if (batches->scanned < batches->items.size()) {
    run_->full = true;
    run_->visible = run_->cursor;  // the next run goes on from here
  }
  step();
}

void Compactor::selected(const Batches& batches) {
  run_->rules.tombstones_stay = batches->rules.tombstones_stay;
  run_->rules.keeps_dead = batches->rules.keeps_dead;
  run_->cursor = batches->items.back().ref.end();
  for (CompactionItem& item : batches->items) {
    note_unread(item);
    account(item);
    write(item);
  }
  write_dead();
  if (run_->unapplied == 0) {
    go_on();
  }
}

void Compactor::note_unread(const CompactionItem& item) {
  if (!item.unread.ok() && (!run_->unread.has_value() || item.ref.base < run_->unread->base)) {
    run_->unread = item.ref;
    run_->why_unread = item.unread;
  }
}

// What the next run has to look at, and where everything lies.
void Compactor::account(const CompactionItem& item) {
  Run& run = *run_;
  const bool young = item.ref.received_ms > run.rules.dead_before_ms;
  if (run.with_keys && (young || item.ref.base >= run.rules.scanned_to)) {
    run.young = run.young || (young && item.ref.base < run.rules.scanned_to);
    run.dirty_from = run.dirty_from.value_or(item.ref.base);
    run.dirty_bytes += item.fate == Fate::kRewritten ? item.left.size() : item.ref.bytes;
  }
  switch (item.fate) {
    case Fate::kStays:
      run.low = std::min(run.low, item.low);
      return;
    case Fate::kRewritten:
      run.low = std::min(run.low, run.written_from);
      return;
    case Fate::kDead:
      return;
  }
}

void Compactor::write(CompactionItem& item) {
  switch (item.fate) {
    case Fate::kStays:
      return;
    case Fate::kDead:
      dead_.emplace_back(item.ref.base.value(), item.ref.position.value(), item.ref.count,
                         item.ref.bytes);
      freed_bytes_ += item.ref.bytes;
      return;
    case Fate::kRewritten:
      break;
  }
  write_dead();  // in order of offset
  format::CompactRecord record;
  record.partition = run_->partition;
  record.base = item.ref.base;
  record.replaced = item.ref.position;
  record.replaced_bytes = item.ref.bytes;
  record.batch = item.left.view();
  ++run_->unapplied;
  freed_bytes_ += item.ref.bytes;
  written_bytes_ += record.batch.size();
  host_.gather_compact(record, run_->number);
}

void Compactor::write_dead() {
  if (!dead_.empty()) {
    gather(CompactionStep::kDead, std::exchange(dead_, {}), nullptr);
  }
}

void Compactor::end() {
  run_->ending = true;
  if (run_->unread.has_value()) {
    log_unread();
  }
  if (run_->with_keys) {
    run_->next_scan = choose_next_scan();
  }
  gather(CompactionStep::kEnd, {}, run_.get());
}

// Once a run, however many there are.
void Compactor::log_unread() const {
  log_line(LogLevel::kWarning,
           "compaction_batch_unread shard=" + std::to_string(options_.shard.value()) +
               " topic=" + std::to_string(run_->partition.topic.value()) +
               " partition=" + std::to_string(run_->partition.index.value()) +
               " first_offset=" + std::to_string(run_->unread->base.value()) + " error=\"" +
               run_->why_unread.to_string() + "\"");
}

// Where the next scan begins. A batch that this run could not read may hold messages that should
// have gone, or the one for which others should: what tells so has to be seen again when it can be
// read. That must not keep a scan from getting on that has more keys to come than fit. If it would,
// tombstones stay for good instead: nothing that they cover comes up, whenever it can be read.
Offset Compactor::choose_next_scan() {
  Run& run = *run_;
  const Offset next = std::min(run.dirty_from.value_or(run.rules.scanned_to), run.rules.scanned_to);
  const bool keeps_dead =
      run.rules.keeps_dead || views_.find(run.partition)->compaction().keeps_dead;
  if (!run.unread.has_value() || run.unread->base >= next || keeps_dead) {
    return next;
  }
  const bool again =
      run.unread->base <= run.rules.scanned_from && run.rules.scanned_from < run.unread->end();
  if (run.full && again) {
    run.rules.keeps_dead = true;
    return next;
  }
  return run.unread->base;
}

void Compactor::gather(CompactionStep step, const std::vector<fbs::DeadBatch>& dead,
                       const Run* ended) {
  flatbuffers::FlatBufferBuilder body;
  const auto batches = dead.empty() ? 0 : body.CreateVectorOfStructs(dead);
  fbs::CompactedBuilder record(body);
  record.add_topic(run_->partition.topic.value());
  record.add_partition(run_->partition.index.value());
  record.add_step(static_cast<uint8_t>(step));
  record.add_dead(batches);
  if (ended != nullptr) {
    const partition::CompactionState& before = views_.find(ended->partition)->compaction();
    record.add_low_position(ended->low.value());
    record.add_keeps_dead(ended->rules.keeps_dead);
    if (ended->with_keys) {
      record.add_scan_from(ended->next_scan.value());
      record.add_dirty_bytes(ended->dirty_bytes);
      // What is too young now is old enough when as much time has passed again.
      record.add_next_run_ms(ended->young ? 2 * ended->now_ms - ended->rules.dead_before_ms : 0);
    } else {
      record.add_scan_from(before.scan_from.value());
      record.add_dirty_bytes(before.dirty_bytes - before.run_appended);
      record.add_next_run_ms(before.next_run_ms);
    }
  }
  record.add_time_ms(host_.compaction_time());
  body.Finish(record.Finish());
  ++run_->unapplied;
  host_.gather_compacted(body, run_->number);
}

void Compactor::add_stats(ShardStats& stats) const {
  stats.compactions = runs_;
  stats.compacted_bytes = written_bytes_;
  stats.compaction_freed_bytes = freed_bytes_;
}

}  // namespace tidemark::shard
