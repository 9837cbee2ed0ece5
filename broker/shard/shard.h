// Shard: requests in, log entries and replies out. The deterministic core of the broker: it owns
// the views and the requests under way, and knows no socket, file, clock or thread.
//
//   request --check--> record gathered --flush--> proposed --committed--> applied --> reply
//   fetch   --> from memory | cold find --> cold read --> reply, or parked until data or deadline
//
// Owner: ShardRuntime. Thread: the shard's loop. `now` is passed in with every call.
// Bounds: gathered and unapplied bytes by ShardOptions::write_buffer_bytes, parked fetches by
// limits::kFetchWaitersPerShardMax, cold reads by limits::kColdReadsInFlightPerShardMax.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "broker/delay/delay_scan.h"
#include "broker/group/coordinator.h"
#include "broker/protocol/messages.h"
#include "broker/replica/consensus.h"
#include "broker/shard/batch_source.h"
#include "broker/shard/compactor.h"
#include "broker/shard/fetch_op.h"
#include "broker/shard/log_clock.h"
#include "broker/shard/message_ids.h"
#include "broker/shard/message_reader.h"
#include "broker/shard/queue_desk.h"
#include "broker/shard/session.h"
#include "broker/shard/shard_runtime.h"
#include "broker/shard/views.h"

namespace tidemark::shard {

// A produce request whose parts are being made durable.
struct ProduceOp {
  // Where a message is.
  struct Place {
    bool in_batch = false;  // `offset` counts from the first one of the batch that is stored
    Offset offset = {};
  };

  struct Part {
    Status status;
    uint32_t retry_after_ms = 0;
    Offset base;
    int64_t received_ms = 0;
    bool duplicate = false;
    std::vector<DelayReceipt> receipts;  // of a schedule set
    std::vector<Place> places;           // by message, if some are duplicates by their ids
  };

  ReplyTo to;
  std::vector<Part> parts;
  size_t unanswered = 0;
};

// A cancel or reschedule request, part by part.
struct DelayChangeOp {
  struct Part {
    Status status;
    delay::ChangeOutcome change = delay::ChangeOutcome::kNotFound;
    DelayReceipt receipt;  // rescheduled
  };

  ReplyTo to;
  std::vector<Part> parts;
  size_t unanswered = 0;
  bool reschedule = false;
};

// A request about transactions, one by one.
struct TxnOp {
  struct Part {
    Status status;
    txn::TxnState state = txn::TxnState::kNone;
  };

  ReplyTo to;
  std::vector<Part> parts;
  size_t unanswered = 0;
};

// A record about transactions or their producers that is under way.
struct TxnPending {
  enum class Kind : uint8_t {
    kEnd,
    kRecheck,
    kSettle,
    kJoin,
    kConfirm,
    kChecked,
    kParked,
    kForget,
    kName,
    kFence,
    kFenced,
    kRelocate
  };

  Kind kind = Kind::kEnd;
  std::shared_ptr<TxnOp> op;  // kEnd, kRecheck
  size_t part = 0;
  bool commit = false;                 // kEnd
  txn::TxnKey key = {};                // of one transaction; of a producer and its epoch
  ShardId shard = {};                  // who is concerned
  std::vector<txn::TxnKey> keys = {};  // kChecked
  ReplyTo to = {};                     // kName
};

// A record about consumer groups that is under way.
struct GroupPending {
  enum class Kind : uint8_t { kCommit, kDrop, kLease };

  Kind kind = Kind::kCommit;
  ReplyTo to = {};                                 // kCommit, kDrop
  std::string group = {};                          // kDrop
  ShardId shard = {};                              // kLease: who asked
  std::pair<std::string, PartitionId> lease = {};  // kLease
};

// A producer that asks to be given work: check-backs of its group.
struct TxnPoll {
  ReplyTo to;
  std::string group;
  MonotonicTime deadline;
  size_t checks_max = 0;
};

// A named producer whose older epochs are being fenced.
struct FenceWaiter {
  ReplyTo to;
  uint64_t producer = 0;
  uint16_t epoch = 0;
  MonotonicTime deadline;
};

// A topic request that waits until all shards have followed.
struct TopicOp {
  ReplyTo to;
  TopicId topic;         // known once applied
  uint64_t version = 0;  // 0: not yet applied
  MonotonicTime deadline;
};

class Shard final : public replica::StateMachine, private QueueHost, private CompactionHost {
 public:
  Shard(const ShardOptions& options, Outbox& outbox);

