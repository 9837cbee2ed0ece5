// QueueDesk: the consumers of queue mode on a shard: who waits, what is leased, what is settled.
//
//   receiver --waits--> Queue: load ahead (index -> MessageReader -> parse) --> Dispatcher
//       ^                                                                          | take
//       +-------- reply: batches and leases <-- MessageReader <--------------------+
//   acks, nacks, ended leases of a turn --> one QueueSettle record of a group and partition
//       --> applied (Views) --> dispatcher told, requests answered
//
// Everything here is the leader's memory: lost when it loses its role, built anew from the views as
// receivers come. Owner: Shard. Thread: its loop. Times are log time in ms.
// Bounds: receivers by limits::kQueueReceiversPerShardMax, queues by limits::kQueuesPerShardMax,
// messages of a queue by Dispatcher's window, loads by limits::kColdReadsInFlightPerShardMax and
// one for each queue.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/filter/filter.h"
#include "broker/partition/batch_ref.h"
#include "broker/protocol/messages.h"
#include "broker/queue/ack_ranges.h"
#include "broker/queue/dispatcher.h"
#include "broker/shard/batch_source.h"
#include "broker/shard/message_reader.h"
#include "broker/shard/queue_letter.h"
#include "broker/shard/queue_load.h"
#include "broker/shard/session.h"
#include "broker/shard/shard_runtime.h"
#include "broker/shard/views.h"
#include "log/base/clock.h"
#include "log/base/limits.h"

namespace tidemark::shard {

// A request whose items are settled one by one.
struct QueueSettleOp {
  ReplyTo to;
  std::vector<ErrorCode> results;
  size_t unanswered = 0;
};

// A QueueSettle record: gathered, then under way.
struct QueuePending {
  struct Failure {
    Offset offset;
    int64_t retry_ms = 0;
  };

  struct Letter {
    Offset offset;
    QueueLetter letter;
  };

  // An item of a request that is answered when the record is applied.
  struct Waiter {
    std::shared_ptr<QueueSettleOp> op;
    size_t item = 0;
    std::optional<Offset> letter = {};  // done only if this one has moved
    ErrorCode result = ErrorCode::kOk;  // else
  };

  std::string group;
  PartitionId partition;
  uint64_t queue = 0;  // its serial number; 0: it is not in memory
  std::vector<queue::AckRange> acks;
  // Nobody is asked about these; a record that fails with them is written again.
  std::vector<queue::AckRange> unseen;
  uint32_t expired = 0;
  uint32_t filtered = 0;
  std::vector<Failure> failures;
  std::vector<Letter> letters;
  std::vector<Waiter> waiters;
  size_t bytes = 0;  // of the record, at most
  bool unloaded =
      false;  // acks messages that were not loaded: nothing is loaded until it is applied
};

// The name of a consumer group: 1 to 255 bytes.
Status check_queue_group(std::string_view group);

// What the desk asks of its shard.
class QueueHost {
 public:
  virtual ~QueueHost() = default;
  [[nodiscard]] virtual Status may_write() const = 0;
  // The log's clock, which never goes back. Not the time of records: that may be ahead of it.
  [[nodiscard]] virtual int64_t queue_time() = 0;
  // The first millisecond of it that begins no earlier than `delay_ms` from now.
  [[nodiscard]] virtual int64_t queue_time_after(int64_t delay_ms) = 0;
  [[nodiscard]] virtual int64_t record_time() = 0;
  [[nodiscard]] virtual Offset visible_end(const partition::Partition& partition) const = 0;
  // The record becomes part of the next entry; then settle() or fail() is called.
  virtual void gather_settle(const flatbuffers::FlatBufferBuilder& body,
                             std::unique_ptr<QueuePending> pending) = 0;
};

class QueueDesk {
 public:
  QueueDesk(const ShardOptions& options, const Views& views, Outbox& outbox, QueueHost& host)
      : options_(options), views_(views), outbox_(outbox), host_(host) {}

