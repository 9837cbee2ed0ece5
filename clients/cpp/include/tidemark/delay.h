// Delayed messages: when a message is to be delivered, the handle that names it until then, and
// what can be done with a pending one.
//
//   Message m{.value = "remind me", .delay = Delay::after(90'000)};
//   producer->send("reminders", m, [](const Delivery& d) { save(d.handle.to_string()); });
//   ...
//   auto delays = Delays::create(client);
//   auto result = delays->cancel("reminders", {DelayTarget::of(handle)});
//
// Promises: never delivered before its time; delivered exactly once unless cancelled; cancel and
// reschedule answer exactly one of done, already delivered, not found, and what they answer holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tidemark/client.h"
#include "tidemark/error.h"

namespace tidemark::client {

inline constexpr int64_t kDelayMsMax = int64_t{34} * 366 * 24 * 3600 * 1000;

// When a message is delivered. A value; its texts must stay valid during send() only.
class Delay {
 public:
  // This long after the broker received it: the clock of the sender does not matter. 0 to
  // kDelayMsMax.
  static Delay after(int64_t ms) { return Delay(Kind::kAfter, ms); }

  // At this time (ms since 1970, UTC), at most kDelayMsMax from now; at once if it is past.
  static Delay at(int64_t wall_ms) { return Delay(Kind::kAt, wall_ms); }

  // Again and again: first after `ms`, then every `ms` (1,000 to kDelayMsMax).
  static Delay every(int64_t ms) {
    Delay delay(Kind::kAfter, ms);
    delay.repeat_ = Repeat::kEvery;
    delay.every_ms_ = ms;
    return delay;
  }

  // Again and again by six cron fields (second minute hour day month weekday; 1 to 200 bytes) in a
  // time zone (IANA name of at most 64 bytes; empty: UTC). The broker reads them: a wrong one fails
  // the message's whole batch with kInvalidArgument.
  static Delay cron(std::string_view fields, std::string_view zone = {}) {
    Delay delay(Kind::kAfter, 0);
    delay.repeat_ = Repeat::kCron;
    delay.cron_ = fields;
    delay.zone_ = zone;
    return delay;
  }

  // What happens when a message is pending under the key already.
  enum class OnPending { kRefuse, kReplace };

  // A name chosen by the sender, unique per partition among pending messages: at most 255 bytes. A
  // message without a partition of its own goes to that of this key. kRefuse: the second one is
  // refused (kAlreadyExists). kReplace: the first one is cancelled in the same step.
  Delay& with_key(std::string_view key, OnPending on_pending = OnPending::kRefuse) {
    key_ = key;
    replace_ = on_pending == OnPending::kReplace;
    return *this;
  }

  enum class Kind { kAfter, kAt };
  enum class Repeat { kNever, kEvery, kCron };

  [[nodiscard]] Kind kind() const { return kind_; }

  [[nodiscard]] int64_t ms() const { return ms_; }

  [[nodiscard]] Repeat repeat() const { return repeat_; }

  [[nodiscard]] int64_t every_ms() const { return every_ms_; }

  [[nodiscard]] std::string_view cron() const { return cron_; }

  [[nodiscard]] std::string_view zone() const { return zone_; }

  [[nodiscard]] std::string_view key() const { return key_; }

  [[nodiscard]] bool replace() const { return replace_; }

 private:
  friend struct OwnedDelay;

  Delay(Kind kind, int64_t ms) : kind_(kind), ms_(ms) {}

  Kind kind_;
  int64_t ms_;
  Repeat repeat_ = Repeat::kNever;
  int64_t every_ms_ = 0;
  std::string_view cron_ = {};
  std::string_view zone_ = {};
  std::string_view key_ = {};
  bool replace_ = false;
};

// A Delay that owns its texts: of messages that flush() and close() hand back.
struct OwnedDelay {
  Delay::Kind kind = Delay::Kind::kAfter;
  int64_t ms = 0;  // kAfter: counts from when the broker receives the message, not from send()
  Delay::Repeat repeat = Delay::Repeat::kNever;
  int64_t every_ms = 0;
  std::string cron;
  std::string zone;
  std::string key;
  bool replace = false;

  // To send it again: views this object.
  [[nodiscard]] Delay view() const {
    Delay delay(kind, ms);
    delay.repeat_ = repeat;
    delay.every_ms_ = every_ms;
    delay.cron_ = cron;
    delay.zone_ = zone;
    delay.key_ = key;
    delay.replace_ = replace;
    return delay;
  }
};

// Names one delayed message until it is delivered, cancelled, replaced or rescheduled; a recurring
// one until it is cancelled. Opaque: keep it as text. Empty: none.
class DelayHandle {
 public:
  DelayHandle() = default;

  // 52 characters of A-Z a-z 0-9 - _; empty for an empty handle.
  [[nodiscard]] std::string to_string() const;
  // kInvalidArgument for a text that is not a handle (a typing error is noticed).
  static Result<DelayHandle> parse(std::string_view text);

