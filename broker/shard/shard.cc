#include "broker/shard/shard.h"

#include <algorithm>
#include <utility>

#include "log/base/coverage_mark.h"
#include "log/log.h"

namespace tidemark::shard {

namespace {

// Below this many entries on their way to disk a turn's records are proposed at once (latency);
// above, they are gathered into larger entries while the disk works (throughput).
constexpr size_t kEntriesInFlightForLatency = 2;
constexpr size_t kGatheredBytesProposed = 512 * limits::kKiB;
constexpr uint32_t kDiskFullRetryMs = 1000;
constexpr int64_t kAdvanceRetryNs = 100'000'000;
constexpr int64_t kMailIntervalNs = 500'000'000;

}  // namespace

Shard::Shard(const ShardOptions& options, Outbox& outbox)
    : options_(options),
      outbox_(outbox),
      views_(options.shard, options.wheel),
      coordinator_([this](std::string_view topic) { return partitions_of(topic); }),
      queue_desk_(options_, views_, outbox_, *this),
      compactor_(options_, views_, *this) {}

void Shard::attach(replica::Consensus& consensus, BatchSource& source) {
  consensus_ = &consensus;
  source_ = &source;
  reader_.emplace(source);
  queue_desk_.attach(source);
  compactor_.attach(source);
}

// --- requests

// NOLINTNEXTLINE(readability-function-size): a case for each request
void Shard::receive(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  using protocol::FrameType;
  take_time(now);
  if (stopping_) {
    return refuse(from, Status(ErrorCode::kShuttingDown, "the broker is stopping"),
                  limits::kRetryAfterMsDefault);
  }
  switch (static_cast<FrameType>(frame.header.type)) {
    case FrameType::kProduce:
      return on_produce(from, frame, now);
    case FrameType::kFetch:
      return on_fetch(from, frame, now);
    case FrameType::kListOffsets:
      return on_list_offsets(from, frame);
    case FrameType::kPartitionDescribe:
      return on_partition_describe(from, frame);
    case FrameType::kInitProducer:
      return on_init_producer(from, frame, now);
    case FrameType::kMetadata:
      return on_metadata(from, frame);
    case FrameType::kTopicCreate:
      return on_topic_create(from, frame, now);
    case FrameType::kTopicAlter:
      return on_topic_alter(from, frame, now);
    case FrameType::kTopicDelete:
      return on_topic_delete(from, frame, now);
    case FrameType::kDelayCancel:
      return on_delay_cancel(from, frame, now);
    case FrameType::kDelayReschedule:
      return on_delay_reschedule(from, frame, now);
    case FrameType::kDelayList:
      return on_delay_list(from, frame);
    case FrameType::kDelayShow:
      return on_delay_show(from, frame);
    case FrameType::kDelayStats:
      return on_delay_stats(from, frame, now);
    case FrameType::kTxnEnd:
      return on_txn_end(from, frame, now);
    case FrameType::kTxnPoll:
      return on_txn_poll(from, frame, now);
    case FrameType::kTxnList:
      return on_txn_list(from, frame);
    case FrameType::kTxnShow:
      return on_txn_show(from, frame);
    case FrameType::kTxnRecheck:
      return on_txn_recheck(from, frame, now);
    case FrameType::kTxnStats:
      return on_txn_stats(from, frame);
    case FrameType::kGroupHeartbeat:
      return on_group_heartbeat(from, frame, now);
    case FrameType::kGroupCommit:
      return on_group_commit(from, frame, now);
    case FrameType::kGroupOffsets:
      return on_group_offsets(from, frame);
    case FrameType::kGroupList:
      return on_group_list(from, frame);
    case FrameType::kGroupDescribe:
      return on_group_describe(from, frame);
    case FrameType::kGroupDelete:
      return on_group_delete(from, frame, now);
    case FrameType::kQueueReceive:
      return queue_desk_.on_receive(from, frame, now.monotonic);
    case FrameType::kQueueSettle:
      return queue_desk_.on_settle(from, frame);
    case FrameType::kQueueDescribe:
      return queue_desk_.on_describe(from, frame);
    case FrameType::kQueueRedrive:
      return queue_desk_.on_redrive(from, frame);
    case FrameType::kQueueUnsettled:
      return queue_desk_.on_unsettled(from, frame);
    case FrameType::kHello:
    case FrameType::kError:
      break;
  }
  refuse(from,
         Status(ErrorCode::kUnsupportedType, "frame type " + std::to_string(frame.header.type)));
}

void Shard::receive_mail(const ShardMail& mail, const Now& now) {
  take_time(now);
  if (stopping_) {
    return;  // the sender repeats it
  }
  switch (mail.kind) {
    case ShardMail::Kind::kPartitions:
      return on_partitions_mail(mail, now);
    case ShardMail::Kind::kPartitionsDone:
      return on_partitions_done(mail);
    case ShardMail::Kind::kTxnOutcome:
      return on_txn_outcome_mail(mail, now);
    case ShardMail::Kind::kTxnFollowed:
      return on_txn_followed_mail(mail);
    case ShardMail::Kind::kTxnAsk:
      return on_txn_ask_mail(mail, now);
    case ShardMail::Kind::kFence:
      return on_fence_mail(mail, now);
    case ShardMail::Kind::kFenced:
      return on_fenced_mail(mail);
    case ShardMail::Kind::kGroupLease:
      return on_group_lease_mail(mail, now);
    case ShardMail::Kind::kGroupLeased:
      return on_group_leased_mail(mail, now);
  }
}

ShardMail Shard::new_mail(ShardMail::Kind kind, ShardId to) const {
  ShardMail mail;
  mail.kind = kind;
  mail.from = options_.shard;
  mail.to = to;
  return mail;
}

void Shard::refuse(const ReplyTo& to, const Status& status, uint32_t retry_after_ms) {
  outbox_.reply(to, protocol::make_error_frame(to.correlation, status, retry_after_ms));
}

Status Shard::may_write() const {
  if (!consensus_->failure().ok()) {
    return Status(ErrorCode::kReadOnly, "shard " + std::to_string(options_.shard.value()) + ": " +
                                            std::string(consensus_->failure().context()));
  }
  if (role_ != replica::Role::kLeader) {
    return Status(ErrorCode::kNotLeader, "shard " + std::to_string(options_.shard.value()));
  }
  return Status();
}

// --- records: gathered, proposed, applied
// -------------------------------------------------------------------------------

int64_t Shard::log_time(const Now& now) {
  proposed_time_ms_ = std::max({proposed_time_ms_, views_.log_time_ms(), clock_.ms(now)});
  return proposed_time_ms_;
}

void Shard::gather_settle(const flatbuffers::FlatBufferBuilder& body,
                          std::unique_ptr<QueuePending> pending) {
  PendingRecord record;
  record.kind = PendingRecord::Kind::kQueue;
  record.queue = std::move(pending);
  gather(format::RecordKind::kQueueSettle, body, std::move(record));
}

int64_t Shard::compaction_time() { return log_time(now_); }

void Shard::gather_compact(const format::CompactRecord& record, uint64_t run) {
  make_room_for(format::kCompactHeaderBytes + record.batch.size());
  records_.add_compact(record);
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kCompaction;
  pending.run = run;
  gathering_.push_back(std::move(pending));
}

void Shard::gather_compacted(const flatbuffers::FlatBufferBuilder& body, uint64_t run) {
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kCompaction;
  pending.run = run;
  gather(format::RecordKind::kCompacted, body, std::move(pending));
}

void Shard::make_room_for(size_t body_bytes, log::Room room) {
  const bool full =
      records_.bytes() + format::record_bytes(body_bytes) > limits::kEntryPayloadBytesTarget;
  const bool apart = short_of_space_ && room != gathering_room_;
  if (!records_.empty() && (full || apart)) {
    if (apart) {
      TIDEMARK_COVERAGE_MARK(shard_reserved_room_used_apart);
    }
    propose_gathered();
  }
  if (records_.empty() || room == log::Room::kOrdinary) {
    gathering_room_ = room;
  }
}

void Shard::gather(format::RecordKind kind, const flatbuffers::FlatBufferBuilder& body,
                   PendingRecord pending, log::Room room) {
  const ByteView bytes = protocol::finished(body);
  make_room_for(bytes.size(), room);
  records_.add(kind, bytes);
  gathering_.push_back(std::move(pending));
}

void Shard::propose_gathered() {
  if (!records_.empty()) {
    ready_.push_back({records_.take(), std::exchange(gathering_, {}), gathering_room_});
  }
  propose_ready();
}

void Shard::propose_ready() {
  while (!ready_.empty()) {
    const Result<LogIndex> index = consensus_->propose(ready_.front().payload, ready_.front().room);
    if (!index.ok() && index.error().code() == ErrorCode::kOverloaded) {
      TIDEMARK_COVERAGE_MARK(shard_waits_for_space);
      return;  // disk space for it is being taken; the next turn tries again
    }
    ReadyEntry entry = std::move(ready_.front());
    ready_.pop_front();
    if (index.ok()) {
      short_of_space_ = short_of_space_ && entry.room == log::Room::kReserved;
      pending_.push_back({*index, std::move(entry.records)});
      continue;
    }
    const bool full = index.error().code() == ErrorCode::kDiskFull;
    short_of_space_ = short_of_space_ || full;
    if (full) {
      TIDEMARK_COVERAGE_MARK(shard_refuses_on_full_disk);
    }
    for (PendingRecord& pending : entry.records) {
      fail(pending, index.error(), full ? kDiskFullRetryMs : limits::kRetryAfterMsDefault);
    }
  }
}

void Shard::take_time(const Now& now) {
  now_ = now;
  if (!clock_.started()) {
    clock_.start(now, views_.log_time_ms());
  }
}

void Shard::flush(const Now& now) {
  take_time(now);
  drive_delays(now);
  keep_room_for_ends();
  if (std::exchange(leases_came_, false)) {
    answer_heartbeats();
  }
  queue_desk_.flush(now.monotonic, changed_);
  if (!records_.empty() && (pending_.size() < kEntriesInFlightForLatency ||
                            records_.bytes() >= kGatheredBytesProposed)) {
    propose_gathered();
  } else {
    propose_ready();
  }
  wake_fetches();
}

void Shard::apply(const replica::CommittedEntry& entry) {
  outcomes_.clear();
  const LogPosition payload = entry.position + log::kEntryHeaderBytes;
  views_.apply(entry.index, entry.term, payload, entry.payload.view(), outcomes_);
  records_applied_ += outcomes_.size();
  take_fired();
  changed_.insert(changed_.end(), views_.exposed().begin(), views_.exposed().end());
  for (const RecordOutcome& outcome : outcomes_) {
    if (outcome.kind == format::RecordKind::kProduce && outcome.error == ErrorCode::kOk &&
        !outcome.append.duplicate) {
      changed_.push_back(outcome.partition);
    }
    queue_desk_.applied(outcome);
  }
  tell_ended();
  if (pending_.empty() || pending_.front().index != entry.index) {
    return;  // replayed at start, or proposed by another leader
  }
  PendingEntry mine = std::move(pending_.front());
  pending_.pop_front();
  TIDEMARK_CHECK(mine.records.size() == outcomes_.size(), "one outcome per proposed record");
  // settle() may gather new records but never applies, so outcomes_ stays as it is.
  for (size_t i = 0; i < mine.records.size(); ++i) {
    settle(mine.records[i], outcomes_[i]);
  }
}

void Shard::on_role(replica::Role role, Term /*term*/) {
  const bool was_leader = role_ == replica::Role::kLeader;
  role_ = role;
  if (was_leader && role != replica::Role::kLeader) {
    fail_pending(
        Status(ErrorCode::kOutcomeUnknown, "leadership was lost before the entry was committed"));
    coordinator_.fail_all(Status(ErrorCode::kNotLeader, "leadership was lost"));
    answer_heartbeats();
    queue_desk_.forget_all(Status(ErrorCode::kNotLeader, "leadership was lost"));
    compactor_.abandon();
  }
}

void Shard::fail_pending(const Status& status) {
  std::deque<PendingEntry> lost = std::exchange(pending_, {});
  for (PendingEntry& entry : lost) {
    TIDEMARK_COVERAGE_MARK(shard_outcome_unknown);
    for (PendingRecord& pending : entry.records) {
      fail(pending, status, 0);
    }
  }
}

void Shard::settle(PendingRecord& pending, const RecordOutcome& outcome) {
  using Kind = PendingRecord::Kind;
  switch (pending.kind) {
    case Kind::kNobody:
      return;
    case Kind::kProduce:
      return settle_produce(pending, outcome);
    case Kind::kTopic:
      return settle_topic(pending, outcome);
    case Kind::kInitProducer: {
      protocol::fbs::InitProducerReplyBuilder reply(builder_);
      reply.add_producer_id(outcome.first_producer_id);
      return send_reply(pending.to, reply.Finish());
    }
    case Kind::kPartitions: {
      partitions_in_flight_.erase({pending.topic_id, pending.version});
      ShardMail mail = new_mail(ShardMail::Kind::kPartitionsDone, ShardId{0});
      mail.topic = pending.topic_id;
      mail.version = pending.version;
      return outbox_.mail(std::move(mail));
    }
    case Kind::kProgress:
      progress_in_flight_.erase({pending.topic_id, pending.version, pending.shard});
      return check_topic_waiters();
    case Kind::kTrim:
      trims_in_flight_.erase(pending.partition);
      return;
    case Kind::kAdvance:
      advancing_ = false;
      return;
    case Kind::kDelayChange:
      return settle_delay_change(pending, outcome);
    case Kind::kDelayNext:
      occurrences_in_flight_.erase(pending.delay_id);
      return;
    case Kind::kRelocate:
      return settle_relocate(true);
    case Kind::kRelocated:
      relocation_.reset();
      return;
    case Kind::kCompaction:
      return compactor_.settle(pending.run, outcome.error == ErrorCode::kOk);
    case Kind::kTxn:
      return settle_txn(*pending.txn, outcome);
    case Kind::kGroup:
      return settle_group(*pending.group, outcome);
    case Kind::kQueue:
      return queue_desk_.settle(*pending.queue, outcome);
    case Kind::kMessageIds:
      return release_ids(pending);
  }
}

void Shard::fail(PendingRecord& pending, const Status& status, uint32_t retry_after_ms) {
  using Kind = PendingRecord::Kind;
  switch (pending.kind) {
    case Kind::kNobody:
      return;
    case Kind::kProduce: {
      release_produce(pending);
      if (status.code() == ErrorCode::kDiskFull) {
        ++counters_.refused_disk_full;
      }
      ProduceOp::Part& part = pending.produce->parts[pending.part];
      part.status = status;
      part.retry_after_ms = retry_after_ms;
      if (--pending.produce->unanswered == 0) {
        finish_produce(*pending.produce);
      }
      return;
    }
    case Kind::kTopic:
      return reply_topic(*pending.topic, status);
    case Kind::kInitProducer:
      return refuse(pending.to, status, retry_after_ms);
    case Kind::kPartitions:
      partitions_in_flight_.erase({pending.topic_id, pending.version});
      return;  // the mail is repeated
    case Kind::kProgress:
      progress_in_flight_.erase({pending.topic_id, pending.version, pending.shard});
      return;
    case Kind::kTrim:
      trims_in_flight_.erase(pending.partition);
      return;
    case Kind::kAdvance:
      advancing_ = false;
      if (role_ == replica::Role::kLeader) {
        TIDEMARK_COVERAGE_MARK(delay_advance_failed);
        next_advance_ = MonotonicTime{now_.monotonic.ns + kAdvanceRetryNs};
      }
      return;
    case Kind::kDelayChange:
      pending.change->parts[pending.part].status = status;
      if (--pending.change->unanswered == 0) {
        finish_delay_change(*pending.change);
      }
      return;
    case Kind::kDelayNext:
      occurrences_in_flight_.erase(pending.delay_id);
      return;
    case Kind::kRelocate:
      return settle_relocate(false);
    case Kind::kRelocated:
      relocation_.reset();
      return;
    case Kind::kCompaction:
      return compactor_.settle(pending.run, false);
    case Kind::kTxn:
      return fail_txn(*pending.txn, status, retry_after_ms);
    case Kind::kGroup:
      return fail_group(*pending.group, status, retry_after_ms);
    case Kind::kQueue:
      return queue_desk_.fail(*pending.queue, status);
    case Kind::kMessageIds:
      return release_ids(pending);
  }
}

// --- time and end
// -------------------------------------------------------------------------------------------------------

void Shard::tick(const Now& now) {
  take_time(now);
  expire_fetches();
  propose_ready();
  if (!consensus_->failure().ok() && !pending_.empty()) {
    // Their bytes may or may not be on disk; nobody will ever know before a restart.
    fail_pending(Status(ErrorCode::kOutcomeUnknown, std::string(consensus_->failure().context())));
  }
  // Whoever waits here gets an answer in time, be this shard the leader or not.
  check_topic_waiters();
  check_fence_waiters();
  expire_polls(now);
  queue_desk_.tick(now.monotonic);
  if (role_ != replica::Role::kLeader || stopping_) {
    return;
  }
  if (now.monotonic >= next_mail_) {
    next_mail_ = MonotonicTime{now.monotonic.ns + kMailIntervalNs};
    for (const auto& [id, topic] : views_.catalog().topics()) {
      if (!topic.unconfirmed.empty()) {
        mail_unconfirmed(topic);
      }
    }
  }
  if (now.monotonic >= next_retention_) {
    next_retention_ = MonotonicTime{now.monotonic.ns + options_.retention_interval_ms * 1'000'000};
    check_retention(now);
    check_relocation();
  }
  compactor_.tick(now.monotonic, trims_in_flight_);
  drive_txns(now);
  drive_groups(now);
}

void Shard::begin_stop() {
  stopping_ = true;
  // Long polls end empty-handed; clients ask another broker or come back.
  while (!parked_.empty()) {
    const std::unique_ptr<FetchOp> op = unpark(parked_.begin()->first);
    for (FetchOp::Part& part : op->parts) {
      part.pieces.clear();
      part.next = part.offset;
      part.filtered = part.expired = 0;
    }
    finish_fetch(*op);
  }
  queue_desk_.begin_stop();
  compactor_.abandon();
  while (!polls_.empty()) {
    answer_poll(polls_.begin()->first, {});
  }
  check_fence_waiters();
  coordinator_.fail_all(Status(ErrorCode::kShuttingDown, "the broker is stopping"));
  answer_heartbeats();
  for (const auto& op : std::exchange(topic_waiters_, {})) {
    reply_topic(*op,
                Status(ErrorCode::kShuttingDown, "the broker is stopping; the change is recorded"));
  }
  propose_gathered();
}

void Shard::add_stats(ShardStats& stats) const {
  stats.shard = options_.shard.value();
  stats.leader = role_ == replica::Role::kLeader;
  stats.read_only = !consensus_->failure().ok();
  stats.topics = views_.catalog().size();
  stats.partitions = views_.partitions().size();
  stats.messages_in = counters_.messages_in;
  stats.bytes_in = counters_.bytes_in;
  stats.batches_in = counters_.batches_in;
  stats.duplicates = counters_.duplicates;
  stats.duplicate_messages = counters_.duplicate_messages;
  stats.messages_out = counters_.messages_out;
  stats.bytes_out = counters_.bytes_out;
  stats.refused_overloaded = counters_.refused_overloaded;
  stats.refused_disk_full = counters_.refused_disk_full;
  stats.fetch_waiters = parked_.size();
  stats.cold_reads = counters_.cold_reads + reader_->cold_reads();
  stats.fetch_filtered = counters_.fetch_filtered;
  stats.fetch_expired = counters_.fetch_expired;
  add_delay_stats(stats);
  add_txn_stats(stats);
  queue_desk_.add_stats(stats);
  compactor_.add_stats(stats);
  stats.applied_index = views_.applied().index.value();
}

}  // namespace tidemark::shard