  // Before anything else. Outlives the desk.
  void attach(BatchSource& source);

  // --- requests; `now` is the turn's
  void on_receive(const ReplyTo& from, const protocol::Frame& frame, MonotonicTime now);
  void on_settle(const ReplyTo& from, const protocol::Frame& frame);
  void on_redrive(const ReplyTo& from, const protocol::Frame& frame);
  void on_describe(const ReplyTo& from, const protocol::Frame& frame);
  void on_unsettled(const ReplyTo& from, const protocol::Frame& frame);

  // --- turns
  // `changed`: partitions with new messages. Loads, gives, ends leases, and gathers the records.
  void flush(MonotonicTime now, std::span<const PartitionId> changed);
  void tick(MonotonicTime now);
  // Log time at which flush() has something to do; nullopt: when something comes.
  [[nodiscard]] std::optional<int64_t> next_wake_ms() const;

  // --- the log
  // Any record that was applied.
  void applied(const RecordOutcome& outcome);
  void settle(QueuePending& pending, const RecordOutcome& outcome);
  void fail(QueuePending& pending, const Status& status);
  // The group's positions were dropped.
  void group_dropped(std::string_view group);

  void connection_closed(uint32_t loop, uint64_t connection);
  // Receivers get an empty answer; what was accepted is gathered.
  void begin_stop();
  // No longer the leader: everything is forgotten, receivers get `status`.
  void forget_all(const Status& status);

  // Messages of the group that are leased now.
  [[nodiscard]] size_t leased(std::string_view group) const;
  void add_stats(ShardStats& stats) const;

 private:
  struct Group;

  // A batch of which messages are loaded.
  struct LoadedBatch {
    partition::BatchRef ref;
    uint32_t unsettled = 0;
  };

  // A group and a partition.
  struct Queue {
    Queue(Group& of, PartitionId id, uint64_t number, queue::Dispatcher::Options options,
          Offset from, uint64_t first_token)
        : group(of), partition(id), serial(number), dispatcher(options, from, first_token) {}

    Group& group;
    PartitionId partition;
    uint64_t serial;  // never used again
    queue::Dispatcher dispatcher;
    std::map<Offset, LoadedBatch> batches;
    std::map<Offset, int64_t> expires;  // of loaded messages that do
    std::set<uint64_t> waiting;         // receivers, the one that waits longest first
    bool loading = false;
    bool beginning = false;    // the record that says where the group begins is under way
    Status begin_failure;      // it failed; the next turn tells the receivers
    Status damage;             // for the next receiver
    int64_t load_from_ms = 0;  // not before: the last look-up or read failed
    std::optional<int64_t> unread_since_ms;  // each load since met a batch that is not read
    std::optional<int64_t> wake_ms;          // as in wakes_
    size_t under_way = 0;                    // records and letters
    // Of records that failed: to be written with the next one.
    std::vector<queue::AckRange> unseen;
    uint32_t unseen_expired = 0;
    uint32_t unseen_filtered = 0;
    MonotonicTime used;
  };

  struct Group {
    std::string name;
    std::shared_ptr<const filter::Filter> filter;  // nullptr: everything is wanted
    bool ordered = false;
    size_t receivers = 0;
    size_t turn = 0;  // the part that the next receiver begins with
    std::map<PartitionId, std::unique_ptr<Queue>> queues;
  };

  struct ReceivePart {
    PartitionId partition;
    uint64_t queue = 0;  // serial; 0: `status` says why there is none
    Status status;
  };

  struct Receiver {
    uint64_t id = 0;
    ReplyTo to;
    Group* group = nullptr;
    std::vector<ReceivePart> parts;
    size_t messages_max = 0;
    size_t bytes_max = 0;
    int64_t visibility_ms = 0;
    MonotonicTime deadline;
  };

  // Leases whose messages are being read.
  struct Delivery {
    struct Batch {
      partition::BatchRef ref;
      std::vector<Offset> wanted;  // ascending
      SharedBytes bytes = {};      // as they are sent; empty: it failed
    };

