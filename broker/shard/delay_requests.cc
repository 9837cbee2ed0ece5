// Requests about pending delayed messages. Cancel and reschedule are records: what they answer is
// decided when they are applied.
#include <algorithm>
#include <utility>

#include "broker/delay/delay_scan.h"
#include "broker/shard/shard.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;
using timerwheel::Entry;
using timerwheel::Key;

namespace {

fbs::DelayOutcome outcome_of(delay::ChangeOutcome change, bool rescheduled) {
  switch (change) {
    case delay::ChangeOutcome::kDone:
      return rescheduled ? fbs::DelayOutcome::kRescheduled : fbs::DelayOutcome::kCancelled;
    case delay::ChangeOutcome::kAlreadyDelivered:
      return fbs::DelayOutcome::kAlreadyDelivered;
    case delay::ChangeOutcome::kNotFound:
    case delay::ChangeOutcome::kMoved:
      break;
  }
  return fbs::DelayOutcome::kNotFound;
}

fbs::DelayOutcome outcome_of(delay::DelayState state) {
  return state == delay::DelayState::kDelivered ? fbs::DelayOutcome::kAlreadyDelivered
                                                : fbs::DelayOutcome::kNotFound;
}

// Of a request with `items`, or why it is refused.
template <typename Request>
Status check_items(const Request& request) {
  const auto* items = request.items();
  if (items == nullptr || items->size() == 0 || items->size() > limits::kDelayRefsPerRequestMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "1 to " + std::to_string(limits::kDelayRefsPerRequestMax) + " items are allowed");
  }
  return Status();
}

struct DelayTotals {
  uint64_t pending = 0;
  uint64_t bytes = 0;
  uint64_t overdue = 0;
  std::vector<fbs::DelayBucket> buckets;
};

// Null if there is none.
flatbuffers::Offset<flatbuffers::String> build_key(flatbuffers::FlatBufferBuilder& builder,
                                                   std::string_view key) {
  return key.empty() ? flatbuffers::Offset<flatbuffers::String>()
                     : builder.CreateString(key.data(), key.size());
}

// Buckets in one reply, over all topics: 16 bytes each.
constexpr size_t kBucketsPerReplyMax = 65'536;
constexpr size_t kBucketsPerTopicMin = 8;

// Merges neighbours until at most `buckets_max` are left; each keeps its begin.
void merge_buckets(std::vector<fbs::DelayBucket>& buckets, size_t buckets_max) {
  if (buckets.size() <= buckets_max) {
    return;
  }
  const size_t together = (buckets.size() + buckets_max - 1) / buckets_max;
  std::vector<fbs::DelayBucket> merged;
  for (size_t i = 0; i < buckets.size(); i += together) {
    uint64_t count = 0;
    for (size_t j = i; j < std::min(buckets.size(), i + together); ++j) {
      count += buckets[j].count();
    }
    merged.emplace_back(buckets[i].from_ms(), count);
  }
  buckets = std::move(merged);
}

uint32_t low_tag(uint64_t tag) { return static_cast<uint32_t>(tag); }

flatbuffers::Offset<fbs::DelayInfo> build_info(flatbuffers::FlatBufferBuilder& builder,
                                               const delay::PendingDelays& delays,
                                               const Entry& entry) {
  const delay::DelayTag tag = delay::DelayTag::unpack(entry.tag);
  const std::string* key = delays.key_of(entry.id);
  const delay::Series* series = delays.series_of(entry.id);
  const auto text = [&builder](const std::string* of) {
    return of == nullptr || of->empty() ? flatbuffers::Offset<flatbuffers::String>()
                                        : builder.CreateString(*of);
  };
  const auto key_text = text(key);
  const auto zone = text(series ? &series->recurrence.zone : nullptr);
  const auto cron = text(series ? &series->recurrence.cron : nullptr);
  fbs::DelayInfoBuilder info(builder);
  info.add_topic(tag.partition.topic.value());
  info.add_partition(tag.partition.index.value());
  info.add_id(entry.id);
  info.add_due_ms(static_cast<int64_t>(entry.due));
  info.add_position(entry.position);
  info.add_tag(low_tag(entry.tag));
  info.add_bytes(tag.bytes);
  info.add_key(key_text);
  info.add_every_ms(series ? series->recurrence.every_ms : 0);
  info.add_zone(zone);
  info.add_cron(cron);
  return info.Finish();
}

}  // namespace