  [[nodiscard]] bool empty() const { return id == 0; }

  // For this library; meaningless to programs.
  uint16_t shard = 0;
  uint32_t topic = 0;
  uint32_t tag = 0;
  int64_t due_ms = 0;
  uint64_t id = 0;
  uint64_t position = 0;

  friend bool operator==(const DelayHandle&, const DelayHandle&) = default;
};

// What the broker said to one item of a batch of delayed messages.
struct DelayReceipt {
  Status status;            // kAlreadyExists: the key is taken. Then the message was not stored
  int64_t due_ms = 0;       // when it will be delivered
  DelayHandle handle = {};  // what cancels it
};

// A pending message, by handle or by key.
struct DelayTarget {
  static DelayTarget of(const DelayHandle& to_handle) { return {to_handle, {}, std::nullopt}; }

  // `in_partition`: where the message was sent if a partition was named, else it follows from the
  // key.
  static DelayTarget of_key(std::string to_key, std::optional<uint32_t> in_partition = {}) {
    return {{}, std::move(to_key), in_partition};
  }

  DelayHandle handle;
  std::string key;
  std::optional<uint32_t> partition;
};

enum class DelayOutcome { kNotFound, kCancelled, kRescheduled, kAlreadyDelivered };

// "not_found", "cancelled", "rescheduled", "already_delivered".
std::string_view delay_outcome_text(DelayOutcome outcome);

struct DelayChange {
  // kOutcomeUnknown, kTimedOut: the answer was lost; it may have been done, and asking again may
  // then answer kNotFound. Any other error: nothing was done, e.g. kInvalidArgument (neither handle
  // nor key, a handle of another topic, no such partition).
  Status status;
  DelayOutcome outcome = DelayOutcome::kNotFound;
  DelayReceipt receipt;  // kRescheduled: the new handle; the old one is void
};

struct DelayedMessage {
  uint32_t partition = 0;
  DelayHandle handle;
  int64_t due_ms = 0;
  uint32_t bytes = 0;    // stored
  std::string key;       // empty: none
  int64_t every_ms = 0;  // recurring: not 0, or cron is not empty
  std::string cron;
  std::string zone;
  // show() only:
  std::optional<std::string> message_key;
  std::optional<std::string> message_value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
};

struct DelayQuery {
  std::optional<uint32_t> partition = {};
  int64_t due_from_ms = 0;
  int64_t due_to_ms = INT64_MAX;  // included
  // Only this key: in `partition`, or in the one that follows from the key.
  std::string key = {};
  uint32_t limit = 100;  // 1 to 10,000
  // Where a page ended: nothing up to here is listed.
  std::optional<DelayHandle> after = {};
};

struct DelayStats {
  std::string topic;
  uint64_t pending = 0;
  uint64_t bytes = 0;
  uint64_t overdue = 0;
  int64_t now_ms = 0;  // of the brokers
  // (due from this ms on up to the next multiple of 65,536, messages), in order.
  std::vector<std::pair<int64_t, uint64_t>> buckets;
};

// Thread: any, except the client's I/O thread (kInvalidArgument). Every call waits for its answer,
// at most deadline_ms. Passing failures are tried again until then; a cancel or reschedule whose
// answer was lost is not (see DelayChange::status).
class Delays {
 public:
  static Result<Delays> create(const Client& client);

  // One answer per target, in order. The whole call fails with kUnknownTopic, or when nothing could
  // be asked. At most 1,024 targets travel in one request; more are sent in several.
  Result<std::vector<DelayChange>> cancel(std::string_view topic,
                                          const std::vector<DelayTarget>& targets,
                                          int64_t deadline_ms = 10'000);
  // `when`: Delay::after or Delay::at, without a key; Delay::after(0) delivers now. The key of the
  // message stays. kNotAllowed for a recurring message: cancel it and send it anew.
  Result<std::vector<DelayChange>> reschedule(std::string_view topic,
                                              const std::vector<DelayTarget>& targets,
                                              const Delay& when, int64_t deadline_ms = 10'000);
  // Pending messages in the order of their due times, over all partitions. The next page comes with
  // DelayQuery::after set to the last handle of this one.
  Result<std::vector<DelayedMessage>> list(std::string_view topic, const DelayQuery& query = {},
                                           int64_t deadline_ms = 10'000);
  // One pending message with its content. kNotFound says whether it was delivered.
  Result<DelayedMessage> show(std::string_view topic, const DelayTarget& target,
                              int64_t deadline_ms = 10'000);
  // Of one topic, or of all that have pending messages when `topic` is empty.
  Result<std::vector<DelayStats>> stats(std::string_view topic = {}, int64_t deadline_ms = 10'000);

 private:
  explicit Delays(Client client) : client_(std::move(client)) {}

  Client client_;
};

}  // namespace tidemark::client
