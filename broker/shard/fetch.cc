// Reading requests: fetch with long poll, offsets by time, description of partitions.
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

// Batches smaller than this are copied behind one another; larger ones share memory with the log
// tail and get a stamped head of their own.
constexpr size_t kCopiedBatchBytes = 4 * limits::kKiB;

// Base offsets are stamped here: bytes in the log stay as the producer sent them.
void add_batches(const std::vector<FetchOp::Piece>& pieces, std::vector<SharedBytes>& out) {
  size_t i = 0;
  while (i < pieces.size()) {
    // One block for a run: whole small batches, heads of large ones.
    size_t block_bytes = 0;
    size_t end = i;
    while (end < pieces.size()) {
      const bool large = pieces[end].ref.bytes >= kCopiedBatchBytes;
      block_bytes += large ? format::kBatchStampBytes : pieces[end].ref.bytes;
      ++end;
      if (large) {
        break;
      }
    }
    Buffer block(block_bytes);
    size_t at = 0;
    for (; i < end; ++i) {
      const FetchOp::Piece& piece = pieces[i];
      const bool large = piece.ref.bytes >= kCopiedBatchBytes;
      const size_t copied = large ? format::kBatchStampBytes : piece.ref.bytes;
      std::memcpy(block.data() + at, piece.bytes->data(), copied);
      format::stamp_batch(block.mutable_view().subspan(at, format::kBatchStampBytes),
                          piece.ref.base.value(), piece.ref.bytes, 0);
      at += copied;
    }
    out.emplace_back(std::move(block));
    const FetchOp::Piece& last = pieces[end - 1];
    if (last.ref.bytes >= kCopiedBatchBytes) {
      out.push_back(
          last.bytes->slice(format::kBatchStampBytes, last.ref.bytes - format::kBatchStampBytes));
    }
  }
}

// What lies before a damaged batch is delivered; the reader meets the error when it asks for that
// batch itself, and is told where to go on behind it.
void cut_at_damage(FetchOp::Part& part) {
  const auto damaged =
      std::find_if(part.pieces.begin(), part.pieces.end(),
                   [](const FetchOp::Piece& piece) { return !piece.bytes.has_value(); });
  if (damaged == part.pieces.end()) {
    return;
  }
  if (damaged == part.pieces.begin()) {
    part.status = damaged->damage;
    part.next = damaged->ref.end();
  } else {
    part.next = damaged->ref.base;
  }
  part.pieces.erase(damaged, part.pieces.end());
}

Status unknown_partition(PartitionId id, ShardId shard) {
  return Status(ErrorCode::kUnknownPartition, "topic id " + std::to_string(id.topic.value()) +
                                                  " partition " + std::to_string(id.index.value()) +
                                                  " on shard " + std::to_string(shard.value()));
}

}  // namespace

void Shard::on_fetch(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::Fetch*> request =
      protocol::read_table<fbs::Fetch>(frame.table(), "Fetch");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const auto* parts = (*request)->parts();
  if (parts == nullptr || parts->size() == 0 || parts->size() > limits::kPartsPerRequestMax) {
    return refuse(
        from, Status(ErrorCode::kInvalidArgument,
                     "a fetch has 1 to " + std::to_string(limits::kPartsPerRequestMax) + " parts"));
  }
  auto op = std::make_unique<FetchOp>();
  op->id = next_fetch_++;
  op->to = from;
  const uint32_t wait_ms = std::min((*request)->wait_ms_max(), limits::kFetchWaitMsMax);
  op->deadline = MonotonicTime{now.monotonic.ns + int64_t{wait_ms} * 1'000'000};
  op->bytes_max = std::clamp<size_t>((*request)->bytes_max(), 1, limits::kFetchBytesMax);
  op->bytes_min = std::min<size_t>((*request)->bytes_min(), op->bytes_max);
  for (const auto* part : *parts) {
    FetchOp::Part wanted;
    wanted.partition = {TopicId{part->topic()}, PartitionIndex{part->partition()}};
    wanted.offset = Offset{part->offset()};
    wanted.bytes_max = std::max<size_t>(part->bytes_max(), 1);
    op->parts.push_back(std::move(wanted));
  }
  evaluate(std::move(op));
}

void Shard::evaluate(std::unique_ptr<FetchOp> op) {
  if (!collect(*op)) {
    return find_cold(std::move(op));
  }
  const bool waits =
      op->bytes < op->bytes_min && !op->failed && now_.monotonic < op->deadline && !stopping_;
  if (waits) {
    return park(std::move(op));
  }
  if (op->unread) {
    return read_cold(std::move(op));
  }
  finish_fetch(*op);
}

