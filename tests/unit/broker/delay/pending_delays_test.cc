#include "broker/delay/pending_delays.h"

#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/delay/kv_slot_store.h"
#include "broker/kv/memory_store.h"
#include "broker/partition/stored_value.h"
#include "log/base/coding.h"
#include "tests/unit/broker/delay/delay_bench.h"

namespace tidemark::delay {
namespace {

using Ids = std::vector<uint64_t>;

constexpr int64_t kNow = 1'700'000'000'000;
constexpr int64_t kBucketMs = PendingDelays::kBucketMs;
constexpr LogPosition kNoPosition{std::numeric_limits<uint64_t>::max()};

TEST_CASE("delays: taken in the order of (due, id), none before its time, each once") {
  DelayBench bench;
  for (const auto& [id, after] : std::vector<std::pair<uint64_t, int64_t>>{
           {1, 30}, {2, 10}, {3, 30}, {4, 20}, {5, 10}, {6, 10'000'000}}) {
    CHECK(bench.delays->add(new_delay(id, kNow + after)).due_ms == kNow + after);
  }
  CHECK(bench.take(kNow + 9).empty());
  const std::vector<DueDelay> first = bench.take(kNow + 20);
  CHECK(ids_of(first) == Ids{2, 5, 4});
  CHECK(first[0].due_ms == kNow + 10);
  CHECK(first[0].position == LogPosition{2000});
  CHECK(first[0].tag.partition == kDelayPartition);
  CHECK(first[0].tag.bytes == 100);
  CHECK_FALSE(first[0].recurring);
  CHECK(bench.take(kNow + 20).empty());
  CHECK(ids_of(bench.take(kNow + 30)) == Ids{1, 3});
  CHECK(bench.delays->state(1) == DelayState::kDelivered);
  CHECK(bench.delays->state(6) == DelayState::kPending);
  CHECK(bench.delays->state(7) == DelayState::kNone);
  CHECK(bench.delays->next_id() == 7);
}

TEST_CASE("delays: a limit is kept and what is left comes first next time") {
  DelayBench bench;
  for (uint64_t id = 1; id <= 10; ++id) {
    bench.delays->add(new_delay(id, kNow));
  }
  CHECK(ids_of(bench.take(kNow, DelayBench::kAllIds, 4)) == Ids{1, 2, 3, 4});
  CHECK(ids_of(bench.take(kNow, 6, 4)) == Ids{5, 6});  // up to an id within the millisecond
  CHECK(ids_of(bench.take(kNow, DelayBench::kAllIds, 4)) == Ids{7, 8, 9, 10});
  CHECK(bench.take(kNow, 3).empty());  // behind what was taken already
}

TEST_CASE("delays: what arrives late is due at once and comes next, in the order of arrival") {
  DelayBench bench;
  bench.delays->add(new_delay(1, kNow));
  CHECK(ids_of(bench.take(kNow)) == Ids{1});
  CHECK(bench.delays->add(new_delay(2, kNow - 5000)).due_ms == kNow + 1);
  CHECK(bench.delays->add(new_delay(3, -7)).due_ms == kNow + 1);
  CHECK(bench.delays->add(new_delay(4, kNow + 1)).due_ms == kNow + 1);
  CHECK(ids_of(bench.take(kNow + 1)) == Ids{2, 3, 4});
  // Taken up to an id only: a later one still fits into that millisecond.
  CHECK(bench.take(kNow + 7, 4).empty());
  CHECK(bench.delays->add(new_delay(5, kNow)).due_ms == kNow + 7);
  CHECK(ids_of(bench.take(kNow + 7)) == Ids{5});
}

TEST_CASE("delays: a key that is taken refuses, or replaces when asked to") {
  DelayBench bench;
  bench.delays->add(new_delay(1, kNow + 10, "k"));
  const AddOutcome refused = bench.delays->add(new_delay(2, kNow + 20, "k"));
  CHECK(refused.key_taken);
  CHECK(bench.delays->state(2) == DelayState::kNone);
  CHECK(bench.delays->next_id() == 3);  // its id is used up
  NewDelay elsewhere = new_delay(3, kNow + 30, "k");
  elsewhere.tag.partition.index = PartitionIndex{1};
  CHECK_FALSE(bench.delays->add(elsewhere).key_taken);  // keys are those of a partition
  NewDelay replacing = new_delay(4, kNow + 40, "k");
  replacing.replace = true;
  CHECK_FALSE(bench.delays->add(replacing).key_taken);
  CHECK(bench.delays->state(1) == DelayState::kCancelled);
  REQUIRE(bench.delays->find_key(kDelayPartition, "k") != nullptr);
  CHECK(bench.delays->find_key(kDelayPartition, "k")->id == 4);
  CHECK(*bench.delays->key_of(4) == "k");
  CHECK(bench.delays->key_of(1) == nullptr);
  CHECK(bench.delays->keyed() == 2);
  CHECK(bench.delays->pending(kDelayPartition) == 1);
  CHECK(ids_of(bench.take(kNow + 40)) == Ids{3, 4});
  CHECK(bench.delays->keyed() == 0);
  CHECK_FALSE(bench.delays->add(new_delay(5, kNow + 50, "k")).key_taken);  // free again
}

TEST_CASE("delays: cancel answers exactly, in every state") {
  DelayBench bench;
  const NewDelay kept = new_delay(1, kNow + 10);
  const NewDelay gone = new_delay(2, kNow + 10, "k");
  bench.delays->add(kept);
  bench.delays->add(gone);
  CHECK(bench.delays->cancel({9, kNow, TopicId{1}, 0}) == ChangeOutcome::kNotFound);
  CHECK(bench.delays->cancel(name_of(gone)) == ChangeOutcome::kDone);
  CHECK(bench.delays->cancel(name_of(gone)) == ChangeOutcome::kNotFound);
  CHECK(bench.delays->find_key(kDelayPartition, "k") == nullptr);
  CHECK(bench.delays->wheel().size() == 2);  // its entry stays until its time
  CHECK(ids_of(bench.take(kNow + 10)) == Ids{1});
  CHECK(bench.delays->cancel(name_of(kept)) == ChangeOutcome::kAlreadyDelivered);
  CHECK(bench.delays->cancel(name_of(gone)) == ChangeOutcome::kNotFound);
  CHECK(bench.delays->pending(kDelayPartition) == 0);
  CHECK(bench.delays->pending_bytes(kDelayPartition) == 0);
  CHECK(bench.delays->buckets().empty());
}

TEST_CASE("delays: reschedule moves a message, its key and its batch to a new id") {
  DelayBench bench;
  const NewDelay first = new_delay(1, kNow + 10, "k");
  bench.delays->add(first);
  int64_t due_ms = kNow + 500;
  CHECK(bench.delays->reschedule(name_of(first), first.position, 2, due_ms) ==
        ChangeOutcome::kDone);
  CHECK(due_ms == kNow + 500);
  CHECK(bench.delays->state(1) == DelayState::kCancelled);
  CHECK(bench.delays->find_key(kDelayPartition, "k")->id == 2);
  CHECK(bench.delays->pending(kDelayPartition) == 1);
  // The old name is void.
  CHECK(bench.delays->reschedule(name_of(first), first.position, 3, due_ms) ==
        ChangeOutcome::kNotFound);
  CHECK(bench.delays->next_id() == 4);
  CHECK(bench.take(kNow + 499).empty());
  // Into the past is at once.
  NewDelay second = first;
  second.id = 2;
  second.due_ms = kNow + 500;
  due_ms = 0;
  CHECK(bench.delays->reschedule(name_of(second), second.position, 4, due_ms) ==
        ChangeOutcome::kDone);
  CHECK(due_ms == kNow + 500);
  const std::vector<DueDelay> due = bench.take(kNow + 500);
  REQUIRE(ids_of(due) == Ids{4});
  CHECK(due[0].position == first.position);
  second.id = 4;
  CHECK(bench.delays->reschedule(name_of(second), second.position, 5, due_ms) ==
        ChangeOutcome::kAlreadyDelivered);
  CHECK(bench.delays->keyed() == 0);
}

TEST_CASE("delays: every: the grid goes on, what was missed comes once") {
  DelayBench bench;
  const NewDelay series = every_delay(1, kNow, 1000, "k");
  bench.delays->add(series);
  for (int64_t k = 0; k < 3; ++k) {
    const std::vector<DueDelay> due = bench.take(kNow + 1000 * k);
    REQUIRE(ids_of(due) == Ids{1});
    CHECK(due[0].recurring);
    CHECK(due[0].due_ms == kNow + 1000 * k);
  }
  const std::vector<DueDelay> late = bench.take(kNow + 7400);  // it was down for a while
  REQUIRE(late.size() == 1);
  CHECK(late[0].due_ms == kNow + 3000);
  CHECK(bench.delays->series_of(1)->entry.due == kNow + 8000);
  CHECK(bench.delays->find_key(kDelayPartition, "k")->due == kNow + 8000);
  CHECK(bench.delays->pending(kDelayPartition) == 1);
  // A series cannot be moved, but stopped: whichever occurrence the name is of.
  int64_t due_ms = kNow;
  CHECK(bench.delays->reschedule(name_of(series), series.position, 2, due_ms) ==
        ChangeOutcome::kNotFound);
  CHECK(bench.delays->cancel(name_of(series)) == ChangeOutcome::kDone);
  CHECK(bench.delays->series() == 0);
  CHECK(bench.delays->keyed() == 0);
  CHECK(bench.delays->pending_counts().empty());
  CHECK(bench.delays->buckets().empty());
  CHECK(bench.take(kNow + 100'000).empty());
}

TEST_CASE("delays: cron: the next occurrence is asked for, one ahead") {
  DelayBench bench;
  bench.delays->add(cron_delay(1, kNow, kNow + 60'000));
  CHECK(bench.delays->want_next().empty());
  CHECK(ids_of(bench.take(kNow)) == Ids{1});
  CHECK(bench.delays->series_of(1)->entry.due == kNow + 60'000);
  CHECK(bench.delays->want_next().count(1) == 1);
  bench.delays->set_next(1, kNow + 120'000);
  CHECK(bench.delays->want_next().empty());
  bench.delays->set_next(1, kNow + 999'000);  // known already
  CHECK(ids_of(bench.take(kNow + 60'000)) == Ids{1});
  bench.delays->set_next(1, 0);  // none behind the pending one
  CHECK(bench.delays->want_next().empty());
  CHECK(ids_of(bench.take(kNow + 120'000)) == Ids{1});
  CHECK(bench.delays->state(1) == DelayState::kDelivered);
  CHECK(bench.delays->series() == 0);
  CHECK(bench.delays->pending_counts().empty());
  bench.delays->set_next(1, kNow + 999'000);
  CHECK(bench.take(kNow + 999'000).empty());
}

TEST_CASE("delays: cron: a series whose next occurrence is not known waits for it") {
  DelayBench bench;
  bench.delays->add(cron_delay(1, kNow, kNow + 1000, "k"));
  CHECK(ids_of(bench.take(kNow)) == Ids{1});
  CHECK(ids_of(bench.take(kNow + 1000)) == Ids{1});
  CHECK(bench.delays->state(1) == DelayState::kPending);
  CHECK(bench.delays->pending(kDelayPartition) == 0);  // nothing has a time
  CHECK(bench.take(kNow + 50'000).empty());
  bench.delays->set_next(1, kNow + 2000);  // passed meanwhile: at once
  CHECK(bench.delays->pending(kDelayPartition) == 1);
  CHECK(bench.delays->want_next().count(1) == 1);  // the one behind it
  CHECK(bench.delays->find_key(kDelayPartition, "k")->due == kNow + 50'001);
  CHECK(ids_of(bench.take(kNow + 50'001)) == Ids{1});
  bench.delays->set_next(1, 0);
  CHECK(bench.delays->state(1) == DelayState::kDelivered);
  CHECK(bench.delays->keyed() == 0);
}

TEST_CASE("delays: a series that waits for its next occurrence is not counted when it ends") {
  for (const bool replaced : {false, true}) {
    CAPTURE(replaced);
    DelayBench bench;
    const NewDelay series = cron_delay(1, kNow, kNow + 1000, "k");
    bench.delays->add(series);
    bench.delays->add(new_delay(2, kNow + 90'000));
    bench.take(kNow);
    bench.take(kNow + 1000);
    REQUIRE(bench.delays->pending(kDelayPartition) == 1);
    if (replaced) {
      NewDelay other = new_delay(3, kNow + 90'000, "k");
      other.replace = true;
      bench.delays->add(other);
    } else {
      CHECK(bench.delays->cancel(name_of(series)) == ChangeOutcome::kDone);
    }
    CHECK(bench.delays->state(1) == DelayState::kCancelled);
    CHECK(bench.delays->want_next().empty());
    CHECK(bench.delays->pending(kDelayPartition) == (replaced ? 2 : 1));
    CHECK(bench.delays->pending_bytes(kDelayPartition) == (replaced ? 200 : 100));
    REQUIRE(bench.delays->buckets().size() == 1);
    CHECK(bench.delays->buckets().begin()->second == (replaced ? 2 : 1));
  }
}

TEST_CASE("delays: counts, bytes and buckets of pending messages") {
  DelayBench bench;
  const int64_t bucket = kNow / kBucketMs;
  const NewDelay first = new_delay(1, bucket * kBucketMs);
  bench.delays->add(first);
  bench.delays->add(new_delay(2, bucket * kBucketMs + kBucketMs - 1));
  bench.delays->add(new_delay(3, bucket * kBucketMs + kBucketMs));
  NewDelay other = new_delay(4, bucket * kBucketMs);
  other.tag.partition = {TopicId{2}, PartitionIndex{3}};
  bench.delays->add(other);
  CHECK(bench.delays->pending(kDelayPartition) == 3);
  CHECK(bench.delays->pending_bytes(kDelayPartition) == 300);
  CHECK(bench.delays->pending(other.tag.partition) == 1);
  const std::map<PendingDelays::Bucket, uint64_t> expected = {
      {{TopicId{1}, bucket}, 2}, {{TopicId{1}, bucket + 1}, 1}, {{TopicId{2}, bucket}, 1}};
  CHECK(bench.delays->buckets() == expected);
  bench.delays->cancel(name_of(first));
  CHECK(bench.delays->buckets().at({TopicId{1}, bucket}) == 1);
  bench.take(bucket * kBucketMs + kBucketMs);
  CHECK(bench.delays->buckets().empty());
  CHECK(bench.delays->pending_counts().empty());
}

TEST_CASE("delays: the part of the log that pending messages need") {
  constexpr uint64_t kExtent = 16 * limits::kMiB;
  DelayBench bench;
  CHECK(bench.delays->low_position() == kNoPosition);
  NewDelay far = new_delay(1, kNow + 50);
  far.position = LogPosition{5 * kExtent + 8};
  NewDelay near = new_delay(2, kNow + 20);
  near.position = LogPosition{7 * kExtent - 8};
  NewDelay last = new_delay(3, kNow + 70);
  last.position = LogPosition{9 * kExtent};
  for (const NewDelay& delay : {far, near, last}) {
    bench.delays->add(delay);
  }
  CHECK(bench.delays->low_position() == LogPosition{5 * kExtent});
  CHECK(bench.delays->entries_below(LogPosition{6 * kExtent - 1}) == 0);
  CHECK(bench.delays->entries_below(LogPosition{6 * kExtent}) == 1);
  CHECK(bench.delays->entries_below(LogPosition{9 * kExtent}) == 2);
  // A cancelled message is not needed, but its entry is counted until its time.
  bench.delays->cancel(name_of(far));
  CHECK(bench.delays->low_position() == LogPosition{5 * kExtent});
  bench.take(kNow + 50);
  CHECK(bench.delays->low_position() == LogPosition{9 * kExtent});
  bench.take(kNow + 70);
  CHECK(bench.delays->low_position() == kNoPosition);
}

TEST_CASE("delays: a topic that is dropped takes its keys, series and counts along") {
  DelayBench bench;
  bench.delays->add(new_delay(1, kNow + 10, "k"));
  bench.delays->add(every_delay(2, kNow + 10, 1000));
  NewDelay other = new_delay(3, kNow + 10, "k");
  other.tag.partition = {TopicId{2}, PartitionIndex{0}};
  bench.delays->add(other);
  bench.delays->drop_partition(kDelayPartition);
  CHECK(bench.delays->pending(kDelayPartition) == 0);
  CHECK(bench.delays->pending_bytes(kDelayPartition) == 0);
  CHECK(bench.delays->buckets().size() == 1);
  CHECK(bench.delays->find_key(kDelayPartition, "k") == nullptr);
  CHECK(bench.delays->find_key(other.tag.partition, "k") != nullptr);
  CHECK(bench.delays->series() == 0);
  // Its entries come at their time, for nobody.
  CHECK(ids_of(bench.take(kNow + 10)) == Ids{1, 3});
  bench.delays->skipped(1);
  CHECK(bench.delays->state(1) == DelayState::kCancelled);
  CHECK(bench.delays->state(2) == DelayState::kCancelled);
  CHECK(bench.delays->state(3) == DelayState::kDelivered);
}

// A store with a head that counts `entries` messages, and with these keys of slots.
Status load_slots(uint64_t entries, const std::vector<std::string>& slots) {
  std::vector<uint8_t> head;
  ByteWriter writer(head);
  writer.le<uint8_t>(1);
  for (const uint64_t number : {uint64_t{0}, uint64_t{0}, entries, uint64_t{8}, uint64_t{0}}) {
    writer.le(number);
  }
  writer.le<uint8_t>(0);
  writer.le<uint64_t>(0);
  kv::MemoryStore store;
  kv::WriteBatch batch;
  batch.put("V", partition::seal_value(head, "V"));
  for (const std::string& slot : slots) {
    batch.put(slot, "chunk");
  }
  REQUIRE(store.commit(batch).ok());
  PendingDelays delays;
  return delays.load(*std::move(store.read()).value());
}

TEST_CASE("delays: slots that are damaged or missing in the store are reported, not believed") {
  const std::string slot = encode_slot_key({{1, 7}, 1, 5});
  CHECK(load_slots(0, {}).ok());
  CHECK(load_slots(5, {slot}).ok());
  CHECK(load_slots(3, {slot}).ok());  // the others have left already
  const auto damage = [](uint64_t entries, const std::vector<std::string>& slots) {
    const Status status = load_slots(entries, slots);
    CHECK(status.code() == ErrorCode::kCorrupted);
    return std::string(status.context());
  };
  const std::string bad_slot = "slot of the timing wheel in the checkpoint store";
  CHECK(damage(6, {slot}) == "slots of the timing wheel: some are missing in the checkpoint store");
  CHECK(damage(1, {}) == "slots of the timing wheel: some are missing in the checkpoint store");
  CHECK(damage(5, {encode_slot_key({{timerwheel::kLevels, 7}, 1, 5})}) == bad_slot);
  CHECK(damage(5, {encode_slot_key({{255, 7}, 1, 5})}) == bad_slot);
  CHECK(damage(0, {encode_slot_key({{1, 7}, 1, 0})}) == bad_slot);
  CHECK(damage(5, {slot.substr(0, slot.size() - 1)}) == bad_slot);
  CHECK(damage(5, {slot + "x"}) == bad_slot);
}

TEST_CASE("delays: what is stored without its head is reported") {
  for (const char* letter : {"W", "S", "N", "Y", "B", "X", "K", "L", "R", "E"}) {
    CAPTURE(letter);
    kv::MemoryStore store;
    kv::WriteBatch batch;
    batch.put("T", "another view's");
    batch.put("Z", "another view's");
    REQUIRE(store.commit(batch).ok());
    CHECK(PendingDelays().load(*std::move(store.read()).value()).ok());
    batch.put(std::string(letter) + "12345678", "value");
    REQUIRE(store.commit(batch).ok());
    const Status status = PendingDelays().load(*std::move(store.read()).value());
    CHECK(status.code() == ErrorCode::kCorrupted);
    CHECK(status.context() == "delayed messages without a head in the checkpoint store");
  }
}

TEST_CASE("delays: damage of the head, of a key, a series or a rescheduled one fails the load") {
  DelayBench bench;
  const NewDelay moved = new_delay(1, kNow + 10, "k");
  bench.delays->add(moved);
  bench.delays->add(every_delay(2, kNow + 10, 1000));
  bench.delays->add(cron_delay(3, kNow + 10, kNow + 20, "c"));
  int64_t due_ms = kNow + 50;
  REQUIRE(bench.delays->reschedule(name_of(moved), moved.position, 4, due_ms) ==
          ChangeOutcome::kDone);
  bench.checkpoint();
  for (const std::string letter : {"V", "K", "R", "E"}) {
    CAPTURE(letter);
    std::vector<std::pair<std::string, std::string>> found;
    {
      const auto view = std::move(bench.store.read()).value();
      auto pair = view->seek(letter).value();
      while (pair.has_value() && pair->key.substr(0, 1) == letter) {
        found.emplace_back(pair->key, pair->value);
        pair = view->next().value();
      }
    }
    REQUIRE(!found.empty());
    for (const auto& [key, value] : found) {
      const auto load_with = [&bench, &key = key](std::string_view key_now, std::string bytes) {
        kv::WriteBatch batch;
        batch.remove(key);
        batch.put(std::string(key_now), std::move(bytes));
        REQUIRE(bench.store.commit(batch).ok());
        return PendingDelays().load(*bench.store.read().value()).code();
      };
      for (size_t i = 0; i < value.size(); ++i) {
        CAPTURE(i);
        std::string flipped = value;
        flipped[i] = static_cast<char>(flipped[i] ^ 4);
        CHECK(load_with(key, flipped) == ErrorCode::kCorrupted);
        CHECK(load_with(key, value.substr(0, i)) == ErrorCode::kCorrupted);
      }
      CHECK(load_with(key, value) == ErrorCode::kOk);
    }
  }
  bench.restart();
  CHECK(bench.delays->pending(kDelayPartition) == 3);
}

}  // namespace
}  // namespace tidemark::delay
