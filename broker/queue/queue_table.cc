#include "broker/queue/queue_table.h"

#include <iterator>
#include <limits>
#include <utility>

#include "log/base/check.h"
#include "log/base/coverage_mark.h"

namespace tidemark::queue {

namespace {

constexpr size_t kFailureBytes = 80;  // with the map's node

void add_saturating(uint64_t& total, uint64_t count) {
  total = count > UINT64_MAX - total ? UINT64_MAX : total + count;
}

}  // namespace

// --- Applying

Status QueueTable::open(std::string_view group, PartitionId partition, Offset start) {
  if (group.empty() || group.size() > limits::kGroupNameBytesMax) {
    return Status(ErrorCode::kInvalidArgument, "a group's name has 1 to 255 bytes");
  }
  if (find(group, partition) != nullptr) {
    return Status();
  }
  if (size_ >= queues_max_) {
    return Status(ErrorCode::kLimitExceeded,
                  "there are " + std::to_string(size_) + " queues on this shard");
  }
  QueueState& state = open_queue(group, partition);
  state.acks.raise_floor(start);
  state.acks.take_changes();  // nothing of it was stored
  changed(group, partition, state);
  return Status();
}

// Of what is not there.
QueueState& QueueTable::open_queue(std::string_view group, PartitionId partition) {
  auto at = groups_.find(group);
  if (at == groups_.end()) {
    at = groups_.try_emplace(std::string(group)).first;
  }
  by_partition_[partition].insert(at->first);
  ++size_;
  return at->second[partition];
}

uint64_t QueueTable::ack(std::string_view group, PartitionId partition, AckRange range) {
  QueueState* const state = find_open(group, partition);
  const uint64_t added = state->acks.add(range.first, range.count);
  if (added > 0) {
    forget_failures(*state, range.first, end_of(range.first, range.count));
    add_saturating(state->acked, added);
    changed(group, partition, *state);
  }
  return added;
}

bool QueueTable::fail(std::string_view group, PartitionId partition, Offset offset,
                      int64_t retry_ms) {
  QueueState* const state = find_open(group, partition);
  if (state->acks.contains(offset) || offset == Offset{UINT64_MAX}) {
    return false;
  }
  auto it = state->failures.find(offset);
  if (it == state->failures.end()) {
    if (failures_ >= failures_max_) {
      return false;
    }
    it = state->failures.try_emplace(offset).first;
    ++failures_;
  }
  Failures& failures = it->second;
  if (failures.count < std::numeric_limits<uint32_t>::max()) {
    ++failures.count;
  }
  failures.retry_ms = retry_ms;
  add_saturating(state->failed, 1);
  state->acks.touch(AckSet::chunk_of(offset));
  changed(group, partition, *state);
  return true;
}

bool QueueTable::dead_letter(std::string_view group, PartitionId partition, Offset offset) {
  QueueState* const state = find_open(group, partition);
  if (state->acks.add(offset) == 0) {
    return false;
  }
  TIDEMARK_COVERAGE_MARK(queue_dead_letter_written);
  forget_failures(*state, offset, offset + 1);
  add_saturating(state->dead_lettered, 1);
  changed(group, partition, *state);
  return true;
}

void QueueTable::count(std::string_view group, PartitionId partition, uint32_t expired,
                       uint32_t filtered) {
  QueueState* const state = find_open(group, partition);
  if (expired == 0 && filtered == 0) {
    return;
  }
  add_saturating(state->expired, expired);
  add_saturating(state->filtered, filtered);
  changed(group, partition, *state);
}

void QueueTable::trim(PartitionId partition, Offset start) {
  const auto at = by_partition_.find(partition);
  if (at == by_partition_.end()) {
    return;
  }
  for (const std::string_view group : at->second) {
    QueueState* const state = find_open(group, partition);
    if (start <= state->acks.floor()) {
      continue;
    }
    state->acks.raise_floor(start);
    TIDEMARK_COVERAGE_MARK(queue_floor_raised_by_trim);
    forget_failures(*state, Offset{0}, start);
    changed(group, partition, *state);
  }
}

size_t QueueTable::drop_group(std::string_view group) {
  const auto at = groups_.find(group);
  if (at == groups_.end()) {
    return 0;
  }
  const size_t dropped = at->second.size();
  for (auto& [partition, state] : at->second) {
    forget(at->first, partition, state);
    const auto of_partition = by_partition_.find(partition);
    of_partition->second.erase(at->first);
    if (of_partition->second.empty()) {
      by_partition_.erase(of_partition);
    }
  }
  groups_.erase(at);
  return dropped;
}

void QueueTable::drop_partition(PartitionId partition) {
  const auto of_partition = by_partition_.find(partition);
  if (of_partition == by_partition_.end()) {
    return;
  }
  for (const std::string_view group : of_partition->second) {
    const auto at = groups_.find(group);
    const auto it = at->second.find(partition);
    forget(group, partition, it->second);
    at->second.erase(it);
    if (at->second.empty()) {
      groups_.erase(at);
    }
  }
  by_partition_.erase(of_partition);
}

// The caller takes it out of the maps.
void QueueTable::forget(std::string_view group, PartitionId partition, QueueState& state) {
  failures_ -= state.failures.size();
  --size_;
  Name name(partition, group);
  changed_.erase(name);
  dropped_.insert(std::move(name));
}

// Of [first, end), which is settled now. The chunk of each is stored anew: what was settled with it
// may have become part of a run that begins elsewhere.
void QueueTable::forget_failures(QueueState& state, Offset first, Offset end) {
  const auto begin = state.failures.lower_bound(first);
  auto it = begin;
  for (; it != state.failures.end() && it->first < end; ++it) {
    --failures_;
    if (AckSet::chunk_of(it->first) >= AckSet::chunk_of(state.acks.floor())) {
      state.acks.touch(AckSet::chunk_of(it->first));
    }
  }
  state.failures.erase(begin, it);
}

void QueueTable::changed(std::string_view group, PartitionId partition, QueueState& state) {
  if (!state.changed) {
    state.changed = true;
    changed_.emplace(partition, group);
  }
}

// --- Looking

QueueState* QueueTable::find_open(std::string_view group, PartitionId partition) {
  const auto at = groups_.find(group);
  TIDEMARK_CHECK(at != groups_.end(), "the queue is open");
  const auto it = at->second.find(partition);
  TIDEMARK_CHECK(it != at->second.end(), "the queue is open");
  return &it->second;
}

const QueueState* QueueTable::find(std::string_view group, PartitionId partition) const {
  const OfGroup* const queues = find(group);
  if (queues == nullptr) {
    return nullptr;
  }
  const auto it = queues->find(partition);
  return it == queues->end() ? nullptr : &it->second;
}

const QueueTable::OfGroup* QueueTable::find(std::string_view group) const {
  const auto at = groups_.find(group);
  return at == groups_.end() ? nullptr : &at->second;
}

size_t QueueTable::memory_bytes() const {
  size_t bytes = failures_ * kFailureBytes;
  for (const auto& [group, queues] : groups_) {
    for (const auto& [partition, state] : queues) {
      bytes += state.acks.memory_bytes();
    }
  }
  return bytes;
}

}  // namespace tidemark::queue
