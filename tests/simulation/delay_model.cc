#include "tests/simulation/delay_model.h"

#include <algorithm>
#include <cstdlib>

#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// Wall time is known in whole milliseconds, and the two clocks change at different moments.
constexpr int64_t kWallSlackMs = 2;

}  // namespace

// --- log time

void DelayModel::broker_started(ShardId shard, int64_t monotonic_ns, int64_t wall_ms,
                                int64_t recovered_ms) {
  Clock& clock = clocks_[shard];
  require(clock.latest_ms == 0 || recovered_ms <= clock.latest_ms,
          "I12: log time ran ahead: shard " + std::to_string(shard.value()) + " recovered " +
              std::to_string(recovered_ms) + ", at its end it was at most " +
              std::to_string(clock.latest_ms));
  clock.anchor_ns = monotonic_ns;
  clock.anchor_ms = std::max(wall_ms, recovered_ms);
}

void DelayModel::broker_ended(ShardId shard, int64_t monotonic_ns) {
  if (const auto it = clocks_.find(shard); it != clocks_.end()) {
    it->second.latest_ms = log_ms(shard, monotonic_ns) + kLeadMs;
  }
}

int64_t DelayModel::log_ms(ShardId shard, int64_t monotonic_ns) const {
  const Clock& clock = clocks_.at(shard);
  return clock.anchor_ms + (monotonic_ns - clock.anchor_ns) / kNsPerMs;
}

DelayModel::Due DelayModel::due_after(ShardId shard, int64_t monotonic_ns, int64_t delay_ms) const {
  const int64_t low = log_ms(shard, monotonic_ns + kNsPerMs - 1) + delay_ms;
  return {low, low};
}

DelayModel::Due DelayModel::due_at(ShardId shard, int64_t monotonic_ns, int64_t now_wall_ms,
                                   int64_t wall_ms) const {
  const int64_t ahead = log_ms(shard, monotonic_ns) - now_wall_ms;
  const int64_t due_ms = wall_ms + (std::abs(ahead) <= 1 ? 0 : ahead);
  return {due_ms - (std::abs(ahead) <= 1 ? 0 : kWallSlackMs), due_ms + kWallSlackMs};
}

// --- messages

std::string DelayModel::name(uint64_t uid, const Message& message) const {
  return "delayed message " + std::to_string(uid) + " (topic " +
         std::to_string(message.sent.partition.topic.value()) + " partition " +
         std::to_string(message.sent.partition.index.value()) + " shard " +
         std::to_string(message.sent.shard.value()) + " id " + std::to_string(message.id) +
         (message.sent.every_ms > 0 ? " every " + std::to_string(message.sent.every_ms) : "") +
         " due " + std::to_string(message.due_ms) + ")";
}

void DelayModel::sent(uint64_t uid, const Sent& sent) {
  Message& message = messages_[uid];
  message.sent = sent;
  message.due_ms = INT64_MAX;
  message.high_ms = INT64_MIN;
  message.key_was_free = sent.keyed;
  ++counters_.sent;
  if (sent.previous != 0) {
    Message& before = messages_.at(sent.previous);
    message.key_was_free =
        ended(before) || before.delivered || (before.sent.every_ms == 0 && !before.offsets.empty());
    before.maybe_replaced = before.maybe_replaced || sent.replace;
  }
}

void DelayModel::arrived(uint64_t uid, Due due) {
  Message& message = messages_.at(uid);
  message.arrived = true;
  if (message.state == State::kUnknown) {
    message.high_ms = std::max(message.high_ms, due.high);
    message.due_ms = std::min(message.due_ms, due.low);
  }
}

void DelayModel::accepted(uint64_t uid, uint64_t id, int64_t due_ms, int64_t log_ms) {
  Message& message = messages_.at(uid);
  if (message.state != State::kUnknown) {
    return;  // a repeated answer, which who sent it compares
  }
  const std::string what = name(uid, message) + " acknowledged at " + std::to_string(log_ms) +
                           " with due " + std::to_string(due_ms);
  require(message.arrived, "I2: never arrived: " + what);
  require(due_ms >= message.due_ms, "I12: due before the time asked for: " + what);
  // What is overdue when it is taken is due right behind what was delivered before.
  require(due_ms <= std::max(message.high_ms, log_ms + kLeadMs + 1),
          "I14: due behind the time asked for, at most " + std::to_string(message.high_ms) + ": " +
              what);
  require(due_ms <= message.seen_log_ms,
          "I12: seen at " + std::to_string(message.seen_log_ms) + ": " + what);
  message.state = State::kAccepted;
  message.id = id;
  message.due_ms = due_ms;
  message.high_ms = due_ms;
  ++counters_.accepted;
  check_previous(message, log_ms);
}

