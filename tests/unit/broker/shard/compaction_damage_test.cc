// Compaction of a partition of which some batches cannot be read, now or ever.
#include <map>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "log/base/logging.h"
#include "log/base/random.h"
#include "tests/unit/broker/shard/compaction_harness.h"
#include "tests/unit/broker/shard/queue_harness.h"

namespace tidemark::shard {
namespace {

using compaction_testing::CompactionHarness;
using compaction_testing::Contents;
using compaction_testing::kPartition;
using compaction_testing::kRoundMs;
using compaction_testing::Update;

constexpr partition::CompactionConfig kNoTombstones{.after_ms = 0, .tombstone_ms = 0};
const Update kTombstone{"a", std::nullopt};
const Update kLater{"b", std::string(300, 'b')};  // enough for another run

class DamageHarness : public CompactionHarness {
 public:
  explicit DamageHarness(const partition::CompactionConfig& config = kNoTombstones,
                         size_t keys_max = limits::kCompactionKeysMax)
      : CompactionHarness(config, keys_max) {
    source.cached_from = LogPosition{UINT64_MAX};
  }

  using Damage = std::set<size_t>;  // numbers of batches

  // A run of which each step of either kind is one, and during which some batches cannot be read.
  void compact_damaged(const Damage& in_scan, const Damage& in_selection) {
    const uint64_t runs = stats().compactions;
    damage(in_scan);
    advance_ms(kRoundMs);
    core->tick(now);
    settle();
    REQUIRE(source.run_one());  // has read for the scan
    damage(in_selection);
    drain();
    damage({});
    REQUIRE(stats().compactions == runs + 1);
  }

  void damage(const Damage& batches) {
    source.damaged.clear();
    for (const size_t batch : batches) {
      source.damaged.insert(ref(batch).position);
    }
  }

