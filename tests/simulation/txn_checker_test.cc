// Histories of transactions, each with one fault.
#include <vector>

#include "tests/simulation/checker_test.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/txn_model.h"
#include "tests/simulation/txn_sight.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kNs = 1'000'000;     // of a millisecond
constexpr int64_t kStart = 1'000'000;  // log time at the start, which is monotonic 0
constexpr ShardId kCoordinator{0};
constexpr ShardId kOther{1};
constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};
constexpr PartitionId kPartition2{TopicId{1}, PartitionIndex{1}};
constexpr TxnName kName{7, (uint64_t{1} << 48) | 1, kCoordinator};

using Answer = TxnModel::Answer;
using By = TxnModel::By;
using State = TxnModel::State;

// Transaction 1 of producer 7 in epoch 1, with messages 1 and 2 in a partition of its coordinating
// shard and message 3 on another, all acknowledged at 10 ms; its timeout is 1000 ms. Pending
// ones are parked after 10 s, outcomes forgotten after 20 s.
struct TxnHistory {
  DelayModel delays;
  TxnModel model{delays, {10'000, 20'000}};

  TxnHistory() {
    delays.broker_started(kCoordinator, 0, kStart, 0);
    delays.broker_started(kOther, 0, kStart, 0);
    epoch(0, 0);
    epoch(1, 1);
    begin(kName, {{kPartition, kCoordinator, {1, 2}}, {kPartition2, kOther, {3}}});
    store(1, 0);
    store(1, 1);
  }

  void epoch(uint16_t number, int64_t at_ms) {
    model.fences().init_arrived("a");
    model.fences().init_answered("a", 7, number, at_ms * kNs);
  }

  uint64_t begin(const TxnName& name, std::vector<TxnModel::Part> parts) {
    const uint64_t txn = model.begin(name, "group", "order 1", 1'000);
    for (TxnModel::Part& part : parts) {
      model.add_part(txn, std::move(part));
    }
    return txn;
  }

  void store(uint64_t txn, uint32_t index, int64_t at_ms = 10, bool duplicate = false) {
    model.part_arrived(txn, index, (at_ms - 5) * kNs);
    model.part_answered(txn, index, {Answer::kOk, duplicate, (at_ms - 5) * kNs, at_ms * kNs});
  }

  uint64_t ask_end(bool commit, int64_t at_ms, By by = By::kProducer,
                   uint32_t halves = TxnModel::kAnyHalves) {
    const uint64_t end = model.end_sent(1, commit, by, halves);
    model.end_arrived(end, at_ms * kNs);
    return end;
  }

  // Done as asked, at 20 ms.
  void end(bool commit, int64_t at_ms = 20, uint32_t halves = TxnModel::kAnyHalves) {
    model.end_answered(ask_end(commit, at_ms, By::kProducer, halves), Answer::kOk,
                       commit ? State::kCommitted : State::kRolledBack, (at_ms + 1) * kNs);
  }

  void see(uint64_t uid, int64_t at_ms = 30) { model.seen(uid, Offset{uid}, at_ms * kNs); }

  void drain(const std::vector<uint64_t>& uids, bool retention = false, bool parked = false) {
    model.drained(kPartition, retention, uids);
    model.drained(kPartition2, retention, uids);
    model.check_end(parked ? std::set<TxnName>{kName} : std::set<TxnName>{});
  }

  void ask(int64_t at_ms, uint32_t checks = 1, const std::string& group = "group",
           ShardId shard = kCoordinator) {
    model.asked(group, shard, {kName, "order 1", kStart + 5, checks}, (at_ms - 1) * kNs,
                at_ms * kNs);
  }

  // Both parts are shown by the coordinating shard, or that which it has.
  void show(State state, int64_t at_ms, bool with_part = true, ShardId shard = kCoordinator) {
    TxnModel::Shown shown{kName, state, "group", "order 1", kStart + 5, 1'000, 0, 0, {}, {}};
    if (with_part) {
      shown.halves.push_back({kPartition, 0, 2, false});
    }
    model.shown(shard, shown, (at_ms - 1) * kNs, at_ms * kNs);
  }

  void recover(State state, bool has_parts) {
    model.check_states(kCoordinator, 40 * kNs,
                       {[=](const TxnName&) { return state; },
                        [=](const TxnName&, uint32_t) { return has_parts; }});
  }
};

using BadHistory = JudgedHistory<TxnHistory>;

std::vector<BadHistory> visibility() {
  return {
      {"committed and seen", "",
       [](TxnHistory& h) {
         h.end(true, 20, 1);
         h.see(1);
         h.drain({1, 2, 3});
       }},
      {"rolled back and gone", "",
       [](TxnHistory& h) {
         h.end(false);
         h.drain({});
       }},
      {"seen while open", "I16", [](TxnHistory& h) { h.see(1); }},
      {"seen before the commit came", "I16",
       [](TxnHistory& h) {
         h.ask_end(true, 40);
         h.see(1, 30);
       }},
      {"committed by nobody", "I16",
       [](TxnHistory& h) {
         h.model.end_answered(h.ask_end(false, 20), Answer::kConflict, State::kCommitted, 21 * kNs);
       }},
      {"there, though its commit is not known to have come", "I16",
       [](TxnHistory& h) { h.recover(State::kCommitted, false); }},
      {"rolled back, then seen", "I17",
       [](TxnHistory& h) {
         h.model.end_answered(h.ask_end(true, 19), Answer::kUnsure, State::kNone, 19 * kNs);
         h.end(false);
         h.see(1);
       }},
      {"rolled back, but there", "I17",
       [](TxnHistory& h) {
         h.end(false);
         h.drain({1, 2, 3});
       }},
      {"parked, but there", "I17",
       [](TxnHistory& h) {
         h.drain({1, 2, 3}, false, true);
       }},
      {"committed, but a partition has nothing", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.drain({1, 2});
       }},
      {"committed, taken by retention", "",
       [](TxnHistory& h) {
         h.end(true);
         h.drain({2}, true);
       }},
      {"half a batch", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.drain({1, 3});
       }},
      {"outcome not known, nothing there", "",
       [](TxnHistory& h) {
         h.ask_end(true, 20);
         h.drain({});
       }},
      {"outcome not known, one partition has it", "I17",
       [](TxnHistory& h) {
         h.ask_end(true, 20);
         h.drain({3});
       }},
  };
}