// Of the message that was pending under the key before this one was taken.
void DelayModel::check_previous(const Message& message, int64_t log_ms) {
  if (message.sent.previous == 0) {
    return;
  }
  Message& before = messages_.at(message.sent.previous);
  const bool series = before.sent.every_ms > 0;
  const bool due = !series && low_due(before) <= log_ms + kLeadMs;
  const std::string what = name(message.sent.previous, before);
  if (message.sent.replace) {
    if (!ended(before) && !due) {
      require(series || before.offsets.empty(), "I15: seen, later replaced: " + what);
      cancelled(before, log_ms);
    }
    return;
  }
  if (!ended(before) && !before.maybe_replaced && !maybe_changed(before, false) &&
      !maybe_changed(before, true)) {
    require(due, "I15: its key was given away while it was pending: " + what);
    before.delivered = true;
  }
}

void DelayModel::key_taken(uint64_t uid) {
  Message& message = messages_.at(uid);
  if (message.state == State::kRefused) {
    return;
  }
  const std::string what = name(uid, message);
  require(message.state == State::kUnknown, "I11: taken, later refused: " + what);
  require(message.sent.keyed && !message.sent.replace && !message.key_was_free &&
              message.sent.previous != 0,
          "I15: refused for its key, which nothing was pending under: " + what);
  require(message.offsets.empty(), "I15: seen, but refused for its key: " + what);
  message.state = State::kRefused;
  ++counters_.key_taken;
}

void DelayModel::seen(uint64_t uid, Offset offset, int64_t log_ms) {
  Message& message = messages_.at(uid);
  const auto what = [&] {
    return name(uid, message) + " seen at log time " + std::to_string(log_ms) + ", offset " +
           std::to_string(offset.value());
  };
  const bool series = message.sent.every_ms > 0;
  require(message.arrived, [&] { return "I2: its request never arrived: " + what(); });
  require(message.state != State::kRefused, [&] { return "I15: refused for its key: " + what(); });
  require(series || !ended(message), [&] { return "I15: cancelled: " + what(); });
  message.offsets.insert(offset);
  message.seen_log_ms = std::min(message.seen_log_ms, log_ms);
  ++counters_.seen;
  require(series || message.offsets.size() == 1, [&] {
    return "I13: delivered twice, first at offset " +
           std::to_string(message.offsets.begin()->value()) + ": " + what();
  });
  const auto before =
      static_cast<int64_t>(std::distance(message.offsets.begin(), message.offsets.find(offset)));
  require(log_ms >= low_due(message) + before * message.sent.every_ms, [&] {
    return "I12: early, due at " +
           std::to_string(low_due(message) + before * message.sent.every_ms) + ": " + what();
  });
  require(!message.cancelled ||
              message.due_ms + before * message.sent.every_ms <= message.cancelled_log_ms + kLeadMs,
          [&] { return "I15: goes on after it was cancelled: " + what(); });
}

void DelayModel::forget(TopicId topic) {
  std::erase_if(messages_,
                [&](const auto& entry) { return entry.second.sent.partition.topic == topic; });
}

bool DelayModel::knows(TopicId topic) const {
  return std::any_of(messages_.begin(), messages_.end(),
                     [&](const auto& entry) { return entry.second.sent.partition.topic == topic; });
}

// --- what is known of a message

bool DelayModel::ended(const Message& message) const { return message.cancelled || message.never; }

bool DelayModel::maybe_changed(const Message& message, bool reschedule) const {
  return std::any_of(message.changes.begin(), message.changes.end(), [&](uint64_t number) {
    const Change& change = changes_[number];
    return change.state == ChangeState::kOpen && change.reschedule == reschedule &&
           (change.id == 0 || change.id == message.id);
  });
}

// Another change was sent that may have ended this id.
bool DelayModel::touched(const Message& message, uint64_t except) const {
  return message.maybe_replaced ||
         std::any_of(message.changes.begin(), message.changes.end(), [&](uint64_t number) {
           const Change& change = changes_[number];
           return number != except && change.state == ChangeState::kOpen &&
                  (change.id == 0 || change.id == message.id);
         });
}

int64_t DelayModel::low_due(const Message& message) const {
  int64_t low = message.due_ms;
  for (const uint64_t number : message.changes) {
    const Change& change = changes_[number];
    if (change.state == ChangeState::kOpen && change.due && change.reschedule &&
        (change.id == 0 || change.id == message.id)) {
      low = std::min(low, change.due->low);
    }
  }
  return low;
}

int64_t DelayModel::high_due(const Message& message) const {
  int64_t high = message.high_ms;
  for (const uint64_t number : message.changes) {
    const Change& change = changes_[number];
    if (change.state == ChangeState::kOpen && change.due && change.reschedule &&
        (change.id == 0 || change.id == message.id)) {
      high = std::max(high, change.due->high);
    }
  }
  return high;
}

