// Reading requests: fetch with long poll, offsets by time, description of partitions.
#include <algorithm>
#include <utility>

#include "broker/shard/batch_payload.h"
#include "broker/shard/shard.h"
#include "log/base/coverage_mark.h"
#include "log/format/record_batch.h"
#include "log/format/reference_batch.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

// The error of a part; what was settled before it is delivered first.
void fail_part(FetchOp& op, FetchOp::Part& part, Status status) {
  op.failed = true;
  if (part.resume == part.offset) {
    part.status = std::move(status);
  }
}

Result<std::shared_ptr<const filter::Filter>> parse_filter(const fbs::Fetch& request) {
  std::vector<std::string_view> tags;
  if (request.tags() != nullptr) {
    for (const auto* tag : *request.tags()) {
      tags.push_back(tag->string_view());
    }
  }
  return filter::Filter::parse(
      tags, request.filter() == nullptr ? std::string_view() : request.filter()->string_view());
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
  Result<std::shared_ptr<const filter::Filter>> filter = parse_filter(**request);
  if (!filter.ok()) {
    return refuse(from, filter.error());
  }
  auto op = std::make_unique<FetchOp>();
  op->id = next_fetch_++;
  op->filter = std::move(*filter);
  op->to = from;
  const uint32_t wait_ms = std::min((*request)->wait_ms_max(), limits::kFetchWaitMsMax);
  op->deadline = MonotonicTime{now.monotonic.ns + int64_t{wait_ms} * 1'000'000};
  op->bytes_max = std::clamp<size_t>((*request)->bytes_max(), 1, limits::kFetchBytesMax);
  op->bytes_min = std::min<size_t>((*request)->bytes_min(), op->bytes_max);
  for (const auto* part : *parts) {
    FetchOp::Part wanted;
    wanted.partition = {TopicId{part->topic()}, PartitionIndex{part->partition()}};
    wanted.offset = wanted.resume = Offset{part->offset()};
    wanted.bytes_max = std::max<size_t>(part->bytes_max(), 1);
    op->parts.push_back(std::move(wanted));
  }
  evaluate(std::move(op));
}

void Shard::evaluate(std::unique_ptr<FetchOp> op) {
  if (!collect(*op)) {
    return find_cold(std::move(op));
  }
  if (op->in_round) {
    return read_round(std::move(op));
  }
  const bool waits =
      op->bytes < op->bytes_min && !op->failed && now_.monotonic < op->deadline && !stopping_;
  if (waits) {
    return park(std::move(op));
  }
  if (op->unread) {
    return read_round(std::move(op));
  }
  finish_fetch(*op);
}

// False: part `find_part` needs a look-up in the stored index first.
bool Shard::collect(FetchOp& op) {
  op.bytes = op.settled_bytes;
  op.failed = op.unread = op.in_round = op.walk = false;
  op.now_ms = std::max(views_.log_time_ms(), clock_.ms(now_));
  for (size_t i = 0; i < op.parts.size(); ++i) {
    // Each round begins with another part: what is left out of one does not hold up the others.
    const size_t number = (op.rounds + i) % op.parts.size();
    if (!collect_part(op, op.parts[number])) {
      op.find_part = number;
      return false;
    }
  }
  return true;
}

bool Shard::collect_part(FetchOp& op, FetchOp::Part& part) {
  part.pieces.erase(part.pieces.begin() + static_cast<std::ptrdiff_t>(part.settled),
                    part.pieces.end());
  part.status = Status();
  part.next = part.resume;
  const partition::Partition* partition = views_.find(part.partition);
  if (partition == nullptr) {
    fail_part(op, part, unknown_partition(part.partition, options_.shard));
    return true;
  }
  part.high_watermark = visible_end(*partition);
  part.start = partition->start();
  part.ttl_ms = partition->config().queue.ttl_ms;
  part.ttl_end = partition->ttl_end();
  if (part.resume < part.start || part.resume > partition->end()) {
    fail_part(op, part,
              Status(ErrorCode::kOffsetOutOfRange, "offset " + std::to_string(part.resume.value()) +
                                                       "; stored are " +
                                                       std::to_string(part.start.value()) + " to " +
                                                       std::to_string(partition->end().value())));
    return true;
  }
  if (part.resume >= part.high_watermark || op.bytes >= op.collected_max()) {
    return true;
  }
  if (!part.find_error.ok()) {
    fail_part(op, part, part.find_error);
    return true;
  }
  const size_t budget = std::min(op.collected_max(part), op.collected_max() - op.bytes);
  while (part.resume < part.high_watermark) {
    std::optional<std::vector<partition::BatchRef>> refs = part.found;
    if (refs.has_value()) {
      partition->index().amend(*refs);
    } else {
      refs = partition->index().find(part.resume, budget, part.start);
    }
    if (!refs.has_value()) {
      return false;
    }
    const bool only_dead =
        !refs->empty() && std::all_of(refs->begin(), refs->end(),
                                      [](const partition::BatchRef& ref) { return ref.is_dead(); });
    if (!only_dead) {
      collect_refs(op, part, std::move(*refs));
      return true;
    }
    // Compaction has left nothing of them: there is nothing to wait for.
    part.next = part.resume = std::min(refs->back().end(), part.high_watermark);
    part.found.reset();
  }
  return true;
}

