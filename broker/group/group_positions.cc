#include "broker/group/group_positions.h"

#include <iterator>
#include <utility>
#include <vector>

#include "broker/partition/store_keys.h"
#include "broker/partition/stored_value.h"
#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/coverage_mark.h"

namespace tidemark::group {

namespace keys = partition::keys;

namespace {

constexpr uint8_t kVersion = 1;
constexpr char kLetter = 'G';
constexpr size_t kNameAt = 1 + 2 * sizeof(uint32_t);  // the group's, in a key

std::string store_key_of(std::string_view group, PartitionId partition) {
  return keys::of(kLetter, partition).append(group);
}

std::vector<uint8_t> encode(const Position& position) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.le<uint8_t>(position.committed ? 1 : 0);
  writer.le(position.offset.value());
  writer.le(position.epoch);
  writer.le(position.committed_ms);
  return out;
}

uint64_t hash_of(std::string_view group, PartitionId partition, const Position& position) {
  return xxh3(encode(position), xxh3(as_bytes(store_key_of(group, partition))));
}

// What no sequence of changes leads to was not written by us.
bool is_sound(const Position& position) {
  return position.committed ||
         (position.epoch != 0 && position.offset == Offset{0} && position.committed_ms == 0);
}

}  // namespace

CommitOutcome GroupPositions::commit(std::string_view group, PartitionId partition,
                                     const Commit& commit) {
  const Position* const recorded = find(group, partition);
  Position position = recorded ? *recorded : Position{};
  if (commit.kind != CommitKind::kReset && commit.epoch != position.epoch) {
    TIDEMARK_COVERAGE_MARK(group_commit_fenced);
    return {ErrorCode::kFenced, position};
  }
  if (commit.offset > commit.end) {
    return {ErrorCode::kOffsetOutOfRange, position};
  }
  const bool may_go_back = commit.kind == CommitKind::kRewind || commit.kind == CommitKind::kReset;
  if (position.committed && commit.offset < position.offset && !may_go_back) {
    TIDEMARK_COVERAGE_MARK(group_commit_behind_ignored);
    return {ErrorCode::kOk, position};
  }
  if (commit.kind == CommitKind::kReset && !raise_epoch(position)) {
    return {ErrorCode::kLimitExceeded, position};
  }
  position.committed = true;
  position.offset = commit.offset;
  position.committed_ms = commit.now_ms;
  return record(group, partition, position);
}

CommitOutcome GroupPositions::lease(std::string_view group, PartitionId partition) {
  const Position* const recorded = find(group, partition);
  Position position = recorded ? *recorded : Position{};
  if (!raise_epoch(position)) {
    return {ErrorCode::kLimitExceeded, position};
  }
  return record(group, partition, position);
}

// False: there is none above it. One that wrapped round would let in whoever held the first.
bool GroupPositions::raise_epoch(Position& position) {
  if (position.epoch == UINT32_MAX) {
    return false;
  }
  ++position.epoch;
  return true;
}

// Everything that a change stores goes through here.
CommitOutcome GroupPositions::record(std::string_view group, PartitionId partition,
                                     const Position& position) {
  auto at = groups_.find(group);
  const bool is_new = at == groups_.end() || !at->second.contains(partition);
  if (is_new && size_ >= positions_max_) {
    return {ErrorCode::kLimitExceeded, Position{}};
  }
  if (at == groups_.end()) {
    at = groups_.try_emplace(std::string(group)).first;
  }
  Position& recorded = at->second[partition];
  if (is_new) {
    ++size_;
  } else {
    hash_ -= hash_of(group, partition, recorded);
  }
  recorded = position;
  hash_ += hash_of(group, partition, recorded);
  dirty_.emplace(partition, at->first);
  return {ErrorCode::kOk, position};
}

size_t GroupPositions::drop_group(std::string_view group) {
  const auto at = groups_.find(group);
  if (at == groups_.end()) {
    return 0;
  }
  const size_t dropped = at->second.size();
  for (const auto& [partition, position] : at->second) {
    forget(group, partition, position);
  }
  groups_.erase(at);
  return dropped;
}

void GroupPositions::drop_partition(PartitionId partition) {
  for (auto at = groups_.begin(); at != groups_.end();) {
    OfGroup& positions = at->second;
    const auto it = positions.find(partition);
    if (it != positions.end()) {
      forget(at->first, partition, it->second);
      positions.erase(it);
    }
    at = positions.empty() ? groups_.erase(at) : std::next(at);
  }
}

// The caller takes it out of its group.
void GroupPositions::forget(std::string_view group, PartitionId partition,
                            const Position& position) {
  hash_ -= hash_of(group, partition, position);
  --size_;
  dirty_.emplace(partition, group);  // its removal is stored
}

const Position* GroupPositions::find(std::string_view group, PartitionId partition) const {
  const OfGroup* const positions = find(group);
  if (positions == nullptr) {
    return nullptr;
  }
  const auto it = positions->find(partition);
  return it == positions->end() ? nullptr : &it->second;
}

const GroupPositions::OfGroup* GroupPositions::find(std::string_view group) const {
  const auto at = groups_.find(group);
  return at == groups_.end() ? nullptr : &at->second;
}

void GroupPositions::freeze(kv::WriteBatch& batch) {
  for (const auto& [partition, group] : dirty_) {
    std::string key = store_key_of(group, partition);
    const Position* const position = find(group, partition);
    if (position == nullptr) {
      batch.remove(std::move(key));
      continue;
    }
    std::vector<uint8_t> out = encode(*position);
    std::string value = partition::seal_value(out, key);
    batch.put(std::move(key), std::move(value));
  }
  frozen_.merge(dirty_);
  dirty_.clear();
}

void GroupPositions::commit_done() { frozen_.clear(); }

void GroupPositions::commit_failed() {
  dirty_.merge(frozen_);
  frozen_.clear();
}

Status GroupPositions::load(kv::ReadView& view) {
  TIDEMARK_CHECK(groups_.empty(), "loaded once, at start");
  return partition::for_each_of(
      view, std::string_view(&kLetter, 1),
      [this](std::string_view key, std::string_view value) { return load_one(key, value); });
}

Status GroupPositions::load_one(std::string_view key, std::string_view value) {
  const Status damaged = partition::damaged_value("position of a consumer group");
  const auto body = partition::open_value(key, value);
  if (!body || key.size() <= kNameAt || key.size() > kNameAt + limits::kGroupNameBytesMax) {
    return damaged;
  }
  ByteReader reader(*body);
  const auto version = reader.le<uint8_t>();
  const auto committed = reader.le<uint8_t>();
  Position position;
  position.committed = committed == 1;
  position.offset = Offset{reader.le<uint64_t>()};
  position.epoch = reader.le<uint32_t>();
  position.committed_ms = reader.le<int64_t>();
  if (version != kVersion || committed > 1 || reader.failed() || reader.remaining() != 0 ||
      !is_sound(position)) {
    return damaged;
  }
  const uint8_t* const at = as_bytes(key).data() + 1;
  const PartitionId partition{TopicId{load_be<uint32_t>(at)},
                              PartitionIndex{load_be<uint32_t>(at + sizeof(uint32_t))}};
  const std::string_view group = key.substr(kNameAt);
  groups_[std::string(group)].emplace(partition, position);
  ++size_;
  hash_ += hash_of(group, partition, position);
  return Status();
}

}  // namespace tidemark::group
