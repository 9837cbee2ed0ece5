// I16 to I19: transactions, check-backs and fencing.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

using enum Field;

struct Txn {
  EventIndex begin = kNoEvent;
  std::vector<const Message*> halves;
  std::vector<EventIndex> commits;
  std::vector<EventIndex> rollbacks;
  std::vector<EventIndex> checks;
  EventIndex final = kNoEvent;

  [[nodiscard]] bool any_stored() const {
    return std::any_of(halves.begin(), halves.end(),
                       [](const Message* half) { return half->acked(); });
  }
};

class Transactions {
 public:
  Transactions(const Facts& facts, Report& report)
      : facts_(facts), history_(facts.history()), report_(report) {
    for (EventIndex event = 0; event < history_.size(); ++event) {
      take(event);
    }
    for (const Message& message : facts_.messages()) {
      if (message.txn != kNoText) {
        txns_[message.txn].halves.push_back(&message);
      }
    }
  }

  void run() {
    for (const auto& [name, txn] : txns_) {
      check_hidden(name, txn);
      check_outcome(name, txn);
      check_asked(name, txn);
      check_kept(name, txn);
    }
  }

 private:
  void take(EventIndex event);
  void check_hidden(TextId name, const Txn& txn);
  void check_outcome(TextId name, const Txn& txn);
  void check_whole(TextId name, const Txn& txn, EventIndex committed);
  void check_asked(TextId name, const Txn& txn);
  void check_kept(TextId name, const Txn& txn);

  [[nodiscard]] std::string text_of(TextId name) const {
    return "transaction " + std::string(history_.text_of(name));
  }

  // The first one that was done for certain, as its end.
  [[nodiscard]] EventIndex done(const std::vector<EventIndex>& ends) const {
    for (const EventIndex end : ends) {
      if (history_.outcome(end) == Phase::kOk) {
        return history_.at(end).partner;
      }
    }
    return kNoEvent;
  }

  [[nodiscard]] bool is_final(const Txn& txn, std::string_view state) const {
    return txn.final != kNoEvent && history_.text(txn.final, kState) == state;
  }

  // Where one is seen, kNoEvent if it is not.
  [[nodiscard]] EventIndex seen(const Message& half) const {
    for (const Sighting& one : facts_.of(half.uid)) {
      if (one.seen()) {
        return one.event;
      }
    }
    return kNoEvent;
  }

  // When anybody first asked for the commit; INT64_MAX: nobody.
  [[nodiscard]] int64_t commit_asked_ns(const Txn& txn) const {
    int64_t first_ns = INT64_MAX;
    for (const EventIndex commit : txn.commits) {
      first_ns = std::min(first_ns, history_.at(commit).t_ns);
    }
    for (const EventIndex check : txn.checks) {
      if (history_.text(check, kHow) == "commit") {
        first_ns = std::min(first_ns, history_.at(check).t_ns);
      }
    }
    return first_ns;
  }

  [[nodiscard]] int64_t end_asked_ns(const Txn& txn) const {
    int64_t first_ns = commit_asked_ns(txn);
    for (const EventIndex rollback : txn.rollbacks) {
      first_ns = std::min(first_ns, history_.at(rollback).t_ns);
    }
    return first_ns;
  }

  const Facts& facts_;
  const History& history_;
  Report& report_;
  std::map<TextId, Txn> txns_;
};

void Transactions::take(EventIndex event) {
  const Op op = history_.at(event).op;
  if (op == Op::kSend || !history_.has(event, kTxn)) {
    return;
  }
  const bool operation = rule_of(op).operation;
  if (operation && history_.at(event).phase != Phase::kInvoke) {
    return;
  }
  Txn& txn = txns_[history_.text_id(event, kTxn)];
  if (op == Op::kTxnBegin) {
    txn.begin = event;
  } else if (op == Op::kTxnCommit) {
    txn.commits.push_back(event);
  } else if (op == Op::kTxnRollback) {
    txn.rollbacks.push_back(event);
  } else if (op == Op::kTxnCheck) {
    txn.checks.push_back(event);
  } else {
    txn.final = event;
  }
}