// False: part `find_part` needs a look-up in the stored index first.
bool Shard::collect(FetchOp& op) {
  op.bytes = 0;
  op.failed = op.unread = false;
  for (size_t i = 0; i < op.parts.size(); ++i) {
    FetchOp::Part& part = op.parts[i];
    part.pieces.clear();
    part.status = Status();
    part.next = part.offset;
    const partition::Partition* partition = views_.find(part.partition);
    if (partition == nullptr) {
      part.status = unknown_partition(part.partition, options_.shard);
      op.failed = true;
      continue;
    }
    part.high_watermark = visible_end(*partition);
    part.start = partition->start();
    if (part.offset < part.start || part.offset > partition->end()) {
      part.status = Status(ErrorCode::kOffsetOutOfRange,
                           "offset " + std::to_string(part.offset.value()) + "; stored are " +
                               std::to_string(part.start.value()) + " to " +
                               std::to_string(partition->end().value()));
      op.failed = true;
      continue;
    }
    if (part.offset >= part.high_watermark || op.bytes >= op.bytes_max) {
      continue;
    }
    if (!part.find_error.ok()) {
      part.status = part.find_error;
      op.failed = true;
      continue;
    }
    const size_t budget = std::min(part.bytes_max, op.bytes_max - op.bytes);
    std::optional<std::vector<partition::BatchRef>> refs =
        part.found.has_value() ? part.found
                               : partition->index().find(part.offset, budget, part.start);
    if (!refs.has_value()) {
      op.find_part = i;
      return false;
    }
    collect_refs(op, part, std::move(*refs));
  }
  return true;
}

void Shard::collect_refs(FetchOp& op, FetchOp::Part& part, std::vector<partition::BatchRef> refs) {
  for (const partition::BatchRef& ref : refs) {
    if (ref.base >= part.high_watermark || (op.bytes > 0 && op.bytes + ref.bytes > op.bytes_max)) {
      break;
    }
    FetchOp::Piece piece{ref, source_->cached(ref), Status()};
    op.unread = op.unread || !piece.bytes.has_value();
    op.bytes += ref.bytes;
    part.next = ref.end();
    part.pieces.push_back(std::move(piece));
  }
}

void Shard::find_cold(std::unique_ptr<FetchOp> op) {
  if (cold_in_flight_ >= limits::kColdReadsInFlightPerShardMax) {
    cold_queue_.push_back(std::move(op));
    return;
  }
  ++cold_in_flight_;
  ++counters_.cold_reads;
  const FetchOp::Part& part = op->parts[op->find_part];
  const PartitionId id = part.partition;
  const Offset from = part.offset;
  const size_t budget = std::min(part.bytes_max, op->bytes_max);
  source_->find(id, from, budget,
                [this, op = std::move(op)](Result<std::vector<partition::BatchRef>> refs) mutable {
                  FetchOp::Part& waiting = op->parts[op->find_part];
                  if (refs.ok()) {
                    waiting.found = std::move(*refs);
                  } else {
                    waiting.find_error = refs.error();
                  }
                  evaluate(std::move(op));
                  cold_done();
                });
}

void Shard::read_cold(std::unique_ptr<FetchOp> op) {
  if (cold_in_flight_ >= limits::kColdReadsInFlightPerShardMax) {
    cold_queue_.push_back(std::move(op));
    return;
  }
  ++cold_in_flight_;
  ++counters_.cold_reads;
  std::vector<partition::BatchRef> refs;
  for (const FetchOp::Part& part : op->parts) {
    for (const FetchOp::Piece& piece : part.pieces) {
      if (!piece.bytes.has_value()) {
        refs.push_back(piece.ref);
      }
    }
  }
  source_->read(std::move(refs),
                [this, op = std::move(op)](std::vector<Result<SharedBytes>> read) mutable {
                  size_t next = 0;
                  for (FetchOp::Part& part : op->parts) {
                    for (FetchOp::Piece& piece : part.pieces) {
                      if (piece.bytes.has_value()) {
                        continue;
                      }
                      Result<SharedBytes>& bytes = read[next++];
                      if (bytes.ok()) {
                        piece.bytes = std::move(*bytes);
                      } else {
                        piece.damage = bytes.error();
                      }
                    }
                    cut_at_damage(part);
                  }
                  finish_fetch(*op);
                  cold_done();
                });
}

void Shard::cold_done() {
  --cold_in_flight_;
  // One that no longer needs the disk gives its place to the next.
  while (!cold_queue_.empty() && cold_in_flight_ < limits::kColdReadsInFlightPerShardMax) {
    std::unique_ptr<FetchOp> op = std::move(cold_queue_.front());
    cold_queue_.pop_front();
    evaluate(std::move(op));
  }
}