    struct Part {
      uint64_t queue = 0;
      Status status;
      std::vector<queue::Lease> leases;
      std::vector<Batch> batches;  // by offset
    };

    ReplyTo to;
    std::vector<Part> parts;
    size_t bytes_max = 0;
    bool gone = false;  // nobody waits for it any more
    Status refusal;     // what it gets instead
  };

  struct Load {
    std::vector<partition::BatchRef> refs;
    std::vector<Result<SharedBytes>> batches;
    std::shared_ptr<const filter::Filter> filter;
    int64_t ttl_ms = -1;
    Offset next;  // where to go on
    ParsedBatches parsed;
  };

  // queue_desk.cc: queues and turns
  Queue* find(uint64_t serial) const;
  Queue* find(std::string_view group, PartitionId partition) const;
  Result<Queue*> open(Group& group, PartitionId id, bool from_end);
  void begin_at_end(Queue& queue, const partition::Partition& partition);
  void drop(Queue& queue);
  void drop_queues(Group& group);
  void drop_group_if_idle(Group& group);
  void drop_idle(MonotonicTime now);

  void mark(Queue& queue) { dirty_.insert(queue.serial); }

  void note_wake(Queue& queue);
  void wake_due();
  void work(Queue& queue);
  void trim(PartitionId id);
  void drop_partitions(TopicId topic);
  // queue_loading.cc
  [[nodiscard]] bool may_load(const Queue& queue) const;
  bool load(Queue& queue);
  void find_cold(Queue& queue, Offset from);
  bool read(Queue& queue, Offset from, std::vector<partition::BatchRef> refs);
  void take_read(uint64_t serial, const std::shared_ptr<Load>& load);
  void finish_load(uint64_t serial, Load& load);
  void judge_damage(Queue& queue, Load& load);
  void take_messages(Queue& queue, const Load& load);
  void load_failed(Queue& queue, const Status& status);
  void load_ended();
  // queue_receive.cc
  Status check_receive(const protocol::fbs::QueueReceive& request) const;
  Result<Group*> join(const protocol::fbs::QueueReceive& request);
  void wait(std::unique_ptr<Receiver> receiver);
  void give(Queue& queue);
  bool try_answer(uint64_t id, bool anyway);
  bool fill(const Receiver& receiver, Delivery& delivery);
  size_t take(Queue& queue, const queue::Dispatcher::Wanted& wanted, Delivery::Part& part);
  std::unique_ptr<Receiver> leave(uint64_t id);
  void expire_receivers(MonotonicTime now);
  void deliver(std::unique_ptr<Delivery> delivery);
  void finish_delivery(Delivery& delivery, std::vector<Result<SharedBytes>> read);
  void take_delivered(Delivery::Part& part, Delivery::Batch& batch, Result<SharedBytes>& read,
                      size_t payload_bytes, size_t bytes_max);
  void return_leases(Delivery& delivery);
  void reply_delivery(const Delivery& delivery);
  // queue_settling.cc
  QueuePending& record_for(std::string_view group, PartitionId id, size_t bytes);
  void add_unseen(Queue& queue, Offset offset, bool expired);
  ErrorCode settle_item(const std::shared_ptr<QueueSettleOp>& op, size_t item,
                        std::string_view group, const protocol::fbs::QueueSettleItem& wanted,
                        std::string_view reason);
  ErrorCode ack(const std::shared_ptr<QueueSettleOp>& op, size_t item, std::string_view group,
                const protocol::fbs::QueueSettleItem& wanted);
  static ErrorCode begin_ack(Queue* queue, Offset offset, uint64_t token);
  static std::vector<queue::AckRange> free_ranges(Queue* queue, Offset first, Offset end);
  void fail_delivery(Queue& queue, Offset offset, int64_t delay_ms, std::string_view reason,
                     QueuePending::Waiter waiter);
  void add_failure(Queue& queue, Offset offset, int64_t delay_ms, QueuePending::Waiter waiter);
  void write(std::unique_ptr<QueuePending> record);
  void write_gathered();
  static void settle_range(Queue& queue, queue::AckRange range);
  static void settle_one(Queue& queue, Offset offset);
  void settle_failures(Queue& queue, const QueuePending& pending);
  void settle_letters(const QueuePending& pending);
  void put_back_range(Queue& queue, queue::AckRange range);
  void retry_unseen(Queue& queue, const QueuePending& pending);
  void write_unseen(Queue& queue);
  void hold_loading(QueuePending& record);
  void release_loading(const QueuePending& record);
  void tell_begin_failure(Queue& queue);
  void answer(const QueuePending::Waiter& waiter, ErrorCode code);
  void answered(QueueSettleOp& op, size_t count);
  // queue_letters.cc
  struct LetterJob;
  struct RedriveOp;
  void begin_letter(Queue& queue, Offset offset, int64_t delay_ms, std::string_view reason,
                    QueuePending::Waiter waiter);
  void build_letter(const std::shared_ptr<LetterJob>& job, const Result<SharedBytes>& batch);
  void finish_letter(LetterJob& job);
  void redrive_next(const std::shared_ptr<RedriveOp>& op);
  ErrorCode begin_redrive(const RedriveOp& op, Offset offset);
  bool redrive_found(const std::shared_ptr<RedriveOp>& op,
                     const Result<std::vector<partition::BatchRef>>& refs);
  void redrive_read(RedriveOp& op, const Result<SharedBytes>& batch);
  void end_redrive(RedriveOp& op, ErrorCode code);
  // queue_requests.cc
  flatbuffers::Offset<protocol::fbs::QueueInfo> build_info(std::string_view group, PartitionId id);