  [[nodiscard]] const partition::BatchRef& ref(size_t batch) const {
    return partition().index().refs()[batch];
  }
};

// --- what was damaged in one run can be read in the next

TEST_CASE("a tombstone that the scan could not read does not go before what it covers") {
  DamageHarness harness;
  SUBCASE("damaged") {}
  SUBCASE("an I/O error") { harness.source.damage = ErrorCode::kIoError; }
  harness.send("a", "1");
  harness.send({kTombstone});
  harness.compact_damaged({1}, {});
  CHECK(harness.read() == Contents{{0, {"a", "1"}}, {1, kTombstone}});
  harness.send({kLater});
  harness.compact_damaged({}, {});
  CHECK(harness.read() == Contents{{2, kLater}});
}

TEST_CASE("a tombstone that a scan missed, too young then, does not go alone later") {
  DamageHarness harness({.after_ms = 0, .tombstone_ms = 60'000});
  harness.send("a", "1");
  harness.send({kTombstone});
  harness.compact_damaged({1}, {1});
  harness.advance_ms(70'000);
  harness.send({kLater});
  harness.compact_damaged({}, {});
  CHECK(harness.read() == Contents{{2, kLater}});
}

TEST_CASE(
    "an older message that a run could not read goes with the next, not its tombstone alone") {
  DamageHarness harness;
  harness.send("a", "1");
  harness.send({kTombstone});
  harness.compact_damaged({}, {0});
  CHECK(harness.read() == Contents{{0, {"a", "1"}}, {1, kTombstone}});
  harness.send({kLater});
  harness.compact_damaged({}, {});
  CHECK(harness.read() == Contents{{2, kLater}});
}

TEST_CASE("what a scan could not read replaces older messages in the next run") {
  DamageHarness harness;
  harness.send("a", "1");
  harness.send("a", "2");
  harness.compact_damaged({1}, {});
  CHECK(harness.read() == Contents{{0, {"a", "1"}}, {1, {"a", "2"}}});
  const size_t entries = harness.consensus.log.size();
  harness.compact();  // nothing came: it does not try again and again
  CHECK(harness.consensus.log.size() == entries);
  harness.send({kLater});
  harness.compact_damaged({}, {});
  CHECK(harness.read() == Contents{{1, {"a", "2"}}, {2, kLater}});
  CHECK(!harness.partition().compaction().keeps_dead);
}

TEST_CASE("a reference that cannot be read holds what it may refer to") {
  constexpr PartitionId kDead = QueueHarness::kDead;
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.options.compaction_bytes_min = 1;
  shard.restart();
  shard.open_partitions_of(kDead.topic, 1, {}, -1, -1, {}, {.after_ms = 0}, 2);
  shard.put({"a"});
  REQUIRE(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  const partition::Partition& dead = *shard.core->views().find(kDead);
  const LogPosition letter = dead.index().refs().at(0).position;
  const LogPosition low = dead.low_position();
  REQUIRE(low < letter);
  shard.source.cached_from = LogPosition{UINT64_MAX};
  shard.source.damaged = {letter};
  shard.advance_ms(kRoundMs);
  shard.core->tick(shard.now);
  shard.drain();
  ShardStats stats;
  shard.core->add_stats(stats);
  CHECK(stats.compactions == 1);
  CHECK(dead.low_position() == low);
}

// --- damaged for good

size_t warnings = 0;

void count_warnings(LogLevel level, std::string_view line) {
  const std::string wanted = " topic=1 partition=0 first_offset=1 error=\"" +
                             Status(ErrorCode::kCorrupted, "test").to_string() + "\"";
  const bool about_damage =
      line.starts_with("compaction_batch_unread shard=") && line.ends_with(wanted);
  warnings += level == LogLevel::kWarning && about_damage ? 1 : 0;
}

TEST_CASE("a batch that stays damaged stops nothing else, and is logged once a run") {
  DamageHarness harness;
  harness.send("a", "1");
  harness.send("c", "1");
  harness.send({kTombstone});
  harness.send("c", "2");
  warnings = 0;
  set_log_sink(count_warnings);
  for (size_t run = 1; run <= 4; ++run) {
    harness.send("b", std::string(200 * run, 'b'));
    harness.compact_damaged({1}, {1});
    CHECK(warnings == run);
    CHECK(harness.partition().compaction().scan_from == Offset{1});
    harness.compact();  // no other before more comes
    CHECK(harness.stats().compactions == run);
  }
  set_log_sink(nullptr);
  const Contents contents = harness.read();
  CHECK(contents.size() == 4);  // behind it the tombstone stays
  CHECK(contents.contains(1));
  CHECK(contents.contains(2));
  CHECK(contents.contains(3));
  CHECK(contents.contains(7));
}

TEST_CASE("with more keys than fit, the scan gets over a batch that stays damaged") {
  DamageHarness harness(kNoTombstones, 4);
  harness.send("a", "1");
  harness.send("k0", "0");
  harness.send({kTombstone});
  constexpr int kBatches = 36;
  for (int i = 3; i < kBatches; ++i) {
    harness.send("k" + std::to_string(i % 12), std::to_string(i));
  }
  for (int i = 0; i < 40; ++i) {
    harness.damage({1});
    harness.compact();
  }
  CHECK(harness.partition().compaction().scan_from > Offset{kBatches - 10});
  CHECK(harness.partition().compaction().keeps_dead);
  harness.damage({});
  const Contents contents = harness.read();
  CHECK(contents.contains(1));
  CHECK(contents.contains(2));
  CHECK(contents.size() <= 2 + 12 + 9);  // those, the newest of each key, what is not scanned yet
}

// --- everything at once

// As a consumer sees it who reads all of it: the last of each key, without those that are deleted.
using State = std::map<std::string, std::string>;

State state_of(const Contents& contents) {
  State state;
  for (const auto& [offset, update] : contents) {
    if (update.value.has_value()) {
      state[*update.key] = *update.value;
    } else {
      state.erase(*update.key);
    }
  }
  return state;
}

TEST_CASE("random damage: what consumers make of the partition never changes") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const bool few_fit = random.chance(1, 3);
    DamageHarness harness({.after_ms = 0, .tombstone_ms = random.chance(1, 2) ? 0 : 20'000},
                          few_fit ? 4 : 1'000);
    Contents sent;
    for (int step = 0; step < 40; ++step) {
      for (uint64_t i = 0; i <= random.below(5); ++i) {
        Update update{"k" + std::to_string(random.below(8)), std::to_string(step)};
        if (random.chance(1, 3)) {
          update.value.reset();
        }
        sent.emplace(harness.send({update}), update);
      }
      harness.advance_ms(kRoundMs);
      harness.core->tick(harness.now);
      const uint64_t jobs = random.chance(1, 4) ? random.below(6) : UINT64_MAX;
      for (uint64_t job = 0; job < jobs; ++job) {
        harness.settle();
        DamageHarness::Damage damage;
        for (size_t i = 0; i < harness.partition().index().refs().size(); ++i) {
          if (random.chance(1, 12)) {
            damage.insert(i);
          }
        }
        harness.damage(damage);
        harness.source.damage = random.chance(1, 2) ? ErrorCode::kCorrupted : ErrorCode::kIoError;
        if (!harness.source.run_one()) {
          break;
        }
      }
      harness.damage({});
      if (jobs != UINT64_MAX) {
        harness.restart();
      }
      REQUIRE(state_of(harness.read()) == state_of(sent));
    }
    if (harness.partition().compaction().keeps_dead) {
      continue;
    }
    // With nothing damaged any more, what was left goes.
    harness.advance_ms(30'000);
    for (int i = 0; i < 30; ++i) {
      const Update update{"more", std::string(60 * static_cast<size_t>(i + 1), 'm')};
      sent.emplace(harness.send({update}), update);
      harness.compact();
    }
    const Contents contents = harness.read();
    REQUIRE(state_of(contents) == state_of(sent));
    if (!few_fit) {
      REQUIRE(contents.size() == state_of(sent).size());
    }
  }
}

}  // namespace
}  // namespace tidemark::shard
