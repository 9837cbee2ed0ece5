#include "broker/group/group_positions.h"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/partition/store_keys.h"
#include "broker/partition/stored_value.h"
#include "log/base/coding.h"
#include "log/base/random.h"
#include "tests/support/view_checkpoint.h"

namespace tidemark::group {
namespace {

using testing::checkpoint;
using testing::fail_checkpoint;
using testing::load;
using testing::load_pair;
using testing::pairs_of;

constexpr uint64_t kEnd = 1000;

constexpr PartitionId partition_of(uint32_t topic, uint32_t index) {
  return {TopicId{topic}, PartitionIndex{index}};
}

constexpr PartitionId kPartition = partition_of(1, 0);

GroupPositions::Commit commit_of(uint64_t offset, uint32_t epoch, int64_t now_ms = 1,
                                 CommitKind kind = CommitKind::kCommit) {
  return {kind, epoch, Offset{offset}, Offset{kEnd}, now_ms};
}

// Refused with this error, and everything is as it was.
void check_refused(GroupPositions& positions, PartitionId partition,
                   const GroupPositions::Commit& commit, ErrorCode error) {
  const uint64_t hash = positions.hash();
  const Position* const found = positions.find("g", partition);
  const Position before = found ? *found : Position{};
  const CommitOutcome outcome = positions.commit("g", partition, commit);
  CHECK(outcome.error == error);
  CHECK(outcome.position == before);
  CHECK(positions.hash() == hash);
}

void check_taken(GroupPositions& positions, const GroupPositions::Commit& commit,
                 const Position& then) {
  const CommitOutcome outcome = positions.commit("g", kPartition, commit);
  CHECK(outcome.error == ErrorCode::kOk);
  CHECK(outcome.position == then);
  REQUIRE(positions.find("g", kPartition) != nullptr);
  CHECK(*positions.find("g", kPartition) == then);
}

TEST_CASE("there are no positions at first") {
  const GroupPositions positions;
  CHECK(positions.find("g") == nullptr);
  CHECK(positions.find("g", kPartition) == nullptr);
  CHECK(positions.groups().empty());
  CHECK(positions.size() == 0);
  CHECK(positions.hash() == 0);
}

TEST_CASE("a group that was never given the partition commits with epoch 0") {
  GroupPositions positions;
  check_refused(positions, kPartition, commit_of(5, 1), ErrorCode::kFenced);
  CHECK(positions.size() == 0);
  check_taken(positions, commit_of(5, 0, 10), {true, Offset{5}, 0, 10});
  CHECK(positions.size() == 1);
}

TEST_CASE("every lease raises the epoch, and only commits of the present one are taken") {
  GroupPositions positions;
  const CommitOutcome first = positions.lease("g", kPartition);
  CHECK(first.error == ErrorCode::kOk);
  CHECK(first.position == Position{false, Offset{0}, 1, 0});
  check_refused(positions, kPartition, commit_of(5, 0), ErrorCode::kFenced);
  check_taken(positions, commit_of(5, 1, 7), {true, Offset{5}, 1, 7});

  CHECK(positions.lease("g", kPartition).position == Position{true, Offset{5}, 2, 7});
  check_refused(positions, kPartition, commit_of(6, 1), ErrorCode::kFenced);
  check_refused(positions, kPartition, commit_of(6, 3), ErrorCode::kFenced);
  check_refused(positions, kPartition, commit_of(1, 1, 9, CommitKind::kRewind), ErrorCode::kFenced);
  check_taken(positions, commit_of(6, 2, 9), {true, Offset{6}, 2, 9});
}

TEST_CASE("each group and each partition has an epoch and a position of its own") {
  GroupPositions positions;
  positions.lease("g", kPartition);
  positions.lease("g", partition_of(1, 1));
  positions.lease("g", partition_of(1, 1));
  positions.lease("h", kPartition);
  positions.commit("h", kPartition, commit_of(9, 1));
  CHECK(positions.find("g", kPartition)->epoch == 1);
  CHECK(positions.find("g", partition_of(1, 1))->epoch == 2);
  CHECK(!positions.find("g", kPartition)->committed);
  CHECK(positions.find("h", kPartition)->offset == Offset{9});
  CHECK(positions.find("h", partition_of(1, 1)) == nullptr);
  CHECK(positions.find("g")->size() == 2);
  CHECK(positions.groups().size() == 2);
  CHECK(positions.size() == 3);
}

TEST_CASE("a commit never goes back, a rewind does") {
  GroupPositions positions;
  check_taken(positions, commit_of(50, 0, 1), {true, Offset{50}, 0, 1});
  check_taken(positions, commit_of(49, 0, 2), {true, Offset{50}, 0, 1});
  check_taken(positions, commit_of(50, 0, 3), {true, Offset{50}, 0, 3});
  check_taken(positions, commit_of(20, 0, 4, CommitKind::kRewind), {true, Offset{20}, 0, 4});
  check_taken(positions, commit_of(21, 0, 5), {true, Offset{21}, 0, 5});
  check_taken(positions, commit_of(30, 0, 6, CommitKind::kRewind), {true, Offset{30}, 0, 6});
  check_taken(positions, commit_of(0, 0, 7, CommitKind::kRewind), {true, Offset{0}, 0, 7});
}

TEST_CASE("an offset may be the end of the partition, not beyond it") {
  for (const CommitKind kind : {CommitKind::kCommit, CommitKind::kRewind, CommitKind::kReset}) {
    CAPTURE(static_cast<int>(kind));
    GroupPositions positions;
    check_refused(positions, kPartition, commit_of(kEnd + 1, 0, 1, kind),
                  ErrorCode::kOffsetOutOfRange);
    CHECK(positions.size() == 0);
    CHECK(positions.commit("g", kPartition, commit_of(kEnd, 0, 1, kind)).error == ErrorCode::kOk);
    CHECK(positions.find("g", kPartition)->offset == Offset{kEnd});
  }
}

TEST_CASE("of an old epoch it is said that it is fenced, whatever the offset") {
  GroupPositions positions;
  positions.lease("g", kPartition);
  check_refused(positions, kPartition, commit_of(kEnd + 1, 0), ErrorCode::kFenced);
}

TEST_CASE("a reset asks for no epoch, goes anywhere, and fences whoever holds the partition") {
  GroupPositions positions;
  positions.lease("g", kPartition);
  check_taken(positions, commit_of(50, 1, 2), {true, Offset{50}, 1, 2});
  check_taken(positions, commit_of(10, 99, 3, CommitKind::kReset), {true, Offset{10}, 2, 3});
  check_refused(positions, kPartition, commit_of(51, 1), ErrorCode::kFenced);
  check_taken(positions, commit_of(90, 0, 4, CommitKind::kReset), {true, Offset{90}, 3, 4});
  CHECK(positions.lease("g", kPartition).position.epoch == 4);
}

TEST_CASE("a reset of a group that was never here makes a position") {
  GroupPositions positions;
  check_taken(positions, commit_of(10, 0, 3, CommitKind::kReset), {true, Offset{10}, 1, 3});
}

TEST_CASE("beyond the bound nothing new is taken, what is there goes on") {
  GroupPositions positions(2);
  const PartitionId third = partition_of(1, 2);
  positions.lease("g", kPartition);
  positions.commit("g", partition_of(1, 1), commit_of(1, 0));
  check_refused(positions, third, commit_of(1, 0), ErrorCode::kLimitExceeded);
  check_refused(positions, third, commit_of(1, 0, 1, CommitKind::kReset),
                ErrorCode::kLimitExceeded);
  CHECK(positions.lease("other", third).error == ErrorCode::kLimitExceeded);
  CHECK(positions.lease("other", third).position == Position{});
  CHECK(positions.find("other") == nullptr);  // not even an empty group
  CHECK(positions.lease("g", kPartition).error == ErrorCode::kOk);
  CHECK(positions.commit("g", partition_of(1, 1), commit_of(2, 0)).error == ErrorCode::kOk);
  CHECK(positions.size() == 2);
  positions.drop_partition(kPartition);
  CHECK(positions.lease("other", third).error == ErrorCode::kOk);
}

TEST_CASE("a group is forgotten with all of its positions") {
  GroupPositions positions;
  positions.lease("other", kPartition);
  const uint64_t hash = positions.hash();
  for (uint32_t i = 0; i < 5; ++i) {
    positions.lease("g", partition_of(i, i));
  }
  CHECK(positions.drop_group("nobody") == 0);
  CHECK(positions.drop_group("g") == 5);
  CHECK(positions.drop_group("g") == 0);
  CHECK(positions.find("g") == nullptr);
  CHECK(positions.size() == 1);
  CHECK(positions.hash() == hash);
}

TEST_CASE("a partition is forgotten in all groups, and a group without positions is none") {
  GroupPositions positions;
  positions.lease("a", kPartition);
  const uint64_t hash = positions.hash();
  positions.lease("a", partition_of(1, 1));
  positions.lease("b", partition_of(1, 1));
  positions.drop_partition(partition_of(7, 7));
  CHECK(positions.size() == 3);
  positions.drop_partition(partition_of(1, 1));
  CHECK(positions.find("b") == nullptr);
  CHECK(positions.find("a")->size() == 1);
  CHECK(positions.size() == 1);
  CHECK(positions.hash() == hash);
}

TEST_CASE("the hash does not depend on the order of changes, but on every field") {
  GroupPositions forth;
  GroupPositions back;
  for (uint32_t i = 0; i < 100; ++i) {
    forth.commit("g", partition_of(1, i), commit_of(i, 0));
    back.commit("g", partition_of(1, 99 - i), commit_of(99 - i, 0));
  }
  CHECK(forth.hash() == back.hash());

  const auto hash_with = [](std::string_view group, PartitionId partition, uint64_t offset,
                            int64_t now_ms) {
    GroupPositions positions;
    positions.commit(group, partition, commit_of(offset, 0, now_ms));
    return positions.hash();
  };
  const uint64_t hash = hash_with("g", kPartition, 1, 1);
  CHECK(hash != hash_with("h", kPartition, 1, 1));
  CHECK(hash != hash_with("g", partition_of(1, 1), 1, 1));
  CHECK(hash != hash_with("g", kPartition, 2, 1));
  CHECK(hash != hash_with("g", kPartition, 1, 2));
  GroupPositions leased;
  leased.lease("g", kPartition);
  const uint64_t once = leased.hash();
  leased.lease("g", kPartition);
  CHECK(leased.hash() != once);
}

// Any change that there is, among few groups and partitions.
void change(GroupPositions& positions, Random& random) {
  const std::string group(1, static_cast<char>('a' + random.below(4)));
  const PartitionId partition =
      partition_of(static_cast<uint32_t>(random.below(3)), static_cast<uint32_t>(random.below(3)));
  const Position* const found = positions.find(group, partition);
  const uint32_t epoch = found ? found->epoch : 0;
  switch (random.below(12)) {
    case 0:
      positions.drop_group(group);
      break;
    case 1:
      positions.drop_partition(partition);
      break;
    case 2:
    case 3:
      positions.lease(group, partition);
      break;
    default:
      positions.commit(group, partition,
                       commit_of(random.below(kEnd), epoch, static_cast<int64_t>(random.below(99)),
                                 static_cast<CommitKind>(random.below(3))));
  }
}

TEST_CASE("a checkpoint gives back what was there, and the store has nothing else") {
  Random random(3);
  GroupPositions positions;
  kv::MemoryStore store;
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 10; ++i) {
      change(positions, random);
    }
    if (random.chance(1, 4)) {
      kv::WriteBatch batch;
      positions.freeze(batch);
      change(positions, random);  // while it is written
      positions.commit_failed();
    }
    checkpoint(positions, store);
    GroupPositions loaded;
    REQUIRE(load(loaded, store).ok());
    CHECK(loaded.hash() == positions.hash());
    CHECK(loaded.size() == positions.size());
    CHECK(loaded.groups() == positions.groups());
    CHECK(pairs_of(store).size() == positions.size());
    kv::WriteBatch nothing_new;
    loaded.freeze(nothing_new);
    CHECK(nothing_new.empty());
  }
}

