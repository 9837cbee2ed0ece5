// I12 to I15: delayed messages.
#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

using enum Field;

constexpr int64_t kNsInMs = 1'000'000;

// Between these wall times a message may be due.
struct Due {
  int64_t low = 0;
  int64_t high = 0;
};

class Delayed {
 public:
  Delayed(const Facts& facts, Report& report)
      : facts_(facts),
        history_(facts.history()),
        report_(report),
        skew_ms_(facts.config(kSkewMs, 0)),
        max_late_ms_(facts.config(kMaxLateMs, -1)) {
    for (EventIndex event = 0; event < history_.size(); ++event) {
      if (history_.at(event).op == Op::kPending) {
        pending_[history_.unsigned_of(event, kUid)] = event;
      } else if (history_.at(event).op == Op::kClock) {
        const int64_t before_ms = jumps_.empty() ? 0 : jumps_.back().second;
        jumps_.emplace_back(history_.at(event).t_ns, before_ms + history_.number(event, kSkewMs));
      }
    }
  }

  void run() {
    for (const Message& message : facts_.messages()) {
      if (message.delayed && message.txn == kNoText) {
        check(message);
      }
    }
    check_most_lateness();
  }

 private:
  void check(const Message& message);
  [[nodiscard]] std::optional<Due> due_of(const Message& message) const;
  void check_not_early(const Message& message, const std::optional<Due>& due);
  void check_once(const Message& message, const std::optional<Due>& due);
  void check_cancelled(const Message& message);
  void check_lateness(const Message& message);
  void check_most_lateness();

  [[nodiscard]] bool may_be_cancelled(const Message& message) const {
    const auto& cancels = facts_.cancels_of(message.uid);
    return std::any_of(cancels.begin(), cancels.end(),
                       [&](EventIndex cancel) { return history_.outcome(cancel) != Phase::kFail; });
  }

  [[nodiscard]] bool may_be_moved(const Message& message) const {
    const auto& moves = facts_.reschedules_of(message.uid);
    return std::any_of(moves.begin(), moves.end(),
                       [&](EventIndex move) { return history_.outcome(move) != Phase::kFail; });
  }

  // How far the broker's clock had jumped ahead by then, over all its starts.
  [[nodiscard]] int64_t jumped_ms(int64_t t_ns) const {
    const auto later = std::upper_bound(
        jumps_.begin(), jumps_.end(), t_ns,
        [](int64_t at_ns, const std::pair<int64_t, int64_t>& jump) { return at_ns < jump.first; });
    return later == jumps_.begin() ? 0 : std::prev(later)->second;
  }

  [[nodiscard]] EventIndex pending(const Message& message) const {
    const auto found = pending_.find(message.uid);
    return found == pending_.end() ? kNoEvent : found->second;
  }

  const Facts& facts_;
  const History& history_;
  Report& report_;
  const int64_t skew_ms_;
  const int64_t max_late_ms_;
  std::unordered_map<uint64_t, EventIndex> pending_;
  std::vector<std::pair<int64_t, EventIndex>> lateness_ms_;  // without faults
  std::vector<std::pair<int64_t, int64_t>> jumps_;           // since when, and by how much in all
};

std::string text_of(const Message& message) { return "uid " + std::to_string(message.uid); }

std::optional<Due> Delayed::due_of(const Message& message) const {
  std::optional<Due> due;
  if (message.acked() && history_.has(message.ack, kDueMs)) {
    const int64_t told_ms = history_.number(message.ack, kDueMs);
    due = {told_ms, told_ms};
  } else if (history_.has(message.first, kDueMs)) {
    const int64_t asked_ms = history_.number(message.first, kDueMs);
    due = {asked_ms, asked_ms};
  } else if (history_.has(message.first, kWallMs)) {
    due = {history_.number(message.first, kWallMs) + history_.number(message.first, kDelayMs),
           INT64_MAX};
  }
  int64_t done_ns = INT64_MIN;  // when the last one that was done for certain had ended
  for (const EventIndex move : facts_.reschedules_of(message.uid)) {
    const Phase outcome = history_.outcome(move);
    if (!due.has_value() || outcome == Phase::kFail) {
      continue;
    }
    const int64_t told_ms = history_.find_in_operation(move, kDueMs).value_or(0);
    if (outcome == Phase::kOk && history_.at(move).t_ns > done_ns) {
      due = {told_ms, told_ms};
    } else {
      due = {std::min(due->low, told_ms), std::max(due->high, told_ms)};
    }
    done_ns = std::max(done_ns, history_.ended_ns(move));
  }
  return due;
}

void Delayed::check(const Message& message) {
  const std::optional<Due> due = due_of(message);
  check_not_early(message, due);
  check_once(message, due);
  check_cancelled(message);
  if (max_late_ms_ >= 0) {
    check_lateness(message);
  }
}

