// Delayed messages across restarts, checkpoints, long stops and steps of the wall clock.
#include <algorithm>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/unit/broker/shard/delay_harness.h"

namespace tidemark::shard {
namespace {

using Values = DelayHarness::Values;
using testing::by_handle;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr int64_t kDayMs = 86'400'000;

TEST_CASE("after a restart, by replay or from a checkpoint, all that is pending fires once") {
  for (const bool checkpoint : {false, true}) {
    CAPTURE(checkpoint);
    DelayHarness harness;
    const auto receipts = harness.take_in({{"a", 100},
                                           {"b", 300},
                                           {"cancelled", 300},
                                           {"c", 300, false, "k"},
                                           {"every", 1000, false, "", false, 60'000}});
    harness.cancel(by_handle(kPartition, receipts[2]));
    harness.run_ms(150);
    if (checkpoint) {
      harness.checkpoint();
      harness.reschedule(testing::by_key(kPartition, "k"), 250);  // behind the checkpoint
    }
    const uint64_t hash = harness.core->views().hash();
    if (checkpoint) {
      harness.restart_from_checkpoint();
    } else {
      harness.restart();
    }
    CHECK(harness.core->views().hash() == hash);
    harness.run_ms(5000);
    Values values = harness.values();
    CHECK(values == Values{"a", "b", "c", "every"});
    CHECK(harness.take_in({{"new", 10}})[0].id() == (checkpoint ? 7 : 6));  // ids go on
  }
}

TEST_CASE("what was not committed when the process died is not there") {
  DelayHarness harness;
  harness.take_in({{"a", 100}});
  const std::vector<DelayInput> lost = {{"lost", 50}};
  harness.receive(testing::schedule_request(kPartition, testing::build_schedule(kPartition, lost)));
  harness.core->flush(harness.now);
  harness.restart();
  harness.run_ms(1000);
  CHECK(harness.values() == Values{"a"});
}

TEST_CASE("a process that dies with an Advance under way fires what it named, once") {
  DelayHarness harness;
  harness.take_in({{"a", 100}, {"b", 100}});
  harness.advance_ms(100);
  harness.core->flush(harness.now);
  harness.restart();
  harness.run_ms(10);
  CHECK(harness.values() == Values{"a", "b"});
}

TEST_CASE("random work with checkpoints and restarts: each message fires once, in order") {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    DelayHarness harness;
    harness.options.wheel = {.memory_entries_max = 64, .chunk_entries_max = 8, .lookahead = 500};
    harness.restart();
    uint64_t made = 0;
    for (int step = 0; step < 150; ++step) {
      std::vector<DelayInput> items(random.between(1, 10));
      for (DelayInput& item : items) {
        item.value = std::to_string(made++);
        item.due_ms = static_cast<int64_t>(random.below(random.chance(1, 5) ? 100'000 : 300));
      }
      harness.take_in(items);
      harness.run_ms(static_cast<int64_t>(random.below(60)));
      const uint64_t hash = harness.core->views().hash();
      if (random.chance(1, 12)) {
        harness.checkpoint();
        REQUIRE(harness.core->views().hash() == hash);
      }
      if (random.chance(1, 25)) {
        if (random.chance(1, 3)) {
          harness.store.erase();  // somebody deleted the checkpoint: the log is enough
        }
        harness.restart_from_checkpoint();
        REQUIRE(harness.core->views().hash() == hash);
      }
    }
    for (int second = 0; second < 110; ++second) {
      harness.run_ms(1000);
      if (harness.core->views().delays().wheel().wants_split()) {
        harness.checkpoint();
      }
    }
    CHECK(harness.pending() == 0);
    Values values = harness.values();
    std::sort(values.begin(), values.end());
    CHECK(std::unique(values.begin(), values.end()) == values.end());
    CHECK(values.size() == made);
  }
}

TEST_CASE("a checkpoint that ends while an Advance is under way takes nothing from it") {
  DelayHarness harness;
  harness.options.wheel = {.memory_entries_max = 64, .chunk_entries_max = 8};
  harness.restart();
  harness.take_in(std::vector<DelayInput>(200, {"x", 100}));
  harness.advance_ms(100);
  harness.core->flush(harness.now);
  REQUIRE(harness.consensus.proposed() == 1);
  harness.checkpoint();  // memory is cut back to what it may hold
  harness.run_ms(50);
  CHECK(harness.stats().delays_fired == 200);
  CHECK(harness.values().size() == 200);
}

TEST_CASE("after a long stop everything overdue is delivered in order, by default") {
  DelayHarness harness;
  harness.take_in({{"b", 2000}, {"a", 1000}, {"c", 2000}, {"later", 10 * kDayMs}});
  harness.advance_ms(3 * kDayMs);
  harness.restart();
  harness.run_ms(10);
  CHECK(harness.values() == Values{"a", "b", "c"});
  CHECK(harness.pending() == 1);
}

TEST_CASE("after a long stop a topic may want what is too late skipped") {
  partition::DelayConfig config;
  config.late_policy = partition::LatePolicy::kSkip;
  config.late_max_ms = 60'000;
  DelayHarness harness(config);
  const auto receipts = harness.take_in({{"too late", 1000}, {"late", 100'000}});
  harness.advance_ms(100'000 + 50'000);
  harness.restart();
  harness.run_ms(10);
  CHECK(harness.values() == Values{"late"});
  CHECK(harness.stats().delays_late_skipped == 1);
  CHECK(harness.cancel(by_handle(kPartition, receipts[0])).outcome == DelayOutcome::kNotFound);
  CHECK(harness.pending() == 0);
}

TEST_CASE("after a long stop a topic may want what is too late in another one") {
  partition::DelayConfig config;
  config.late_policy = partition::LatePolicy::kDeadLetter;
  config.late_max_ms = 60'000;
  config.late_topic = TopicId{2};
  DelayHarness harness(config);
  constexpr PartitionId kLate{TopicId{2}, PartitionIndex{0}};
  harness.open_partitions_of(TopicId{2}, 1);
  const auto receipts = harness.take_in({{"too late", 1000}, {"late", 100'000}});
  harness.advance_ms(100'000 + 50'000);
  harness.restart();
  harness.run_ms(10);
  CHECK(harness.values() == Values{"late"});
  CHECK(harness.values(kLate) == Values{"too late"});
  CHECK(harness.stats().delays_dead_lettered == 1);
  CHECK(harness.cancel(by_handle(kPartition, receipts[0])).outcome ==
        DelayOutcome::kAlreadyDelivered);
}

TEST_CASE("steps of the wall clock make nothing early and nothing late that is pending") {
  for (const int64_t step_ms : {int64_t{-30'000}, kDayMs, int64_t{-1}, int64_t{1}}) {
    CAPTURE(step_ms);
    DelayHarness harness;
    harness.take_in({{"after", 60'000}, {"at", harness.now.wall.ms + 60'000, true}});
    harness.run_ms(20'000);
    harness.now.wall.ms += step_ms;
    harness.run_ms(39'999);
    CHECK(harness.values().empty());
    harness.run_ms(1);
    CHECK(harness.values() == Values{"after", "at"});
    // What comes from now on means the wall clock as it is now.
    harness.take_in({{"next at", harness.now.wall.ms + 1000, true}, {"next after", 1000}});
    harness.run_ms(999);
    CHECK(harness.values().size() == 2);
    harness.run_ms(3);
    CHECK(harness.values().size() == 4);
  }
}

TEST_CASE("a wall clock that is set back over a restart does not set the log's time back") {
  DelayHarness harness;
  harness.take_in({{"a", 10}, {"b", 60'000}});
  harness.run_ms(30'000);
  const int64_t before = harness.core->views().log_time_ms();
  harness.now.wall.ms -= kDayMs;
  harness.restart();
  const auto produced = harness.produce(kPartition, testing::build_batch_of(1, 1));
  CHECK(produced.received_ms >= before);
  harness.run_ms(60'000);
  CHECK(harness.values() == Values{"a", "v", "b"});
}

TEST_CASE("a cron message fires once an occurrence when the wall clock is set back a little") {
  DelayHarness harness;
  harness.take_in({{"x", 0, false, "", false, 0, "*/10 * * * * *"}});
  harness.run_ms(25'000);
  CHECK(harness.values().size() == 2);
  harness.now.wall.ms -= 20;
  harness.run_ms(60'000);
  CHECK(harness.values().size() == 8);
  harness.now.wall.ms += 40;
  harness.run_ms(60'000);
  CHECK(harness.values().size() == 14);
}

TEST_CASE("a cron message goes on after a restart, what was missed comes once") {
  DelayHarness harness;
  harness.take_in({{"x", 0, false, "", false, 0, "0 * * * * *", "Europe/Berlin"}});
  harness.run_ms(180'000);
  CHECK(harness.values().size() == 3);
  harness.checkpoint();
  harness.advance_ms(3'600'000);
  harness.restart_from_checkpoint();
  harness.run_ms(1000);
  const size_t missed = harness.values().size() - 3;
  CHECK(missed >= 1);
  CHECK(missed <= 2);  // the occurrence that was pending and the one known behind it
  harness.run_ms(180'000);
  CHECK(harness.values().size() == 3 + missed + 3);
}

}  // namespace
}  // namespace tidemark::shard
