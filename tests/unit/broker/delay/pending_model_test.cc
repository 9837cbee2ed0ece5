// Random operations on PendingDelays against a plain model, with and without checkpoints and
// restarts.
#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/unit/broker/delay/delay_bench.h"

namespace tidemark::delay {
namespace {

using timerwheel::Key;

constexpr int64_t kNow = 1'700'000'000'000;
constexpr uint64_t kExtent = 16 * limits::kMiB;

// What PendingDelays promises, without wheel, store and counters.
class Model {
 public:
  struct Item {
    NewDelay delay;  // due and next of the present occurrence
    std::string key;
    bool waits = false;  // cron: no occurrence is known
    bool dropped = false;
  };

  int64_t effective(int64_t due_ms, uint64_t id) const {
    const Key key{static_cast<uint64_t>(std::max<int64_t>(due_ms, 0)), id};
    if (key > mark) {
      return static_cast<int64_t>(key.due);
    }
    return static_cast<int64_t>(Key{mark.due, id} > mark ? mark.due : mark.due + 1);
  }

  Item* find_key(PartitionId partition, std::string_view key) {
    for (auto& [id, item] : items) {
      if (!item.key.empty() && item.key == key && !item.dropped &&
          item.delay.tag.partition == partition) {
        return &item;
      }
    }
    return nullptr;
  }

  AddOutcome add(const NewDelay& delay) {
    if (Item* taken = find_key(delay.tag.partition, delay.key); !delay.key.empty() && taken) {
      if (!delay.replace) {
        return {true, 0};
      }
      end(taken->delay.id, DelayState::kCancelled);
    }
    Item item{delay, std::string(delay.key), false, false};
    item.delay.due_ms = effective(delay.due_ms, delay.id);
    item.delay.key = {};
    wheel[{static_cast<uint64_t>(item.delay.due_ms), delay.id}] = delay.position;
    states[delay.id] = DelayState::kPending;
    items[delay.id] = item;
    return {false, item.delay.due_ms};
  }

  void end(uint64_t id, DelayState state) {
    states[id] = state;
    items.erase(id);
  }

  ChangeOutcome outcome(uint64_t id) const {
    const auto it = states.find(id);
    if (it == states.end() || it->second == DelayState::kCancelled) {
      return ChangeOutcome::kNotFound;
    }
    return it->second == DelayState::kPending ? ChangeOutcome::kDone
                                              : ChangeOutcome::kAlreadyDelivered;
  }

  ChangeOutcome reschedule(uint64_t id, uint64_t new_id, int64_t& due_ms) {
    const ChangeOutcome change = outcome(id);
    if (change != ChangeOutcome::kDone) {
      return change;
    }
    Item moved = items.at(id);
    if (moved.delay.recurrence.has_value()) {
      return ChangeOutcome::kNotFound;
    }
    end(id, DelayState::kCancelled);
    moved.delay.id = new_id;
    moved.delay.due_ms = due_ms;
    moved.delay.key = moved.key;
    due_ms = add(moved.delay).due_ms;
    return change;
  }

  std::vector<uint64_t> take(int64_t now_ms, uint64_t until_id, uint32_t limit) {
    const Key until{static_cast<uint64_t>(now_ms), until_id};
    std::vector<uint64_t> due;
    if (until < mark) {
      return due;
    }
    std::vector<Key> popped;
    while (popped.size() < limit && !wheel.empty() && wheel.begin()->first <= until) {
      popped.push_back(wheel.begin()->first);
      wheel.erase(wheel.begin());
    }
    mark = popped.size() == limit ? popped.back() : until;
    for (const Key& key : popped) {
      const auto it = items.find(key.id);
      if (it == items.end()) {
        continue;
      }
      due.push_back(key.id);
      if (it->second.delay.recurrence.has_value()) {
        repeat(it->second, now_ms);
      } else {
        end(key.id, DelayState::kDelivered);
      }
    }
    return due;
  }

  void repeat(Item& item, int64_t now_ms) {
    NewDelay& delay = item.delay;
    int64_t next = delay.next_due_ms;
    if (delay.recurrence->kind == Recurrence::Kind::kEvery) {
      next = delay.due_ms + delay.recurrence->every_ms;
      while (next <= now_ms) {
        next += delay.recurrence->every_ms;
      }
    } else if (next == 0) {
      item.waits = true;
      return;
    }
    if (next < 0) {
      return end(delay.id, DelayState::kDelivered);
    }
    item.waits = false;
    delay.next_due_ms = 0;
    delay.due_ms = effective(next, delay.id);
    wheel[{static_cast<uint64_t>(delay.due_ms), delay.id}] = delay.position;
  }

  void set_next(uint64_t id, int64_t next_due_ms) {
    const auto it = items.find(id);
    if (it == items.end() || !it->second.delay.recurrence || it->second.delay.next_due_ms != 0) {
      return;
    }
    it->second.delay.next_due_ms = next_due_ms == 0 ? -1 : next_due_ms;
    if (it->second.waits) {
      repeat(it->second, static_cast<int64_t>(mark.due));
    }
  }