TEST_CASE("names of any bytes and the largest numbers come back") {
  GroupPositions positions;
  const PartitionId last = partition_of(UINT32_MAX, UINT32_MAX);
  const std::string longest(limits::kGroupNameBytesMax, '\xFF');
  const std::string zeros("\0\0", 2);
  for (const std::string& name : {longest, zeros, std::string("G")}) {
    positions.commit(name, last,
                     {CommitKind::kCommit, 0, Offset{UINT64_MAX}, Offset{UINT64_MAX}, INT64_MAX});
  }
  kv::MemoryStore store;
  checkpoint(positions, store);
  GroupPositions loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.groups() == positions.groups());
  CHECK(loaded.hash() == positions.hash());
}

TEST_CASE("what a failed commit had is in the next one, removals too") {
  GroupPositions positions;
  kv::MemoryStore store;
  positions.lease("gone", kPartition);
  positions.lease("g", kPartition);
  checkpoint(positions, store);
  positions.drop_group("gone");
  positions.commit("g", kPartition, commit_of(5, 1));
  fail_checkpoint(positions);
  positions.lease("new", kPartition);
  checkpoint(positions, store);
  GroupPositions loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.groups() == positions.groups());
}

TEST_CASE("a group that is dropped and comes back begins with epoch 0, also in the store") {
  GroupPositions positions;
  kv::MemoryStore store;
  positions.lease("g", kPartition);
  positions.lease("g", kPartition);
  checkpoint(positions, store);
  positions.drop_group("g");
  positions.lease("g", kPartition);
  checkpoint(positions, store);
  GroupPositions loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.find("g", kPartition)->epoch == 1);
}

