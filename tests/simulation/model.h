// Model: what clients did and saw, and the rules that must hold over it. Knows nothing of the
// broker. Delayed messages keep I1 to I4 and I6; what else holds for them is in delay_model.h.
//
//   I1  an acknowledged message is never lost, and lies at exactly the offset of the
//   acknowledgement I2  nothing is read that was not sent I3  what is read is what was sent, in the
//   partition it was sent to I4  an offset of a partition means one message, for ever I5  messages
//   of a producer keep their order in a partition; what was acknowledged before another was sent
//   lies before it I6  between two offsets that exist none is missing I7  what was read once is
//   there later, unless retention took it I11 a message that was sent several times is stored once
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/ids.h"
#include "tests/simulation/delay_model.h"
#include "tests/simulation/group_model.h"
#include "tests/simulation/queue_model.h"
#include "tests/simulation/txn_model.h"

namespace tidemark::sim {

class Model {
 public:
  explicit Model(uint64_t seed, TxnModel::Ages ages = {}, uint32_t max_deliveries = 0,
                 bool letters_fail = false)
      : seed_(seed), txns_(delays_, ages), queues_(max_deliveries, letters_fail) {}

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // A message is about to be sent for the first time: its unique id, from 1 on. `sequence` counts
  // the producer's messages to this partition from 0.
  uint64_t sent(PartitionId partition, uint64_t producer, uint64_t sequence, uint32_t pad_bytes);
  // The same for a delayed message, which has no place among those of its producer.
  uint64_t sent_delayed(PartitionId partition, uint32_t pad_bytes);
  // Nobody could see the message before now: it lies behind all that is acknowledged.
  void hidden_until_now(uint64_t uid);
  // What it carries: id, partition, noise, checksum.
  [[nodiscard]] std::string value_of(uint64_t uid) const;
  // Messages uid, uid + 1, ... of one batch were acknowledged.
  void acknowledged(uint64_t first_uid, size_t count, Offset base);
  // Gives the message's id.
  uint64_t read(PartitionId partition, Offset offset, std::string_view value);

  [[nodiscard]] bool is_delayed(uint64_t uid) const { return messages_.at(uid - 1).delayed; }

  [[nodiscard]] DelayModel& delays() { return delays_; }

  [[nodiscard]] const DelayModel& delays() const { return delays_; }

  [[nodiscard]] TxnModel& txns() { return txns_; }

  [[nodiscard]] const TxnModel& txns() const { return txns_; }

  [[nodiscard]] GroupModel& groups() { return groups_; }

  [[nodiscard]] const GroupModel& groups() const { return groups_; }

  [[nodiscard]] QueueModel& queues() { return queues_; }

  [[nodiscard]] const QueueModel& queues() const { return queues_; }

  // The topic was deleted: nothing is promised of it any more.
  void forget(TopicId topic);

  // Partitions that a client used. Offsets from `end_of` on are unknown to everybody; below it each
  // was acknowledged or read.
  [[nodiscard]] std::vector<PartitionId> partitions() const;
  [[nodiscard]] Offset end_of(PartitionId partition) const;
  [[nodiscard]] bool used(PartitionId partition) const;

  // `messages` is all that is stored in the partition at the end, from `start` on.
  struct Stored {
    Offset offset;
    std::string value;
  };

  void check_drained(PartitionId partition, Offset start, bool retention,
                     const std::vector<Stored>& messages);

  [[nodiscard]] uint64_t messages_sent() const { return messages_.size(); }

  [[nodiscard]] uint64_t messages_acknowledged() const { return acknowledged_; }

  [[nodiscard]] uint64_t messages_read() const { return read_; }

 private:
  struct MessageState {
    PartitionId partition;
    uint64_t producer = 0;
    uint64_t sequence = 0;
    uint32_t pad_bytes = 0;
    bool delayed = false;
    bool acknowledged = false;
    Offset offset{};                       // once acknowledged
    Offset floor{};                        // its offset is at least this
    std::optional<uint64_t> value_hash{};  // once it was read
  };

  struct PartitionState {
    std::vector<uint64_t> uids;  // by offset; 0: not known
    Offset acknowledged_end;     // behind the largest offset acknowledged
  };

  // The id in a value that is intact and belongs to `partition`.
  uint64_t check_value(PartitionId partition, Offset offset, std::string_view value);
  void identify(PartitionId partition, Offset offset, uint64_t uid);

  const uint64_t seed_;
  std::vector<MessageState> messages_;  // by uid - 1
  std::map<PartitionId, PartitionState> partitions_;
  DelayModel delays_;
  TxnModel txns_;
  GroupModel groups_;
  QueueModel queues_;
  uint64_t acknowledged_ = 0;
  uint64_t read_ = 0;
};

}  // namespace tidemark::sim
