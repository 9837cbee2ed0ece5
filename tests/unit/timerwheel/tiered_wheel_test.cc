#include "timerwheel/tiered_wheel.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/memory_slot_store.h"
#include "tests/support/split_mix.h"
#include "tests/support/wheel_scale.h"

namespace tidemark::timerwheel {
namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();
constexpr Tick kStart = 1'700'000'000'000;

Entry entry_of(Key key) { return {key.due, key.id, key.due * 31 + key.id, key.id % 5}; }

void spill(TieredWheel& wheel, MemorySlotStore& store) {
  TieredWheel::Spill spill = wheel.freeze();
  REQUIRE(spill.write(store) == std::nullopt);
  wheel.spill_done(spill);
  wheel.check_invariants();
}

// Loads and, where that needs it, splits, until the horizon is beyond `until`.
void load(TieredWheel& wheel, MemorySlotStore& store, Tick now, Key until) {
  for (int round = 0; wheel.horizon() <= until; ++round) {
    REQUIRE(round < 10'000);
    if (std::optional<TieredWheel::LoadPlan> plan = wheel.plan_load(now)) {
      REQUIRE(plan->run(store) == std::nullopt);
      wheel.finish_load(*plan);
    } else if (wheel.wants_split()) {
      spill(wheel, store);
    } else {
      break;
    }
  }
}

// Pops all up to `until`, loading as needed.
std::vector<Entry> pop_all(TieredWheel& wheel, MemorySlotStore& store, Key until,
                           size_t limit = kAll) {
  std::vector<Entry> out;
  while (wheel.watermark() < until) {
    load(wheel, store, until.due, until);
    const Key reach = std::min(until, previous_key(wheel.horizon()));
    while (!wheel.pop(reach, limit, out)) {
    }
  }
  return out;
}

bool is(const std::vector<Entry>& entries, const std::set<Key>& keys) {
  return std::equal(entries.begin(), entries.end(), keys.begin(), keys.end(),
                    [](const Entry& entry, const Key& key) { return entry == entry_of(key); });
}

}  // namespace

TEST_CASE("tiered wheel: without a store it is a wheel") {
  TieredWheel wheel({kStart, 0});
  CHECK(wheel.plan_load(kStart) == std::nullopt);
  CHECK(wheel.horizon().due > kStart + 60'000);
  wheel.add(entry_of({kStart + 5, 2}));
  wheel.add(entry_of({kStart + 5, 1}));
  wheel.add(entry_of({kStart + 500'000, 1}));
  CHECK(wheel.size() == 3);
  CHECK(wheel.memory_entries() == 3);
  CHECK(wheel.unspilled_entries() == 3);
  CHECK(wheel.next_due() == kStart + 5);
  std::vector<Entry> out;
  CHECK_FALSE(wheel.pop({kStart + 10, 0}, 1, out));
  CHECK(wheel.watermark() == Key{kStart + 5, 1});
  CHECK(wheel.pop({kStart + 10, 0}, 2, out));
  CHECK(wheel.watermark() == Key{kStart + 10, 0});
  CHECK(out == std::vector<Entry>{entry_of({kStart + 5, 1}), entry_of({kStart + 5, 2})});
  CHECK(wheel.next_due() == std::nullopt);
  CHECK(wheel.size() == 1);
  CHECK(wheel.plan_load(kStart + 500'000) == std::nullopt);
  CHECK(wheel.next_due() == kStart + 500'000);
  wheel.check_invariants();
}

TEST_CASE("tiered wheel: the far part leaves memory and comes back") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0}, {.lookahead = 1000});
  std::set<Key> model;
  SplitMix random(1);
  for (uint64_t id = 0; id < 20'000; ++id) {
    const Key key{kStart + 1 + random.below(604'800'000), id};
    model.insert(key);
    wheel.add(entry_of(key));
  }
  CHECK(wheel.plan_load(kStart) == std::nullopt);
  spill(wheel, store);
  CHECK(wheel.unspilled_entries() == 0);
  CHECK(wheel.memory_entries() < 100);
  CHECK(store.entries() == 20'000);
  CHECK(wheel.size() == 20'000);
  CHECK(is(pop_all(wheel, store, last_key(kStart + 604'800'000), 100), model));
  CHECK(wheel.size() == 0);
  spill(wheel, store);
  CHECK(wheel.memory_entries() == 0);
}

TEST_CASE("tiered wheel: slots wholly below the watermark are dropped") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0});
  for (uint64_t id = 0; id < 1000; ++id) {
    wheel.add(entry_of({kStart + 1 + id * 1000, id}));
  }
  spill(wheel, store);
  CHECK(store.entries() == 1000);
  CHECK(pop_all(wheel, store, last_key(kStart + 900'000)).size() == 900);
  spill(wheel, store);
  CHECK(store.entries() < 250);
  CHECK(pop_all(wheel, store, last_key(kStart + 100'000'000)).size() == 100);
  spill(wheel, store);
  CHECK(store.entries() == 0);
  CHECK(store.slots().empty());
}

TEST_CASE("tiered wheel: a slot too big for memory is split until it fits") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0}, {.memory_entries_max = 500,
                                  .chunk_entries_max = 64,
                                  .lookahead = 1000,
                                  .split_entries_max = 1000});
  std::set<Key> model;
  SplitMix random(2);
  for (uint64_t id = 0; id < 20'000; ++id) {
    const Key key{kStart + 20'000'000 + random.below(20'000'000), id};
    model.insert(key);
    wheel.add(entry_of(key));
  }
  spill(wheel, store);
  CHECK(wheel.memory_entries() == 0);
  std::vector<Entry> out;
  size_t most = 0;
  for (Tick now = kStart; now < kStart + 40'000'000; now += 50'000) {
    load(wheel, store, now, last_key(now));
    most = std::max(most, wheel.memory_entries());
    while (!wheel.pop(std::min(last_key(now), previous_key(wheel.horizon())), 100, out)) {
    }
    if (wheel.watermark() < last_key(now)) {
      now -= 50'000;
    }
  }
  const std::vector<Entry> rest = pop_all(wheel, store, last_key(kStart + 40'000'000));
  out.insert(out.end(), rest.begin(), rest.end());
  CHECK(is(out, model));
  CHECK(most <= 500);
}

TEST_CASE("tiered wheel: a slot that is being split is not filled again by what is added") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0}, {.memory_entries_max = 100,
                                  .chunk_entries_max = 64,
                                  .lookahead = 100'000'000,
                                  .split_entries_max = 1000});
  // The watermark stays behind, so by its distance alone all of this slot belongs into level 3.
  const Tick begin = ((kStart >> 24) + 3) << 24;
  std::set<Key> model;
  uint64_t id = 0;
  const auto add = [&](Tick due) {
    model.insert({due, id});
    wheel.add(entry_of({due, id++}));
  };
  for (Tick i = 0; i < 4000; ++i) {
    add(begin + 60'000 + i * 20);
  }
  spill(wheel, store);
  int spills = 0;
  while (wheel.next_due() != begin + 60'000) {
    if (std::optional<TieredWheel::LoadPlan> plan = wheel.plan_load(kStart)) {
      REQUIRE(plan->run(store) == std::nullopt);
      wheel.finish_load(*plan);
    } else if (wheel.wants_split()) {
      add(begin + 10'000'000);
      spill(wheel, store);
      ++spills;
    }
    REQUIRE(spills < 20);
  }
  // Each level of splitting takes no more spills than it has thousands of entries, and one.
  CHECK(spills <= 10);
  CHECK(is(pop_all(wheel, store, last_key(begin + 10'000'000)), model));
}

TEST_CASE("tiered wheel: a tick too big for memory is loaded in parts") {
  MemorySlotStore store;
  const Tick due = kStart + 100'000'000;
  TieredWheel wheel({kStart, 0}, {.memory_entries_max = 1000, .chunk_entries_max = 64});
  std::set<Key> model;
  SplitMix random(3);
  for (int i = 0; i < 10'000; ++i) {
    const Key key{due, random.next()};
    model.insert(key);
    wheel.add(entry_of(key));
    if (i % 3000 == 0) {
      spill(wheel, store);
    }
  }
  spill(wheel, store);
  std::vector<Entry> out;
  size_t most = 0;
  while (wheel.watermark() < last_key(due)) {
    load(wheel, store, due, last_key(due));
    most = std::max(most, wheel.memory_entries());
    const Key until = std::min(last_key(due), previous_key(wheel.horizon()));
    CHECK((wheel.pop(until, kAll, out) || !out.empty()));
    wheel.check_invariants();
  }
  CHECK(is(out, model));
  CHECK(most <= 1000);
}

TEST_CASE("tiered wheel: a near part that has grown is cut back by a spill") {
  MemorySlotStore store;
  for (const Tick span : {Tick{1}, Tick{50'000}}) {
    TieredWheel wheel({kStart, 0}, {.memory_entries_max = 1000, .chunk_entries_max = 64});
    CHECK(wheel.plan_load(kStart) == std::nullopt);
    std::set<Key> model;
    SplitMix random(4);
    const auto add = [&](int count) {
      for (int i = 0; i < count; ++i) {
        const Key key{kStart + 10 + random.below(span), random.next()};
        model.insert(key);
        wheel.add(entry_of(key));
      }
    };
    add(3000);
    CHECK(wheel.memory_entries() == 3000);
    TieredWheel::Spill spill = wheel.freeze();
    add(500);
    REQUIRE(spill.write(store) == std::nullopt);
    wheel.spill_done(spill);
    wheel.check_invariants();
    CHECK(wheel.memory_entries() < 1300);
    CHECK(wheel.unspilled_entries() == 500);
    CHECK(wheel.size() == 3500);
    CHECK(is(pop_all(wheel, store, last_key(kStart + 60'000)), model));
    store = {};
  }
}

TEST_CASE("tiered wheel: a spill keeps what is about to be popped") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0}, {.memory_entries_max = 10, .chunk_entries_max = 64});
  CHECK(wheel.plan_load(kStart) == std::nullopt);
  for (uint64_t i = 0; i < 100; ++i) {
    wheel.add(entry_of({kStart + 10 + i, i + 1}));
  }
  const Key until = last_key(kStart + 50);
  TieredWheel::Spill spill = wheel.freeze();
  REQUIRE(spill.write(store) == std::nullopt);
  wheel.spill_done(spill, until);
  wheel.check_invariants();
  CHECK(wheel.horizon() == next_key(until));
  std::vector<Entry> out;
  CHECK(wheel.pop(until, kAll, out));
  CHECK(out.size() == 41);
}

TEST_CASE("tiered wheel: a failed spill and a failed load lose nothing") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0}, {.memory_entries_max = 100, .chunk_entries_max = 10});
  std::set<Key> model;
  const auto add = [&](Key key) {
    model.insert(key);
    wheel.add(entry_of(key));
  };
  for (uint64_t id = 0; id < 300; ++id) {
    add({kStart + 1 + id * 2000, id});
  }
  const MemorySlotStore before = store;
  TieredWheel::Spill failing = wheel.freeze();
  CHECK(wheel.unspilled_entries() == 300);
  REQUIRE(failing.write(store) == std::nullopt);
  store = before;
  add({kStart + 7, 1000});
  wheel.spill_failed(failing);
  wheel.check_invariants();
  CHECK(wheel.unspilled_entries() == 301);
  spill(wheel, store);

  std::optional<TieredWheel::LoadPlan> plan = wheel.plan_load(kStart);
  while (!plan && wheel.wants_split()) {
    store.fail_read_after(1);
    TieredWheel::Spill split = wheel.freeze();
    const Failure failure = split.write(store);
    CHECK(failure == "the disk is gone");
    wheel.spill_failed(split);
    CHECK(wheel.wants_split());
    spill(wheel, store);
    plan = wheel.plan_load(kStart);
  }
  REQUIRE(plan);
  store.fail_read_after(0);
  CHECK(plan->run(store) == "the disk is gone");
  REQUIRE(plan->run(store) == std::nullopt);
  wheel.finish_load(*plan);
  CHECK(is(pop_all(wheel, store, last_key(kStart + 600'000)), model));
}

TEST_CASE("tiered wheel: damage in the store and a missing chunk are told, not skipped") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0}, {.chunk_entries_max = 10});
  for (uint64_t id = 0; id < 100; ++id) {
    wheel.add(entry_of({kStart + 10'000'000, id}));
  }
  spill(wheel, store);
  std::optional<TieredWheel::LoadPlan> plan;
  for (Tick now = kStart; !plan; now += 10'000) {
    plan = wheel.plan_load(now);
  }
  const MemorySlotStore whole = store;
  auto& chunks = store.slots().begin()->second;
  std::string& bytes = chunks.begin()->second.bytes;
  bytes[30] = static_cast<char>(bytes[30] ^ 1);
  CHECK(plan->run(store) == "packed chunk: checksum mismatch");
  chunks.erase(chunks.begin());
  const Failure missing = plan->run(store);
  REQUIRE(missing);
  CHECK(missing->find("has 90 entries, not 100") != std::string::npos);
  store = whole;
  REQUIRE(plan->run(store) == std::nullopt);
  wheel.finish_load(*plan);
  CHECK(wheel.memory_entries() == 100);
}

TEST_CASE("tiered wheel: damage in a slot to be split, or none of its chunks, fails the spill") {
  MemorySlotStore store;
  TieredWheel wheel({kStart, 0}, {.memory_entries_max = 100, .chunk_entries_max = 10});
  std::set<Key> model;
  for (uint64_t id = 0; id < 300; ++id) {
    model.insert({kStart + 100'000 + id, id});
    wheel.add(entry_of({kStart + 100'000 + id, id}));
  }
  spill(wheel, store);
  for (Tick now = kStart; !wheel.wants_split(); now += 1'000) {
    REQUIRE(now < kStart + 100'000);
    REQUIRE_FALSE(wheel.plan_load(now));
  }
  const MemorySlotStore whole = store;
  const auto expect = [&](const std::string& why) {
    TieredWheel::Spill split = wheel.freeze();
    const Failure failure = split.write(store);
    REQUIRE(failure);
    CHECK_MESSAGE(failure->find(why) != std::string::npos, *failure);
    wheel.spill_failed(split);
    wheel.check_invariants();
    CHECK(wheel.wants_split());
    store = whole;
  };
  for (auto& [slot, chunks] : store.slots()) {
    std::string& bytes = chunks.begin()->second.bytes;
    bytes[30] = static_cast<char>(bytes[30] ^ 1);
  }
  expect("packed chunk: checksum mismatch");
  store.slots().clear();
  expect("is to be split, but the store has no chunk of it");
  CHECK(wheel.size() == 300);
  CHECK(is(pop_all(wheel, store, last_key(kStart + 200'000)), model));
}

TEST_CASE("tiered wheel: what no spill has seen is forgotten once it was popped") {
  TieredWheel wheel({kStart, 0}, {.lookahead = 1 << 20});
  CHECK(wheel.plan_load(kStart) == std::nullopt);
  std::vector<Entry> out;
  uint64_t id = 0;
  for (Tick round = 1; round <= 20; ++round) {
    for (int i = 0; i < 2'000; ++i) {
      wheel.add(entry_of({kStart + round * 10, ++id}));
    }
    CHECK(wheel.pop(last_key(kStart + round * 10), kAll, out));
    CHECK(wheel.unspilled_entries() <= 10'000);
  }
  CHECK(out.size() == 40'000);
  CHECK(wheel.size() == 0);
  wheel.check_invariants();
}

TEST_CASE("tiered wheel: after a restart the store and the watermark say what is pending") {
  MemorySlotStore store;
  std::set<Key> model;
  Key watermark;
  uint64_t size = 0;
  {
    TieredWheel wheel({kStart, 0});
    CHECK(wheel.plan_load(kStart) == std::nullopt);
    for (uint64_t id = 0; id < 1000; ++id) {
      const Key key{kStart + 1 + id * 777, id};
      model.insert(key);
      wheel.add(entry_of(key));
    }
    std::vector<Entry> out;
    spill(wheel, store);
    CHECK(wheel.pop({kStart + 30'000, 0}, kAll, out));
    for (const Entry& entry : out) {
      model.erase(entry.key());
    }
    watermark = wheel.watermark();
    size = wheel.size();
  }
  TieredWheel wheel(watermark);
  for (const auto& [slot, chunks] : store.slots()) {
    for (const auto& [sequence, chunk] : chunks) {
      wheel.adopt(slot, sequence, chunk.entries);
    }
  }
  CHECK(wheel.size() == 1000);
  wheel.set_size(size);
  CHECK(wheel.size() == model.size());
  CHECK(is(pop_all(wheel, store, last_key(kStart + 1'000'000)), model));
  CHECK(wheel.size() == 0);
}

namespace {

// One random life of a wheel on a store, beside a std::set, with spills that fail and restarts.
class TieredLife {
 public:
  explicit TieredLife(uint64_t seed)
      : random_(seed),
        options_{.memory_entries_max = 1 + random_.below(random_.chance(1, 2) ? 20 : 2000),
                 .chunk_entries_max = 1 + random_.below(random_.chance(1, 2) ? 8 : 300),
                 .lookahead = random_.below(random_.chance(1, 2) ? 10 : 100'000),
                 .split_entries_max = 20 + random_.below(random_.chance(1, 2) ? 50 : 5000)},
        now_(random_.chance(1, 8) ? 0 : kStart + random_.below(100'000'000)),
        checkpoint_{{now_, 0}, {}},
        wheel_(std::make_unique<TieredWheel>(checkpoint_.watermark, options_)) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      const uint64_t what = random_.below(100);
      if (what < 40) {
        add_some();
      } else if (what < 80) {
        pop_some();
      } else if (what < 88) {
        step_load();
      } else if (what < 98) {
        step_spill();
      } else if (!spill_) {
        restart();
      }
      check();
    }
    end_spill();
    // Restored once more, everything comes out.
    restart();
    draining_ = true;
    for (int i = 0; !model_.empty(); ++i) {
      REQUIRE(i < 1'000'000);
      now_ = std::max(now_, model_.begin()->due);
      pop_to(last_key(now_), kAll);
      step_load();
      if (wheel_->wants_split()) {
        step_spill();
        end_spill();
      }
    }
    check();
  }

 private:
  struct Pop {
    Key until;
    size_t limit;
  };

  struct Checkpoint {
    Key watermark;
    std::set<Key> pending;
  };

  Tick some_distance() {
    const uint64_t bits = random_.chance(1, 20) ? random_.below(45) : random_.below(28);
    return random_.next() & ((uint64_t{1} << bits) - 1);
  }

  void add_some() {
    const uint64_t count = random_.chance(1, 30) ? random_.below(400) : random_.below(8);
    const bool ascending = random_.chance(1, 2);
    const uint64_t kind = random_.below(3);
    const Tick base = now_ + some_distance();
    for (uint64_t i = 0; i < count; ++i) {
      const Tick due = kind == 0   ? base
                       : kind == 1 ? base + random_.below(1000)
                                   : now_ + some_distance();
      const Key key{due, ascending ? next_id_++ : random_.next() >> 20};
      if (key > wheel_->watermark() && model_.insert(key).second) {
        wheel_->add(entry_of(key));
        journal_.emplace_back(entry_of(key));
      }
    }
  }

  void pop_some() {
    if (random_.chance(1, 10)) {
      now_ += some_distance();
    } else if (random_.chance(1, 3) && !model_.empty() && model_.begin()->due - now_ < 1U << 30) {
      now_ = std::max(now_, model_.begin()->due);
    }
    Key until = random_.chance(1, 2) ? last_key(now_) : Key{now_, random_.next() >> 20};
    pop_to(until, random_.chance(1, 3) ? 1 + random_.below(5) : 1 + random_.below(1000));
  }

  void pop_to(Key until, size_t limit) {
    until = std::min(until, previous_key(wheel_->horizon()));
    if (until < wheel_->watermark()) {
      return;
    }
    journal_.emplace_back(Pop{until, limit});
    out_.clear();
    const bool done = wheel_->pop(until, limit, out_);
    auto expected = model_.begin();
    bool same = done == (out_.size() < limit);
    for (const Entry& entry : out_) {
      same = same && expected != model_.end() && entry == entry_of(*expected);
      ++expected;
    }
    same = same && (!done || expected == model_.end() || *expected > until);
    REQUIRE(same);
    REQUIRE(wheel_->watermark() == (done ? until : out_.back().key()));
    model_.erase(model_.begin(), expected);
  }

  void step_load() {
    if (spill_) {
      return;
    }
    if (std::optional<TieredWheel::LoadPlan> plan = wheel_->plan_load(now_)) {
      if (random_.chance(1, 10)) {
        store_.fail_read_after(random_.below(3));
      }
      if (Failure failure = plan->run(store_)) {
        REQUIRE(failure == "the disk is gone");
        return;
      }
      store_.fail_read_after(kAll);
      // It is used while the load is under way.
      if (!draining_ && random_.chance(1, 2)) {
        add_some();
        pop_some();
      }
      wheel_->finish_load(*plan);
    }
  }

  void step_spill() {
    if (spill_) {
      end_spill();
      return;
    }
    before_ = store_;
    frozen_ = {wheel_->watermark(), model_};
    journal_at_freeze_ = journal_.size();
    spill_ = wheel_->freeze();
  }

  void end_spill() {
    if (!spill_) {
      return;
    }
    const bool partly = random_.chance(1, 8);
    if (partly) {
      store_.fail_read_after(random_.below(3));
    }
    const Failure failure = spill_->write(store_);
    store_.fail_read_after(kAll);
    if (failure || random_.chance(1, 4)) {
      store_ = before_;
      wheel_->spill_failed(*spill_);
    } else {
      wheel_->spill_done(*spill_);
      checkpoint_ = frozen_;
      journal_.erase(journal_.begin(),
                     journal_.begin() + static_cast<ptrdiff_t>(journal_at_freeze_));
    }
    spill_.reset();
  }

  // A crash: what the last spill that succeeded left, and then everything since, again.
  void restart() {
    store_.restart();
    wheel_ = std::make_unique<TieredWheel>(checkpoint_.watermark, options_);
    for (const auto& [slot, chunks] : store_.slots()) {
      for (const auto& [sequence, chunk] : chunks) {
        wheel_->adopt(slot, sequence, chunk.entries);
      }
    }
    wheel_->set_size(checkpoint_.pending.size());
    const std::set<Key> now_pending = std::exchange(model_, checkpoint_.pending);
    const auto journal = std::exchange(journal_, {});
    for (const auto& event : journal) {
      if (const Entry* entry = std::get_if<Entry>(&event)) {
        wheel_->add(*entry);
        model_.insert(entry->key());
        journal_.push_back(*entry);
        continue;
      }
      const Pop pop = std::get<Pop>(event);
      replay(pop);
    }
    REQUIRE(model_ == now_pending);
  }

  // A pop up to beyond the horizon is done in parts, as memory has room.
  void replay(Pop pop) {
    size_t left = pop.limit;
    for (int round = 0;; ++round) {
      REQUIRE(round < 100'000);
      const Key reach = std::min(pop.until, previous_key(wheel_->horizon()));
      if (reach >= wheel_->watermark()) {
        const size_t before = model_.size();
        pop_to(reach, left);
        left -= before - model_.size();
      }
      if (left == 0 || wheel_->watermark() >= pop.until) {
        return;
      }
      if (std::optional<TieredWheel::LoadPlan> plan = wheel_->plan_load(pop.until.due + 1)) {
        REQUIRE(plan->run(store_) == std::nullopt);
        wheel_->finish_load(*plan);
      } else if (wheel_->wants_split()) {
        TieredWheel::Spill split = wheel_->freeze();
        REQUIRE(split.write(store_) == std::nullopt);
        wheel_->spill_done(split);
        checkpoint_ = {wheel_->watermark(), model_};
        journal_.clear();
      }
    }
  }

  void check() {
    wheel_->check_invariants();
    REQUIRE(wheel_->size() == model_.size());
    const Tick next = model_.empty() ? kDueEnd : model_.begin()->due;
    const bool in_reach = !model_.empty() && *model_.begin() < wheel_->horizon();
    REQUIRE(wheel_->next_due() == (in_reach ? std::optional<Tick>(next) : std::nullopt));
  }

  SplitMix random_;
  bool draining_ = false;
  TieredOptions options_;
  Tick now_;
  uint64_t next_id_ = 1;
  MemorySlotStore store_;
  MemorySlotStore before_;
  std::set<Key> model_;
  Checkpoint checkpoint_;
  Checkpoint frozen_;
  // What happened since the checkpoint.
  std::vector<std::variant<Entry, Pop>> journal_;
  size_t journal_at_freeze_ = 0;
  std::unique_ptr<TieredWheel> wheel_;
  std::optional<TieredWheel::Spill> spill_;
  std::vector<Entry> out_;
};

}  // namespace

TEST_CASE("tiered wheel: random lives with spills, splits, failures and restarts") {
  for (uint64_t seed = 1; seed <= 100 * wheel_scale(); ++seed) {
    CAPTURE(seed);
    TieredLife(seed).run(400);
  }
}

}  // namespace tidemark::timerwheel