// The entry that a reference names, pending or not. kNotFound: no message is pending under the key.
Result<Entry> Shard::find_delay(const fbs::DelayRef& ref) const {
  const std::string_view key = protocol::view(ref.key());
  PartitionId partition{TopicId{ref.topic()}, PartitionIndex{ref.partition()}};
  Entry entry;
  if (ref.handle() != nullptr) {
    const fbs::DelayHandle& handle = *ref.handle();
    const delay::DelayTag tag = delay::DelayTag::unpack(TopicId{handle.topic()}, handle.tag());
    partition = tag.partition;
    entry = {static_cast<uint64_t>(std::max<int64_t>(handle.due_ms(), 0)), handle.id(),
             handle.position(), tag.packed()};
    if (const delay::Series* series = views_.delays().series_of(entry.id); series != nullptr) {
      entry = series->entry;
    }
  }
  if (views_.find(partition) == nullptr) {
    return Status(ErrorCode::kUnknownPartition,
                  "topic id " + std::to_string(partition.topic.value()) + " partition " +
                      std::to_string(partition.index.value()) + " on shard " +
                      std::to_string(options_.shard.value()));
  }
  if (ref.handle() != nullptr) {
    return entry;
  }
  if (key.empty()) {
    return Status(ErrorCode::kInvalidArgument, "a delayed message is named by handle or key");
  }
  const Entry* found = views_.delays().find_key(partition, key);
  return found != nullptr ? Result<Entry>(*found)
                          : Result<Entry>(Status(ErrorCode::kNotFound, "key " + std::string(key)));
}

// What a record says of the message that a reference names. By key it says the key: what is pending
// under it may be another one when the record is applied.
Result<Shard::DelayNamed> Shard::name_delay(const fbs::DelayRef& ref) const {
  const Result<Entry> found = find_delay(ref);
  DelayNamed named;
  if (found.ok()) {
    named.entry = *found;
    named.series = views_.delays().series_of(found->id) != nullptr;
  } else if (found.error().code() != ErrorCode::kNotFound) {
    return found.error();
  }
  if (ref.handle() == nullptr) {
    named.key = protocol::view(ref.key());
    if (named.key.size() > format::kDelayKeyBytesMax) {
      return Status(ErrorCode::kInvalidArgument, "a key of " + std::to_string(named.key.size()) +
                                                     " bytes; the limit is " +
                                                     std::to_string(format::kDelayKeyBytesMax));
    }
    delay::DelayTag tag;
    tag.partition = {TopicId{ref.topic()}, PartitionIndex{ref.partition()}};
    named.entry = {0, 0, 0, tag.packed()};
  }
  return named;
}

