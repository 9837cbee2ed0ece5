// DelayModel: what clients asked of delayed messages and were told, and the rules that must hold
// over it. Knows nothing of the broker.
//
//   I12  a delayed message is never seen early
//   I13  an acknowledged one that was not cancelled comes exactly once, in the order of due times
//   I15  what became of a cancelled or rescheduled one is what the answer said
//
// Time. Due times are in log time: the wall clock when the broker process began, or the latest time
// in the log if that is later, and from then on the monotonic clock. The model computes it by
// itself, from the two clocks and from the log time that was recovered (which may be ahead of the
// log time at the death by kLeadMs at most: messages are delivered so much early, and hidden). So
//   - within a process, a relative delay is measured by the monotonic clock from the arrival of the
//     request to the moment the fetch reply leaves the broker, whatever the wall clock does;
//   - a wall time is translated by the clocks as they stand when the request arrives;
//   - across a restart, the wall clock decides how much time has passed, but log time never goes
//     back.
// A due time is bounded below by what the earliest arrival of the request asks for (a repeated
// request may be taken at any of its arrivals); once acknowledged, it is that of the receipt.
//
// A request without an answer may have been done or not, at any time from then on. Requests about
// one key are made one after the other, by one client (`previous`).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "log/base/ids.h"

namespace tidemark::sim {

class DelayModel {
 public:
  static constexpr int64_t kLeadMs = 5;

  // --- log time of the shards
  void broker_started(ShardId shard, int64_t monotonic_ns, int64_t wall_ms, int64_t recovered_ms);
  void broker_ended(ShardId shard, int64_t monotonic_ns);
  [[nodiscard]] int64_t log_ms(ShardId shard, int64_t monotonic_ns) const;

  // Log times between which a message must be due.
  struct Due {
    int64_t low = 0;
    int64_t high = 0;
  };

  [[nodiscard]] Due due_after(ShardId shard, int64_t monotonic_ns, int64_t delay_ms) const;
  [[nodiscard]] Due due_at(ShardId shard, int64_t monotonic_ns, int64_t now_wall_ms,
                           int64_t wall_ms) const;

  // --- messages, by the unique id of their value
  struct Sent {
    PartitionId partition;
    ShardId shard;
    int64_t every_ms = 0;  // 0: comes once
    bool keyed = false;
    bool replace = false;
    uint64_t previous = 0;  // the last message known to be taken under its key; 0: none
  };

  void sent(uint64_t uid, const Sent& sent);
  // A request with it reached the broker.
  void arrived(uint64_t uid, Due due);
  // Answers, at log time `log_ms`.
  void accepted(uint64_t uid, uint64_t id, int64_t due_ms, int64_t log_ms);
  void key_taken(uint64_t uid);
  // A reader got it in a reply that left at `log_ms`.
  void seen(uint64_t uid, Offset offset, int64_t log_ms);
  // The topic was deleted: nothing is promised of it any more.
  void forget(TopicId topic);

  // --- cancel and reschedule
  enum class Outcome : uint8_t { kNotFound, kCancelled, kRescheduled, kAlreadyDelivered };

  // `id`: of the handle; 0: by key. Gives a number for the next calls.
  uint64_t change_sent(uint64_t uid, uint64_t id, bool reschedule);
  void change_arrived(uint64_t change, Due due);

  struct Answer {
    Outcome outcome = Outcome::kNotFound;
    uint64_t new_id = 0;
    int64_t new_due_ms = 0;
  };

  void change_answered(uint64_t change, const Answer& answer, int64_t log_ms);

  // Certainly not done.
  void change_refused(uint64_t change) { changes_.at(change).state = ChangeState::kNotDone; }

  // --- what must hold
  enum class Standing : uint8_t { kNone, kPending, kDelivered, kCancelled };
  // Of the broker's state right after recovery, when log time was `log_ms`.
  void check_states(ShardId shard, int64_t log_ms,
                    const std::function<Standing(uint64_t id)>& standing) const;

