#include "broker/txn/txn_table.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/partition/stored_value.h"
#include "log/base/random.h"
#include "tests/support/view_checkpoint.h"

namespace tidemark::txn {
namespace {

using testing::checkpoint;
using testing::fail_checkpoint;
using testing::load;
using testing::pairs_of;

constexpr ShardId kHere{1};
constexpr ShardId kElsewhere{2};
constexpr ShardId kThird{3};
constexpr int64_t kBornMs = 1000;
constexpr uint32_t kTimeoutMs = 6000;
constexpr TxnKey kKey{7, 1};

using Shards = std::vector<ShardId>;

// The table of shard 1, as the checks of support/view_checkpoint.h make it.
class Table : public TxnTable {
 public:
  Table() : TxnTable(kHere) {}
};

Birth birth(const TxnKey& key = kKey, ShardId coordinator = kHere, int64_t born_ms = kBornMs) {
  return {key, coordinator, "orders", "order 17", born_ms, kTimeoutMs};
}

Half half(uint32_t index, uint64_t position = 0, std::vector<HalfItem> items = {}) {
  return {index,
          {TopicId{1}, PartitionIndex{0}},
          LogPosition{position == 0 ? 10'000 + index : position},
          100,
          3,
          std::move(items)};
}

HalfOutcome add(TxnTable& table, uint32_t index, const TxnKey& key = kKey) {
  return table.add_half(birth(key), half(index, key.number * 1000 + index));
}

TxnTable::End end_of(bool commit, const TxnKey& key = kKey) {
  TxnTable::End end;
  end.key = key;
  end.commit = commit;
  end.coordinator = true;
  end.now_ms = 5000;
  return end;
}

std::vector<uint32_t> indexes(const std::vector<Half>& halves) {
  std::vector<uint32_t> out;
  for (const Half& one : halves) {
    out.push_back(one.index);
  }
  return out;
}

// --- beginning

TEST_CASE("the first part opens a transaction, later ones join it, by index") {
  Table table;
  CHECK(table.state(kKey) == TxnState::kNone);
  CHECK(table.find(kKey) == nullptr);
  const HalfOutcome first = add(table, 5);
  CHECK(first.error == ErrorCode::kOk);
  CHECK(first.first);
  CHECK_FALSE(first.duplicate);
  CHECK(first.state == TxnState::kOpen);
  for (const uint32_t index : {2u, 9u, 0u}) {
    const HalfOutcome next = add(table, index);
    CHECK(next.error == ErrorCode::kOk);
    CHECK_FALSE(next.first);
    CHECK_FALSE(next.duplicate);
  }
  const Transaction* const txn = table.find(kKey);
  REQUIRE(txn != nullptr);
  CHECK(indexes(txn->halves) == std::vector<uint32_t>{0, 2, 5, 9});
  CHECK(txn->state == TxnState::kOpen);
  CHECK(txn->group->name == "orders");
  CHECK(txn->reference == "order 17");
  CHECK(txn->born_ms == kBornMs);
  CHECK(txn->next_check_ms == kBornMs + kTimeoutMs);
  CHECK(txn->find_half(9)->index == 9);
  CHECK(txn->find_half(1) == nullptr);
  CHECK(txn->find_half(10) == nullptr);
  CHECK(table.size() == 1);
  CHECK(table.half_bytes() == 400);
  CHECK(table.by_position().size() == 4);
  CHECK(table.find_group("orders")->open == 1);
  CHECK(table.find_group("others") == nullptr);
}

TEST_CASE("a part that comes again is stored once and changes nothing") {
  Table table;
  add(table, 0);
  const uint64_t hash = table.hash();
  const HalfOutcome again = table.add_half(birth(), half(0, 99'999));
  CHECK(again.error == ErrorCode::kOk);
  CHECK(again.duplicate);
  CHECK_FALSE(again.first);
  CHECK(table.hash() == hash);
  CHECK(table.half_bytes() == 100);
  CHECK(table.by_position().count(LogPosition{99'999}) == 0);
}

TEST_CASE("a part that names another coordinator is refused") {
  Table table;
  add(table, 0);
  const uint64_t hash = table.hash();
  const HalfOutcome other = table.add_half(birth(kKey, kElsewhere), half(1));
  CHECK(other.error == ErrorCode::kConflict);
  CHECK(other.state == TxnState::kOpen);
  CHECK(table.hash() == hash);
  CHECK(table.find(kKey)->halves.size() == 1);
}

TEST_CASE("parts of transactions that others coordinate are kept, and not checked or parked") {
  Table table;
  table.add_half(birth(kKey, kElsewhere), half(0));
  CHECK(table.foreign().count(kKey) == 1);
  CHECK(table.by_age().empty());
  const Group* const group = table.find_group("orders");
  CHECK(group->open == 0);
  CHECK(group->users == 1);
  CHECK(group->checks.empty());
  const uint64_t hash = table.hash();
  table.checked(kKey, 9000);
  CHECK_FALSE(table.park(kKey));
  CHECK(table.recheck(kKey, 9000) == ErrorCode::kNotFound);
  CHECK(table.join(birth(), kThird).error == ErrorCode::kConflict);
  CHECK(table.hash() == hash);
}

TEST_CASE("a shard with parts joins what is known and what is not") {
  Table table;
  const HalfOutcome unknown = table.join(birth(), kElsewhere);
  CHECK(unknown.error == ErrorCode::kOk);
  CHECK(unknown.first);
  CHECK(table.find(kKey)->halves.empty());
  CHECK(table.find(kKey)->participants == Shards{kElsewhere});
  CHECK(table.find_group("orders")->checks.size() == 1);
  CHECK(table.low_position() == LogPosition{UINT64_MAX});
  CHECK_FALSE(table.join(birth(), kThird).first);
  CHECK_FALSE(table.join(birth(), ShardId{0}).first);
  CHECK_FALSE(table.join(birth(), kThird).first);
  CHECK(table.find(kKey)->participants == Shards{ShardId{0}, kElsewhere, kThird});
  CHECK_FALSE(add(table, 0).first);
  CHECK(table.park(kKey));
  CHECK(table.join(birth(), ShardId{4}).state == TxnState::kParked);
  CHECK(table.find(kKey)->participants.size() == 4);
}

// --- ends

TEST_CASE("open to committed and to rolled back") {
  for (const bool commit : {true, false}) {
    CAPTURE(commit);
    Table table;
    add(table, 1);
    add(table, 0);
    const EndOutcome done = table.end(end_of(commit));
    CHECK(done.error == ErrorCode::kOk);
    CHECK(done.done);
    CHECK(done.state == (commit ? TxnState::kCommitted : TxnState::kRolledBack));
    CHECK(indexes(done.halves) == std::vector<uint32_t>{0, 1});
    CHECK(done.participants.empty());
    CHECK(table.find(kKey) == nullptr);
    CHECK(table.state(kKey) == done.state);
    CHECK(table.size() == 0);
    CHECK(table.half_bytes() == 0);
    CHECK(table.by_position().empty());
    CHECK(table.by_age().empty());
    CHECK(table.groups().empty());
    CHECK(table.unconfirmed().empty());
    CHECK(table.hash() == table.outcomes().hash());
  }
}

TEST_CASE("parked to committed and to rolled back") {
  for (const bool commit : {true, false}) {
    CAPTURE(commit);
    Table table;
    add(table, 0);
    REQUIRE(table.park(kKey));
    const EndOutcome done = table.end(end_of(commit));
    CHECK(done.done);
    CHECK(done.halves.size() == 1);
    CHECK(table.parked() == 0);
    CHECK(table.groups().empty());
  }
}

TEST_CASE("an end that comes again is as the first was, the other one is refused") {
  for (const bool commit : {true, false}) {
    CAPTURE(commit);
    Table table;
    add(table, 0);
    REQUIRE(table.end(end_of(commit)).done);
    const uint64_t hash = table.hash();
    const TxnState state = table.state(kKey);
    const EndOutcome again = table.end(end_of(commit));
    CHECK(again.error == ErrorCode::kOk);
    CHECK_FALSE(again.done);
    CHECK(again.state == state);
    const EndOutcome other = table.end(end_of(!commit));
    CHECK(other.error == ErrorCode::kConflict);
    CHECK_FALSE(other.done);
    CHECK(other.state == state);
    CHECK(table.hash() == hash);
  }
}

TEST_CASE("after the end nothing begins again") {
  for (const bool commit : {true, false}) {
    CAPTURE(commit);
    Table table;
    add(table, 0);
    REQUIRE(table.end(end_of(commit)).done);
    const TxnState state = table.state(kKey);
    const uint64_t hash = table.hash();
    CHECK(add(table, 1).error == ErrorCode::kConflict);
    CHECK(add(table, 1).state == state);
    CHECK(table.join(birth(), kElsewhere).error == ErrorCode::kConflict);
    CHECK(table.join(birth(), kElsewhere).state == state);
    CHECK_FALSE(table.park(kKey));
    CHECK(table.recheck(kKey, 9000) == ErrorCode::kConflict);
    table.checked(kKey, 9000);
    table.relocate(kKey, 0, LogPosition{1});
    table.confirm(kKey, kElsewhere);
    CHECK(table.hash() == hash);
  }
}

TEST_CASE("of what is not known a rollback is recorded and a commit refused") {
  Table table;
  const EndOutcome commit = table.end(end_of(true));
  CHECK(commit.error == ErrorCode::kNotFound);
  CHECK_FALSE(commit.done);
  CHECK(table.state(kKey) == TxnState::kNone);
  CHECK(table.recheck(kKey, 1) == ErrorCode::kNotFound);
  CHECK(table.hash() == 0);
  const EndOutcome rollback = table.end(end_of(false));
  CHECK(rollback.done);
  CHECK(table.state(kKey) == TxnState::kRolledBack);
  CHECK(add(table, 0).error == ErrorCode::kConflict);
  CHECK(table.end(end_of(true)).error == ErrorCode::kConflict);
}

TEST_CASE("a commit that names another number of parts is refused, a rollback is not") {
  for (const uint32_t named : {0u, 1u, 3u}) {
    CAPTURE(named);
    Table table;
    add(table, 0);
    add(table, 1);
    const uint64_t hash = table.hash();
    TxnTable::End end = end_of(true);
    end.halves = named;
    const EndOutcome refused = table.end(end);
    CHECK(refused.error == ErrorCode::kConflict);
    CHECK(refused.state == TxnState::kOpen);
    CHECK(refused.halves_stored == 2);
    CHECK_FALSE(refused.done);
    CHECK(table.hash() == hash);
    CHECK(table.find(kKey)->halves.size() == 2);
    end.commit = false;
    CHECK(table.end(end).done);
  }
  Table table;
  add(table, 0);
  TxnTable::End end = end_of(true);
  end.halves = 1;
  CHECK(table.end(end).done);
}

TEST_CASE("a commit needs an id for every delayed message") {
  Table table;
  table.add_half(birth(), half(0, 0, {{false, 100, 0, 50, ""}, {true, 200, 50, 50, "k"}}));
  table.add_half(birth(), half(1, 0, {{false, 300, 0, 50, ""}}));
  CHECK(table.delayed() == 3);
  TxnTable::End end = end_of(true);
  end.delayed = 2;
  CHECK(table.end(end).error == ErrorCode::kUnavailable);
  CHECK(table.delayed() == 3);
  end.delayed = 3;
  const EndOutcome done = table.end(end);
  CHECK(done.done);
  CHECK(done.halves[0].items[1] == HalfItem{true, 200, 50, 50, "k"});
  CHECK(table.delayed() == 0);
}

TEST_CASE("a shard ends what it coordinates, and follows what others do") {
  Table table;
  table.add_half(birth(kKey, kElsewhere), half(0));
  CHECK(table.end(end_of(true)).error == ErrorCode::kConflict);
  CHECK(table.end(end_of(false)).error == ErrorCode::kConflict);
  TxnTable::End settle = end_of(true);
  settle.coordinator = false;
  const EndOutcome done = table.end(settle);
  CHECK(done.done);
  CHECK(done.halves.size() == 1);
  CHECK(table.foreign().empty());
  CHECK(table.unconfirmed().empty());
  CHECK(table.state(kKey) == TxnState::kCommitted);

  const TxnKey own{7, 2};
  add(table, 0, own);
  settle.key = own;
  CHECK(table.end(settle).error == ErrorCode::kConflict);
  CHECK(table.state(own) == TxnState::kOpen);
}

// --- other shards

TEST_CASE("who has to follow: those that joined and those that the end names, but not oneself") {
  Table table;
  add(table, 0);
  table.join(birth(), kThird);
  TxnTable::End end = end_of(true);
  end.participants = {kElsewhere, kHere, kThird, kElsewhere};
  const EndOutcome done = table.end(end);
  CHECK(done.participants == Shards{kElsewhere, kThird});
  REQUIRE(table.unconfirmed().count(kKey) == 1);
  CHECK(table.unconfirmed().at(kKey).commit);
  CHECK(table.unconfirmed().at(kKey).shards == Shards{kElsewhere, kThird});

  table.confirm(kKey, kHere);  // who was not asked
  CHECK(table.unconfirmed().at(kKey).shards.size() == 2);
  table.confirm(kKey, kThird);
  table.confirm(kKey, kThird);
  CHECK(table.unconfirmed().at(kKey).shards == Shards{kElsewhere});
  table.confirm(kKey, kElsewhere);
  CHECK(table.unconfirmed().empty());
  CHECK(table.state(kKey) == TxnState::kCommitted);
}

TEST_CASE("an outcome that shards wait for outlives its age") {
  Table table;
  TxnTable::End end = end_of(false);
  end.participants = {kElsewhere};
  REQUIRE(table.end(end).done);
  table.forget_outcomes(INT64_MAX);
  CHECK(table.outcomes().chunks() == 0);
  CHECK(table.state(kKey) == TxnState::kRolledBack);
  CHECK(add(table, 0).error == ErrorCode::kConflict);
  CHECK(table.end(end_of(true)).error == ErrorCode::kConflict);
  CHECK(table.end(end_of(false)).error == ErrorCode::kOk);
  CHECK_FALSE(table.end(end_of(false)).done);
  table.confirm(kKey, kElsewhere);
  CHECK(table.state(kKey) == TxnState::kNone);
}

// --- checks and parking

TEST_CASE("a check puts the next one further away") {
  Table table;
  add(table, 0);
  const Group& group = *table.find_group("orders");
  CHECK(group.checks.begin()->first == kBornMs + 6000);
  table.checked(kKey, 7000);
  CHECK(table.find(kKey)->checks == 1);
  CHECK(group.checks.size() == 1);
  CHECK(group.checks.begin()->first == 7000 + 9000);
  table.checked(kKey, 20'000);
  CHECK(group.checks.begin()->first == 20'000 + 13'500);
  CHECK(table.by_age().begin()->first == kBornMs);
}

TEST_CASE("pauses grow by half up to five minutes, or stay at a longer timeout") {
  CHECK(TxnTable::check_pause_ms(6000, 0) == 6000);
  CHECK(TxnTable::check_pause_ms(6000, 1) == 9000);
  CHECK(TxnTable::check_pause_ms(6000, 2) == 13'500);
  CHECK(TxnTable::check_pause_ms(6000, 3) == 20'250);
  CHECK(TxnTable::check_pause_ms(6000, 9) == 230'656);  // whole milliseconds at each step
  CHECK(TxnTable::check_pause_ms(6000, 10) == 300'000);
  CHECK(TxnTable::check_pause_ms(6000, UINT32_MAX) == 300'000);
  CHECK(TxnTable::check_pause_ms(100, 1) == 150);
  CHECK(TxnTable::check_pause_ms(100, UINT32_MAX) == 300'000);
  CHECK(TxnTable::check_pause_ms(299'999, 1) == 300'000);
  CHECK(TxnTable::check_pause_ms(300'000, 1) == 300'000);
  CHECK(TxnTable::check_pause_ms(400'000, 5) == 400'000);
  CHECK(TxnTable::check_pause_ms(limits::kTxnTimeoutMsMax, 5) == limits::kTxnTimeoutMsMax);
  int64_t before = 0;
  for (uint32_t checks = 0; checks < 40; ++checks) {
    const int64_t pause = TxnTable::check_pause_ms(limits::kTxnTimeoutMsMin, checks);
    CHECK(pause >= before);
    before = pause;
  }
}

TEST_CASE("transactions of the same time keep an order, and none is lost") {
  Table table;
  std::vector<TxnKey> keys;
  for (uint64_t i = 0; i < 50; ++i) {
    keys.push_back({i % 5, 100 - i});
    add(table, 0, keys.back());
  }
  std::sort(keys.begin(), keys.end());
  const Group& group = *table.find_group("orders");
  REQUIRE(group.checks.size() == 50);
  REQUIRE(table.by_age().size() == 50);
  auto check = group.checks.begin();
  auto age = table.by_age().begin();
  for (const TxnKey& key : keys) {
    CHECK((check++)->second == key);
    CHECK((age++)->second == key);
  }
  for (const TxnKey& key : keys) {
    table.checked(key, 8000);
  }
  CHECK(group.checks.size() == 50);
  CHECK(group.checks.begin()->first == group.checks.rbegin()->first);
}

TEST_CASE("a parked transaction is not checked, and a recheck opens it for a check at once") {
  Table table;
  add(table, 0);
  table.checked(kKey, 7000);
  REQUIRE(table.park(kKey));
  const Group& group = *table.find_group("orders");
  CHECK(table.state(kKey) == TxnState::kParked);
  CHECK(table.parked() == 1);
  CHECK(group.parked == 1);
  CHECK(group.open == 0);
  CHECK(group.checks.empty());
  CHECK(group.by_birth.size() == 1);
  CHECK(table.by_age().empty());
  CHECK_FALSE(table.park(kKey));
  table.checked(kKey, 8000);
  CHECK(table.find(kKey)->checks == 1);
  CHECK(add(table, 1).state == TxnState::kParked);  // its producer still sends
  CHECK(table.find(kKey)->halves.size() == 2);

  CHECK(table.recheck(kKey, 90'000) == ErrorCode::kOk);
  CHECK(table.state(kKey) == TxnState::kOpen);
  CHECK(table.find(kKey)->checks == 0);
  CHECK(table.find(kKey)->born_ms == kBornMs);
  CHECK(group.checks.begin()->first == 90'000);
  CHECK(table.by_age().begin()->first == 90'000);
  CHECK(table.parked() == 0);
  CHECK(group.open == 1);
  table.checked(kKey, 90'001);
  CHECK(group.checks.begin()->first == 90'001 + 9000);

  CHECK(table.recheck(kKey, 95'000) == ErrorCode::kOk);  // of an open one
  CHECK(group.checks.size() == 1);
  CHECK(group.checks.begin()->first == 95'000);
  CHECK(group.open == 1);
}

TEST_CASE("a group is there as long as a transaction names it") {
  Table table;
  add(table, 0);
  Birth other = birth({8, 1}, kElsewhere);
  table.add_half(other, half(0, 50));
  CHECK(table.find_group("orders")->users == 2);
  REQUIRE(table.end(end_of(true)).done);
  CHECK(table.find_group("orders")->users == 1);
  TxnTable::End settle = end_of(false, other.key);
  settle.coordinator = false;
  REQUIRE(table.end(settle).done);
  CHECK(table.find_group("orders") == nullptr);
}

// --- places in the log

TEST_CASE("what lies lowest in the log, and moves") {
  Table table;
  CHECK(table.low_position() == LogPosition{UINT64_MAX});
  table.add_half(birth(), half(0, 500));
  table.add_half(birth(), half(1, 600));
  table.add_half(birth({8, 1}, kElsewhere), half(0, 550));
  CHECK(table.low_position() == LogPosition{500});
  table.relocate(kKey, 0, LogPosition{900});
  CHECK(table.low_position() == LogPosition{550});
  CHECK(table.find(kKey)->find_half(0)->position == LogPosition{900});
  CHECK(table.by_position().at(LogPosition{900}).index == 0);
  CHECK(table.by_position().at(LogPosition{900}).key == kKey);
  CHECK(table.by_position().size() == 3);
  const uint64_t hash = table.hash();
  table.relocate(kKey, 7, LogPosition{1});    // no such part
  table.relocate({9, 9}, 0, LogPosition{1});  // no such transaction
  CHECK(table.hash() == hash);
  CHECK(table.low_position() == LogPosition{550});
  const EndOutcome done = table.end(end_of(true));
  CHECK(done.halves[0].position == LogPosition{900});
  CHECK(table.by_position().size() == 1);
}

// --- checkpoints

// A table with something of everything.
void fill(TxnTable& table) {
  for (uint64_t i = 1; i <= 20; ++i) {
    const TxnKey key{i % 3 + 1, (uint64_t{i % 2} << 48) | i};
    Birth begun = birth(key, i % 4 == 0 ? kElsewhere : kHere, static_cast<int64_t>(i * 10));
    const std::string group = "group " + std::to_string(i % 2);
    const std::string reference(i % 5 == 0 ? 0 : limits::kTxnTextBytesMax, 'r');
    begun.group = group;
    begun.reference = reference;
    table.add_half(begun, half(static_cast<uint32_t>(i), i * 1000));
    table.add_half(begun, half(1023, i * 1000 + 1,
                               {{true, -5, 0, 9, std::string("k\0", 2)}, {false, 7, 9, 8, ""}}));
    if (i % 3 == 0) {
      table.join(begun, kThird);
      table.join(begun, ShardId{0});
    }
    table.checked(key, static_cast<int64_t>(i * 100));
    if (i % 5 == 1) {
      table.park(key);
    }
    if (i % 7 == 3) {
      TxnTable::End end = end_of(i % 2 == 0, key);
      end.coordinator = i % 4 != 0;
      end.participants = {kThird, kElsewhere};
      REQUIRE(table.end(end).done);
    }
  }
  table.join(birth({50, 1}), kThird);
}

void check_equal(const TxnTable& a, const TxnTable& b) {
  CHECK(a.hash() == b.hash());
  CHECK(a.size() == b.size());
  CHECK(a.parked() == b.parked());
  CHECK(a.half_bytes() == b.half_bytes());
  CHECK(a.delayed() == b.delayed());
  CHECK(a.low_position() == b.low_position());
  CHECK(a.by_age() == b.by_age());
  CHECK(a.foreign() == b.foreign());
  CHECK(a.by_position().size() == b.by_position().size());
  CHECK(a.unconfirmed().size() == b.unconfirmed().size());
  REQUIRE(a.groups().size() == b.groups().size());
  for (const auto& [name, group] : a.groups()) {
    const Group* const other = b.find_group(name);
    REQUIRE(other != nullptr);
    CHECK(group->users == other->users);
    CHECK(group->open == other->open);
    CHECK(group->parked == other->parked);
    CHECK(group->checks == other->checks);
    CHECK(group->by_birth == other->by_birth);
  }
  for (const auto& [key, txn] : a.all()) {
    REQUIRE(b.find(key) != nullptr);
    CHECK(b.find(key)->halves == txn.halves);
    CHECK(b.find(key)->participants == txn.participants);
    CHECK(b.find(key)->reference == txn.reference);
  }
}

TEST_CASE("a checkpoint gives back what was there") {
  Table table;
  fill(table);
  kv::MemoryStore store;
  checkpoint(table, store);
  Table loaded;
  REQUIRE(load(loaded, store).ok());
  check_equal(loaded, table);
  // And it goes on like the first.
  for (Table* const each : {&table, &loaded}) {
    each->checked({2, 1 | uint64_t{1} << 48}, 9999);
    each->confirm(each->unconfirmed().begin()->first, kThird);
    each->end(end_of(true, {50, 1}));
  }
  check_equal(loaded, table);
  checkpoint(loaded, store);
  Table again;
  REQUIRE(load(again, store).ok());
  check_equal(again, table);
}

TEST_CASE("a checkpoint that nothing happened before has nothing to write") {
  Table table;
  fill(table);
  kv::MemoryStore store;
  checkpoint(table, store);
  kv::WriteBatch batch;
  table.freeze(batch);
  CHECK(batch.empty());
  table.commit_done();
}

TEST_CASE("what begins and ends between two checkpoints is nothing to the store") {
  Table table;
  kv::MemoryStore store;
  add(table, 0);
  TxnTable::End end = end_of(true);
  end.participants = {kElsewhere};
  REQUIRE(table.end(end).done);
  table.confirm(kKey, kElsewhere);
  table.forget_outcomes(INT64_MAX);
  checkpoint(table, store);
  CHECK(pairs_of(store).empty());
}

TEST_CASE("what ended leaves the store with the next checkpoint") {
  Table table;
  kv::MemoryStore store;
  add(table, 0);
  checkpoint(table, store);
  CHECK(pairs_of(store).size() == 1);
  TxnTable::End end = end_of(true);
  end.participants = {kElsewhere};
  REQUIRE(table.end(end).done);
  checkpoint(table, store);
  CHECK(pairs_of(store).size() == 2);  // who has to follow, and the outcome
  table.confirm(kKey, kElsewhere);
  checkpoint(table, store);
  CHECK(pairs_of(store).size() == 1);
  table.forget_outcomes(INT64_MAX);
  checkpoint(table, store);
  CHECK(pairs_of(store).empty());
}

TEST_CASE("a checkpoint that failed is taken again, whatever happened since") {
  Table table;
  kv::MemoryStore store;
  fill(table);
  fail_checkpoint(table);
  add(table, 3, {60, 1});
  checkpoint(table, store);
  Table loaded;
  REQUIRE(load(loaded, store).ok());
  check_equal(loaded, table);

  // Removals, too, and what failed half-way may have got there nevertheless.
  for (const bool got_there : {false, true}) {
    CAPTURE(got_there);
    Table second;
    kv::MemoryStore its_store;
    add(second, 0);
    kv::WriteBatch batch;
    second.freeze(batch);
    if (got_there) {
      REQUIRE(its_store.commit(batch).ok());
    }
    REQUIRE(second.end(end_of(false)).done);  // while the checkpoint is under way
    second.commit_failed();
    fail_checkpoint(second);
    checkpoint(second, its_store);
    CHECK(pairs_of(its_store).size() == 1);  // the outcome
    Table third;
    REQUIRE(load(third, its_store).ok());
    CHECK(third.hash() == second.hash());
  }
}

TEST_CASE("what changes while a checkpoint is under way is in the next one") {
  Table table;
  kv::MemoryStore store;
  add(table, 0);
  kv::WriteBatch batch;
  table.freeze(batch);
  add(table, 1);
  REQUIRE(store.commit(batch).ok());
  table.commit_done();
  Table early;
  REQUIRE(load(early, store).ok());
  CHECK(early.find(kKey)->halves.size() == 1);
  checkpoint(table, store);
  Table late;
  REQUIRE(load(late, store).ok());
  check_equal(late, table);
}

TEST_CASE("a damaged transaction or end is noticed") {
  Table transactions;
  add(transactions, 0);
  transactions.join(birth(), kElsewhere);
  testing::check_damage_is_noticed(transactions);

  // Letters in the store go by the alphabet: the outcome comes before the end.
  Table ends;
  TxnTable::End end = end_of(true);
  end.participants = {kElsewhere, kThird};
  add(ends, 0);
  REQUIRE(ends.end(end).done);
  ends.forget_outcomes(INT64_MAX);
  testing::check_damage_is_noticed(ends);
}

TEST_CASE("a sealed value with another version, with more or with less than a transaction") {
  const std::string key = store_key('H', kKey);
  for (std::vector<uint8_t> body : {std::vector<uint8_t>{}, std::vector<uint8_t>{2},
                                    std::vector<uint8_t>(80, 1), std::vector<uint8_t>(7, 255)}) {
    CHECK(testing::load_pair<Table>(key, partition::seal_value(body, key)).code() ==
          ErrorCode::kCorrupted);
  }
  const std::string end_key = store_key('U', kKey);
  for (std::vector<uint8_t> body :
       {std::vector<uint8_t>{}, std::vector<uint8_t>{1, 1, 5, 0}, std::vector<uint8_t>{2, 1, 0}}) {
    CHECK(testing::load_pair<Table>(end_key, partition::seal_value(body, end_key)).code() ==
          ErrorCode::kCorrupted);
  }
}

TEST_CASE("a stored transaction that is neither open nor parked was not written by us") {
  Table table;
  add(table, 0);
  kv::MemoryStore store;
  checkpoint(table, store);
  const auto [key, good] = pairs_of(store).front();
  const auto sealed = partition::open_value(key, good);
  REQUIRE(sealed.has_value());
  const std::vector<uint8_t> written(sealed->begin(), sealed->end());
  for (uint8_t state = 0; state < 6; ++state) {
    CAPTURE(state);
    std::vector<uint8_t> body = written;
    body[3] = state;  // behind the version and the coordinator
    CHECK(testing::load_pair<Table>(key, partition::seal_value(body, key)).ok() ==
          (state == 1 || state == 2));
  }
}

// One random step; the same for the same seed.
void step(TxnTable& table, Random& random, int64_t now_ms) {
  const TxnKey key{random.between(1, 3), random.between(1, 40)};
  const ShardId coordinator = key.number % 4 == 0 ? kElsewhere : kHere;
  switch (random.below(12)) {
    case 0:
    case 1:
    case 2:
      table.add_half(birth(key, coordinator, now_ms),
                     half(static_cast<uint32_t>(random.below(4)), static_cast<uint64_t>(now_ms),
                          random.chance(1, 3) ? std::vector<HalfItem>{{false, 5, 0, 9, "k"}}
                                              : std::vector<HalfItem>{}));
      return;
    case 3: {
      TxnTable::End end = end_of(random.chance(1, 2), key);
      end.coordinator = coordinator == kHere;
      end.now_ms = now_ms;
      end.participants = random.chance(1, 2) ? Shards{kElsewhere, kThird} : Shards{};
      table.end(end);
      return;
    }
    case 4:
      table.join(birth(key, kHere, now_ms), random.chance(1, 2) ? kElsewhere : kThird);
      return;
    case 5:
      table.confirm(key, random.chance(1, 2) ? kElsewhere : kThird);
      return;
    case 6:
      table.checked(key, now_ms);
      return;
    case 7:
      if (random.chance(1, 2)) {
        table.park(key);
      } else {
        table.recheck(key, now_ms);
      }
      return;
    case 8:
      table.forget_outcomes(now_ms - 200);
      return;
    default:
      table.relocate(key, static_cast<uint32_t>(random.below(4)),
                     LogPosition{static_cast<uint64_t>(now_ms)});
  }
}

TEST_CASE("random work: a table from a checkpoint of any time and the steps since is the same") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Table table;
    kv::MemoryStore store;
    for (int64_t now_ms = 1; now_ms < 600; ++now_ms) {
      step(table, random, now_ms);
      if (random.chance(1, 30)) {
        kv::WriteBatch batch;
        table.freeze(batch);
        table.commit_failed();
      } else if (random.chance(1, 15)) {
        checkpoint(table, store);
      }
      if (random.chance(1, 60)) {
        checkpoint(table, store);
        Table loaded;
        REQUIRE(load(loaded, store).ok());
        check_equal(loaded, table);
        CHECK(pairs_of(store).size() ==
              table.size() + table.unconfirmed().size() + table.outcomes().chunks());
      }
    }
  }
}

}  // namespace
}  // namespace tidemark::txn
