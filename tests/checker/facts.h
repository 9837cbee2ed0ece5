// Facts: a history joined by message and by place. What the rules ask.
//
// Memory: about 100 bytes for each message, and 64 for each time that one was acknowledged or seen.
// Thread: one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/checker/history.h"

namespace tidemark::checker {

using PartitionIndex = uint32_t;
inline constexpr PartitionIndex kNoPartition = UINT32_MAX;

struct Partition {
  TextId topic = kNoText;
  int64_t number = 0;
  // Of the final drain.
  EventIndex start_event = kNoEvent;
  EventIndex end_event = kNoEvent;
  uint64_t start = 0;                               // first offset that is stored
  uint64_t end = 0;                                 // next one to be written
  std::vector<std::pair<uint64_t, uint64_t>> gaps;  // [first, end) without messages, sorted
};

// A message was acknowledged with its offset, read (or leased), or drained.
struct Sighting {
  enum class Kind : uint8_t { kAck, kRead, kDrain };

  PartitionIndex partition = kNoPartition;
  EventIndex event = kNoEvent;
  uint64_t offset = 0;
  uint64_t uid = 0;  // 0: nobody could tell
  Kind kind = Kind::kAck;

  [[nodiscard]] bool seen() const { return kind != Kind::kAck; }
};

struct Message {
  uint64_t uid = 0;
  EventIndex first = kNoEvent;  // invocation
  EventIndex last = kNoEvent;
  EventIndex ack = kNoEvent;                // the first end that was ok
  PartitionIndex partition = kNoPartition;  // unless told by nobody
  TextId txn = kNoText;
  bool may_be_stored = false;  // not every attempt failed for certain
  bool delayed = false;

  // Its offset is given when it is sent.
  [[nodiscard]] bool plain() const { return !delayed && txn == kNoText; }

  [[nodiscard]] bool acked() const { return ack != kNoEvent; }
};

// A plain message of a producer that counts.
struct Sequenced {
  uint64_t producer = 0;
  PartitionIndex partition = kNoPartition;
  uint64_t epoch = 0;
  uint64_t sequence = 0;
  uint32_t message = 0;

  friend auto operator<=>(const Sequenced&, const Sequenced&) = default;
};

class Facts {
 public:
  // Adds an error to `history`, which outlives this, for what it lacks or tells in two ways; then
  // no rule may be asked.
  explicit Facts(History& history);
  Facts(const Facts&) = delete;
  Facts& operator=(const Facts&) = delete;

  [[nodiscard]] const History& history() const { return history_; }

  [[nodiscard]] const std::vector<Partition>& partitions() const { return partitions_; }

  // kNoPartition if neither the event nor the other half of its operation names one.
  [[nodiscard]] PartitionIndex partition_of(EventIndex event) const;
  // "orders/0".
  [[nodiscard]] std::string text_of(PartitionIndex partition) const;

  [[nodiscard]] const std::vector<Message>& messages() const { return messages_; }

  // nullptr: nobody sent it.
  [[nodiscard]] const Message* find(uint64_t uid) const;

  [[nodiscard]] const std::vector<Sequenced>& sequenced() const { return sequenced_; }

  // By partition and offset.
  [[nodiscard]] std::span<const Sighting> sightings() const { return by_place_; }

  // From this offset on, in order of offset, those of the partition.
  [[nodiscard]] std::span<const Sighting> from(PartitionIndex partition, uint64_t offset) const;
  // Of a message, by partition and offset.
  [[nodiscard]] std::span<const Sighting> of(uint64_t uid) const;
  // The least offset at which the message is known to be in its partition.
  [[nodiscard]] std::optional<uint64_t> place_of(const Message& message) const;
  // Different offsets of its partition at which it was seen.
  [[nodiscard]] size_t times_seen(const Message& message) const;
  // It would be seen if it were there, because nothing was ever removed from its partition.
  [[nodiscard]] bool nothing_removed(const Message& message) const;

  // Retention, bounds; kNoEvent if the topic was not described.
  [[nodiscard]] EventIndex topic(TextId name) const;
  // Of the configuration; `fallback` if it does not say.
  [[nodiscard]] int64_t config(Field field, int64_t fallback) const;

  // All invocations of an operation on a message.
  [[nodiscard]] const std::vector<EventIndex>& cancels_of(uint64_t uid) const;
  [[nodiscard]] const std::vector<EventIndex>& reschedules_of(uint64_t uid) const;

  struct Fault {
    EventIndex begin = kNoEvent;
    EventIndex end = kNoEvent;  // kNoEvent: lasts
  };

  [[nodiscard]] const std::vector<Fault>& faults() const { return faults_; }

  // Until when trouble lasts that touches [from_ns, until_ns], the time to recover included;
  // INT64_MIN if there is none.
  [[nodiscard]] int64_t trouble_until_ns(int64_t from_ns, int64_t until_ns) const;

 private:
  using Place = std::pair<TextId, int64_t>;
  using ByMessage = std::unordered_map<uint64_t, std::vector<EventIndex>>;

  // What the event says, or else the other half of its operation.
  [[nodiscard]] std::optional<Place> named_place(EventIndex event) const;
  void take(EventIndex event);
  void take_send(EventIndex event);
  void take_send_end(EventIndex event);
  void take_drain(EventIndex event);
  void see(EventIndex event, Sighting::Kind kind);
  void judge_retry(const Message& message, EventIndex again);
  void sort();
  void judge_sequences();
  void judge_drains();

  History& history_;
  std::vector<Partition> partitions_;
  std::map<Place, PartitionIndex> partition_ids_;
  std::vector<Message> messages_;
  std::unordered_map<uint64_t, uint32_t> message_ids_;
  std::vector<Sighting> by_place_;
  std::vector<Sighting> by_uid_;
  std::vector<Sequenced> sequenced_;
  std::map<TextId, EventIndex> topics_;
  std::vector<EventIndex> configs_;
  ByMessage cancels_;
  ByMessage reschedules_;
  std::vector<Fault> faults_;
};

}  // namespace tidemark::checker
