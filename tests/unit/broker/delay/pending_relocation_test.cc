// PendingDelays: messages that are written again, so that the log before them can go.
#include <doctest/doctest.h>

#include "tests/unit/broker/delay/delay_bench.h"

namespace tidemark::delay {
namespace {

using Ids = std::vector<uint64_t>;

constexpr int64_t kNow = 1'700'000'000'000;
constexpr uint64_t kExtent = 16 * limits::kMiB;
constexpr LogPosition kNewPlace{9 * kExtent + 800};

void relocate(DelayBench& bench, const NewDelay& delay, int64_t due_ms) {
  bench.delays->relocate(delay.id, due_ms, kNewPlace);
}

TEST_CASE("relocation: a message is delivered once, from its new place") {
  DelayBench bench;
  const NewDelay moved = new_delay(1, kNow + 10);
  bench.delays->add(moved);
  bench.delays->add(new_delay(2, kNow + 10));
  const uint64_t hash = bench.delays->hash();
  relocate(bench, moved, kNow + 10);
  CHECK(bench.delays->pending(kDelayPartition) == 2);
  CHECK(bench.delays->hash() != hash);
  const std::vector<DueDelay> due = bench.take(kNow + 10);
  REQUIRE(ids_of(due) == Ids{1, 2});
  CHECK(due[0].position == kNewPlace);
  CHECK(due[1].position == LogPosition{2000});
  CHECK(bench.take(kNow + 20).empty());
  CHECK(bench.delays->wheel().size() == 0);
}

TEST_CASE("relocation: the new place outlives checkpoints and restarts, whatever is in memory") {
  for (const int64_t ahead : {int64_t{10}, int64_t{86'400'000}}) {
    CAPTURE(ahead);
    DelayBench bench;
    const NewDelay moved = new_delay(1, kNow + ahead);
    bench.delays->add(moved);
    bench.checkpoint();
    relocate(bench, moved, kNow + ahead);
    CHECK(bench.delays->has_moved());
    CHECK(bench.delays->moved(timerwheel::Key{static_cast<uint64_t>(kNow + ahead), 1}) ==
          kNewPlace);
    bench.checkpoint();
    bench.restart();
    CHECK(bench.delays->has_moved());
    const std::vector<DueDelay> due = bench.take(kNow + ahead);
    REQUIRE(ids_of(due) == Ids{1});
    CHECK(due[0].position == kNewPlace);
    bench.checkpoint();
    const auto view = bench.store.read().value();
    const auto left = view->seek("L");
    REQUIRE(left.ok());
    CHECK((!left->has_value() || (*left)->key.substr(0, 1) != "L"));
  }
}

TEST_CASE("relocation: a rescheduled message is found by its place, and keeps the new one") {
  DelayBench bench;
  const NewDelay first = new_delay(1, kNow + 1'000);
  bench.delays->add(first);
  int64_t due_ms = kNow + 5'000;
  REQUIRE(bench.delays->reschedule(name_of(first), first.position, 2, due_ms) ==
          ChangeOutcome::kDone);
  REQUIRE(bench.delays->rescheduled_at(first.position) != nullptr);
  CHECK(bench.delays->rescheduled_at(first.position)->id == 2);
  bench.checkpoint();
  bench.restart();
  REQUIRE(bench.delays->rescheduled_at(first.position) != nullptr);
  bench.delays->relocate(2, due_ms, kNewPlace);
  CHECK(bench.delays->rescheduled_at(first.position) == nullptr);
  REQUIRE(bench.delays->rescheduled_at(kNewPlace) != nullptr);
  const std::vector<DueDelay> due = bench.take(due_ms);
  REQUIRE(ids_of(due) == Ids{2});
  CHECK(due[0].position == kNewPlace);
  CHECK(bench.delays->rescheduled() == 0);
}

TEST_CASE("relocation: the log before it is not needed any more") {
  DelayBench bench;
  const NewDelay moved = new_delay(1, kNow + 10);
  bench.delays->add(moved);
  relocate(bench, moved, kNow + 10);
  CHECK(bench.delays->low_position() == LogPosition{0});
  bench.delays->relocated_below(LogPosition{9 * kExtent});
  CHECK(bench.delays->low_position() == LogPosition{9 * kExtent});
  const std::vector<DueDelay> due = bench.take(kNow + 10);
  REQUIRE(ids_of(due) == Ids{1});
  CHECK(due[0].position == kNewPlace);
}

TEST_CASE("relocation: what has ended or is overdue already stays where it is") {
  DelayBench bench;
  const NewDelay cancelled = new_delay(1, kNow + 10);
  const NewDelay delivered = new_delay(2, kNow + 5);
  bench.delays->add(cancelled);
  bench.delays->add(delivered);
  bench.delays->cancel(name_of(cancelled));
  bench.take(kNow + 5);
  const uint64_t hash = bench.delays->hash();
  relocate(bench, cancelled, kNow + 10);
  relocate(bench, delivered, kNow + 5);
  relocate(bench, new_delay(7, kNow + 50), kNow + 50);
  CHECK(bench.delays->hash() == hash);
}

TEST_CASE("relocation: a key knows the new place of its message") {
  for (const bool recurring : {false, true}) {
    CAPTURE(recurring);
    DelayBench bench;
    const NewDelay moved =
        recurring ? every_delay(1, kNow + 10, 1000, "k") : new_delay(1, kNow + 10, "k");
    bench.delays->add(moved);
    relocate(bench, moved, kNow + 10);
    REQUIRE(bench.delays->find_key(kDelayPartition, "k") != nullptr);
    CHECK(LogPosition{bench.delays->find_key(kDelayPartition, "k")->position} == kNewPlace);
    const std::vector<DueDelay> due = bench.take(kNow + 10);
    REQUIRE(ids_of(due) == Ids{1});
    CHECK(due[0].position == kNewPlace);
    CHECK(due[0].recurring == recurring);
  }
}

TEST_CASE("relocation: all occurrences of a series come from the new place, each once") {
  DelayBench bench;
  const NewDelay series = every_delay(1, kNow, 1000);
  bench.delays->add(series);
  relocate(bench, series, kNow);
  for (int64_t k = 0; k < 3; ++k) {
    const std::vector<DueDelay> due = bench.take(kNow + 1000 * k);
    REQUIRE(ids_of(due) == Ids{1});
    CHECK(due[0].position == kNewPlace);
  }
  CHECK(bench.delays->pending(kDelayPartition) == 1);
  CHECK(bench.delays->wheel().size() == 1);
}

// A Relocate record names the id that was pending when it was gathered. A reschedule that was
// applied before it left the message where it was, under another id, and the segment was given
// back.
TEST_CASE("relocation: a message that is rescheduled under way keeps its part of the log") {
  DelayBench bench;
  NewDelay first = new_delay(1, kNow + 1'000);
  first.position = LogPosition{2 * kExtent + 8};
  bench.delays->add(first);
  int64_t due_ms = kNow + 5'000;
  REQUIRE(bench.delays->reschedule(name_of(first), first.position, 2, due_ms) ==
          ChangeOutcome::kDone);
  bench.delays->relocate(1, kNow + 1'000, kNewPlace);
  bench.delays->relocated_below(LogPosition{4 * kExtent});
  CHECK(bench.delays->low_position() <= first.position);
  // The next round finds it under its new id.
  REQUIRE(bench.delays->rescheduled_at(first.position) != nullptr);
  bench.delays->relocate(2, due_ms, kNewPlace);
  bench.delays->relocated_below(LogPosition{4 * kExtent});
  CHECK(bench.delays->low_position() >= LogPosition{4 * kExtent});
  const std::vector<DueDelay> due = bench.take(due_ms);
  REQUIRE(ids_of(due) == Ids{2});
  CHECK(due[0].position == kNewPlace);
}

TEST_CASE("relocation: a reschedule that knows an old place only changes nothing") {
  DelayBench bench;
  const NewDelay far = new_delay(1, kNow + 86'400'000);
  bench.delays->add(far);
  bench.delays->relocate(1, far.due_ms, kNewPlace);
  bench.delays->relocated_below(LogPosition{4 * kExtent});
  bench.checkpoint();
  bench.restart();  // memory does not know the new place any more
  int64_t due_ms = kNow + 5'000;
  CHECK(bench.delays->reschedule(name_of(far), far.position, 2, due_ms) == ChangeOutcome::kMoved);
  CHECK(bench.delays->state(1) == DelayState::kPending);
  CHECK(bench.delays->reschedule(name_of(far), kNewPlace, 3, due_ms) == ChangeOutcome::kDone);
  const std::vector<DueDelay> due = bench.take(due_ms);
  REQUIRE(ids_of(due) == Ids{3});
  CHECK(due[0].position == kNewPlace);
}

// Cancelled messages keep their entries in the wheel until their time. Counted as alive, they kept
// the log from being given back.
TEST_CASE("relocation: cancelled messages are not alive") {
  DelayBench bench;
  for (uint64_t id = 1; id <= 100; ++id) {
    bench.delays->add(new_delay(id, kNow + 86'400'000));
  }
  CHECK(bench.delays->bytes_below(LogPosition{kExtent}) == 100 * 100);
  for (uint64_t id = 2; id <= 100; ++id) {
    bench.delays->cancel(name_of(new_delay(id, kNow + 86'400'000)));
  }
  CHECK(bench.delays->wheel().size() == 100);
  CHECK(bench.delays->bytes_below(LogPosition{kExtent}) == 100);
  CHECK(bench.delays->bytes_below(LogPosition{0}) == 0);
  bench.delays->cancel(name_of(new_delay(1, kNow + 86'400'000)));
  CHECK(bench.delays->bytes_below(LogPosition{kExtent}) == 0);
}

}  // namespace
}  // namespace tidemark::delay