void Shard::finish_fetch(FetchOp& op) {
  std::vector<flatbuffers::Offset<fbs::FetchPartReply>> parts;
  std::vector<SharedBytes> payload;
  parts.reserve(op.parts.size());
  for (const FetchOp::Part& part : op.parts) {
    uint32_t bytes = 0;
    for (const FetchOp::Piece& piece : part.pieces) {
      bytes += piece.ref.bytes;
      counters_.messages_out += piece.ref.count;
    }
    counters_.bytes_out += bytes;
    add_batches(part.pieces, payload);
    const auto error = protocol::build_error(builder_, part.status);
    fbs::FetchPartReplyBuilder reply(builder_);
    if (!part.status.ok()) {
      reply.add_error(error);
    }
    reply.add_bytes(bytes);
    reply.add_high_watermark(part.high_watermark.value());
    reply.add_start_offset(part.start.value());
    reply.add_next_offset(part.next.value());
    parts.push_back(reply.Finish());
  }
  const auto all = builder_.CreateVector(parts);
  fbs::FetchReplyBuilder reply(builder_);
  reply.add_parts(all);
  send_reply(op.to, reply.Finish(), std::move(payload));
}

// --- long polls
// ---------------------------------------------------------------------------------------------------------

void Shard::park(std::unique_ptr<FetchOp> op) {
  if (parked_.size() >= limits::kFetchWaitersPerShardMax) {
    // Too many wait already: this one is answered with what there is.
    return op->unread ? read_cold(std::move(op)) : finish_fetch(*op);
  }
  const uint64_t id = op->id;
  deadlines_.emplace(op->deadline.ns, id);
  for (FetchOp::Part& part : op->parts) {
    part.found.reset();
    waiting_on_[part.partition].push_back(id);
  }
  parked_.emplace(id, std::move(op));
}

std::unique_ptr<FetchOp> Shard::unpark(uint64_t id) {
  const auto it = parked_.find(id);
  std::unique_ptr<FetchOp> op = std::move(it->second);
  parked_.erase(it);
  for (auto [at, end] = deadlines_.equal_range(op->deadline.ns); at != end; ++at) {
    if (at->second == id) {
      deadlines_.erase(at);
      break;
    }
  }
  for (const FetchOp::Part& part : op->parts) {
    const auto waiting = waiting_on_.find(part.partition);
    if (waiting == waiting_on_.end()) {
      continue;
    }
    std::erase(waiting->second, id);
    if (waiting->second.empty()) {
      waiting_on_.erase(waiting);
    }
  }
  return op;
}

void Shard::wake_fetches() {
  if (changed_.empty()) {
    return;
  }
  std::vector<uint64_t> woken;
  for (const PartitionId id : changed_) {
    if (const auto waiting = waiting_on_.find(id); waiting != waiting_on_.end()) {
      woken.insert(woken.end(), waiting->second.begin(), waiting->second.end());
    }
  }
  changed_.clear();
  std::sort(woken.begin(), woken.end());
  woken.erase(std::unique(woken.begin(), woken.end()), woken.end());
  for (const uint64_t id : woken) {
    evaluate(unpark(id));
  }
}

void Shard::expire_fetches() {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_.monotonic.ns) {
    evaluate(unpark(deadlines_.begin()->second));
  }
}

void Shard::connection_closed(uint32_t loop, uint64_t connection) {
  std::vector<uint64_t> gone;
  for (const auto& [id, op] : parked_) {
    if (op->to.loop == loop && op->to.connection == connection) {
      gone.push_back(id);
    }
  }
  for (const uint64_t id : gone) {
    (void)unpark(id);
  }
  forget_polls(loop, connection);
  forget_heartbeats(loop, connection);
}

// --- offsets and description
// --------------------------------------------------------------------------------------------