  void drop(TopicId topic) {
    for (auto it = items.begin(); it != items.end();) {
      Item& item = it->second;
      const uint64_t id = it->first;
      ++it;
      if (item.delay.tag.partition.topic != topic) {
        continue;
      }
      item.dropped = true;
      if (item.delay.recurrence.has_value()) {
        end(id, DelayState::kCancelled);
      }
    }
  }

  Key mark;
  std::map<uint64_t, Item> items;  // pending ones
  std::map<uint64_t, DelayState> states;
  std::map<Key, LogPosition> wheel;
};

// Counts and tables as the model has them.
void check_tables(const PendingDelays& delays, Model& model) {
  std::map<PartitionId, uint64_t> counts;
  std::map<PartitionId, uint64_t> bytes;
  std::map<PendingDelays::Bucket, uint64_t> buckets;
  size_t keyed = 0;
  size_t series = 0;
  std::set<uint64_t> want;
  for (const auto& [id, item] : model.items) {
    if (item.dropped) {
      continue;
    }
    const NewDelay& delay = item.delay;
    keyed += item.key.empty() ? 0 : 1;
    series += delay.recurrence.has_value() ? 1 : 0;
    if (delay.recurrence.has_value() && delay.recurrence->kind == Recurrence::Kind::kCron &&
        delay.next_due_ms == 0) {
      want.insert(id);
    }
    if (!item.waits) {
      ++counts[delay.tag.partition];
      bytes[delay.tag.partition] += delay.tag.bytes;
      ++buckets[{delay.tag.partition.topic, delay.due_ms / PendingDelays::kBucketMs}];
    }
    if (!item.key.empty()) {
      REQUIRE(delays.find_key(delay.tag.partition, item.key) != nullptr);
      REQUIRE(delays.find_key(delay.tag.partition, item.key)->id == id);
      REQUIRE(*delays.key_of(id) == item.key);
    }
  }
  REQUIRE(delays.pending_counts() == counts);
  for (const auto& [partition, sum] : bytes) {
    REQUIRE(delays.pending_bytes(partition) == sum);
  }
  REQUIRE(delays.buckets() == buckets);
  REQUIRE(delays.keyed() == keyed);
  REQUIRE(delays.series() == series);
  REQUIRE(delays.want_next() == want);
  REQUIRE(delays.wheel().size() == model.wheel.size());
  uint64_t low = std::numeric_limits<uint64_t>::max();
  uint64_t below = 0;
  const LogPosition middle{4 * kExtent};
  for (const auto& [key, position] : model.wheel) {
    low = std::min(low, position.value() / kExtent * kExtent);
    below += position < middle ? 1 : 0;
  }
  REQUIRE(delays.low_position() == LogPosition{low});
  REQUIRE(delays.entries_below(middle) == below);
}

// One that never stops, one that is checkpointed and restarted, and the model.
class Trial {
 public:
  explicit Trial(uint64_t seed) : random_(seed) {}

  void step() {
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2:
        return cancel();
      case 3:
      case 4:
        return reschedule();
      case 5:
      case 6:
      case 7:
        return take();
      case 8:
        return set_next();
      case 9:
        return random_.chance(1, 20) ? drop() : add();
      default:
        return add();
    }
  }

  void disturb() {
    const uint64_t choice = random_.below(24);
    if (choice < 2) {
      restarted_.fail_checkpoint(choice == 0);
    } else if (choice == 2) {
      restarted_.checkpoint();
    } else if (choice == 3) {
      restarted_.checkpoint();
      restarted_.restart();
    }
  }

  void check() {
    REQUIRE(restarted_.delays->hash() == straight_.delays->hash());
    REQUIRE(restarted_.delays->next_id() == next_id_);
    if (random_.chance(1, 20)) {
      check_tables(*straight_.delays, model_);
      check_tables(*restarted_.delays, model_);
    }
  }

 private:
  // `work` gives the same on both; returns it.
  template <typename Work>
  auto both(Work work) {
    const auto one = work(straight_);
    REQUIRE(work(restarted_) == one);
    return one;
  }

  uint64_t some_id() { return random_.between(1, next_id_ + 1); }

  // Names carry what a receipt said, which is not what became of a series since.
  DelayName name(uint64_t id) {
    const auto it = receipts_.find(id);
    return it == receipts_.end() ? DelayName{id, kNow, TopicId{1}, 100} : it->second;
  }