std::vector<BadHistory> ends() {
  return {
      {"refused as it contradicts", "",
       [](TxnHistory& h) {
         h.end(false);
         h.model.end_answered(h.ask_end(true, 30), Answer::kConflict, State::kRolledBack, 31 * kNs);
         h.drain({});
       }},
      {"committed after a rollback", "I17",
       [](TxnHistory& h) {
         h.end(false);
         h.end(true, 30);
       }},
      {"rolled back after a commit", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.end(false, 30);
       }},
      {"ends without an answer, recorded the other way", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.ask_end(false, 25, By::kOperator);
         h.show(State::kRolledBack, 30);
       }},
      {"refused, but as asked", "I17",
       [](TxnHistory& h) {
         h.model.end_answered(h.ask_end(true, 20), Answer::kConflict, State::kCommitted, 21 * kNs);
       }},
      {"refused for nothing", "I17",
       [](TxnHistory& h) {
         h.model.end_answered(h.ask_end(true, 20, By::kProducer, 1), Answer::kConflict,
                              State::kOpen, 21 * kNs);
       }},
      {"committed with a wrong number", "I17", [](TxnHistory& h) { h.end(true, 20, 2); }},
      {"refused for a wrong number", "",
       [](TxnHistory& h) {
         h.model.end_answered(h.ask_end(true, 20, By::kProducer, 2), Answer::kConflict,
                              State::kOpen, 21 * kNs);
       }},
      {"lost", "I18",
       [](TxnHistory& h) {
         h.model.end_answered(h.ask_end(true, 20), Answer::kNotFound, State::kNone, 21 * kNs);
       }},
      {"forgotten after its time", "",
       [](TxnHistory& h) {
         h.end(true);
         h.model.end_answered(h.ask_end(true, 30'000), Answer::kNotFound, State::kNone,
                              30'001 * kNs);
       }},
      {"forgotten before its time", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.model.end_answered(h.ask_end(true, 10'000), Answer::kNotFound, State::kNone,
                              10'001 * kNs);
       }},
      {"never seen, shown by the shard of a part when its outcome was old", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.show(State::kOpen, 30'000, false, kOther);
         h.drain({});
       }},
      {"a part after the end", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.store(1, 0, 40, true);
       }},
      {"a part refused, though nothing ended", "I17",
       [](TxnHistory& h) {
         h.model.part_answered(1, 0, {Answer::kConflict, false, 0, 12 * kNs});
       }},
      {"a part stored twice", "I11", [](TxnHistory& h) { h.store(1, 0, 15, false); }},
      {"a restart loses a part", "I17", [](TxnHistory& h) { h.recover(State::kOpen, false); }},
      {"a restart loses the end", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.recover(State::kOpen, true);
       }},
  };
}

