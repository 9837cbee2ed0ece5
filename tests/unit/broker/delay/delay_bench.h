// PendingDelays with a store, for tests: loads what is due, checkpoints, restarts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/delay/kv_slot_store.h"
#include "broker/delay/pending_delays.h"
#include "broker/kv/memory_store.h"

namespace tidemark::delay {

class DelayBench {
 public:
  static constexpr uint64_t kAllIds = UINT64_MAX;

  explicit DelayBench(timerwheel::TieredOptions wheel = {})
      : options(wheel), delays(std::make_unique<PendingDelays>(wheel)) {}

  // What Views::reach() does.
  void reach(timerwheel::Key until) {
    timerwheel::TieredWheel& wheel = delays->wheel();
    while (wheel.horizon() <= until) {
      std::optional<timerwheel::TieredWheel::LoadPlan> plan = wheel.plan_load(until.due, true);
      if (!plan.has_value()) {
        continue;
      }
      const auto view = std::move(store.read()).value();
      KvSlotStore slots(*view, nullptr);
      REQUIRE(plan->run(slots) == std::nullopt);
      REQUIRE(PendingDelays::patch(*view, plan->loaded()).ok());
      wheel.finish_load(*plan);
    }
  }

  std::vector<DueDelay> take(int64_t now_ms, uint64_t until_id = kAllIds, uint32_t limit = 8192) {
    reach({static_cast<timerwheel::Tick>(now_ms), until_id});
    std::vector<DueDelay> due;
    delays->take_due(now_ms, until_id, limit, due);
    delays->wheel().check_invariants();
    return due;
  }

  void checkpoint() {
    kv::WriteBatch batch;
    delays->freeze(batch);
    timerwheel::TieredWheel::Spill spill = delays->wheel().freeze();
    write(spill, batch);
    REQUIRE(store.commit(batch).ok());
    delays->commit_done();
    delays->wheel().spill_done(spill);
    delays->wheel().check_invariants();
  }

  // `written`: the worker came as far as that before the commit failed.
  void fail_checkpoint(bool written) {
    kv::WriteBatch batch;
    delays->freeze(batch);
    timerwheel::TieredWheel::Spill spill = delays->wheel().freeze();
    if (written) {
      write(spill, batch);
    }
    delays->commit_failed();
    delays->wheel().spill_failed(spill);
    delays->wheel().check_invariants();
  }

  // What was not checkpointed is lost.
  void restart() {
    delays = std::make_unique<PendingDelays>(options);
    const Status loaded = delays->load(*store.read().value());
    REQUIRE_MESSAGE(loaded.ok(), loaded.to_string());
    delays->wheel().check_invariants();
  }

  timerwheel::TieredOptions options;
  kv::MemoryStore store;
  std::unique_ptr<PendingDelays> delays;

 private:
  void write(timerwheel::TieredWheel::Spill& spill, kv::WriteBatch& batch) {
    const auto view = std::move(store.read()).value();
    KvSlotStore slots(*view, &batch);
    REQUIRE(spill.write(slots) == std::nullopt);
  }
};

inline constexpr PartitionId kDelayPartition{TopicId{1}, PartitionIndex{0}};

// A message of 100 bytes whose batch lies at 1000 * id.
inline NewDelay new_delay(uint64_t id, int64_t due_ms, std::string_view key = {}) {
  NewDelay delay;
  delay.id = id;
  delay.due_ms = due_ms;
  delay.position = LogPosition{1000 * id};
  delay.tag = {kDelayPartition, !key.empty(), 100};
  delay.key = key;
  return delay;
}

inline NewDelay every_delay(uint64_t id, int64_t due_ms, int64_t every_ms,
                            std::string_view key = {}) {
  NewDelay delay = new_delay(id, due_ms, key);
  delay.tag.special = true;
  delay.recurrence = Recurrence{Recurrence::Kind::kEvery, every_ms, "", ""};
  return delay;
}

// `next_due_ms`: 0 is not known yet, -1 there is none.
inline NewDelay cron_delay(uint64_t id, int64_t due_ms, int64_t next_due_ms,
                           std::string_view key = {}) {
  NewDelay delay = new_delay(id, due_ms, key);
  delay.tag.special = true;
  delay.recurrence = Recurrence{Recurrence::Kind::kCron, 0, "* * * * * *", "Europe/Berlin"};
  delay.next_due_ms = next_due_ms;
  return delay;
}

// As the receipt of `delay` names it.
inline DelayName name_of(const NewDelay& delay) {
  return {delay.id, delay.due_ms, delay.tag.partition.topic, delay.tag.low()};
}

inline std::vector<uint64_t> ids_of(const std::vector<DueDelay>& due) {
  std::vector<uint64_t> ids;
  ids.reserve(due.size());
  for (const DueDelay& each : due) {
    ids.push_back(each.id);
  }
  return ids;
}

}  // namespace tidemark::delay