std::optional<int64_t> DelayModel::certain_due(uint64_t uid) const {
  const auto it = messages_.find(uid);
  if (it == messages_.end() || it->second.state != State::kAccepted ||
      maybe_changed(it->second, true)) {
    return std::nullopt;
  }
  return it->second.due_ms;
}

// --- cancel and reschedule

uint64_t DelayModel::change_sent(uint64_t uid, uint64_t id, bool reschedule) {
  changes_.push_back({uid, id, reschedule, ChangeState::kOpen, std::nullopt});
  if (const auto it = messages_.find(uid); it != messages_.end()) {
    it->second.changes.push_back(changes_.size() - 1);
  }
  return changes_.size() - 1;
}

void DelayModel::change_arrived(uint64_t change, Due due) { changes_.at(change).due = due; }

void DelayModel::change_answered(uint64_t number, const Answer& answer, int64_t log_ms) {
  Change& change = changes_.at(number);
  const auto it = messages_.find(change.uid);
  if (it == messages_.end()) {
    change.state = ChangeState::kNotDone;
    require(change.uid != 0 || answer.outcome == Outcome::kNotFound,
            "I15: changed what nobody sent");
    return;  // its topic was deleted
  }
  Message& message = it->second;
  const std::string what = "change " + std::to_string(number) + " of id " +
                           std::to_string(change.id) + ", answered at " + std::to_string(log_ms) +
                           ", of " + name(change.uid, message);
  const bool wants_reschedule = answer.outcome == Outcome::kRescheduled;
  switch (answer.outcome) {
    case Outcome::kCancelled:
    case Outcome::kRescheduled:
      require(change.reschedule == wants_reschedule, "I15: answers what was not asked: " + what);
      check_change_done(change, message, what);
      change.state = ChangeState::kDone;
      return wants_reschedule ? rescheduled(change, message, answer, what)
                              : cancelled(message, log_ms);
    case Outcome::kAlreadyDelivered:
      change.state = ChangeState::kNotDone;
      return already_delivered(change, message, log_ms, what);
    case Outcome::kNotFound:
      change.state = ChangeState::kNotDone;
      return not_found(number, message, log_ms, what);
  }
}

void DelayModel::check_change_done(const Change& change, const Message& message,
                                   const std::string& what) {
  require(change.id == 0 || change.id == message.id, "I15: the handle was void: " + what);
  require(!ended(message), "I15: changed after it was cancelled: " + what);
  require(!message.delivered, "I15: changed, but was delivered: " + what);
  require(!change.reschedule || message.sent.every_ms == 0, "I15: a recurring one moved: " + what);
  require(change.reschedule || message.sent.every_ms > 0 || message.offsets.empty(),
          "I15: cancelled, but was seen: " + what);
}

void DelayModel::cancelled(Message& message, int64_t log_ms) {
  message.cancelled = true;
  message.cancelled_log_ms = log_ms;
  ++counters_.cancelled;
}

void DelayModel::rescheduled(const Change& change, Message& message, const Answer& answer,
                             const std::string& what) {
  const std::string to = ", to " + std::to_string(answer.new_due_ms) + ", asked for " +
                         (change.due ? std::to_string(change.due->low) : "nothing that arrived");
  require(change.due && answer.new_due_ms >= change.due->low,
          "I12: rescheduled to before the time asked for: " + what + to);
  require(message.seen_log_ms >= answer.new_due_ms, "I12, I15: seen at " +
                                                        std::to_string(message.seen_log_ms) +
                                                        " before its new time: " + what + to);
  message.id = answer.new_id;
  message.due_ms = message.high_ms = answer.new_due_ms;
  message.rescheduled = true;
  ++counters_.rescheduled;
}

void DelayModel::already_delivered(const Change& change, Message& message, int64_t log_ms,
                                   const std::string& what) {
  require(message.sent.every_ms == 0, "I15: a series without end is over: " + what);
  require(change.id == 0 || change.id == message.id, "I15: delivered under a void handle: " + what);
  require(!ended(message), "I15: cancelled, now delivered: " + what);
  require(log_ms + kLeadMs >= low_due(message), "I12: delivered early: " + what);
  message.delivered = true;
  ++counters_.already_delivered;
}

void DelayModel::not_found(uint64_t number, Message& message, int64_t log_ms,
                           const std::string& what) {
  ++counters_.not_found;
  const Change& change = changes_[number];
  if (ended(message) || touched(message, number) || (change.id != 0 && change.id != message.id)) {
    // By handle, and no reschedule may have moved it: so it was cancelled.
    if (change.id == message.id && !maybe_changed(message, true) && message.sent.every_ms == 0) {
      require(message.offsets.empty() && !message.delivered,
              "I15: not found, but was delivered: " + what);
      message.never = true;
    }
    return;
  }
  // A key is free once its message is delivered.
  require(change.id == 0 && message.sent.every_ms == 0 && low_due(message) <= log_ms + kLeadMs,
          "I15: not found, but nobody ended it: " + what);
  message.delivered = true;
}