  struct Range {
    uint64_t low = 0;
    uint64_t high = 0;
  };

  // How many are pending at log time `log_ms`, if everything due `slack_ms` before is delivered.
  [[nodiscard]] Range pending(TopicId topic, ShardId shard, int64_t log_ms, int64_t slack_ms) const;

  struct Drained {
    Offset offset;
    uint64_t uid = 0;
  };

  // All messages of a partition in a drain that began at `log_ms`, those that are not delayed left
  // out. What was due `slack_ms` before must be there, unless retention took it.
  void check_drained(PartitionId partition, bool retention, int64_t log_ms, int64_t slack_ms,
                     const std::vector<Drained>& messages) const;

  // Log times at which it is due; nullopt: not acknowledged, or it may have been changed.
  [[nodiscard]] std::optional<int64_t> certain_due(uint64_t uid) const;
  [[nodiscard]] bool knows(TopicId topic) const;

  [[nodiscard]] bool is_series(uint64_t uid) const { return messages_.at(uid).sent.every_ms > 0; }

  struct Counters {
    uint64_t sent = 0;
    uint64_t accepted = 0;
    uint64_t key_taken = 0;
    uint64_t seen = 0;
    uint64_t cancelled = 0;
    uint64_t rescheduled = 0;
    uint64_t already_delivered = 0;
    uint64_t not_found = 0;
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Clock {
    int64_t anchor_ns = 0;
    int64_t anchor_ms = 0;
    int64_t latest_ms = 0;  // largest log time the last process can have written; 0: none
  };

  enum class State : uint8_t { kUnknown, kAccepted, kRefused };

  struct Message {
    Sent sent;
    State state = State::kUnknown;
    uint64_t id = 0;      // current, once accepted
    int64_t due_ms = 0;   // current; before it is accepted the lowest possible one
    int64_t high_ms = 0;  // before it is accepted: the highest possible one
    bool arrived = false;
    bool key_was_free = false;    // when it was sent
    bool maybe_replaced = false;  // another one was sent under its key
    bool cancelled = false;       // by an answer
    bool delivered = false;       // by an answer
    bool never = false;           // ended before it was delivered, says an answer
    bool rescheduled = false;
    int64_t cancelled_log_ms = 0;
    int64_t seen_log_ms = INT64_MAX;  // first
    std::set<Offset> offsets;
    std::vector<uint64_t> changes;
  };

  enum class ChangeState : uint8_t { kOpen, kDone, kNotDone };

  // kOpen until it is answered, and for ever if the answer is lost.
  struct Change {
    uint64_t uid = 0;
    uint64_t id = 0;
    bool reschedule = false;
    ChangeState state = ChangeState::kOpen;
    std::optional<Due> due;  // reschedule, once it arrived
  };

  [[nodiscard]] std::string name(uint64_t uid, const Message& message) const;
  // Changes without an answer that may have been done to it.
  [[nodiscard]] bool maybe_changed(const Message& message, bool reschedule) const;
  [[nodiscard]] bool touched(const Message& message, uint64_t except) const;
  [[nodiscard]] int64_t low_due(const Message& message) const;
  [[nodiscard]] int64_t high_due(const Message& message) const;
  [[nodiscard]] bool ended(const Message& message) const;
  void check_previous(const Message& message, int64_t log_ms);
  void check_change_done(const Change& change, const Message& message, const std::string& what);
  void cancelled(Message& message, int64_t log_ms);
  void rescheduled(const Change& change, Message& message, const Answer& answer,
                   const std::string& what);
  void already_delivered(const Change& change, Message& message, int64_t log_ms,
                         const std::string& what);
  void not_found(uint64_t number, Message& message, int64_t log_ms, const std::string& what);
  void check_once(uint64_t uid, const Message& message, uint64_t times, int64_t log_ms,
                  int64_t slack_ms) const;

  std::map<ShardId, Clock> clocks_;
  std::map<uint64_t, Message> messages_;  // by uid
  std::vector<Change> changes_;
  Counters counters_;
};

}  // namespace tidemark::sim