// I12.
void Delayed::check_not_early(const Message& message, const std::optional<Due>& due) {
  const bool relative = history_.has(message.first, kDelayMs) && !may_be_moved(message);
  const int64_t asked_ns =
      relative ? history_.at(message.first).t_ns +
                     (history_.number(message.first, kDelayMs) - skew_ms_ - 1) * kNsInMs
               : INT64_MIN;
  for (const Sighting& one : facts_.of(message.uid)) {
    if (!one.seen()) {
      continue;
    }
    const bool drained = one.kind == Sighting::Kind::kDrain;
    const std::optional<int64_t> wall_ms =
        drained ? history_.find(one.event, kLogMs) : history_.find(one.event, kWallMs);
    const bool by_wall = due.has_value() && wall_ms.has_value() && *wall_ms < due->low - skew_ms_;
    const int64_t came_ns = history_.at(one.event).t_ns;
    const int64_t jump_ns =
        (jumped_ms(came_ns) - jumped_ms(history_.at(message.first).t_ns)) * kNsInMs;
    // Not by subtracting from what is not asked: that would be below all numbers.
    const bool by_clock = relative && came_ns < asked_ns - jump_ns;
    report_.expect(!by_wall && !by_clock, Invariant::kNeverEarly,
                   [&] {
                     const int64_t early_ms = by_wall
                                                  ? due->low - *wall_ms
                                                  : (asked_ns - jump_ns - came_ns) / kNsInMs + 1;
                     return text_of(message) + " came " + std::to_string(early_ms) + " ms early";
                   },
                   {message.first, message.ack, one.event});
  }
}

// I13.
void Delayed::check_once(const Message& message, const std::optional<Due>& due) {
  const size_t times = facts_.times_seen(message);
  const EventIndex waiting = pending(message);
  const auto sightings = facts_.of(message.uid);
  if (times > 1 || (times > 0 && waiting != kNoEvent)) {
    report_.judge(Invariant::kDelayedOnce);
    report_.violate(
        Invariant::kDelayedOnce,
        text_of(message) +
            (times > 1 ? " came " + std::to_string(times) + " times" : " came and is pending"),
        {message.first, sightings.front().event, times > 1 ? sightings.back().event : waiting});
    return;
  }
  if (!message.acked() || may_be_cancelled(message)) {
    return;
  }
  report_.expect(times == 1 || waiting != kNoEvent || !facts_.nothing_removed(message),
                 Invariant::kDelayedOnce, [&] { return text_of(message) + " never came"; },
                 {message.first, message.ack});
  if (waiting != kNoEvent && due.has_value() && history_.has(waiting, kWallMs) &&
      max_late_ms_ >= 0 && history_.number(waiting, kWallMs) > due->high &&
      history_.number(waiting, kWallMs) - due->high > max_late_ms_) {
    report_.violate(Invariant::kDelayedOnce, text_of(message) + " is overdue and still pending",
                    {message.first, message.ack, waiting});
  }
}

// I15.
void Delayed::check_cancelled(const Message& message) {
  for (const EventIndex cancel : facts_.cancels_of(message.uid)) {
    if (history_.outcome(cancel) != Phase::kOk) {
      continue;
    }
    EventIndex seen = pending(message);
    for (const Sighting& one : facts_.of(message.uid)) {
      seen = one.seen() ? one.event : seen;
    }
    report_.expect(seen == kNoEvent, Invariant::kCancel,
                   [&] { return text_of(message) + " was cancelled, and is there"; },
                   {history_.at(cancel).partner, seen});
  }
}

// I14, by the monotonic clock: from the latest time at which the broker can have begun to count.
void Delayed::check_lateness(const Message& message) {
  if (!message.acked() || !history_.has(message.first, kDelayMs) || may_be_moved(message)) {
    return;
  }
  EventIndex came = kNoEvent;
  for (const Sighting& one : facts_.of(message.uid)) {
    if (one.kind == Sighting::Kind::kRead) {
      came = std::min(came, one.event);
    }
  }
  if (came == kNoEvent) {
    return;
  }
  const int64_t due_ns =
      history_.at(message.ack).t_ns + history_.number(message.first, kDelayMs) * kNsInMs;
  const int64_t came_ns = history_.at(came).t_ns;
  const int64_t trouble_ns = facts_.trouble_until_ns(due_ns, came_ns);
  const int64_t from_ns = std::max(due_ns, trouble_ns);
  const int64_t late_ms = came_ns > from_ns ? (came_ns - from_ns) / kNsInMs : 0;
  report_.expect(late_ms <= max_late_ms_, Invariant::kBoundedLateness,
                 [&] {
                   return text_of(message) + " came " + std::to_string(late_ms) + " ms late" +
                          (trouble_ns == INT64_MIN ? "" : " after the last fault");
                 },
                 {message.first, message.ack, came});
  if (trouble_ns == INT64_MIN) {
    lateness_ms_.emplace_back(late_ms, came);
  }
}

// I14, of all that no fault touched.
void Delayed::check_most_lateness() {
  const int64_t bound_ms = facts_.config(kP999LateMs, -1);
  if (bound_ms < 0 || lateness_ms_.empty()) {
    return;
  }
  std::sort(lateness_ms_.begin(), lateness_ms_.end());
  const auto [late_ms, came] = lateness_ms_[(lateness_ms_.size() - 1) * 999 / 1'000];
  report_.expect(late_ms <= bound_ms, Invariant::kBoundedLateness,
                 [&, ms = late_ms] {
                   return "one in a thousand came more than " + std::to_string(ms) + " ms late";
                 },
                 {came});
}

}  // namespace

void check_delays(const Facts& facts, Report& report) { Delayed(facts, report).run(); }

}  // namespace tidemark::checker