std::vector<BadHistory> checks() {
  return {
      {"asked in time", "",
       [](TxnHistory& h) {
         h.ask(1'005);
         h.ask(2'505, 2);
       }},
      {"asked before the timeout", "I18", [](TxnHistory& h) { h.ask(900); }},
      {"asked without a pause", "I18",
       [](TxnHistory& h) {
         h.ask(1'005);
         h.ask(1'100, 2);
       }},
      {"another group is asked", "I18", [](TxnHistory& h) { h.ask(1'005, 1, "others"); }},
      {"another shard asks", "I18", [](TxnHistory& h) { h.ask(1'005, 1, "group", kOther); }},
      {"asked after its end", "I18",
       [](TxnHistory& h) {
         h.end(true);
         h.ask(1'005);
       }},
      {"parked when it is old", "", [](TxnHistory& h) { h.show(State::kParked, 10'005); }},
      {"parked too early", "I18", [](TxnHistory& h) { h.show(State::kParked, 9'000); }},
      {"shown after its end", "I17",
       [](TxnHistory& h) {
         h.end(true);
         h.show(State::kOpen, 30);
       }},
      {"shown without its part", "I17", [](TxnHistory& h) { h.show(State::kOpen, 30, false); }},
      {"not known any more", "I18",
       [](TxnHistory& h) { h.model.not_known(kCoordinator, 1, 29 * kNs, 30 * kNs); }},
      {"never begun", "I18",
       [](TxnHistory& h) {
         h.model.asked("group", kCoordinator, {{9, 1, kCoordinator}, "", kStart, 1}, 0, kNs);
       }},
  };
}

std::vector<BadHistory> fences() {
  return {
      {"before the next epoch was given", "",
       [](TxnHistory& h) {
         h.epoch(2, 25);
         h.end(true, 24);
       }},
      {"a part of an old epoch", "I19",
       [](TxnHistory& h) {
         h.begin({7, 5, kCoordinator}, {{kPartition, kCoordinator, {4}}});
         h.store(2, 0, 20);
       }},
      {"an end of an old epoch", "I19",
       [](TxnHistory& h) {
         h.epoch(2, 15);
         h.end(true);
       }},
      {"an end of an old epoch by a check-back", "",
       [](TxnHistory& h) {
         h.epoch(2, 15);
         h.model.end_answered(h.ask_end(true, 20, By::kCheck), Answer::kOk, State::kCommitted,
                              21 * kNs);
       }},
      {"fenced by nobody", "I19",
       [](TxnHistory& h) {
         h.model.end_answered(h.ask_end(true, 20), Answer::kFenced, State::kNone, 21 * kNs);
       }},
      {"an operator is fenced", "I19",
       [](TxnHistory& h) {
         h.epoch(2, 15);
         h.model.end_answered(h.ask_end(true, 20, By::kOperator), Answer::kFenced, State::kNone,
                              21 * kNs);
       }},
      {"an epoch given twice", "I19", [](TxnHistory& h) { h.epoch(1, 20); }},
      {"another id for the same name", "I19",
       [](TxnHistory& h) {
         h.model.fences().init_arrived("a");
         h.model.fences().init_answered("a", 8, 2, 20 * kNs);
       }},
      {"one id for two names", "I19",
       [](TxnHistory& h) {
         h.model.fences().init_arrived("b");
         h.model.fences().init_answered("b", 7, 0, 20 * kNs);
       }},
  };
}

// The transaction as its coordinating shard shows it after so many checks, at this time.
TxnSight sight_of(State state, uint32_t checks, int64_t after_ms, uint64_t checks_in_all = 0) {
  TxnSight sight;
  sight.shards.resize(2);
  TxnSight::Numbers& numbers = sight.shards[0];
  numbers.now_ms = kStart + after_ms;
  numbers.begun = 1;
  numbers.checks = checks_in_all;
  numbers.open = state == State::kOpen ? 1 : 0;
  numbers.parked = state == State::kParked ? 1 : 0;
  numbers.ended = state == State::kNone ? 1 : 0;
  sight.shards[0].halves = sight.shards[1].halves = state == State::kNone ? 0 : 1;
  if (state != State::kNone) {
    TxnModel::Shown shown{kName, state, "group", "order 1", kStart, 1'000, checks, 0, {}, {}};
    shown.next_check_ms = kStart + after_ms + 500;
    sight.items[kName] = shown;
  }
  return sight;
}

std::vector<BadHistory> sights() {
  return {
      {"asked about, then ended", "",
       [](TxnHistory& h) {
         TxnDeadlines deadlines(100);
         deadlines.check(sight_of(State::kOpen, 0, 0));
         deadlines.check(sight_of(State::kOpen, 1, 1'100));
         deadlines.check(sight_of(State::kOpen, 1, 2'600));
         h.end(true);
         check_conserved(sight_of(State::kOpen, 0, 0), sight_of(State::kNone, 0, 3'000), h.model,
                         3'000 * kNs);
       }},
      {"nobody is asked", "I18",
       [](TxnHistory&) {
         TxnDeadlines deadlines(100);
         deadlines.check(sight_of(State::kOpen, 0, 0));
         deadlines.check(sight_of(State::kOpen, 0, 1'101));
       }},
      {"to be asked about some day", "I18",
       [](TxnHistory&) {
         TxnSight sight = sight_of(State::kOpen, 0, 0);
         sight.items[kName].next_check_ms = kStart + 1'101;
         TxnDeadlines(100).check(sight);
       }},
      {"asked about for ever", "I18",
       [](TxnHistory&) {
         TxnDeadlines deadlines(100);
         for (uint32_t i = 0; i < 10; ++i) {
           deadlines.check(sight_of(State::kOpen, i, 1'000 * i));
         }
       }},
      {"counted without a producer", "I18",
       [](TxnHistory&) {
         check_nothing_counted(sight_of(State::kOpen, 1, 0), sight_of(State::kOpen, 2, 10));
       }},
      {"asked without a producer", "I18",
       [](TxnHistory&) {
         check_nothing_counted(sight_of(State::kOpen, 1, 0, 5), sight_of(State::kOpen, 1, 10, 6));
       }},
      {"gone without an end", "I18",
       [](TxnHistory&) {
         check_nothing_counted(sight_of(State::kOpen, 1, 0), sight_of(State::kNone, 1, 10));
       }},
      {"not counted as ended", "I18",
       [](TxnHistory& h) {
         h.end(true);
         TxnSight now = sight_of(State::kNone, 0, 3'000);
         now.shards[0].ended = 0;
         check_conserved(sight_of(State::kOpen, 0, 0), now, h.model, 3'000 * kNs);
       }},
      {"neither ended nor there", "I18",
       [](TxnHistory& h) {
         check_conserved(sight_of(State::kOpen, 0, 0), sight_of(State::kNone, 0, 3'000), h.model,
                         3'000 * kNs);
       }},
      {"parked, but a part is gone", "I18",
       [](TxnHistory& h) {
         TxnSight now = sight_of(State::kParked, 0, 3'000);
         now.shards[1].halves = 0;
         now.shards[0].begun = 1;
         check_conserved(sight_of(State::kParked, 0, 0), now, h.model, 3'000 * kNs);
       }},
      {"rolled back and forgotten, then asked for by the shard of a part", "",
       [](TxnHistory& h) {
         h.end(false);
         h.show(State::kParked, 30'000, false);
         TxnSight now = sight_of(State::kParked, 0, 30'000);
         now.shards[0].halves = 0;
         check_conserved(sight_of(State::kParked, 0, 0), now, h.model, 30'000 * kNs);
       }},
      {"parked, later gone", "I18",
       [](TxnHistory&) { check_left(sight_of(State::kNone, 0, 0), {kName}); }},
      {"ended, later there", "I18",
       [](TxnHistory&) { check_left(sight_of(State::kParked, 0, 0), {}); }},
  };
}

std::string wrong_count(TxnHistory& history) {
  const TxnModel::Range range = history.model.open(kCoordinator, 20 * kNs, 21 * kNs);
  if (range.low != 1 || range.high != 1) {
    return "an open transaction is not counted as one";
  }
  const TxnModel::Range parts = history.model.parts_of({kName});
  return parts.low == 2 && parts.high == 2 ? "" : "two parts are not counted as two";
}

}  // namespace

std::string find_blind_txn_checker() {
  if (std::string misjudged =
          find_misjudged<TxnHistory>({visibility(), ends(), checks(), fences(), sights()});
      !misjudged.empty()) {
    return misjudged;
  }
  TxnHistory history;
  return wrong_count(history);
}

}  // namespace tidemark::sim