  // Joins what is built after the shard. Both outlive it.
  void attach(replica::Consensus& consensus, BatchSource& source);

  [[nodiscard]] Views& views() { return views_; }

  [[nodiscard]] const Views& views() const { return views_; }

  void receive(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void receive_mail(const ShardMail& mail, const Now& now);
  void connection_closed(uint32_t loop, uint64_t connection);
  // Ends a turn: proposes what was gathered, answers fetches that data has arrived for.
  void flush(const Now& now);
  void tick(const Now& now);
  // From now on: new requests are refused, parked fetches answered.
  void begin_stop();

  // Nothing accepted is waiting for the log.
  [[nodiscard]] bool drained() const {
    return pending_.empty() && ready_.empty() && gathering_.empty();
  }

  // When the shard wants to be flushed even if nothing arrives: a delayed message comes due.
  [[nodiscard]] std::optional<MonotonicTime> next_wake() const;

  // A checkpoint is under way: the timing wheel cannot load.
  void set_checkpointing(bool on);

  // What the Advance under way, if there is one, delivers up to.
  [[nodiscard]] timerwheel::Key advancing_to() const {
    return advancing_ ? advanced_to_ : timerwheel::Key{};
  }

  // Something waits for the store to take in what memory holds.
  [[nodiscard]] bool wants_checkpoint() const { return compactor_.wants_checkpoint(); }

  // The timing wheel loads: no checkpoint can be taken.
  [[nodiscard]] bool loading() const { return loading_; }

  // Log bytes and records applied since the process began, for the checkpoint's pace.
  [[nodiscard]] uint64_t records_applied() const { return records_applied_; }

  void add_stats(ShardStats& stats) const;

  // replica::StateMachine
  void apply(const replica::CommittedEntry& entry) override;
  void on_role(replica::Role role, Term term) override;

 private:
  // What a record's proposer wants to know when it is applied. At most one of the pointers is set.
  struct PendingRecord {
    enum class Kind : uint8_t {
      kNobody,
      kProduce,
      kTopic,
      kInitProducer,
      kPartitions,
      kProgress,
      kTrim,
      kAdvance,
      kDelayChange,
      kDelayNext,
      kRelocate,
      kRelocated,
      kCompaction,
      kTxn,
      kGroup,
      kQueue,
      kMessageIds
    };
    Kind kind = Kind::kNobody;
    std::shared_ptr<ProduceOp> produce;
    size_t part = 0;
    uint32_t bytes = 0;
    std::shared_ptr<TopicOp> topic;
    ReplyTo to;             // kInitProducer
    TopicId topic_id;       // kPartitions, kProgress
    uint64_t version = 0;   // kPartitions, kProgress
    uint64_t run = 0;       // kCompaction
    ShardId shard;          // kProgress
    PartitionId partition;  // kTrim, kProduce of a schedule set, kMessageIds
    uint32_t items = 0;     // kProduce of a schedule set
    bool half = false;      // kProduce of a part of a transaction
    std::unique_ptr<TxnPending> txn;
    std::unique_ptr<GroupPending> group;
    std::unique_ptr<QueuePending> queue;
    std::unique_ptr<std::vector<Hash128>> ids;  // kMessageIds
    std::shared_ptr<DelayChangeOp> change;
    uint64_t delay_id = 0;  // kDelayNext
  };

  // An entry that waits for disk space to be taken.
  struct ReadyEntry {
    SharedBytes payload;
    std::vector<PendingRecord> records;
    log::Room room = log::Room::kOrdinary;
  };

  struct PendingEntry {
    LogIndex index;
    std::vector<PendingRecord> records;
  };

  // shard.cc: dispatch, proposing, applying
  void refuse(const ReplyTo& to, const Status& status, uint32_t retry_after_ms = 0);
  [[nodiscard]] Status may_write() const override;
  void gather(format::RecordKind kind, const flatbuffers::FlatBufferBuilder& body,
              PendingRecord pending, log::Room room = log::Room::kOrdinary);
  void make_room_for(size_t body_bytes, log::Room room = log::Room::kOrdinary);
  void propose_gathered();
  void propose_ready();
  void settle(PendingRecord& pending, const RecordOutcome& outcome);
  void fail(PendingRecord& pending, const Status& status, uint32_t retry_after_ms);
  void fail_pending(const Status& status);
  [[nodiscard]] int64_t log_time(const Now& now);
  void take_time(const Now& now);

  // produce.cc
  void on_produce(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void take_part(const std::shared_ptr<ProduceOp>& op, uint32_t number,
                 const protocol::fbs::ProducePart& part, ByteView payload, const Now& now);
  bool answer_repeated(PartitionId id, ByteView batch, ProduceOp::Part& part);
  Status accept_batch(const protocol::fbs::ProducePart& part, ByteView batch, const Now& now,
                      PendingRecord pending, uint32_t& retry_after_ms);
  Status check_room(PartitionId partition, size_t bytes, uint32_t& retry_after_ms);
  [[nodiscard]] Status check_fence(int64_t producer_id, int16_t epoch) const;

  // A batch that has passed all checks.
  struct BatchToTake {
    PartitionId partition;
    ByteView bytes;
    format::BatchHeader header = {};
    bool ttl = false;
    uint32_t sequences = 0;  // as in format::ProduceRecord
  };

  void gather_batch(const BatchToTake& batch, size_t behind_bytes, const Now& now,
                    PendingRecord pending);
  void release_produce(const PendingRecord& pending);
  void settle_produce(PendingRecord& pending, const RecordOutcome& outcome);
  void finish_produce(ProduceOp& op);

  // dedupe.cc
  struct IdVerdict {
    std::vector<bool> kept;                // by message: it is to be stored
    std::vector<ProduceOp::Place> places;  // by message; of no meaning if it is under way
    uint32_t stored = 0;                   // messages
    uint32_t under_way = 0;                // messages whose first delivery is
    std::vector<Hash128> ids;              // new ones
    std::vector<uint32_t> records;         // the number of each one's message among the stored ones
  };

  [[nodiscard]] bool has_window(PartitionId id) const;
  [[nodiscard]] IdVerdict judge_ids(PartitionId id, const std::vector<MessageId>& ids,
                                    int64_t time_ms) const;
  Status accept_with_ids(const BatchToTake& batch, const Now& now, PendingRecord pending,
                         uint32_t& retry_after_ms);
  void gather_ids(PartitionId id, IdVerdict verdict, bool numbered, const Now& now);
  void answer_known(const BatchToTake& batch, const std::vector<MessageId>& ids,
                    const IdVerdict& verdict, const Now& now, PendingRecord pending);
  void release_ids(const PendingRecord& pending);
  static void place_messages(ProduceOp::Part& part, Offset base);
  void take_known_offsets(ProduceOp::Part& part, const RecordOutcome& outcome);
  [[nodiscard]] Status refuse_ids(PartitionId id, ByteView batch) const;
  // delays.cc
  Status accept_schedule(PartitionId partition, ByteView set, const Now& now, PendingRecord pending,
                         uint32_t& retry_after_ms);
  Status check_schedule(PartitionId partition, ByteView set, uint32_t& retry_after_ms) const;
  Status check_item(const format::ScheduleItem& item) const;
  void write_schedule(ByteView set, uint32_t items, const Now& now);
  bool is_repeated_set(PartitionId id, ByteView set, ProduceOp::Part& part) const;
  void resolve_repeated_set(std::shared_ptr<ProduceOp> op, size_t part);
  void drive_delays(const Now& now);
  void load_slots(const Now& now);
  void propose_advance(const Now& now);
  void look_up_occurrences(const Now& now);
  void take_fired();
  void reveal(const Now& now);
  void show_lateness(int64_t due_ms);
  void add_delay_stats(ShardStats& stats) const;
  [[nodiscard]] Offset visible_end(const partition::Partition& partition) const override;
  // halves.cc
  Status accept_half(const protocol::fbs::ProducePart& part, ByteView payload, const Now& now,
                     PendingRecord pending, uint32_t& retry_after_ms);
  bool answer_repeated_half(const protocol::fbs::ProducePart& part, ProduceOp::Part& result) const;
  Status check_half(const protocol::fbs::HalfInfo& half) const;
  Status check_half_room(const txn::TxnKey& key, std::string_view group, uint32_t& retry_after_ms);
  void keep_room_for_ends();
  [[nodiscard]] uint64_t end_bytes_max() const;
  Status check_half_batch(PartitionId partition, ByteView batch) const;
  Status check_half_set(PartitionId partition, ByteView set, uint32_t& retry_after_ms) const;
  void settle_half(PendingRecord& pending, const RecordOutcome& outcome);
  // txn_requests.cc
  void on_txn_end(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void take_end(const std::shared_ptr<TxnOp>& op, size_t part,
                const protocol::fbs::TxnEndItem& item, protocol::fbs::TxnEndBy by, const Now& now);

  struct EndRecord {
    txn::TxnKey key = {};
    bool commit = false;
    uint8_t by = 0;
    uint32_t halves = UINT32_MAX;
    std::vector<uint16_t> shards = {};
  };

  void gather_end(format::RecordKind kind, const EndRecord& end, TxnPending pending,
                  const Now& now);
  void on_txn_recheck(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void answer_txn(TxnOp& op, size_t part, const Status& status, txn::TxnState state);
  void finish_txn_op(TxnOp& op);
  void on_txn_list(const ReplyTo& from, const protocol::Frame& frame);
  void on_txn_show(const ReplyTo& from, const protocol::Frame& frame);
  void on_txn_stats(const ReplyTo& from, const protocol::Frame& frame);
  flatbuffers::Offset<protocol::fbs::TxnInfo> build_txn(const txn::Transaction& txn);
  // txns.cc
  void on_txn_poll(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void answer_poll(uint64_t id, const std::vector<txn::TxnKey>& checks);
  TxnPoll take_poll(uint64_t id);
  void drive_txns(const Now& now);
  void check_back(const Now& now);
  void expire_polls(const Now& now);
  void park_old(const Now& now);
  void forget_outcomes(const Now& now);
  void forget_polls(uint32_t loop, uint64_t connection);
  void tell_ended();
  void tell_outcomes();
  void ask_outcomes(const Now& now);
  void mail_followed(const txn::TxnKey& key, ShardId to);
  void mail_outcome(const txn::TxnKey& key, ShardId to, bool commit);
  void on_txn_outcome_mail(const ShardMail& mail, const Now& now);
  void on_txn_ask_mail(const ShardMail& mail, const Now& now);
  void on_txn_followed_mail(const ShardMail& mail);
  void no_longer_in_flight(const TxnPending& pending);
  void settle_txn(TxnPending& pending, const RecordOutcome& outcome);
  void settle_txn_op(TxnPending& pending, const RecordOutcome& outcome);
  void fail_txn(TxnPending& pending, const Status& status, uint32_t retry_after_ms);
  void gather_names(format::RecordKind kind, std::span<const txn::TxnKey> keys, TxnPending pending,
                    const Now& now);
  static PendingRecord txn_record(TxnPending pending);
  [[nodiscard]] ShardMail new_mail(ShardMail::Kind kind, ShardId to) const;
  void add_txn_stats(ShardStats& stats) const;
  // groups.cc
  [[nodiscard]] std::vector<PartitionId> partitions_of(std::string_view topic) const;
  void on_group_heartbeat(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void answer_heartbeats();
  void mail_leases(const Now& now);
  void drive_groups(const Now& now);
  void forget_heartbeats(uint32_t loop, uint64_t connection);
  void on_group_lease_mail(const ShardMail& mail, const Now& now);
  void on_group_leased_mail(const ShardMail& mail, const Now& now);
  static PendingRecord group_record(GroupPending pending);
  void on_group_commit(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void reply_group_commit(const ReplyTo& to, const RecordOutcome& outcome);
  flatbuffers::Offset<protocol::fbs::GroupOffset> build_group_offset(
      PartitionId id, const group::Position* position);
  void on_group_offsets(const ReplyTo& from, const protocol::Frame& frame);
  void on_group_list(const ReplyTo& from, const protocol::Frame& frame);
  void on_group_describe(const ReplyTo& from, const protocol::Frame& frame);
  void on_group_delete(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void settle_group(GroupPending& pending, const RecordOutcome& outcome);
  void fail_group(GroupPending& pending, const Status& status, uint32_t retry_after_ms);
  // producers.cc
  void on_init_producer(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void settle_producer_name(const TxnPending& pending, const RecordOutcome& outcome);
  void mail_fence(ShardMail::Kind kind, ShardId to, uint64_t producer, uint16_t epoch);
  void mail_fences(const meta::NamedProducer& named);
  void mail_unsettled_fences();
  void check_fence_waiters();
  void on_fence_mail(const ShardMail& mail, const Now& now);
  void on_fenced_mail(const ShardMail& mail);
  void reply_producer(const ReplyTo& to, uint64_t producer, uint16_t epoch);
  // relocation.cc
  bool relocate_halves(LogPosition end);
  void append_relocated_half(const txn::TxnTable::Place& place, const Result<SharedBytes>& payload);
  void check_relocation();
  [[nodiscard]] LogPosition others_low_position() const;
  void read_relocated();
  void append_relocated(std::vector<StoredDelay>& found);
  void continue_relocation();
  void settle_relocate(bool applied);
  // delay_requests.cc
  void on_delay_cancel(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void on_delay_reschedule(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void on_delay_list(const ReplyTo& from, const protocol::Frame& frame);
  void scan_delays(const ReplyTo& from, const delay::ScanQuery& query);
  void finish_delay_list(const ReplyTo& from, const delay::DelayScan& scan, const Status& status);
  void on_delay_show(const ReplyTo& from, const protocol::Frame& frame);
  void on_delay_stats(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  Result<timerwheel::Entry> find_delay(const protocol::fbs::DelayRef& ref) const;

  // The view lives as long as the request.
  struct DelayNamed {
    timerwheel::Entry entry;
    std::string_view key = {};  // by key
    bool series = false;
  };

  Result<DelayNamed> name_delay(const protocol::fbs::DelayRef& ref) const;

  // A message to be rescheduled: which part of the request asks, and the key it is asked by.
  struct Wanted {
    size_t part = 0;
    std::string key = {};
  };

  using DelaysLocated = MoveOnlyFunction<void(Result<std::vector<timerwheel::Entry>>)>;
  void locate_delays(std::vector<timerwheel::Entry> entries, DelaysLocated done);
  void propose_reschedule(const std::shared_ptr<DelayChangeOp>& op, const Wanted& wanted,
                          const timerwheel::Entry& entry, int64_t due_ms);
  void read_delay(const ReplyTo& from, const timerwheel::Entry& entry);
  void finish_delay_change(DelayChangeOp& op);
  void settle_delay_change(PendingRecord& pending, const RecordOutcome& outcome);

  // fetch.cc
  void on_fetch(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void evaluate(std::unique_ptr<FetchOp> op);
  bool collect(FetchOp& op);
  bool collect_part(FetchOp& op, FetchOp::Part& part);
  void collect_refs(FetchOp& op, FetchOp::Part& part, std::vector<partition::BatchRef> refs);
  void find_cold(std::unique_ptr<FetchOp> op);
  void read_round(std::unique_ptr<FetchOp> op);
  void select_round(std::unique_ptr<FetchOp> op);
  void end_round(std::unique_ptr<FetchOp> op);
  void park(std::unique_ptr<FetchOp> op);
  std::unique_ptr<FetchOp> unpark(uint64_t id);
  void finish_fetch(FetchOp& op);
  void wake_fetches();
  void expire_fetches();
  void cold_done();
  void on_list_offsets(const ReplyTo& from, const protocol::Frame& frame);
  void finish_list_offsets(const std::shared_ptr<ListOffsetsOp>& op);
  void on_partition_describe(const ReplyTo& from, const protocol::Frame& frame);

  // shard.cc: for the queues
  [[nodiscard]] int64_t queue_time() override { return clock_.ms(now_); }

  [[nodiscard]] int64_t queue_time_after(int64_t delay_ms) override {
    return clock_.after(now_, delay_ms);
  }

  [[nodiscard]] int64_t record_time() override { return log_time(now_); }

  void gather_settle(const flatbuffers::FlatBufferBuilder& body,
                     std::unique_ptr<QueuePending> pending) override;

  // shard.cc: for the compactor
  [[nodiscard]] int64_t compaction_time() override;
  void gather_compact(const format::CompactRecord& record, uint64_t run) override;
  void gather_compacted(const flatbuffers::FlatBufferBuilder& body, uint64_t run) override;

  // topics.cc
  void on_metadata(const ReplyTo& from, const protocol::Frame& frame);
  void on_topic_create(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void on_topic_alter(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void on_topic_delete(const ReplyTo& from, const protocol::Frame& frame, const Now& now);
  void settle_topic(PendingRecord& pending, const RecordOutcome& outcome);
  void reply_topic(const TopicOp& op, const Status& status);
  void check_topic_waiters();
  void mail_unconfirmed(const meta::Topic& topic);
  void on_partitions_mail(const ShardMail& mail, const Now& now);
  void on_partitions_done(const ShardMail& mail);
  [[nodiscard]] flatbuffers::Offset<protocol::fbs::TopicInfo> build_topic(const meta::Topic& topic);
  flatbuffers::Offset<protocol::fbs::TopicInfo> build_unknown_topic(std::string_view name);
  Status check_taker(TopicId id, std::string_view messages,
                     const std::vector<uint16_t>& shards) const;
  Status check_takers(const meta::TopicConfig& config, const std::vector<uint16_t>& shards) const;
  [[nodiscard]] Status check_takes_none(const meta::Topic& topic,
                                        const meta::TopicConfig& config) const;
  Result<TopicId> find_taker(std::string_view field, std::string_view name) const;
  Status take_config(const protocol::fbs::TopicConfig& wanted, meta::TopicConfig& config) const;
  [[nodiscard]] uint32_t first_partition(TopicId id, ShardId shard) const;
  Status take_changes(const protocol::fbs::TopicAlter& request, meta::TopicConfig& config,
                      uint32_t& partitions) const;
  void gather_topic(const ReplyTo& from, format::RecordKind kind,
                    const flatbuffers::FlatBufferBuilder& body, const Now& now);

  // retention.cc
  void check_retention(const Now& now);
  void plan_trim(const partition::Partition& partition, const Now& now);
  void propose_trim(PartitionId id, const TrimPlan& plan);

  template <typename Table>
  void send_reply(const ReplyTo& to, flatbuffers::Offset<Table> root,
                  std::vector<SharedBytes> payload = {}) {
    builder_.Finish(root);
    outbox_.reply(to, protocol::make_frame(to.type, true, options_.shard.value(), to.correlation,
                                           protocol::finished(builder_), std::move(payload)));
    builder_.Clear();
  }

  const ShardOptions options_;
  Outbox& outbox_;
  replica::Consensus* consensus_ = nullptr;
  BatchSource* source_ = nullptr;
  std::optional<MessageReader> reader_;
  Views views_;
  Now now_;
  bool stopping_ = false;
  replica::Role role_ = replica::Role::kFollower;
  int64_t proposed_time_ms_ = 0;

  format::RecordListBuilder records_;
  log::Room gathering_room_ = log::Room::kOrdinary;  // of what is gathered
  // The last entry found the disk full: what has room kept for it goes apart from what has not.
  bool short_of_space_ = false;
  std::vector<PendingRecord> gathering_;
  std::deque<ReadyEntry> ready_;  // bounded by the write buffer
  std::deque<PendingEntry> pending_;
  size_t accepted_bytes_ = 0;  // of batches gathered or proposed, not yet applied
  // Ids of messages that are gathered or proposed, not yet applied.
  std::unordered_map<PartitionId, std::unordered_set<Hash128, Hash128::Hasher>> ids_under_way_;
  std::vector<RecordOutcome> outcomes_;
  flatbuffers::FlatBufferBuilder builder_;

  std::unordered_map<uint64_t, std::unique_ptr<FetchOp>> parked_;
  std::multimap<int64_t, uint64_t> deadlines_;  // monotonic ns -> parked fetch
  std::unordered_map<PartitionId, std::vector<uint64_t>> waiting_on_;
  std::vector<PartitionId> changed_;  // since the last flush
  std::deque<std::unique_ptr<FetchOp>> cold_queue_;
  size_t cold_in_flight_ = 0;
  uint64_t next_fetch_ = 1;

  std::vector<std::shared_ptr<TopicOp>> topic_waiters_;
  std::set<std::pair<TopicId, uint64_t>> partitions_in_flight_;
  std::set<std::tuple<TopicId, uint64_t, ShardId>> progress_in_flight_;
  std::set<PartitionId> trims_in_flight_;
  PartitionId retention_reached_;  // last partition that retention looked at
  MonotonicTime next_mail_;
  MonotonicTime next_retention_;

  // Delayed messages. An Advance is proposed a little before the time it names, so that writing it
  // does not show as lateness; what it delivers is hidden from readers until its due time.
  struct Hidden {
    int64_t due_ms = 0;
    PartitionId partition;
  };

  struct Relocation {
    LogPosition end = {};  // of the segment
    DelayCursor cursor = {};
    size_t unapplied = 0;  // Relocate records
    bool failed = false;
  };

  std::optional<Relocation> relocation_;

  struct WaitingScan {
    ReplyTo from;
    delay::ScanQuery query;
  };

  LogClock clock_;
  std::vector<WaitingScan> waiting_scans_;  // for the end of a checkpoint
  bool checkpointing_ = false;
  uint64_t checkpoints_ended_ = 0;
  bool loading_ = false;
  MonotonicTime next_load_;      // not before: the last one failed
  bool advancing_ = false;       // one Advance is under way at a time
  MonotonicTime advanced_at_;    // when the last one was proposed
  timerwheel::Key advanced_to_;  // by the last Advance proposed
  MonotonicTime next_advance_;   // not before: the last one could not be written
  uint64_t next_delay_id_ = 1;
  std::deque<Hidden> hidden_;  // in order of due time
  std::unordered_map<PartitionId, std::deque<Offset>> hidden_offsets_;
  std::unordered_map<PartitionId, uint64_t> scheduling_;  // accepted items not yet applied
  std::set<uint64_t> occurrences_in_flight_;

  // Transactions.
  struct OfShard {
    txn::TxnKey key;
    ShardId shard;

    friend auto operator<=>(const OfShard&, const OfShard&) = default;
  };

  std::map<uint64_t, TxnPoll> polls_;
  uint64_t next_poll_ = 1;
  std::multimap<int64_t, uint64_t> poll_deadlines_;                    // monotonic ns -> poll
  std::map<std::string, std::deque<uint64_t>, std::less<>> polls_of_;  // group -> polls, in turn
  std::set<txn::TxnKey> checks_in_flight_;
  std::set<txn::TxnKey> settles_in_flight_;
  std::set<OfShard> joins_in_flight_;
  std::set<OfShard> confirms_in_flight_;
  bool parking_ = false;
  bool forgetting_ = false;
  size_t relocating_halves_ = 0;
  uint64_t halves_under_way_ = 0;  // accepted, not applied
  MonotonicTime next_check_;
  MonotonicTime next_ask_;
  txn::TxnKey told_to_;   // where the last round of telling ended
  txn::TxnKey asked_to_;  // where the last round of asking ended
  std::vector<FenceWaiter> fence_waiters_;
  std::set<OfShard> fences_in_flight_;  // of a producer and its epoch, to be fenced here
  std::set<OfShard> fenced_in_flight_;  // that a shard has fenced
  MonotonicTime next_fence_mail_;

  // Consumer groups.
  using LeaseName = std::pair<std::string, PartitionId>;

  group::Coordinator coordinator_;  // works on the metadata shard only
  std::map<group::Coordinator::Ticket, ReplyTo> heartbeats_;
  group::Coordinator::Ticket next_heartbeat_ = 1;
  std::set<LeaseName> leases_in_flight_;
  uint64_t topics_seen_ = 0;
  bool leases_came_ = false;  // since the last turn

  QueueDesk queue_desk_;
  Compactor compactor_;

  uint64_t records_applied_ = 0;
  ShardStats counters_;
};

}  // namespace tidemark::shard
