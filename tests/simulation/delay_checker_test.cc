// Histories of delayed messages, each with one fault.
#include <vector>

#include "tests/simulation/checker_test.h"
#include "tests/simulation/delay_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kNs = 1'000'000;     // of a millisecond
constexpr int64_t kStart = 1'000'000;  // log time at the start, which is monotonic 0
constexpr int64_t kSlackMs = 100;
constexpr ShardId kShard{0};
constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};

using Outcome = DelayModel::Outcome;
using Standing = DelayModel::Standing;

// Two messages, due 1000 and 2000 ms after the start, acknowledged with ids 1 and 2.
struct DelayHistory {
  DelayModel model;

  DelayHistory() {
    model.broker_started(kShard, 0, kStart, 0);
    send(1, {.partition = kPartition, .shard = kShard}, 1'000);
    send(2, {.partition = kPartition, .shard = kShard}, 2'000);
    model.accepted(1, 1, kStart + 1'000, kStart + 10);
    model.accepted(2, 2, kStart + 2'000, kStart + 10);
  }

  void send(uint64_t uid, const DelayModel::Sent& sent, int64_t delay_ms) {
    model.sent(uid, sent);
    model.arrived(uid, model.due_after(kShard, 0, delay_ms));
  }

  // Message 3, due 5000 ms after the start, under a key that message 1 may have had.
  void send_keyed(bool replace, uint64_t previous) {
    send(3,
         {.partition = kPartition,
          .shard = kShard,
          .keyed = true,
          .replace = replace,
          .previous = previous},
         5'000);
  }

  void send_series() {
    send(4, {.partition = kPartition, .shard = kShard, .every_ms = 1'000}, 1'000);
    model.accepted(4, 4, kStart + 1'000, kStart + 10);
  }

  void see(uint64_t uid, uint64_t offset, int64_t after_ms) {
    model.seen(uid, Offset{offset}, kStart + after_ms);
  }

  // Of message `uid` under handle `id`, answered `after_ms` from the start.
  void cancel(uint64_t uid, uint64_t id, Outcome outcome, int64_t after_ms) {
    model.change_answered(model.change_sent(uid, id, false), {outcome, 0, 0}, kStart + after_ms);
  }

  uint64_t ask_reschedule(uint64_t uid, uint64_t id, int64_t delay_ms) {
    const uint64_t change = model.change_sent(uid, id, true);
    model.change_arrived(change, model.due_after(kShard, 0, delay_ms));
    return change;
  }

  void reschedule(uint64_t uid, uint64_t id, uint64_t new_id, int64_t due_ms) {
    model.change_answered(ask_reschedule(uid, id, due_ms),
                          {Outcome::kRescheduled, new_id, kStart + due_ms}, kStart + 20);
  }

  void drain(const std::vector<uint64_t>& uids, int64_t after_ms = 10'000) {
    std::vector<DelayModel::Drained> drained;
    for (size_t i = 0; i < uids.size(); ++i) {
      drained.push_back({Offset{i}, uids[i]});
    }
    model.check_drained(kPartition, false, kStart + after_ms, kSlackMs, drained);
  }

  // After a restart at the start: each id is in this state.
  void recover(Standing standing) {
    model.check_states(kShard, kStart + 30, [standing](uint64_t) { return standing; });
  }
};

using BadHistory = JudgedHistory<DelayHistory>;

std::vector<BadHistory> times() {
  return {
      {"nothing is wrong", "",
       [](DelayHistory& h) {
         h.see(1, 0, 1'000);
         h.see(2, 1, 2'000);
         h.drain({1, 2});
       }},
      {"seen a millisecond early", "I12", [](DelayHistory& h) { h.see(1, 0, 999); }},
      {"seen early, acknowledged later", "I12",
       [](DelayHistory& h) {
         h.send(3, {.partition = kPartition, .shard = kShard}, 500);
         h.see(3, 0, 510);
         h.model.accepted(3, 3, kStart + 520, kStart + 600);
       }},
      {"a receipt with an early due time", "I12",
       [](DelayHistory& h) {
         h.send(3, {.partition = kPartition, .shard = kShard}, 500);
         h.model.accepted(3, 3, kStart + 499, kStart + 10);
       }},
      {"a receipt with a late due time", "I14",
       [](DelayHistory& h) {
         h.send(3, {.partition = kPartition, .shard = kShard}, 500);
         h.model.accepted(3, 3, kStart + 600, kStart + 10);
       }},
      {"the wall clock steps, a delay goes on", "I12",
       [](DelayHistory& h) {
         // A day forward in the same process: the log clock does not follow.
         h.see(1, 0, h.model.log_ms(kShard, 900 * kNs) - kStart);
       }},
      {"a wall time is translated", "I12",
       [](DelayHistory& h) {
         // The log clock is an hour ahead of the wall clock.
         h.model.sent(3, {.partition = kPartition, .shard = kShard});
         h.model.arrived(3, h.model.due_at(kShard, 0, kStart - 3'600'000, kStart - 3'599'000));
         h.see(3, 0, 900);
       }},
      {"log time runs ahead over a restart", "I12",
       [](DelayHistory& h) {
         h.model.broker_ended(kShard, 100 * kNs);
         h.model.broker_started(kShard, 100 * kNs, kStart, kStart + 106);
       }},
      {"rescheduled, seen at the old time", "I12",
       [](DelayHistory& h) {
         h.reschedule(1, 1, 3, 3'000);
         h.see(1, 0, 1'000);
       }},
      {"a series comes too often", "I12",
       [](DelayHistory& h) {
         h.send_series();
         h.see(4, 0, 1'000);
         h.see(4, 1, 1'900);
       }},
  };
}

std::vector<BadHistory> losses() {
  return {
      {"not yet due", "", [](DelayHistory& h) { h.drain({1}, 2'050); }},
      {"lost", "I13", [](DelayHistory& h) { h.drain({1}); }},
      {"late", "I14", [](DelayHistory& h) { h.drain({1}, 2'150); }},
      {"delivered twice", "I13",
       [](DelayHistory& h) {
         h.see(1, 0, 1'000);
         h.see(1, 7, 1'500);
       }},
      {"twice in a drain", "I13",
       [](DelayHistory& h) {
         h.drain({1, 2, 2});
       }},
      {"out of order", "I13",
       [](DelayHistory& h) {
         h.drain({2, 1});
       }},
      {"told that it was delivered, not there", "I13",
       [](DelayHistory& h) {
         h.cancel(1, 1, Outcome::kAlreadyDelivered, 1'010);
         h.drain({2});
       }},
      {"recovered", "", [](DelayHistory& h) { h.recover(Standing::kPending); }},
      {"forgotten by a restart", "I13", [](DelayHistory& h) { h.recover(Standing::kNone); }},
      {"delivered early by a restart", "I13",
       [](DelayHistory& h) { h.recover(Standing::kDelivered); }},
      {"pending again after it was seen", "I13",
       [](DelayHistory& h) {
         h.see(1, 0, 1'000);
         h.recover(Standing::kPending);
       }},
  };
}

std::vector<BadHistory> changes() {
  return {
      {"cancelled and gone", "",
       [](DelayHistory& h) {
         h.cancel(1, 1, Outcome::kCancelled, 20);
         h.drain({2});
       }},
      {"without an answer, either way", "",
       [](DelayHistory& h) {
         h.model.change_sent(1, 1, false);
         h.ask_reschedule(2, 2, 50'000);
         h.drain({2});
       }},
      {"cancelled, seen", "I15",
       [](DelayHistory& h) {
         h.cancel(1, 1, Outcome::kCancelled, 20);
         h.see(1, 0, 1'000);
       }},
      {"seen, then cancelled", "I15",
       [](DelayHistory& h) {
         h.see(1, 0, 1'000);
         h.cancel(1, 1, Outcome::kCancelled, 1'010);
       }},
      {"cancelled, in the drain", "I15",
       [](DelayHistory& h) {
         h.cancel(1, 1, Outcome::kCancelled, 20);
         h.drain({1, 2});
       }},
      {"cancelled twice", "I15",
       [](DelayHistory& h) {
         h.cancel(1, 1, Outcome::kCancelled, 20);
         h.cancel(1, 1, Outcome::kCancelled, 30);
       }},
      {"cancelled under a void handle", "I15",
       [](DelayHistory& h) {
         h.reschedule(1, 1, 3, 3'000);
         h.cancel(1, 1, Outcome::kCancelled, 30);
       }},
      {"cancelled, pending after a restart", "I15",
       [](DelayHistory& h) {
         h.cancel(1, 1, Outcome::kCancelled, 20);
         h.cancel(2, 2, Outcome::kCancelled, 20);
         h.recover(Standing::kPending);
       }},
      {"rescheduled, lost", "I13",
       [](DelayHistory& h) {
         h.reschedule(1, 1, 3, 3'000);
         h.drain({2});
       }},
      {"rescheduled, comes at both times", "I13",
       [](DelayHistory& h) {
         h.reschedule(1, 1, 3, 3'000);
         h.drain({2, 1, 1});
       }},
      {"not found, but pending", "I15",
       [](DelayHistory& h) { h.cancel(1, 1, Outcome::kNotFound, 20); }},
      {"not found after a lost cancel, seen", "I15",
       [](DelayHistory& h) {
         h.model.change_sent(1, 1, false);
         h.cancel(1, 1, Outcome::kNotFound, 20);
         h.see(1, 0, 1'000);
       }},
      {"already delivered, but early", "I12",
       [](DelayHistory& h) { h.cancel(1, 1, Outcome::kAlreadyDelivered, 900); }},
      {"a cancelled series goes on", "I15",
       [](DelayHistory& h) {
         h.send_series();
         h.see(4, 0, 1'000);
         h.cancel(4, 4, Outcome::kCancelled, 1'500);
         h.see(4, 1, 2'000);
       }},
  };
}

std::vector<BadHistory> keys() {
  return {
      {"replaced and gone", "",
       [](DelayHistory& h) {
         h.send_keyed(true, 1);
         h.model.accepted(3, 3, kStart + 5'000, kStart + 20);
         h.drain({2, 3});
       }},
      {"replaced, seen", "I15",
       [](DelayHistory& h) {
         h.send_keyed(true, 1);
         h.model.accepted(3, 3, kStart + 5'000, kStart + 20);
         h.see(1, 0, 1'000);
       }},
      {"refused for a free key", "I15",
       [](DelayHistory& h) {
         h.send_keyed(false, 0);
         h.model.key_taken(3);
       }},
      {"refused for the key of a cancelled one", "I15",
       [](DelayHistory& h) {
         h.cancel(1, 1, Outcome::kCancelled, 20);
         h.send_keyed(false, 1);
         h.model.key_taken(3);
       }},
      {"refused, seen", "I15",
       [](DelayHistory& h) {
         h.send_keyed(false, 1);
         h.model.key_taken(3);
         h.see(3, 0, 5'000);
       }},
      {"refused, taken by a repeated answer", "I11",
       [](DelayHistory& h) {
         h.send_keyed(false, 1);
         h.model.accepted(3, 3, kStart + 5'000, kStart + 1'010);
         h.model.key_taken(3);
       }},
      {"two pending under a key", "I15",
       [](DelayHistory& h) {
         h.send_keyed(false, 1);
         h.model.accepted(3, 3, kStart + 5'000, kStart + 20);
       }},
  };
}

std::string wrong_count(DelayHistory& history) {
  const DelayModel::Range range = history.model.pending(TopicId{1}, kShard, kStart + 20, kSlackMs);
  return range.low == 2 && range.high == 2 ? "" : "two pending messages are not counted as two";
}

}  // namespace

std::string find_blind_delay_checker() {
  if (std::string misjudged = find_misjudged<DelayHistory>({times(), losses(), changes(), keys()});
      !misjudged.empty()) {
    return misjudged;
  }
  DelayHistory history;
  return wrong_count(history);
}

}  // namespace tidemark::sim
