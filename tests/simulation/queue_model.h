// What became of the messages of queues. Events come in any order with their times; all that is
// known is judged at the end, message by message.
//
//   I20  each message of a queue is acked, or in retry, or in the dead-letter topic, never in two;
//        deliveries are counted right. That is:
//        - what was settled for sure is not leased in a reply that left later
//        - the deliveries of a lease never go back, count each nack that was answered before, and
//          nothing but deliveries that may have failed
//        - while somebody holds a message, nobody else gets it or settles it, and he is not refused
//        - after a nack it is not leased before its delay is over
//        - in the end each message was leased, and is settled because somebody acked it, or it lies
//          in the dead-letter topic, once
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "log/base/ids.h"
#include "tests/simulation/group_model.h"

namespace tidemark::sim {

// What all topics ask of queue mode, dead letters apart.
inline constexpr int64_t kQueueRetryMs[] = {100, 300};
inline constexpr uint32_t kQueueRetryFactorPercent = 200;
inline constexpr int64_t kQueueRetryMsMax = 1'000;

class QueueModel {
 public:
  using Name = GroupModel::Name;

  enum class Action : uint8_t { kAck, kNack, kExtend, kDeadLetter, kRelease };
  // kUnsure: may have been done, or be done later.
  enum class Answer : uint8_t { kOk, kFenced, kNotFound, kUnsure };

  // Deliveries after which a message becomes a dead letter; 0: never.
  // `letters_fail`: a message may be unreadable when it has to become a dead letter; then it is
  // delivered once more.
  explicit QueueModel(uint32_t max_deliveries = 0, bool letters_fail = false)
      : max_deliveries_(max_deliveries), letters_fail_(letters_fail) {}

  // --- requests; each call gives a number for the next ones
  uint64_t receive_sent(const std::string& group, const std::vector<PartitionId>& partitions,
                        int64_t visibility_ms);
  void receive_arrived(uint64_t receive, int64_t at_ns);
  // With all that it gave, or without anything.
  void receive_answered(uint64_t receive);

  struct Lease {
    Offset offset;
    uint64_t token = 0;
    uint32_t deliveries = 0;
  };

  // By the answer to `receive`, which left at log time `log_ms`.
  void leased(uint64_t receive, PartitionId partition, const Lease& lease, int64_t left_ns,
              int64_t log_ms);

  struct Settle {
    Name name;
    Offset offset;
    uint64_t token = 0;  // 0: of an operator
    uint64_t count = 1;  // with token 0
    Action action = Action::kAck;
    int64_t delay_ms = 0;  // -1: the topic's
    bool trimmed = false;  // retention may have taken the message: an ack of it is ok
  };

  uint64_t settle_sent(const Settle& settle);
  void settle_arrived(uint64_t settle, int64_t at_ns, int64_t log_ms);
  void settle_answered(uint64_t settle, Answer answer, int64_t left_ns, int64_t log_ms);

  // What is not answered now never will be.
  void broker_started(int64_t at_ns) { starts_.push_back(at_ns); }

  // The topic was deleted: nothing is promised of it any more.
  void forget(TopicId topic);

  // --- judging, at the end
  struct DeadLetter {
    Offset offset;  // from where it died
    uint32_t deliveries = 0;
    int64_t log_ms = 0;
  };

  // All that lies in the dead-letter topic, one by one, before check().
  void dead_letter(const Name& name, const DeadLetter& letter);
  void check() const;
  // The queue says that all up to `end` is settled. `trimmed`: retention may have taken what nobody
  // saw.
  void check_settled(const Name& name, Offset end, bool trimmed) const;

  struct Counters {
    uint64_t leases = 0;
    uint64_t again = 0;  // deliveries after the first
    uint64_t acks = 0;
    uint64_t nacks = 0;
    uint64_t released = 0;
    uint64_t extended = 0;
    uint64_t fenced = 0;
    uint64_t not_found = 0;
    uint64_t dead_letters = 0;
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Receive {
    std::string group;
    std::vector<PartitionId> partitions;
    int64_t visibility_ns = 0;
    int64_t arrived_ns = INT64_MAX;
    bool answered = false;
  };

  struct Given {
    uint64_t token = 0;
    uint32_t deliveries = 0;
    int64_t taken_ns = 0;  // not before
    int64_t left_ns = 0;
    int64_t log_ms = 0;
    int64_t visibility_ns = 0;
  };

  struct Settling {
    Settle settle;
    int64_t arrived_ns = INT64_MAX;
    int64_t arrived_log_ms = 0;
    Answer answer = Answer::kUnsure;
    int64_t left_ns = INT64_MAX;
    int64_t left_log_ms = 0;
  };

  struct Message {
    std::vector<Given> leases;  // in any order
    std::vector<uint64_t> settlings;
    std::vector<DeadLetter> deaths;
  };

  using Queue = std::map<Offset, Message>;

  // Of one message; leases by the time when they left, settlings by the time of arrival.
  struct History {
    [[nodiscard]] std::string what() const;

    const Name& name;
    Offset offset;
    std::vector<Given> leases;
    std::vector<Settling> settlings;
    std::vector<DeadLetter> deaths;
    // When leases of which nobody knows may have failed, sorted.
    const std::vector<int64_t>* unknown_failures = nullptr;
  };

  [[nodiscard]] History history_of(const Name& name, Offset offset, const Message& message) const;
  [[nodiscard]] std::vector<int64_t> unknown_failures(const Name& name) const;
  [[nodiscard]] int64_t process_end_ns(int64_t at_ns) const;
  // While [left, held_until) nobody else can have the message; by the first `settlings`.
  [[nodiscard]] int64_t held_until_ns(const Given& lease, const History& history,
                                      size_t settlings) const;
  [[nodiscard]] bool may_have_failed(const Given& lease, const History& history,
                                     int64_t before_ns) const;
  [[nodiscard]] bool is_settlement(const Settling& settling) const;

  void check_settled_once(const History& history) const;
  void check_deliveries(const History& history) const;
  void check_holders(const History& history) const;
  // The holder is not refused, and nobody else settles what he holds.
  void check_settling_of(const Given& lease, const History& history) const;
  void check_delays(const History& history) const;
  void check_deaths(const History& history) const;

  const uint32_t max_deliveries_;
  const bool letters_fail_;
  std::map<Name, Queue> queues_;
  std::map<uint64_t, Receive> receives_;
  std::map<uint64_t, Settling> settlings_;
  uint64_t next_ = 1;
  std::vector<int64_t> starts_;
  std::set<TopicId> forgotten_;
  Counters counters_;
};

}  // namespace tidemark::sim