  Status unknown_partition(PartitionId id) const;
  void refuse(const ReplyTo& to, const Status& status);

  template <typename Table>
  void send_reply(const ReplyTo& to, flatbuffers::Offset<Table> root,
                  std::vector<SharedBytes> payload = {}) {
    builder_.Finish(root);
    outbox_.reply(to, protocol::make_frame(to.type, true, options_.shard.value(), to.correlation,
                                           protocol::finished(builder_), std::move(payload)));
    builder_.Clear();
  }

  const ShardOptions& options_;
  const Views& views_;
  Outbox& outbox_;
  QueueHost& host_;
  BatchSource* source_ = nullptr;
  std::unique_ptr<MessageReader> reader_;
  flatbuffers::FlatBufferBuilder builder_;
  int64_t now_ms_ = 0;  // of the turn
  MonotonicTime now_;
  bool stopping_ = false;

  std::map<std::string, Group, std::less<>> groups_;
  std::unordered_map<uint64_t, Queue*> queues_;  // by serial
  std::map<PartitionId, std::set<uint64_t>> queues_of_;
  uint64_t next_serial_ = 1;
  uint64_t next_token_ = 1;
  std::set<uint64_t> dirty_;                      // queues that may have something to do
  std::set<std::pair<int64_t, uint64_t>> wakes_;  // log time, queue
  std::set<uint64_t> starved_;                    // queues that wait for a load to end
  size_t loads_ = 0;                              // under way
  MonotonicTime next_idle_check_;

  std::map<uint64_t, std::unique_ptr<Receiver>> receivers_;
  uint64_t next_receiver_ = 1;
  std::multimap<int64_t, uint64_t> deadlines_;  // monotonic ns -> receiver
  std::map<uint64_t, Delivery*> deliveries_;    // being read
  uint64_t next_delivery_ = 1;

  std::map<std::pair<std::string, PartitionId>, std::unique_ptr<QueuePending>> gathered_;
  // How many records under way ack messages that were not loaded.
  std::map<std::pair<std::string, PartitionId>, size_t> unloaded_acks_;
  std::set<std::pair<PartitionId, Offset>> redriving_;
  uint64_t messages_out_ = 0;
  uint64_t bytes_out_ = 0;
};

}  // namespace tidemark::shard