void Shard::collect_refs(FetchOp& op, FetchOp::Part& part, std::vector<partition::BatchRef> refs) {
  for (const partition::BatchRef& ref : refs) {
    if (ref.base >= part.high_watermark ||
        (op.bytes > 0 && op.bytes + ref.bytes > op.collected_max())) {
      break;
    }
    if (ref.is_dead()) {
      part.next = ref.end();
      continue;
    }
    FetchOp::Piece piece{.ref = ref, .bytes = std::nullopt};
    const bool own_ttl = ref.base < part.ttl_end;
    if (!own_ttl && part.ttl_ms >= 0 && op.now_ms - ref.received_ms >= part.ttl_ms) {
      piece.outlived = true;
    } else {
      piece.walk = own_ttl || op.filter != nullptr;
      piece.messages = piece.walk ? 0 : ref.count;
      piece.bytes = source_->cached(ref);
      if (piece.bytes.has_value() && format::is_reference(piece.bytes->view())) {
        piece.bytes.reset();  // it is to be resolved, and not known to be larger before
        op.in_round = true;
      }
      op.unread = op.unread || !piece.bytes.has_value();
      op.bytes += ref.bytes;
    }
    op.walk = op.walk || piece.walk;
    op.in_round = op.in_round || piece.walk || piece.outlived;
    part.next = ref.end();
    part.pieces.push_back(std::move(piece));
  }
}

void Shard::find_cold(std::unique_ptr<FetchOp> op) {
  if (cold_in_flight_ >= limits::kColdReadsInFlightPerShardMax) {
    cold_queue_.push_back(std::move(op));
    return;
  }
  TIDEMARK_COVERAGE_MARK(fetch_index_from_store);
  ++cold_in_flight_;
  ++counters_.cold_reads;
  const FetchOp::Part& part = op->parts[op->find_part];
  const PartitionId id = part.partition;
  const Offset from = part.resume;
  const size_t budget = std::min(op->collected_max(part), op->collected_max());
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

// Bytes that memory does not have, and work that takes a worker, are bounded together.
void Shard::read_round(std::unique_ptr<FetchOp> op) {
  if (!op->unread && !op->walk) {
    return end_round(std::move(op));
  }
  if (cold_in_flight_ >= limits::kColdReadsInFlightPerShardMax) {
    cold_queue_.push_back(std::move(op));
    return;
  }
  ++cold_in_flight_;
  std::vector<partition::BatchRef> refs;
  for (const FetchOp::Part& part : op->parts) {
    for (const FetchOp::Piece& piece : part.pieces) {
      if (!piece.bytes.has_value() && !piece.outlived) {
        refs.push_back(piece.ref);
      }
    }
  }
  const size_t bytes_max = op->collected_max() - op->settled_bytes;
  reader_->read(std::move(refs), bytes_max,
                [this, op = std::move(op)](std::vector<Result<SharedBytes>> read) mutable {
                  size_t next = 0;
                  for (FetchOp::Part& part : op->parts) {
                    for (FetchOp::Piece& piece : part.pieces) {
                      if (piece.bytes.has_value() || piece.outlived || next == read.size()) {
                        continue;
                      }
                      Result<SharedBytes>& bytes = read[next++];
                      if (bytes.ok()) {
                        piece.bytes = std::move(*bytes);
                      } else {
                        piece.damage = bytes.error();
                      }
                    }
                  }
                  select_round(std::move(op));
                });
}

void Shard::select_round(std::unique_ptr<FetchOp> op) {
  if (!op->walk) {
    end_round(std::move(op));
    return cold_done();
  }
  FetchOp& on_worker = *op;
  source_->run([&on_worker] { on_worker.select(); },
               [this, op = std::move(op)]() mutable {
                 end_round(std::move(op));
                 cold_done();
               });
}

void Shard::end_round(std::unique_ptr<FetchOp> op) {
  const bool last = !op->in_round || stopping_;
  op->settle();
  // A request that finds little holds nothing for long, and its reader gets on.
  const bool enough = op->settled_bytes >= op->bytes_min ||
                      op->walked_bytes >= limits::kFetchBytesMax ||
                      (op->settled_bytes > 0 && now_.monotonic >= op->deadline);
  if (last || enough || op->failed) {
    return finish_fetch(*op);
  }
  evaluate(std::move(op));
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
      bytes += static_cast<uint32_t>(piece.bytes->size());
      // Compaction leaves fewer messages in a batch than it has offsets.
      const Result<format::BatchHeader> header = format::decode_batch_header(piece.bytes->view());
      counters_.messages_out += header.ok() ? header->record_count : piece.messages;
    }
    counters_.bytes_out += bytes;
    counters_.fetch_filtered += part.filtered;
    counters_.fetch_expired += part.expired;
    std::vector<ServedBatch> batches;
    for (const FetchOp::Piece& piece : part.pieces) {
      batches.push_back({piece.ref.base, *piece.bytes});
    }
    append_batches(batches, payload);
    const auto error = protocol::build_error(builder_, part.status);
    fbs::FetchPartReplyBuilder reply(builder_);
    if (!part.status.ok()) {
      reply.add_error(error);
    }
    reply.add_bytes(bytes);
    reply.add_high_watermark(part.high_watermark.value());
    reply.add_start_offset(part.start.value());
    reply.add_next_offset(part.next.value());
    reply.add_filtered(part.filtered);
    reply.add_expired(part.expired);
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
    return op->unread ? read_round(std::move(op)) : finish_fetch(*op);
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
  queue_desk_.connection_closed(loop, connection);
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