// I16.
void Transactions::check_hidden(TextId name, const Txn& txn) {
  const int64_t asked_ns = commit_asked_ns(txn);
  for (const Message* half : txn.halves) {
    const EventIndex first = seen(*half);
    report_.judge(Invariant::kHalfInvisible);
    // What was rolled back and never committed is I17's.
    if (first == kNoEvent || (asked_ns == INT64_MAX && done(txn.rollbacks) != kNoEvent)) {
      continue;
    }
    int64_t seen_ns = INT64_MAX;
    EventIndex event = first;
    for (const Sighting& one : facts_.of(half->uid)) {
      if (one.seen() && history_.at(one.event).t_ns < seen_ns) {
        seen_ns = history_.at(one.event).t_ns;
        event = one.event;
      }
    }
    if (seen_ns < asked_ns) {
      report_.violate(Invariant::kHalfInvisible,
                      "uid " + std::to_string(half->uid) + " of " + text_of(name) + " was seen " +
                          (asked_ns == INT64_MAX ? "and nobody committed it"
                                                 : "before the commit was asked for"),
                      {half->first, event, txn.commits.empty() ? kNoEvent : txn.commits.front()});
      return;
    }
  }
}

// I17.
void Transactions::check_outcome(TextId name, const Txn& txn) {
  const EventIndex commit = done(txn.commits);
  const EventIndex rollback = done(txn.rollbacks);
  const bool committed = commit != kNoEvent || is_final(txn, "committed");
  const bool rolled_back = rollback != kNoEvent || is_final(txn, "rolled_back");
  const EventIndex commit_event = commit != kNoEvent ? commit : txn.final;
  const EventIndex rollback_event = rollback != kNoEvent ? rollback : txn.final;
  report_.judge(Invariant::kTxnOutcome);
  if (committed && rolled_back) {
    report_.violate(Invariant::kTxnOutcome, text_of(name) + " was committed and rolled back",
                    {commit_event, rollback_event});
    return;
  }
  if ((committed || rolled_back) && (is_final(txn, "open") || is_final(txn, "parked"))) {
    report_.violate(Invariant::kTxnOutcome, text_of(name) + " ended, and is undecided again",
                    {committed ? commit_event : rollback_event, txn.final});
    return;
  }
  if (!rolled_back) {
    check_whole(name, txn, committed ? commit_event : kNoEvent);
    return;
  }
  for (const Message* half : txn.halves) {
    if (const EventIndex there = seen(*half); there != kNoEvent) {
      report_.violate(Invariant::kTxnOutcome,
                      "uid " + std::to_string(half->uid) + " of " + text_of(name) +
                          " is there, and was rolled back",
                      {rollback_event, there});
      return;
    }
  }
}

// All stored halves are seen, once each; without a known commit, all or none.
void Transactions::check_whole(TextId name, const Txn& txn, EventIndex committed) {
  const Message* missing = nullptr;
  const Message* there = nullptr;
  for (const Message* half : txn.halves) {
    const size_t times = facts_.times_seen(*half);
    if (times > 1) {
      report_.violate(Invariant::kTxnOutcome,
                      "uid " + std::to_string(half->uid) + " of " + text_of(name) + " is there " +
                          std::to_string(times) + " times",
                      {half->first, facts_.of(half->uid).back().event});
      return;
    }
    if (times == 1) {
      there = half;
    } else if (half->acked() && !half->delayed && facts_.nothing_removed(*half)) {
      missing = half;
    }
  }
  if (missing == nullptr) {
    return;
  }
  const std::string uid = "uid " + std::to_string(missing->uid) + " of " + text_of(name);
  if (committed != kNoEvent) {
    report_.violate(Invariant::kTxnOutcome, uid + " is not there, and was committed",
                    {missing->ack, committed});
  } else if (there != nullptr && commit_asked_ns(txn) != INT64_MAX) {
    report_.violate(Invariant::kTxnOutcome,
                    uid + " is not there, and uid " + std::to_string(there->uid) + " is",
                    {missing->ack, seen(*there)});
  }
}

