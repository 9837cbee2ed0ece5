// Dispatcher: gives the messages of a partition to the consumers of a group, one by one. It is the
// leader's memory of a queue: lost at a restart, rebuilt from the queue's state (queue_table.h) and
// the partition's batches.
//
//   loaded --> ready --take--> leased --begin_settle--> settling --settled--> gone
//                ^               | extend                  |
//                |               +-- time over: expire --->+
//                +------------ retry time has come <-- failed
//
// Loading goes ahead of what is given by at most `window` unsettled messages: priority holds within
// them. With `ordered`, of the messages with one key only the oldest unsettled one can be given,
// and whatever its priority is, it does not overtake within its key.
//
// A message that waits or is leased has one entry in the timing wheel that counts, which names it
// by a number. A lease that is extended keeps its entry, and gets the next one when that comes up;
// entries of what was settled meanwhile are passed over, and swept out when they are too many.
//
// Times are log time in ms. Thread: the shard's loop. Knows no log, no clock; everything is bounded
// by the window.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "broker/queue/queue_table.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/status.h"
#include "timerwheel/timing_wheel.h"

namespace tidemark::queue {

inline constexpr uint8_t kPriorities = 8;  // 7 goes first; 0 is what a message has that names none
// Entries of the timing wheel that count no more, beyond as many as those that do.
inline constexpr size_t kStaleTimersMax = 1024;

// A message as read from its batch.
struct LoadedMessage {
  Offset offset;
  uint32_t bytes = 0;
  uint8_t priority = 0;   // above 7: 7
  uint64_t key_hash = 0;  // 0: no key
};

struct Lease {
  Offset offset;
  uint64_t token = 0;
  uint32_t deliveries = 0;  // this one included
};

class Dispatcher {
 public:
  struct Options {
    bool ordered = false;
    size_t window = limits::kQueueWindow;
  };

  // Loading begins at `from`. Tokens count up from `first_token` (not 0): whoever restarts begins
  // with another one.
  Dispatcher(Options options, Offset from, uint64_t first_token);

  // --- loading
  // Where to go on, if there is room; nullopt: the window is full. What is loaded may exceed it by
  // one step.
  [[nodiscard]] std::optional<Offset> wants_load() const;

  [[nodiscard]] Offset loaded_to() const { return next_load_; }

  // Messages from loaded_to() on, up to `next`, in order of offset (earlier ones are passed over: a
  // batch begins before them, or trim() came between). Those that `state` (nullptr: nothing is
  // settled) says are settled are left out, those that failed wait for their time.
  void load(std::span<const LoadedMessage> messages, Offset next, const QueueState* state,
            int64_t now_ms);

  // --- giving
  [[nodiscard]] bool has_ready() const { return ready_ > 0; }

  struct Wanted {
    size_t messages = 0;
    size_t bytes = 0;
    int64_t lease_until_ms = 0;
    bool one_anyway = true;  // the first message is given whatever its size
  };

  // The highest priority first, in a priority the lowest offset; ends before the first one that
  // makes it too many bytes. Appends; gives the bytes. A lease counts until expire() ends it.
  size_t take(const Wanted& wanted, std::vector<Lease>& out);

  // --- settling
  // From now on until settled(), failed() or put_back() nobody else can get or settle it. Token 0:
  // without a lease (an ack of an operator or of one whose lease is over).
  //   kFenced       another lease has it, or another settling is under way
  //   kUnavailable  one with this token is under way, or its lease has just ended: try again
  //   kNotFound     token other than 0: this lease is over; or it is not loaded (an ack then needs
  //                 no leave: nobody can have it)
  ErrorCode begin_settle(Offset offset, uint64_t token);
  // The lease ends at another time, earlier or later.
  // kNotFound: this lease is over (kFenced: and another has it).
  ErrorCode extend(Offset offset, uint64_t token, int64_t lease_until_ms);
  // The record was applied; nothing if the offset is not loaded. Whoever has it leased has it no
  // more.
  void settled(Offset offset);
  void failed(Offset offset, uint32_t failures, int64_t retry_ms, int64_t now_ms);
  // It was not written, or the lease did not reach anybody: ready again at once, or when the time
  // comes that it waited for before; deliveries as before. Nothing if it is neither settling nor
  // leased.
  void put_back(Offset offset);
  // Everything before `start` is gone.
  void trim(Offset start);