void Shard::on_delay_cancel(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::DelayCancel*> request =
      protocol::read_table<fbs::DelayCancel>(frame.table(), "DelayCancel");
  Status status = request.status();
  if (status.ok()) {
    status = check_items(**request);
  }
  if (status.ok()) {
    status = may_write();
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  const auto& items = *(*request)->items();
  auto op = std::make_shared<DelayChangeOp>();
  op->to = from;
  op->parts.resize(items.size());
  op->unanswered = items.size() + 1;  // itself, until all parts are looked at
  for (uint32_t i = 0; i < items.size(); ++i) {
    const Result<DelayNamed> named = name_delay(*items.Get(i));
    if (!named.ok()) {
      op->parts[i].status = named.error();
      --op->unanswered;
      continue;
    }
    const Entry& entry = named->entry;
    flatbuffers::FlatBufferBuilder body;
    const auto key = build_key(body, named->key);
    format::fbs::DelayCancelBuilder record(body);
    record.add_id(entry.id);
    record.add_due_ms(static_cast<int64_t>(entry.due));
    record.add_topic(static_cast<uint32_t>(entry.tag >> 32));
    record.add_tag(low_tag(entry.tag));
    record.add_key(key);
    record.add_time_ms(log_time(now));
    body.Finish(record.Finish());
    PendingRecord pending;
    pending.kind = PendingRecord::Kind::kDelayChange;
    pending.change = op;
    pending.part = i;
    gather(format::RecordKind::kDelayCancel, body, std::move(pending));
  }
  if (--op->unanswered == 0) {
    finish_delay_change(*op);
  }
}

void Shard::on_delay_reschedule(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::DelayReschedule*> request =
      protocol::read_table<fbs::DelayReschedule>(frame.table(), "DelayReschedule");
  Status status = request.status();
  if (status.ok()) {
    status = check_items(**request);
  }
  const bool after = status.ok() && (*request)->due_kind() == 0;
  const int64_t due_ms = status.ok() ? (*request)->due_ms() : 0;
  const int64_t due_max_ms = limits::kDelayMsMax + (after ? 0 : now.wall.ms);
  if (status.ok() && ((*request)->due_kind() > 1 || due_ms > due_max_ms || (after && due_ms < 0))) {
    status = Status(ErrorCode::kInvalidArgument,
                    "due kind is 0 (after, 0 to 34 years) or 1 (at, up to 34 years ahead)");
  }
  if (status.ok()) {
    status = may_write();
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  const auto& items = *(*request)->items();
  auto op = std::make_shared<DelayChangeOp>();
  op->to = from;
  op->reschedule = true;
  op->parts.resize(items.size());
  op->unanswered = items.size() + 1;
  std::vector<Entry> entries;
  std::vector<Wanted> wanted;
  for (uint32_t i = 0; i < items.size(); ++i) {
    const Result<DelayNamed> named = name_delay(*items.Get(i));
    status = named.status();
    if (named.ok() && named->series) {
      status = Status(ErrorCode::kNotAllowed,
                      "a recurring message cannot be rescheduled: cancel it and send it anew");
    }
    if (status.ok() && views_.delays().rescheduled() >= limits::kDelayKeysPerShardMax) {
      status = Status(ErrorCode::kLimitExceeded,
                      "too many rescheduled messages are pending; the limit is " +
                          std::to_string(limits::kDelayKeysPerShardMax));
    }
    if (!status.ok()) {
      op->parts[i].status = status;
      --op->unanswered;
      continue;
    }
    entries.push_back(named->entry);
    wanted.push_back({i, std::string(named->key)});
  }
  // By the clocks as they stand when it is asked, however long it takes to find the messages.
  const int64_t due = after ? clock_.after(now, due_ms) : clock_.at(now, due_ms);
  locate_delays(std::move(entries), [this, op, due, wanted = std::move(wanted)](
                                        const Result<std::vector<Entry>>& located) {
    for (size_t i = 0; i < wanted.size(); ++i) {
      const Status possible = located.ok() ? may_write() : located.error();
      if (!possible.ok()) {
        op->parts[wanted[i].part].status = possible;
        --op->unanswered;
        continue;
      }
      propose_reschedule(op, wanted[i], (*located)[i], std::max(due, log_time(now_)));
    }
    if (--op->unanswered == 0) {
      finish_delay_change(*op);
    }
  });
}

void Shard::propose_reschedule(const std::shared_ptr<DelayChangeOp>& op, const Wanted& wanted,
                               const Entry& entry, int64_t due_ms) {
  next_delay_id_ = std::max(next_delay_id_, views_.delays().next_id());
  flatbuffers::FlatBufferBuilder body;
  const auto key = build_key(body, wanted.key);
  format::fbs::DelayRescheduleBuilder record(body);
  record.add_key(key);
  record.add_id(entry.id);
  record.add_due_ms(static_cast<int64_t>(entry.due));
  record.add_topic(static_cast<uint32_t>(entry.tag >> 32));
  record.add_tag(low_tag(entry.tag));
  record.add_position(entry.position);
  record.add_new_id(next_delay_id_++);
  record.add_new_due_ms(due_ms);
  record.add_time_ms(log_time(now_));
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kDelayChange;
  pending.change = op;
  pending.part = wanted.part;
  gather(format::RecordKind::kDelayReschedule, body, std::move(pending));
}

// Where the messages lie now: a handle knows where they lay when it was given out.
void Shard::locate_delays(std::vector<Entry> entries, DelaysLocated done) {
  const delay::PendingDelays& delays = views_.delays();
  if (entries.empty() || !delays.has_moved()) {
    return done(std::move(entries));
  }
  auto shared = std::make_shared<std::vector<Entry>>(std::move(entries));
  source_->with_store(
      [shared](kv::ReadView& view) -> Status {
        for (Entry& entry : *shared) {
          RETURN_IF_ERROR(delay::PendingDelays::patch(view, std::span(&entry, 1)));
        }
        return Status();
      },
      [this, shared, checkpoints = checkpoints_ended_,
       done = std::move(done)](const Status& status) mutable {
        if (!status.ok()) {
          return done(status);
        }
        if (checkpoints != checkpoints_ended_) {
          // What moved may have left memory for a store that is newer than the one that was read.
          return locate_delays(std::move(*shared), std::move(done));
        }
        for (Entry& entry : *shared) {
          const auto moved = views_.delays().moved(entry.key());
          entry.position = moved.has_value() ? moved->value() : entry.position;
        }
        done(std::move(*shared));
      });
}

void Shard::settle_delay_change(PendingRecord& pending, const RecordOutcome& outcome) {
  DelayChangeOp& op = *pending.change;
  DelayChangeOp::Part& part = op.parts[pending.part];
  part.change = outcome.change;
  if (outcome.change == delay::ChangeOutcome::kDone) {
    ++(op.reschedule ? counters_.delays_rescheduled : counters_.delays_cancelled);
    if (op.reschedule) {
      part.receipt = views_.receipts()[outcome.first_receipt];
    }
  }
  if (outcome.change == delay::ChangeOutcome::kMoved) {
    part.status = Status(ErrorCode::kUnavailable, "the message is being relocated: try again");
  }
  if (--op.unanswered == 0) {
    finish_delay_change(op);
  }
}

void Shard::finish_delay_change(DelayChangeOp& op) {
  std::vector<flatbuffers::Offset<fbs::DelayChangeResult>> results;
  results.reserve(op.parts.size());
  for (const DelayChangeOp::Part& part : op.parts) {
    const auto error = protocol::build_error(builder_, part.status);
    const fbs::DelayReceipt receipt(part.receipt.id, part.receipt.due_ms,
                                    part.receipt.position.value(), part.receipt.tag, 0, 0);
    fbs::DelayChangeResultBuilder result(builder_);
    if (!part.status.ok()) {
      result.add_error(error);
    }
    result.add_outcome(outcome_of(part.change, op.reschedule));
    if (part.receipt.id != 0) {
      result.add_receipt(&receipt);
    }
    results.push_back(result.Finish());
  }
  const auto all = builder_.CreateVector(results);
  fbs::DelayChangeReplyBuilder reply(builder_);
  reply.add_results(all);
  send_reply(op.to, reply.Finish());
}

void Shard::on_delay_list(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::DelayList*> request =
      protocol::read_table<fbs::DelayList>(frame.table(), "DelayList");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  if ((*request)->limit() < 1 || (*request)->limit() > limits::kDelayListMax) {
    return refuse(from, Status(ErrorCode::kInvalidArgument,
                               "limit is 1 to " + std::to_string(limits::kDelayListMax)));
  }
  if (cold_in_flight_ + waiting_scans_.size() >= limits::kColdReadsInFlightPerShardMax) {
    return refuse(from, Status(ErrorCode::kOverloaded, "too many reads are under way"),
                  limits::kRetryAfterMsDefault);
  }
  delay::ScanQuery query;
  query.topic = TopicId{(*request)->topic()};
  if ((*request)->partition() >= 0) {
    query.partition = PartitionIndex{static_cast<uint32_t>((*request)->partition())};
  }
  query.to = static_cast<uint64_t>(std::max<int64_t>((*request)->due_to_ms(), 0));
  if ((*request)->after_due_ms() >= 0) {
    query.after = Key{static_cast<uint64_t>((*request)->after_due_ms()), (*request)->after_id()};
  }
  query.limit = (*request)->limit();
  scan_delays(from, query);
}

// While a checkpoint takes entries from memory to the store, neither has all of them.
void Shard::scan_delays(const ReplyTo& from, const delay::ScanQuery& query) {
  if (checkpointing_) {
    waiting_scans_.push_back({from, query});
    return;
  }
  auto scan = std::make_shared<delay::DelayScan>(views_.delays().wheel(), query);
  ++cold_in_flight_;
  ++counters_.cold_reads;
  source_->with_store([scan](kv::ReadView& view) { return scan->run(view); },
                      [this, from, scan](const Status& status) {
                        finish_delay_list(from, *scan, status);
                        cold_done();
                      });
}

void Shard::set_checkpointing(bool on) {
  checkpointing_ = on;
  checkpoints_ended_ += on ? 0U : 1U;
  for (const WaitingScan& waiting :
       on ? std::vector<WaitingScan>() : std::exchange(waiting_scans_, {})) {
    scan_delays(waiting.from, waiting.query);
  }
}

void Shard::finish_delay_list(const ReplyTo& from, const delay::DelayScan& scan,
                              const Status& status) {
  if (!status.ok()) {
    return refuse(from, status);
  }
  std::vector<flatbuffers::Offset<fbs::DelayInfo>> items;
  const delay::PendingDelays& delays = views_.delays();
  for (const Entry& entry : scan.found()) {
    // The wheel still has what was cancelled.
    if (delays.state(entry.id) == delay::DelayState::kPending) {
      items.push_back(build_info(builder_, delays, entry));
    }
  }
  if (items.empty() && scan.more()) {
    // A page of cancelled ones: the asking side goes on behind the last item, so there must be one.
    delay::ScanQuery rest = scan.query();
    rest.after = scan.found().back().key();
    return scan_delays(from, rest);
  }
  const auto all = builder_.CreateVector(items);
  fbs::DelayListReplyBuilder reply(builder_);
  reply.add_items(all);
  reply.add_more(scan.more());
  send_reply(from, reply.Finish());
}

void Shard::on_delay_show(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::DelayShow*> request =
      protocol::read_table<fbs::DelayShow>(frame.table(), "DelayShow");
  if (!request.ok() || (*request)->item() == nullptr) {
    return refuse(from, request.ok()
                            ? Status(ErrorCode::kInvalidArgument, "DelayShow needs an item")
                            : request.error());
  }
  const Result<Entry> entry = find_delay(*(*request)->item());
  const delay::DelayState state =
      entry.ok() ? views_.delays().state(entry->id) : delay::DelayState::kNone;
  if (!entry.ok() && entry.error().code() != ErrorCode::kNotFound) {
    return refuse(from, entry.error());
  }
  if (state != delay::DelayState::kPending) {
    fbs::DelayShowReplyBuilder reply(builder_);
    reply.add_outcome(outcome_of(state));
    return send_reply(from, reply.Finish());
  }
  locate_delays({*entry}, [this, from](Result<std::vector<Entry>> located) {
    if (!located.ok()) {
      return refuse(from, located.error());
    }
    read_delay(from, located->front());
  });
}

void Shard::read_delay(const ReplyTo& from, const Entry& entry) {
  partition::BatchRef ref;
  ref.count = 1;
  ref.bytes = delay::DelayTag::unpack(entry.tag).bytes;
  ref.position = LogPosition{entry.position};
  source_->read({ref}, [this, from, entry](std::vector<Result<SharedBytes>> read) {
    if (!read.front().ok()) {
      return refuse(from, read.front().error());
    }
    const auto info = build_info(builder_, views_.delays(), entry);
    fbs::DelayShowReplyBuilder reply(builder_);
    reply.add_info(info);
    send_reply(from, reply.Finish(), {*read.front()});
  });
}

void Shard::on_delay_stats(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::DelayStats*> request =
      protocol::read_table<fbs::DelayStats>(frame.table(), "DelayStats");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const TopicId only{(*request)->topic()};
  const delay::PendingDelays& delays = views_.delays();
  std::map<TopicId, DelayTotals> totals;
  for (const auto& [partition, count] : delays.pending_counts()) {
    if (only == TopicId{0} || only == partition.topic) {
      totals[partition.topic].pending += count;
      totals[partition.topic].bytes += delays.pending_bytes(partition);
    }
  }
  const int64_t now_ms = clock_.ms(now);
  for (const auto& [bucket, count] : delays.buckets()) {
    if (const auto it = totals.find(bucket.topic); it != totals.end()) {
      const int64_t from_ms = bucket.number * delay::PendingDelays::kBucketMs;
      it->second.buckets.emplace_back(from_ms, count);
      it->second.overdue += from_ms + delay::PendingDelays::kBucketMs <= now_ms ? count : 0;
    }
  }
  std::vector<flatbuffers::Offset<fbs::DelayTopicStats>> topics;
  const size_t buckets_max =
      std::max(kBucketsPerTopicMin, kBucketsPerReplyMax / std::max<size_t>(totals.size(), 1));
  for (auto& [topic, total] : totals) {
    merge_buckets(total.buckets, buckets_max);
    const auto buckets = builder_.CreateVectorOfStructs(total.buckets);
    fbs::DelayTopicStatsBuilder stats(builder_);
    stats.add_topic(topic.value());
    stats.add_pending(total.pending);
    stats.add_bytes(total.bytes);
    stats.add_overdue(total.overdue);
    stats.add_buckets(buckets);
    topics.push_back(stats.Finish());
  }
  const auto all = builder_.CreateVector(topics);
  fbs::DelayStatsReplyBuilder reply(builder_);
  reply.add_now_ms(now_ms);
  reply.add_topics(all);
  reply.add_fired(counters_.delays_fired);
  reply.add_cancelled(counters_.delays_cancelled);
  reply.add_rescheduled(counters_.delays_rescheduled);
  reply.add_late_skipped(views_.late().skipped);
  reply.add_late_dead_lettered(views_.late().dead_lettered);
  reply.add_relocated_bytes(counters_.relocated_bytes);
  reply.add_wheel_entries(delays.wheel().size());
  reply.add_wheel_memory_bytes(delays.wheel().memory_bytes());
  send_reply(from, reply.Finish());
}

}  // namespace tidemark::shard