// I18: asked about in time, and not for ever.
void Transactions::check_asked(TextId name, const Txn& txn) {
  const int64_t checks_max = facts_.config(kMaxChecks, -1);
  if (checks_max >= 0 && !txn.checks.empty()) {
    report_.expect(txn.checks.size() <= static_cast<size_t>(checks_max), Invariant::kCheckBack,
                   [&] {
                     return text_of(name) + " was asked about " +
                            std::to_string(txn.checks.size()) + " times";
                   },
                   {txn.begin, txn.checks.back()});
  }
  if (txn.begin == kNoEvent || !history_.has(txn.begin, kTimeoutMs)) {
    return;
  }
  int64_t born_ns = INT64_MAX;
  for (const Message* half : txn.halves) {
    if (half->acked()) {
      born_ns = std::min(born_ns, history_.at(half->ack).t_ns);
    }
  }
  if (born_ns == INT64_MAX) {
    return;
  }
  int64_t until_ns =
      born_ns +
      (history_.number(txn.begin, kTimeoutMs) + facts_.config(kRecoveryMs, 1'000)) * 1'000'000;
  // While one fault follows the other before the time to recover is over, nobody need be asked.
  for (int64_t trouble_ns = until_ns; trouble_ns != INT64_MAX;) {
    trouble_ns = facts_.trouble_until_ns(born_ns, until_ns);
    if (trouble_ns <= until_ns) {
      break;
    }
    until_ns = trouble_ns;
  }
  const int64_t last_ns = history_.at(static_cast<EventIndex>(history_.size() - 1)).t_ns;
  if (last_ns <= until_ns || end_asked_ns(txn) <= until_ns) {
    return;
  }
  report_.expect(!txn.checks.empty() && history_.at(txn.checks.front()).t_ns <= until_ns,
                 Invariant::kCheckBack,
                 [&] { return "nobody was asked about " + text_of(name) + " in time"; },
                 {txn.begin, txn.checks.empty() ? kNoEvent : txn.checks.front()});
}

// I18: what is stored and undecided is known in the end.
void Transactions::check_kept(TextId name, const Txn& txn) {
  if (!txn.any_stored() || done(txn.commits) != kNoEvent || done(txn.rollbacks) != kNoEvent) {
    return;
  }
  report_.expect(txn.final != kNoEvent && !is_final(txn, "none"), Invariant::kCheckBack,
                 [&] { return text_of(name) + " is stored and undecided, and unknown in the end"; },
                 {txn.begin == kNoEvent ? txn.halves.front()->first : txn.begin, txn.final});
}

}  // namespace

void check_transactions(const Facts& facts, Report& report) { Transactions(facts, report).run(); }

// I19.
void check_fencing(const Facts& facts, Report& report) {
  struct Fence {
    int64_t t_ns = 0;
    uint64_t epoch = 0;
    EventIndex event = kNoEvent;
  };

  const History& history = facts.history();
  std::map<uint64_t, std::vector<Fence>> fences;  // by producer, epochs that were acknowledged
  for (EventIndex event = 0; event < history.size(); ++event) {
    const Event& one = history.at(event);
    if (one.op == Op::kRegister && one.phase == Phase::kOk) {
      fences[history.unsigned_of(one.partner, kProducer)].push_back(
          {one.t_ns, history.unsigned_of(one.partner, kEpoch), event});
    }
    const bool writes =
        one.op == Op::kSend || one.op == Op::kTxnCommit || one.op == Op::kTxnRollback;
    if (!writes || one.phase != Phase::kInvoke || !history.has(event, kProducer) ||
        !history.has(event, kEpoch)) {
      continue;
    }
    const auto found = fences.find(history.unsigned_of(event, kProducer));
    if (found == fences.end()) {
      continue;
    }
    const uint64_t epoch = history.unsigned_of(event, kEpoch);
    const auto newer = std::find_if(
        found->second.begin(), found->second.end(),
        [&](const Fence& fence) { return fence.t_ns < one.t_ns && fence.epoch > epoch; });
    report.expect(newer == found->second.end() || history.outcome(event) != Phase::kOk,
                  Invariant::kFencing,
                  [&] {
                    return std::string(name_of(one.op)) + " of epoch " + std::to_string(epoch) +
                           " was taken, and epoch " + std::to_string(newer->epoch) + " had begun";
                  },
                  {newer == found->second.end() ? kNoEvent : newer->event, event, one.partner});
  }
}

}  // namespace tidemark::checker