  // --- time
  // What waited for its time until `now_ms` is ready; leases that ended, at most `limit`, are
  // settling from now on.
  void expire(int64_t now_ms, size_t limit, std::vector<Offset>& out);
  // When expire() has something to do; nullopt: never.
  [[nodiscard]] std::optional<int64_t> next_wake() const;

  // --- numbers
  [[nodiscard]] size_t size() const { return messages_.size(); }  // loaded and unsettled

  [[nodiscard]] size_t ready() const { return ready_; }

  [[nodiscard]] size_t leased() const { return leased_; }

  [[nodiscard]] size_t retrying() const { return retrying_; }

  // Recorded failures of a loaded message; 0: none.
  [[nodiscard]] uint32_t failures(Offset offset) const;

  // Entries of the timing wheel, those that count no more included.
  [[nodiscard]] size_t timers() const;

  // Fails the process, naming the invariant, if one of these does not hold. O(n). For tests.
  // (1) the counts are those of the messages in each state; (2) a message is among the ready ones
  // if it is ready and, with `ordered`, the first of its key; (3) the messages of a key are linked
  // in order of offset; (4) what waits or is leased has one entry of the wheel that counts, no
  // later than its time, and the others have none; (5) stale entries are bounded.
  void check_invariants() const;

 private:
  enum class State : uint8_t { kReady, kRetrying, kLeased, kSettling };

  static constexpr uint64_t kNone = UINT64_MAX;  // no offset

  struct Message {
    uint32_t bytes = 0;
    uint32_t failures = 0;
    uint8_t priority = 0;
    State state = State::kReady;
    uint64_t key_hash = 0;  // 0: does not block, nor is blocked
    uint64_t token = 0;     // leased; settling: that of the lease which was, if any
    // Retrying, leased; settling: what it waited for, if anything.
    int64_t until_ms = 0;     // retry time, end of the lease
    uint64_t timer = 0;       // id of the entry of the wheel that counts; 0: none
    int64_t timer_ms = 0;     // when that is due: not after until_ms
    uint64_t before = kNone;  // of the same key
    uint64_t behind = kNone;
  };

  using Messages = std::unordered_map<uint64_t, Message>;

  struct OfKey {
    uint64_t first = kNone;
    uint64_t last = kNone;
  };

  // An entry of the wheel that came up and is the end of a lease.
  struct Ended {
    uint64_t offset = 0;
    uint64_t timer = 0;
  };

  [[nodiscard]] bool can_be_given(const Message& message) const;
  void enter(uint64_t offset, Message& message, State state);
  void leave(uint64_t offset, Message& message);
  void link(uint64_t offset, Message& message);
  void unlink(const Message& message);
  Messages::iterator remove(Messages::iterator at);
  void lease(uint64_t offset, Message& message, int64_t until_ms);
  void settle(uint64_t offset, Message& message, uint64_t token);
  void retry(uint64_t offset, Message& message, int64_t retry_ms, int64_t now_ms);

  void set_timer(uint64_t offset, Message& message);
  void clear_timer(Message& message);
  void sweep_timers();
  [[nodiscard]] Message* owner_of(uint64_t offset, uint64_t timer);
  void timer_is_due(uint64_t offset, uint64_t timer, int64_t now_ms);

  Options options_;
  Offset next_load_;
  uint64_t next_token_;
  Messages messages_;
  uint64_t lowest_;  // no message is before it
  std::array<std::set<uint64_t>, kPriorities> ready_of_;
  std::unordered_map<uint64_t, OfKey> keys_;  // with `ordered`
  size_t ready_ = 0;                          // that can be given
  size_t leased_ = 0;
  size_t retrying_ = 0;

  std::unique_ptr<timerwheel::TimingWheel> wheel_;  // with the first entry
  std::deque<Ended> ended_;                         // came up, oldest first
  uint64_t next_timer_ = 1;
  int64_t now_ms_ = 0;                  // last time that was told
  std::vector<timerwheel::Entry> due_;  // scratch
};

}  // namespace tidemark::queue