void Shard::on_list_offsets(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::ListOffsets*> request =
      protocol::read_table<fbs::ListOffsets>(frame.table(), "ListOffsets");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const auto* parts = (*request)->parts();
  if (parts == nullptr || parts->size() == 0 || parts->size() > limits::kPartsPerRequestMax) {
    return refuse(
        from, Status(ErrorCode::kInvalidArgument,
                     "1 to " + std::to_string(limits::kPartsPerRequestMax) + " parts are allowed"));
  }
  auto op = std::make_shared<ListOffsetsOp>();
  op->to = from;
  op->parts.resize(parts->size());
  op->unanswered = 1;
  for (uint32_t i = 0; i < parts->size(); ++i) {
    const PartitionId id{TopicId{parts->Get(i)->topic()},
                         PartitionIndex{parts->Get(i)->partition()}};
    const int64_t time_ms = parts->Get(i)->time_ms();
    ListOffsetsOp::Part& part = op->parts[i];
    const partition::Partition* partition = views_.find(id);
    if (partition == nullptr) {
      part.status = unknown_partition(id, options_.shard);
    } else if (time_ms == -1 || time_ms > partition->last_received_ms()) {
      // What is delivered ahead of its time comes to those who begin at the end now.
      part.offset = std::max(visible_end(*partition), partition->start());
    } else if (time_ms == -2 || partition->start() == partition->end()) {
      part.offset = partition->start();
    } else if (const auto ref = partition->index().find_time(time_ms, partition->start());
               ref.has_value()) {
      part.offset = std::max(ref->base, partition->start());
      part.time_ms = ref->received_ms;
    } else {
      ++op->unanswered;
      const Offset end = partition->end();
      const auto first_in_memory = partition->index().refs().empty()
                                       ? std::optional<partition::BatchRef>()
                                       : partition->index().refs().front();
      source_->find_time(
          id, partition->start(), end, time_ms,
          [this, op, i, end, first_in_memory](Result<std::optional<partition::BatchRef>> stored) {
            ListOffsetsOp::Part& waiting = op->parts[i];
            waiting.status = stored.status();
            if (stored.ok()) {
              const auto& found = stored->has_value() ? *stored : first_in_memory;
              waiting.offset = found.has_value() ? found->base : end;
              waiting.time_ms = found.has_value() ? found->received_ms : -1;
            }
            finish_list_offsets(op);
          });
    }
  }
  finish_list_offsets(op);
}

void Shard::finish_list_offsets(const std::shared_ptr<ListOffsetsOp>& op) {
  if (--op->unanswered > 0) {
    return;
  }
  std::vector<flatbuffers::Offset<fbs::ListOffsetsPartReply>> parts;
  for (const ListOffsetsOp::Part& part : op->parts) {
    const auto error = protocol::build_error(builder_, part.status);
    fbs::ListOffsetsPartReplyBuilder reply(builder_);
    if (!part.status.ok()) {
      reply.add_error(error);
    }
    reply.add_offset(part.offset.value());
    reply.add_time_ms(part.time_ms);
    parts.push_back(reply.Finish());
  }
  const auto all = builder_.CreateVector(parts);
  fbs::ListOffsetsReplyBuilder reply(builder_);
  reply.add_parts(all);
  send_reply(op->to, reply.Finish());
}

void Shard::on_partition_describe(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::PartitionDescribe*> request =
      protocol::read_table<fbs::PartitionDescribe>(frame.table(), "PartitionDescribe");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const TopicId topic{(*request)->topic()};
  std::vector<PartitionId> wanted;
  const auto* numbers = (*request)->partitions();
  if (numbers != nullptr && numbers->size() > limits::kPartitionsPerTopicMax) {
    return refuse(from,
                  Status(ErrorCode::kInvalidArgument, "more partitions than a topic can have"));
  }
  if (numbers != nullptr && numbers->size() > 0) {
    for (const uint32_t number : *numbers) {
      wanted.push_back({topic, PartitionIndex{number}});
    }
  } else {
    for (auto it = views_.partitions().lower_bound({topic, PartitionIndex{0}});
         it != views_.partitions().end() && it->first.topic == topic; ++it) {
      wanted.push_back(it->first);
    }
  }
  std::vector<flatbuffers::Offset<fbs::PartitionState>> states;
  for (const PartitionId id : wanted) {
    const partition::Partition* partition = views_.find(id);
    const Status status = partition ? Status() : unknown_partition(id, options_.shard);
    const auto error = protocol::build_error(builder_, status);
    fbs::PartitionStateBuilder state(builder_);
    state.add_partition(id.index.value());
    state.add_shard(options_.shard.value());
    state.add_leader(options_.node.value());
    if (partition == nullptr) {
      state.add_error(error);
    } else {
      state.add_start_offset(partition->start().value());
      state.add_end_offset(partition->end().value());
      state.add_bytes(partition->bytes());
      state.add_batches(partition->batches());
      state.add_producers(static_cast<uint32_t>(partition->producers().size()));
      state.add_last_received_ms(partition->last_received_ms());
    }
    states.push_back(state.Finish());
  }
  const auto all = builder_.CreateVector(states);
  fbs::PartitionDescribeReplyBuilder reply(builder_);
  reply.add_partitions(all);
  send_reply(from, reply.Finish());
}

}  // namespace tidemark::shard
