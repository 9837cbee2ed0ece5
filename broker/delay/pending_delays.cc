#include "broker/delay/pending_delays.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "broker/delay/entry_codec.h"
#include "broker/partition/store_keys.h"
#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/coverage_mark.h"

namespace tidemark::delay {

namespace keys = partition::keys;
using timerwheel::Entry;
using timerwheel::Key;
using timerwheel::TieredWheel;

namespace {

// The log is divided into extents of this size for counting what pending messages refer to.
constexpr uint64_t kExtentBytes = 16 * limits::kMiB;

uint64_t extent_of(uint64_t position) { return position / kExtentBytes; }

uint64_t mix(const Entry& entry) {
  uint64_t x = entry.due * 0x9E3779B97F4A7C15ull ^ entry.id;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull ^ entry.tag;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

// --- keys of the store: "N" and "Y" counts and bytes by partition, "B" counts by topic and time,
// "X" by extent, "K" keyed and "E" recurring messages, "V" the head

std::string PendingDelays::partition_count_key(const PartitionId& id) { return keys::of('N', id); }

std::string PendingDelays::partition_bytes_key(const PartitionId& id) { return keys::of('Y', id); }

std::string PendingDelays::bucket_key(const Bucket& bucket) {
  return "B" + keys::number32(bucket.topic.value()) +
         keys::number64(static_cast<uint64_t>(bucket.number));
}

std::string PendingDelays::extent_key(const uint64_t& extent) {
  return "X" + keys::number64(extent);
}

PendingDelays::PendingDelays(timerwheel::TieredOptions options)
    : options_(options), wheel_(std::make_unique<TieredWheel>(Key{}, options)) {}

// --- applying

int64_t PendingDelays::effective_due(int64_t due_ms, uint64_t id) const {
  const Key mark = wheel_->watermark();
  const auto due = static_cast<uint64_t>(std::max<int64_t>(due_ms, 0));
  if (Key{due, id} > mark) {
    return static_cast<int64_t>(due);
  }
  TIDEMARK_COVERAGE_MARK(delay_due_before_watermark);
  return static_cast<int64_t>(Key{mark.due, id} > mark ? mark.due : mark.due + 1);
}

void PendingDelays::insert(const Entry& entry) {
  wheel_->add(entry);
  extents_.add(extent_of(entry.position), 1);
}

void PendingDelays::count(const Entry& entry, bool add) {
  const DelayTag tag = DelayTag::unpack(entry.tag);
  const Bucket bucket{tag.partition.topic, static_cast<int64_t>(entry.due) / kBucketMs};
  if (add) {
    pending_hash_ += mix(entry);
    partition_counts_.add(tag.partition, 1);
    partition_bytes_.add(tag.partition, tag.bytes);
    buckets_.add(bucket, 1);
  } else {
    pending_hash_ -= mix(entry);
    partition_counts_.subtract(tag.partition, 1);
    partition_bytes_.subtract(tag.partition, tag.bytes);
    buckets_.subtract(bucket, 1);
  }
}

AddOutcome PendingDelays::add(const NewDelay& delay) {
  AddOutcome outcome;
  next_id_ = std::max(next_id_, delay.id + 1);
  if (!delay.key.empty()) {
    if (const Entry* taken = find_key(delay.tag.partition, delay.key); taken != nullptr) {
      if (!delay.replace) {
        TIDEMARK_COVERAGE_MARK(delay_key_taken);
        outcome.key_taken = true;
        return outcome;
      }
      TIDEMARK_COVERAGE_MARK(delay_key_replaced);
      end(*taken, DelayState::kCancelled);
    }
  }
  outcome.due_ms = effective_due(delay.due_ms, delay.id);
  const Entry entry{static_cast<uint64_t>(outcome.due_ms), delay.id, delay.position.value(),
                    delay.tag.packed()};
  states_.set(delay.id, DelayState::kPending);
  insert(entry);
  count(entry, true);
  if (!delay.named_in_log) {
    put_rescheduled(delay.position, entry);
  }
  if (!delay.key.empty()) {
    put_key(keyed_.emplace(std::pair{delay.tag.partition, std::string(delay.key)}, entry).first);
  }
  if (delay.recurrence.has_value()) {
    series_.emplace(delay.id, Series{entry, *delay.recurrence, delay.next_due_ms});
    dirty_series_.insert(delay.id);
  }
  return outcome;
}

void PendingDelays::put_key(KeyedMap::const_iterator it) {
  key_of_[it->second.id] = it;
  dirty_keys_.insert(it->first);
}

Entry PendingDelays::entry_of(const DelayName& name) const {
  if (const auto it = series_.find(name.id); it != series_.end()) {
    return it->second.entry;
  }
  return {static_cast<uint64_t>(name.due_ms), name.id, 0,
          DelayTag::unpack(name.topic, name.tag).packed()};
}

void PendingDelays::end(const Entry& entry, DelayState state) {
  const Entry ended = entry;  // may lie in a table that forgets it
  states_.set(ended.id, state);
  forget_rescheduled(ended.id);
  if (!DelayTag::unpack(ended.tag).special) {
    return count(ended, false);
  }
  // A cron series that waits for its next occurrence has none that is counted.
  const auto series = series_.find(ended.id);
  if (series == series_.end() || series->second.recurrence.kind != Recurrence::Kind::kCron ||
      series->second.entry.due != 0) {
    count(ended, false);
  }
  forget_special(ended.id);
}

void PendingDelays::forget_special(uint64_t id) {
  if (const auto it = key_of_.find(id); it != key_of_.end()) {
    dirty_keys_.insert(it->second->first);
    keyed_.erase(it->second);
    key_of_.erase(it);
  }
  if (series_.erase(id) > 0) {
    dirty_series_.insert(id);
    want_next_.erase(id);
  }
}

void PendingDelays::forget_rescheduled(uint64_t id) {
  if (rescheduled_at_.empty()) {
    return;
  }
  if (const auto it = rescheduled_at_.find(id); it != rescheduled_at_.end()) {
    dirty_rescheduled_.insert(it->second);
    rescheduled_.erase(it->second);
    rescheduled_at_.erase(it);
  }
}

void PendingDelays::put_rescheduled(LogPosition position, const Entry& entry) {
  rescheduled_[position] = entry;
  rescheduled_at_[entry.id] = position;
  dirty_rescheduled_.insert(position);
}

const Entry* PendingDelays::rescheduled_at(LogPosition position) const {
  const auto it = rescheduled_.find(position);
  return it == rescheduled_.end() ? nullptr : &it->second;
}

ChangeOutcome PendingDelays::cancel(const DelayName& name) {
  switch (states_.get(name.id)) {
    case DelayState::kPending:
      end(entry_of(name), DelayState::kCancelled);
      return ChangeOutcome::kDone;
    case DelayState::kDelivered:
      TIDEMARK_COVERAGE_MARK(delay_cancel_of_delivered);
      return ChangeOutcome::kAlreadyDelivered;
    case DelayState::kNone:
    case DelayState::kCancelled:
      break;
  }
  return ChangeOutcome::kNotFound;
}

ChangeOutcome PendingDelays::reschedule(const DelayName& name, LogPosition position,
                                        uint64_t new_id, int64_t& due_ms) {
  next_id_ = std::max(next_id_, new_id + 1);
  const DelayState state = states_.get(name.id);
  if (state != DelayState::kPending || series_.contains(name.id)) {
    TIDEMARK_COVERAGE_MARK(delay_reschedule_of_ended);
    return state == DelayState::kDelivered ? ChangeOutcome::kAlreadyDelivered
                                           : ChangeOutcome::kNotFound;
  }
  NewDelay moved;
  moved.id = new_id;
  moved.due_ms = due_ms;
  moved.position = position;
  moved.tag = DelayTag::unpack(name.topic, name.tag);
  std::string key;
  if (const std::string* of = key_of(name.id); of != nullptr) {
    key = *of;
    moved.key = key;
  }
  const Entry before = entry_of(name);
  if (const auto at = this->moved(before.key()); at.has_value()) {
    moved.position = std::max(moved.position, *at);
  }
  if (moved.position < relocated_below_) {
    return ChangeOutcome::kMoved;
  }
  end(before, DelayState::kCancelled);
  due_ms = add(moved).due_ms;
  put_rescheduled(moved.position, {static_cast<uint64_t>(due_ms), new_id, moved.position.value(),
                                   moved.tag.packed()});
  return ChangeOutcome::kDone;
}

void PendingDelays::take_due(int64_t now_ms, uint64_t until_id, uint32_t limit,
                             std::vector<DueDelay>& out) {
  const Key until{static_cast<uint64_t>(std::max<int64_t>(now_ms, 0)), until_id};
  if (until < wheel_->watermark()) {
    return;
  }
  popped_.clear();
  if (!wheel_->pop(until, limit, popped_)) {
    TIDEMARK_COVERAGE_MARK(delay_advance_in_parts);
  }
  for (Entry& entry : popped_) {
    if (const auto moved = moved_.find(entry.key()); moved != moved_.end()) {
      entry.position = moved->second.value();
      moved_.erase(moved);
    }
    extents_.subtract(extent_of(entry.position), 1);
    take(entry, now_ms, out);
  }
}

void PendingDelays::take(const Entry& entry, int64_t now_ms, std::vector<DueDelay>& out) {
  if (states_.get(entry.id) != DelayState::kPending) {
    TIDEMARK_COVERAGE_MARK(delay_cancelled_one_comes_due);
    return;
  }
  const DelayTag tag = DelayTag::unpack(entry.tag);
  DueDelay due{entry.id, static_cast<int64_t>(entry.due), LogPosition{entry.position}, tag};
  if (const auto it = tag.special ? series_.find(entry.id) : series_.end(); it != series_.end()) {
    due.recurring = true;
    count(entry, false);
    it->second.entry.position = entry.position;
    repeat(it->second, now_ms);
  } else {
    end(entry, DelayState::kDelivered);
  }
  out.push_back(due);
}

void PendingDelays::repeat(Series& series, int64_t now_ms) {
  const uint64_t id = series.entry.id;
  dirty_series_.insert(id);
  int64_t next = series.next_due_ms;
  if (series.recurrence.kind == Recurrence::Kind::kEvery) {
    // Occurrences that were missed are not made up for: the grid goes on.
    const auto due = static_cast<int64_t>(series.entry.due);
    const int64_t every = series.recurrence.every_ms;
    if (now_ms - due >= every) {
      TIDEMARK_COVERAGE_MARK(delay_occurrences_missed);
    }
    next = due + ((std::max(now_ms, due) - due) / every + 1) * every;
  } else if (next == 0) {
    // The leader has not looked it up: the series waits for set_next().
    series.entry.due = 0;
    want_next_.insert(id);
    return;
  }
  if (next < 0) {
    states_.set(id, DelayState::kDelivered);
    forget_special(id);
    return;
  }
  series.next_due_ms = 0;
  if (series.recurrence.kind == Recurrence::Kind::kCron) {
    want_next_.insert(id);
  }
  series.entry.due = static_cast<uint64_t>(effective_due(next, id));
  insert(series.entry);
  count(series.entry, true);
  move_key(id, series.entry);
}

void PendingDelays::move_key(uint64_t id, const Entry& entry) {
  if (const auto key = key_of_.find(id); key != key_of_.end()) {
    keyed_.at(key->second->first) = entry;
    dirty_keys_.insert(key->second->first);
  }
}

void PendingDelays::set_next(uint64_t id, int64_t next_due_ms) {
  const auto it = series_.find(id);
  if (it == series_.end() || it->second.next_due_ms != 0) {
    return;
  }
  want_next_.erase(id);
  dirty_series_.insert(id);
  it->second.next_due_ms = next_due_ms == 0 ? -1 : next_due_ms;
  if (it->second.entry.due == 0) {
    repeat(it->second, static_cast<int64_t>(wheel_->watermark().due));
  }
}

void PendingDelays::relocate(uint64_t id, int64_t due_ms, LogPosition position) {
  if (states_.get(id) != DelayState::kPending) {
    return;
  }
  Key key{static_cast<uint64_t>(due_ms), id};
  if (const auto it = series_.find(id); it != series_.end()) {
    it->second.entry.position = position.value();
    dirty_series_.insert(id);
    key = it->second.entry.key();
  }
  if (const auto it = key_of_.find(id); it != key_of_.end()) {
    keyed_.at(it->second->first).position = position.value();
    dirty_keys_.insert(it->second->first);
  }
  if (key <= wheel_->watermark()) {
    return;  // a series that waits for its next occurrence
  }
  if (const auto it = rescheduled_at_.find(id); it != rescheduled_at_.end()) {
    Entry entry = rescheduled_.at(it->second);
    entry.position = position.value();
    forget_rescheduled(id);
    put_rescheduled(position, entry);
  }
  relocated_ = true;
  extents_.add(extent_of(position.value()), 1);
  moved_[key] = position;
  dirty_moved_.insert(key);
}

std::optional<LogPosition> PendingDelays::moved(Key key) const {
  const auto it = moved_.find(key);
  return it == moved_.end() ? std::nullopt : std::optional<LogPosition>(it->second);
}

void PendingDelays::relocated_below(LogPosition position) {
  if (!rescheduled_.empty()) {
    position = std::min(position, rescheduled_.begin()->first);
  }
  relocated_below_ = std::max(relocated_below_, position);
  extents_.erase_range(0, extent_of(position.value()));
}

void PendingDelays::drop_partition(PartitionId id) {
  partition_counts_.erase_range(id, {id.topic, id.index + 1});
  partition_bytes_.erase_range(id, {id.topic, id.index + 1});
  // All partitions of a topic go together.
  buckets_.erase_range({id.topic, 0}, {id.topic + 1, 0});
  for (auto it = keyed_.lower_bound({id, {}}); it != keyed_.end() && it->first.first == id;) {
    dirty_keys_.insert(it->first);
    key_of_.erase(it->second.id);
    it = keyed_.erase(it);
  }
  for (auto it = series_.begin(); it != series_.end();) {
    if (DelayTag::unpack(it->second.entry.tag).partition != id) {
      ++it;
      continue;
    }
    states_.set(it->first, DelayState::kCancelled);
    dirty_series_.insert(it->first);
    want_next_.erase(it->first);
    it = series_.erase(it);
  }
}

// --- looking

const Entry* PendingDelays::find_key(PartitionId partition, std::string_view key) const {
  const auto it = keyed_.find({partition, std::string(key)});
  return it == keyed_.end() ? nullptr : &it->second;
}

const std::string* PendingDelays::key_of(uint64_t id) const {
  const auto it = key_of_.find(id);
  return it == key_of_.end() ? nullptr : &it->second->first.second;
}

const Series* PendingDelays::series_of(uint64_t id) const {
  const auto it = series_.find(id);
  return it == series_.end() ? nullptr : &it->second;
}

LogPosition PendingDelays::low_position() const {
  const auto& extents = extents_.counts();
  return extents.empty()
             ? LogPosition{std::numeric_limits<uint64_t>::max()}
             : std::max(LogPosition{extents.begin()->first * kExtentBytes}, relocated_below_);
}

uint64_t PendingDelays::entries_below(LogPosition position) const {
  uint64_t entries = 0;
  for (const auto& [extent, count] : extents_.counts()) {
    if ((extent + 1) * kExtentBytes > position.value()) {
      break;
    }
    entries += count;
  }
  return entries;
}

uint64_t PendingDelays::bytes_below(LogPosition position) const {
  uint64_t pending = 0;
  uint64_t bytes = 0;
  for (const auto& [partition, count] : partition_counts_.counts()) {
    pending += count;
    bytes += partition_bytes_.get(partition);
  }
  return pending == 0 ? 0 : std::min(bytes, entries_below(position) * (bytes / pending));
}

uint64_t PendingDelays::hash() const {
  uint64_t hash = xxh3(as_bytes(encode_meta())) + states_.hash() + pending_hash_ * 31;
  std::vector<uint8_t> bytes;
  for (const auto& [key, entry] : keyed_) {
    bytes.clear();
    ByteWriter writer(bytes);
    writer.sized_text(key.second);
    put_entry(writer, entry);
    hash = hash * 31 + xxh3(bytes);
  }
  for (const auto& [id, series] : series_) {
    bytes.clear();
    ByteWriter writer(bytes);
    put_entry(writer, series.entry);
    writer.le(series.next_due_ms);
    hash = hash * 31 + xxh3(bytes);
  }
  return hash;
}

}  // namespace tidemark::delay