TEST_CASE("damaged positions are refused") {
  GroupPositions committed;
  committed.commit("g", kPartition, commit_of(5, 0));
  testing::check_damage_is_noticed(committed);
  GroupPositions leased;
  leased.lease("g", kPartition);
  testing::check_damage_is_noticed(leased);
}

struct Fields {
  uint8_t version = 1;
  uint8_t committed = 1;
  uint64_t offset = 0;
  uint32_t epoch = 1;
  int64_t committed_ms = 0;
};

// A value whose own proof is right.
std::pair<std::string, std::string> stored(const Fields& fields, const std::string& group = "g") {
  const std::string key = partition::keys::of('G', kPartition) + group;
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(fields.version);
  writer.le(fields.committed);
  writer.le(fields.offset);
  writer.le(fields.epoch);
  writer.le(fields.committed_ms);
  return {key, partition::seal_value(out, key)};
}

TEST_CASE("what was not written by us is refused even if its hash is right") {
  const auto is_taken = [](const std::pair<std::string, std::string>& pair) {
    const Status status = load_pair<GroupPositions>(pair.first, pair.second);
    CHECK((status.ok() || status.code() == ErrorCode::kCorrupted));
    return status.ok();
  };
  CHECK(is_taken(stored({})));
  CHECK(is_taken(stored({.committed = 0})));
  CHECK(is_taken(stored({.epoch = 0})));
  CHECK(!is_taken(stored({.version = 2})));
  CHECK(!is_taken(stored({.committed = 2})));
  CHECK(!is_taken(stored({.committed = 0, .epoch = 0})));
  CHECK(!is_taken(stored({.committed = 0, .offset = 1})));
  CHECK(!is_taken(stored({.committed = 0, .committed_ms = 1})));
  CHECK(!is_taken(stored({}, "")));
  CHECK(is_taken(stored({}, std::string(255, 'g'))));
  CHECK(!is_taken(stored({}, std::string(256, 'g'))));
}

TEST_CASE("there is no epoch behind the last one") {
  kv::MemoryStore store;
  kv::WriteBatch batch;
  const auto [key, value] = stored({.offset = 7, .epoch = UINT32_MAX, .committed_ms = 3});
  batch.put(key, value);
  REQUIRE(store.commit(batch).ok());
  GroupPositions positions;
  REQUIRE(load(positions, store).ok());
  const uint64_t hash = positions.hash();
  CHECK(positions.lease("g", kPartition).error == ErrorCode::kLimitExceeded);
  CHECK(positions.lease("g", kPartition).position.epoch == UINT32_MAX);
  check_refused(positions, kPartition, commit_of(1, 0, 1, CommitKind::kReset),
                ErrorCode::kLimitExceeded);
  CHECK(positions.hash() == hash);
  check_taken(positions, commit_of(9, UINT32_MAX, 4), {true, Offset{9}, UINT32_MAX, 4});
}

}  // namespace
}  // namespace tidemark::group