// --- what must hold

void DelayModel::check_states(ShardId shard, int64_t log_ms,
                              const std::function<Standing(uint64_t id)>& standing) const {
  for (const auto& [uid, message] : messages_) {
    if (message.sent.shard != shard || message.state != State::kAccepted ||
        maybe_changed(message, true)) {
      continue;
    }
    const Standing now = standing(message.id);
    const bool series = message.sent.every_ms > 0;
    const bool delivered = message.delivered || (!series && !message.offsets.empty());
    const auto what = [&] {
      return name(uid, message) + " after a restart at log time " + std::to_string(log_ms) +
             ": state " + std::to_string(static_cast<int>(now));
    };
    if (ended(message)) {
      require(now == Standing::kCancelled, [&] { return "I15: cancelled: " + what(); });
    } else if (delivered) {
      require(now == Standing::kDelivered, [&] { return "I13: was delivered: " + what(); });
    } else if (!message.maybe_replaced && !maybe_changed(message, false)) {
      const bool due = !series && message.due_ms <= log_ms;
      require(now == Standing::kPending || (due && now == Standing::kDelivered),
              [&] { return "I13: was acknowledged: " + what(); });
    }
  }
}

DelayModel::Range DelayModel::pending(TopicId topic, ShardId shard, int64_t log_ms,
                                      int64_t slack_ms) const {
  Range range;
  for (const auto& [uid, message] : messages_) {
    const bool series = message.sent.every_ms > 0;
    if (message.sent.partition.topic != topic || message.sent.shard != shard || ended(message) ||
        message.delivered || message.state == State::kRefused || !message.arrived ||
        (!series && !message.offsets.empty())) {
      continue;
    }
    if (message.state == State::kAccepted && !series && high_due(message) + slack_ms <= log_ms) {
      continue;
    }
    const bool certain = message.state == State::kAccepted && !message.maybe_replaced &&
                         !maybe_changed(message, false) &&
                         (series || low_due(message) > log_ms + kLeadMs);
    range.low += certain ? 1 : 0;
    ++range.high;
  }
  return range;
}

void DelayModel::check_drained(PartitionId partition, bool retention, int64_t log_ms,
                               int64_t slack_ms, const std::vector<Drained>& messages) const {
  std::map<uint64_t, uint64_t> times;
  std::pair<int64_t, uint64_t> newest{INT64_MIN, 0};
  for (const Drained& drained : messages) {
    ++times[drained.uid];
    const Message& message = messages_.at(drained.uid);
    if (message.state != State::kAccepted || message.sent.every_ms > 0 ||
        maybe_changed(message, true)) {
      continue;
    }
    const std::pair<int64_t, uint64_t> key{message.due_ms, message.id};
    require(key > newest, [&] {
      return "I13: out of the order of due times, behind one due at " +
             std::to_string(newest.first) + ": " + name(drained.uid, message) + " at offset " +
             std::to_string(drained.offset.value());
    });
    newest = key;
  }
  for (const auto& [uid, message] : messages_) {
    if (message.sent.partition == partition) {
      const auto it = times.find(uid);
      check_once(uid, message, it == times.end() ? 0 : it->second, log_ms,
                 retention ? INT64_MAX : slack_ms);
    }
  }
}

void DelayModel::check_once(uint64_t uid, const Message& message, uint64_t times, int64_t log_ms,
                            int64_t slack_ms) const {
  const bool series = message.sent.every_ms > 0;
  const auto what = [&] {
    return name(uid, message) + ", " + std::to_string(times) + " times in a drain at log time " +
           std::to_string(log_ms);
  };
  require(series || times <= 1, [&] { return "I13: delivered twice: " + what(); });
  require(series || times == 0 || !ended(message),
          [&] { return "I15: cancelled, but there: " + what(); });
  require(times == 0 || message.state != State::kRefused,
          [&] { return "I15: refused for its key: " + what(); });
  if (slack_ms == INT64_MAX || message.state != State::kAccepted || ended(message) || times > 0) {
    return;
  }
  require(!message.delivered, [&] { return "I13: was delivered, but is not there: " + what(); });
  const bool certain = !message.maybe_replaced && !maybe_changed(message, false);
  require(!certain || high_due(message) + slack_ms > log_ms,
          [&] { return "I13, I14: lost or late: " + what(); });
}

}  // namespace tidemark::sim