  void add() {
    NewDelay delay;
    delay.id = next_id_++;
    const int64_t spread = random_.chance(1, 8) ? 500'000'000 : 2000;
    delay.due_ms =
        now_ms_ - 100 + static_cast<int64_t>(random_.below(static_cast<uint64_t>(spread)));
    delay.position = LogPosition{random_.below(8 * kExtent)};
    delay.tag.partition = {TopicId{topic_ + static_cast<uint32_t>(random_.below(2))},
                           PartitionIndex{static_cast<uint32_t>(random_.below(2))}};
    delay.tag.bytes = static_cast<uint32_t>(random_.between(1, 1000));
    const std::string key = random_.chance(1, 4) ? "k" + std::to_string(random_.below(6)) : "";
    delay.key = key;
    delay.replace = random_.chance(1, 2);
    if (random_.chance(1, 6)) {
      const bool cron = random_.chance(1, 2);
      delay.recurrence = Recurrence{cron ? Recurrence::Kind::kCron : Recurrence::Kind::kEvery,
                                    cron ? 0 : static_cast<int64_t>(random_.between(1000, 5000)),
                                    cron ? "0 0 * * * *" : "", ""};
      delay.next_due_ms =
          cron ? (random_.chance(1, 4) ? -1 : std::max(delay.due_ms, now_ms_) + 500) : 0;
    }
    delay.tag.special = !key.empty() || delay.recurrence.has_value();
    const AddOutcome expected = model_.add(delay);
    for (DelayBench* bench : {&straight_, &restarted_}) {
      const AddOutcome outcome = bench->delays->add(delay);
      REQUIRE(outcome.key_taken == expected.key_taken);
      REQUIRE(outcome.due_ms == expected.due_ms);
    }
    receipts_[delay.id] = {delay.id, expected.due_ms, delay.tag.partition.topic, delay.tag.low()};
  }

  // A message of a topic that is gone is not asked for any more.
  bool dropped(uint64_t id) {
    const auto it = model_.items.find(id);
    return it != model_.items.end() && it->second.dropped;
  }

  void cancel() {
    const uint64_t id = some_id();
    if (dropped(id)) {
      return;
    }
    const ChangeOutcome expected = model_.outcome(id);
    REQUIRE(both([&](DelayBench& bench) { return bench.delays->cancel(name(id)); }) == expected);
    if (expected == ChangeOutcome::kDone) {
      model_.end(id, DelayState::kCancelled);
    }
  }

  void reschedule() {
    const uint64_t id = some_id();
    if (dropped(id)) {
      return;
    }
    const uint64_t new_id = next_id_++;
    const int64_t asked = now_ms_ - 200 + static_cast<int64_t>(random_.below(3000));
    const auto it = model_.items.find(id);
    const LogPosition position =
        it == model_.items.end() ? LogPosition{} : it->second.delay.position;
    int64_t due_ms = asked;
    const ChangeOutcome expected = model_.reschedule(id, new_id, due_ms);
    REQUIRE(both([&](DelayBench& bench) {
              int64_t effective = asked;
              const ChangeOutcome change =
                  bench.delays->reschedule(name(id), position, new_id, effective);
              REQUIRE(effective == due_ms);
              return change;
            }) == expected);
    if (expected == ChangeOutcome::kDone) {
      DelayName moved = name(id);
      moved.id = new_id;
      moved.due_ms = due_ms;
      receipts_[new_id] = moved;
    }
  }

  void take() {
    now_ms_ += static_cast<int64_t>(random_.below(random_.chance(1, 20) ? 20'000 : 300));
    const uint64_t until = random_.chance(1, 4) ? some_id() : UINT64_MAX;
    const auto limit = static_cast<uint32_t>(random_.between(1, 30));
    const std::vector<uint64_t> expected = model_.take(now_ms_, until, limit);
    REQUIRE(both([&](DelayBench& bench) { return ids_of(bench.take(now_ms_, until, limit)); }) ==
            expected);
    for (const uint64_t id : expected) {
      REQUIRE(straight_.delays->state(id) == model_.states.at(id));
    }
  }

  void set_next() {
    const auto& want = straight_.delays->want_next();
    const uint64_t id = want.empty() || random_.chance(1, 8) ? some_id() : *want.begin();
    const int64_t next =
        random_.chance(1, 5) ? 0 : now_ms_ + static_cast<int64_t>(random_.below(3000)) - 500;
    model_.set_next(id, next);
    straight_.delays->set_next(id, next);
    restarted_.delays->set_next(id, next);
  }

  void drop() {
    const TopicId topic{topic_++};
    model_.drop(topic);
    for (uint32_t index = 0; index < 2; ++index) {
      straight_.delays->drop_partition({topic, PartitionIndex{index}});
      restarted_.delays->drop_partition({topic, PartitionIndex{index}});
    }
  }

  Random random_;
  int64_t now_ms_ = kNow;
  uint64_t next_id_ = 1;
  uint32_t topic_ = 1;
  Model model_;
  DelayBench straight_;
  DelayBench restarted_{{.memory_entries_max = 40, .chunk_entries_max = 8, .lookahead = 400}};
  std::map<uint64_t, DelayName> receipts_;
};

TEST_CASE("delays: as a plain model, and equal when checkpointed, failed and restarted anywhere") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    Trial trial(seed);
    for (int i = 0; i < 1500; ++i) {
      CAPTURE(i);
      trial.step();
      trial.disturb();
      trial.check();
    }
  }
}

}  // namespace
}  // namespace tidemark::delay
