#include "clients/cpp/src/fetcher.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "broker/protocol/messages.h"
#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

constexpr size_t kFetchBytesMin = 4 * limits::kKiB;

std::string place_text(std::string_view topic, uint32_t partition) {
  return "topic \"" + std::string(topic) + "\" partition " + std::to_string(partition);
}

bool is_about_place(ErrorCode code) {
  return code == ErrorCode::kNotLeader || code == ErrorCode::kWrongShard ||
         code == ErrorCode::kUnknownTopic || code == ErrorCode::kUnknownPartition;
}

int64_t query_of(const client::Position& position) {
  switch (position.kind()) {
    case client::Position::Kind::kEnd:
      return -1;
    case client::Position::Kind::kTimestamp:
      return std::max<int64_t>(position.value(), 0);
    case client::Position::Kind::kStart:
    case client::Position::Kind::kOffset:
      return -2;
  }
  return -2;
}

}  // namespace

Fetcher::Fetcher(const FetcherOptions& options, Cluster& cluster, std::function<void()> wake,
                 std::function<void()> arrived, uint64_t seed)
    : options_(options),
      cluster_(cluster),
      wake_(std::move(wake)),
      arrived_(std::move(arrived)),
      random_(seed) {}

// --- I/O thread ---

MonotonicTime Fetcher::run(MonotonicTime now) {
  std::unique_lock lock(mutex_);
  if (closed_ || partitions_.empty()) {
    return kNever;
  }
  const size_t share = options_.prefetch_bytes_max / partitions_.size();
  std::vector<Group> groups;
  turn_ = (turn_ + 1) % partitions_.size();
  for (size_t i = 0; i < partitions_.size(); ++i) {
    plan(partitions_[(turn_ + i) % partitions_.size()], now, share, groups);
  }
  for (Group& group : groups) {
    if (group.locate) {
      send_locate(group);
    } else {
      send_fetch(group);
    }
  }
  MonotonicTime next = kNever;
  for (const PartitionPtr& partition : partitions_) {
    if (!partition->busy && partition->state != State::kStopped && partition->retry_at > now) {
      next = std::min(next, partition->retry_at);
    }
  }
  unlock_and_tell(lock);
  return next;
}

void Fetcher::plan(const PartitionPtr& partition, MonotonicTime now, size_t share,
                   std::vector<Group>& groups) {
  Partition& p = *partition;
  const bool locate = p.state == State::kLocating;
  if (p.busy || p.state == State::kStopped || now < p.retry_at || (p.paused && !locate)) {
    return;
  }
  const size_t bytes =
      locate ? 0 : std::min(options_.fetch_bytes_per_partition, std::max(share, kFetchBytesMin));
  if (!locate && p.buffered_bytes != 0 && p.buffered_bytes + bytes > share) {
    return;
  }
  Session* const session = route(p);
  if (session == nullptr) {
    return;
  }
  auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
    return g.session == session && g.locate == locate &&
           g.parts.size() < limits::kPartsPerRequestMax &&
           g.bytes + bytes <= limits::kFetchBytesMax;
  });
  if (group == groups.end()) {
    if (requests_of(session) >= options_.requests_per_session_max) {
      return;  // an answer will come first
    }
    ++requests_of(session);
    group = groups.insert(groups.end(),
                          Group{.session = session, .locate = locate, .parts = {}, .bytes = 0});
  }
  group->bytes += bytes;
  group->parts.push_back({.partition = partition,
                          .generation = p.generation,
                          .offset = p.offset,
                          .bytes = bytes,
                          .locate = p.locate});
  p.busy = true;
}

Session* Fetcher::route(Partition& p) {
  const TopicMeta* meta = cluster_.find(p.topic);
  if (std::exchange(p.fresh, false) && meta != nullptr && !meta->status.ok()) {
    p.need_version = meta->version + 1;
  }
  if (meta == nullptr || meta->version < p.need_version) {
    cluster_.want(p.topic);
    if (!cluster_.metadata_error().ok()) {
      last_error_ = cluster_.metadata_error();
    }
    return nullptr;
  }
  if (!meta->status.ok()) {
    if (error_is_retryable(meta->status.code())) {
      cluster_.want(p.topic);
    } else {
      stop_with(p, meta->status);
    }
    return nullptr;
  }
  if (p.partition >= meta->partitions.size()) {
    stop_with(p, Status(ErrorCode::kUnknownPartition,
                        place_text(p.topic, p.partition) + ": the topic has " +
                            std::to_string(meta->partitions.size()) + " partitions"));
    return nullptr;
  }
  if (p.topic_id != 0 && p.topic_id != meta->id && p.located) {
    on_out_of_range(p, Status(ErrorCode::kUnknownTopic,
                              "topic \"" + p.topic + "\" was deleted and created again"));
    return nullptr;
  }
  p.topic_id = meta->id;
  Session* const session = cluster_.session_of(meta->partitions[p.partition]);
  if (session == nullptr) {
    cluster_.want(p.topic);
  }
  return session;
}

void Fetcher::send_fetch(Group& group) {
  flatbuffers::FlatBufferBuilder builder(64 + group.parts.size() * 48);
  std::vector<flatbuffers::Offset<fbs::FetchPart>> parts;
  parts.reserve(group.parts.size());
  for (const Asked& asked : group.parts) {
    parts.push_back(fbs::CreateFetchPart(builder, asked.partition->topic_id,
                                         asked.partition->partition, asked.offset,
                                         static_cast<uint32_t>(asked.bytes)));
  }
  const auto list = builder.CreateVector(parts);
  const auto tags = options_.tags.empty() ? 0 : builder.CreateVectorOfStrings(options_.tags);
  const auto filter = options_.filter.empty() ? 0 : builder.CreateString(options_.filter);
  builder.Finish(fbs::CreateFetch(builder, list, static_cast<uint32_t>(options_.fetch_wait_ms),
                                  /*bytes_min=*/1, static_cast<uint32_t>(group.bytes), tags,
                                  filter));
  const MonotonicTime deadline{cluster_.clock().monotonic().ns +
                               cluster_.options().request_timeout_ns +
                               options_.fetch_wait_ms * kNsPerMs};
  group.session->request(
      FrameType::kFetch, group.session->shard(), protocol::finished(builder), {}, deadline,
      [self = shared_from_this(), session = group.session, asked = std::move(group.parts)](
          Reply reply) { self->on_fetch(session, asked, std::move(reply)); });
}

void Fetcher::send_locate(Group& group) {
  flatbuffers::FlatBufferBuilder builder(64 + group.parts.size() * 32);
  std::vector<flatbuffers::Offset<fbs::ListOffsetsPart>> parts;
  parts.reserve(group.parts.size());
  for (const Asked& asked : group.parts) {
    parts.push_back(fbs::CreateListOffsetsPart(builder, asked.partition->topic_id,
                                               asked.partition->partition, query_of(asked.locate)));
  }
  const auto list = builder.CreateVector(parts);
  builder.Finish(fbs::CreateListOffsets(builder, list));
  const MonotonicTime deadline{cluster_.clock().monotonic().ns +
                               cluster_.options().request_timeout_ns};
  group.session->request(
      FrameType::kListOffsets, group.session->shard(), protocol::finished(builder), {}, deadline,
      [self = shared_from_this(), session = group.session, asked = std::move(group.parts)](
          Reply reply) { self->on_locate(session, asked, std::move(reply)); });
}

void Fetcher::on_fetch(Session* session, const std::vector<Asked>& asked, Reply reply) {
  std::unique_lock lock(mutex_);
  --requests_of(session);
  const fbs::FetchReply* table = nullptr;
  if (reply.status.ok()) {
    const auto read = protocol::read_table<fbs::FetchReply>(reply.frame.table(), "FetchReply");
    reply.status = read.ok() ? protocol::to_status((*read)->error()) : read.error();
    table = read.ok() ? *read : nullptr;
    reply.retry_after_ms = table != nullptr ? protocol::retry_after_ms(table->error()) : 0;
  }
  if (reply.status.ok()) {
    uint64_t total = 0;
    const size_t count = table->parts() != nullptr ? table->parts()->size() : 0;
    for (size_t i = 0; i < count; ++i) {
      total += table->parts()->Get(static_cast<flatbuffers::uoffset_t>(i))->bytes();
    }
    if (count != asked.size() || total != reply.frame.payload().size()) {
      reply.status = Status(ErrorCode::kMalformed,
                            session->address().text() + ": FetchReply does not fit its payload");
    }
  }
  const ByteView payload = reply.status.ok() ? reply.frame.payload() : ByteView();
  size_t at =
      reply.status.ok() ? static_cast<size_t>(payload.data() - reply.frame.bytes.data()) : 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    Partition& p = *asked[i].partition;
    const fbs::FetchPartReply* part =
        reply.status.ok() ? table->parts()->Get(static_cast<flatbuffers::uoffset_t>(i)) : nullptr;
    const size_t bytes = part != nullptr ? part->bytes() : 0;
    if (p.generation == asked[i].generation) {
      p.busy = false;
      if (part == nullptr) {
        on_error(p, reply.status, reply.retry_after_ms);
      } else {
        on_fetch_part(asked[i], *part, reply.frame.bytes.slice(at, bytes));
      }
    }
    at += bytes;
  }
  unlock_and_tell(lock);
}

void Fetcher::on_fetch_part(const Asked& asked, const fbs::FetchPartReply& part,
                            SharedBytes bytes) {
  Partition& p = *asked.partition;
  const Status status = protocol::to_status(part.error());
  if (status.code() == ErrorCode::kCorrupted && part.next_offset() > asked.offset) {
    on_error(
        p,
        Status(status.code(),
               "offset " + std::to_string(asked.offset) + ": " + std::string(status.context()) +
                   "; what follows begins at offset " + std::to_string(part.next_offset())),
        0);
    return;
  }
  if (!status.ok()) {
    on_error(p, status, protocol::retry_after_ms(part.error()));
    return;
  }
  last_error_ = Status();
  p.backoff.reset();
  p.need_version = 0;
  if (part.next_offset() < asked.offset || (part.next_offset() == asked.offset && !bytes.empty())) {
    stop_with(
        p, Status(ErrorCode::kMalformed, place_text(p.topic, p.partition) + ": the broker sent " +
                                             std::to_string(bytes.size()) + " bytes for offset " +
                                             std::to_string(asked.offset) + " and names " +
                                             std::to_string(part.next_offset()) + " as the next"));
    return;
  }
  if (part.next_offset() == asked.offset) {
    return;  // nothing new within the wait
  }
  Chunk chunk = new_chunk(p);
  chunk.from = asked.offset;
  chunk.next_offset = part.next_offset();
  chunk.high_watermark = part.high_watermark();
  p.buffered_bytes += bytes.size();
  chunk.charged_bytes = bytes.size();
  chunk.bytes = std::move(bytes);
  p.offset = part.next_offset();
  chunks_.push_back(std::move(chunk));
  untold_ = true;
}

void Fetcher::on_locate(Session* session, const std::vector<Asked>& asked, Reply reply) {
  std::unique_lock lock(mutex_);
  --requests_of(session);
  const fbs::ListOffsetsReply* table = nullptr;
  if (reply.status.ok()) {
    const auto read =
        protocol::read_table<fbs::ListOffsetsReply>(reply.frame.table(), "ListOffsetsReply");
    reply.status = read.ok() ? protocol::to_status((*read)->error()) : read.error();
    table = read.ok() ? *read : nullptr;
    reply.retry_after_ms = table != nullptr ? protocol::retry_after_ms(table->error()) : 0;
  }
  if (reply.status.ok() && (table->parts() == nullptr || table->parts()->size() != asked.size())) {
    reply.status = Status(ErrorCode::kMalformed, "ListOffsetsReply does not answer every part");
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    Partition& p = *asked[i].partition;
    if (p.generation != asked[i].generation) {
      continue;
    }
    p.busy = false;
    Status status = reply.status;
    uint32_t retry_after = reply.retry_after_ms;
    const fbs::ListOffsetsPartReply* part = nullptr;
    if (status.ok()) {
      part = table->parts()->Get(static_cast<flatbuffers::uoffset_t>(i));
      status = protocol::to_status(part->error());
      retry_after = protocol::retry_after_ms(part->error());
    }
    if (!status.ok()) {
      on_error(p, status, retry_after);
      continue;
    }
    last_error_ = Status();
    p.backoff.reset();
    p.state = State::kReading;
    p.offset = part->offset();
    p.shown = p.offset;
    p.located = true;
  }
  unlock_and_tell(lock);
}

void Fetcher::on_error(Partition& p, const Status& status, uint32_t retry_after_ms) {
  const ErrorCode code = status.code();
  if (code == ErrorCode::kOffsetOutOfRange) {
    on_out_of_range(
        p, Status(code, place_text(p.topic, p.partition) + " at offset " +
                            std::to_string(p.offset) + ": " + std::string(status.context())));
    return;
  }
  if (!is_about_place(code) && !error_is_retryable(code)) {
    stop_with(
        p, Status(code, place_text(p.topic, p.partition) + ": " + std::string(status.context())));
    return;
  }
  last_error_ = status;
  const TopicMeta* meta = cluster_.find(p.topic);
  if (is_about_place(code) && meta != nullptr) {
    p.need_version = meta->version + 1;
  }
  cluster_.want(p.topic);
  const int64_t asked_for = int64_t{retry_after_ms} * kNsPerMs;
  p.retry_at = {cluster_.clock().monotonic().ns + std::max(asked_for, p.backoff.next_ns(random_))};
}

void Fetcher::on_out_of_range(Partition& p, const Status& status) {
  switch (options_.out_of_range) {
    case client::OutOfRange::kError:
      stop_with(p, status);
      return;
    case client::OutOfRange::kStart:
      restart(p, client::Position::start());
      break;
    case client::OutOfRange::kEnd:
      restart(p, client::Position::end());
      break;
  }
  wake_();
}

void Fetcher::stop_with(Partition& p, Status error) {
  p.state = State::kStopped;
  Chunk chunk = new_chunk(p);
  chunk.from = p.offset;
  chunk.next_offset = p.offset;
  chunk.error = std::move(error);
  chunks_.push_back(std::move(chunk));
  untold_ = true;
}

Chunk Fetcher::new_chunk(const Partition& p) const {
  Chunk chunk;
  chunk.assignment = p.number;
  chunk.generation = p.generation;
  chunk.topic = p.topic;
  chunk.partition = p.partition;
  return chunk;
}

size_t& Fetcher::requests_of(Session* session) {
  for (auto& [known, count] : requests_) {
    if (known == session) {
      return count;
    }
  }
  return requests_.emplace_back(session, 0).second;
}

void Fetcher::unlock_and_tell(std::unique_lock<std::mutex>& lock) {
  const bool tell = std::exchange(untold_, false);
  lock.unlock();
  if (!tell) {
    return;
  }
  // With the lock held, whoever waits would wake up only to wait for it.
  chunk_came_.notify_all();
  if (arrived_) {
    arrived_();
  }
}

// --- any thread ---

namespace {

Status check_assignment(const std::vector<client::Assignment>& assignment) {
  std::set<std::pair<std::string_view, uint32_t>> seen;
  for (const client::Assignment& each : assignment) {
    if (each.topic.empty() || each.topic.size() > limits::kTopicNameBytesMax) {
      return {ErrorCode::kInvalidArgument, "a topic name has 1 to 200 bytes"};
    }
    if (!seen.emplace(each.topic, each.partition).second) {
      return {ErrorCode::kInvalidArgument,
              place_text(each.topic, each.partition) + " is assigned twice"};
    }
  }
  return {};
}

}  // namespace

Status Fetcher::assign(const std::vector<client::Assignment>& assignment) {
  RETURN_IF_ERROR(check_assignment(assignment));
  std::unique_lock lock(mutex_);
  if (closed_) {
    return {ErrorCode::kShuttingDown, "the consumer is closed"};
  }
  for (const PartitionPtr& partition : partitions_) {
    ++partition->generation;  // answers under way are void
  }
  partitions_.clear();
  chunks_.clear();
  for (const client::Assignment& each : assignment) {
    add_partition(each);
  }
  lock.unlock();
  wake_();
  return {};
}

void Fetcher::add_partition(const client::Assignment& assignment) {
  auto partition = std::make_shared<Partition>();
  partition->number = next_number_++;
  partition->topic = assignment.topic;
  partition->partition = assignment.partition;
  restart(*partition, assignment.from);
  partitions_.push_back(std::move(partition));
}

Status Fetcher::add(const std::vector<client::Assignment>& assignment) {
  RETURN_IF_ERROR(check_assignment(assignment));
  std::unique_lock lock(mutex_);
  if (closed_) {
    return {ErrorCode::kShuttingDown, "the consumer is closed"};
  }
  for (const client::Assignment& each : assignment) {
    if (find(each.topic, each.partition) != nullptr) {
      return {ErrorCode::kInvalidArgument,
              place_text(each.topic, each.partition) + " is assigned already"};
    }
  }
  for (const client::Assignment& each : assignment) {
    add_partition(each);
  }
  lock.unlock();
  wake_();
  return {};
}

Status Fetcher::remove(std::string_view topic, uint32_t partition) {
  const std::lock_guard lock(mutex_);
  if (const PartitionPtr found = find(topic, partition); found != nullptr) {
    drop_chunks(*found);
    ++found->generation;  // answers under way are void
    std::erase(partitions_, found);
  }
  return {};
}

void Fetcher::restart(Partition& p, client::Position position) {
  drop_chunks(p);
  ++p.generation;
  p.busy = false;
  p.buffered_bytes = 0;
  p.retry_at = {};
  p.backoff.reset();
  p.topic_id = 0;
  p.need_version = 0;
  p.fresh = true;
  p.locate = position;
  p.located = position.kind() == client::Position::Kind::kOffset;
  p.state = p.located ? State::kReading : State::kLocating;
  p.offset = p.located ? static_cast<uint64_t>(position.value()) : 0;
  p.shown = p.offset;
}

void Fetcher::drop_chunks(const Partition& p) {
  std::erase_if(chunks_, [&](const Chunk& chunk) { return chunk.assignment == p.number; });
}

Fetcher::PartitionPtr Fetcher::find(std::string_view topic, uint32_t partition) const {
  for (const PartitionPtr& each : partitions_) {
    if (each->partition == partition && each->topic == topic) {
      return each;
    }
  }
  return nullptr;
}

Status Fetcher::seek(std::string_view topic, uint32_t partition, client::Position position) {
  std::unique_lock lock(mutex_);
  const PartitionPtr found = find(topic, partition);
  if (found == nullptr) {
    return {ErrorCode::kNotFound, place_text(topic, partition) + " is not assigned"};
  }
  restart(*found, position);
  lock.unlock();
  wake_();
  return {};
}

Status Fetcher::pause(std::string_view topic, uint32_t partition, bool paused) {
  std::unique_lock lock(mutex_);
  const PartitionPtr found = find(topic, partition);
  if (found == nullptr) {
    return {ErrorCode::kNotFound, place_text(topic, partition) + " is not assigned"};
  }
  found->paused = paused;
  untold_ = untold_ || !paused;  // chunks that waited may be shown
  chunk_came_.notify_all();
  lock.unlock();
  wake_();
  return {};
}

Result<uint64_t> Fetcher::position(std::string_view topic, uint32_t partition) const {
  const std::unique_lock lock(mutex_);
  const PartitionPtr found = find(topic, partition);
  if (found == nullptr) {
    return Status(ErrorCode::kNotFound, place_text(topic, partition) + " is not assigned");
  }
  if (!found->located) {
    return Status(ErrorCode::kUnavailable,
                  place_text(topic, partition) + ": the broker has not told the offset yet");
  }
  return found->shown;
}

Status Fetcher::last_error() const {
  const std::unique_lock lock(mutex_);
  return last_error_;
}

void Fetcher::close() {
  const std::unique_lock lock(mutex_);
  closed_ = true;
  for (const PartitionPtr& partition : partitions_) {
    ++partition->generation;
  }
  chunks_.clear();
  chunk_came_.notify_all();
}

Result<std::optional<Chunk>> Fetcher::next_chunk(int64_t timeout_ms) {
  std::unique_lock lock(mutex_);
  std::optional<Chunk> taken;
  const auto take = [&] {
    const auto at = std::find_if(chunks_.begin(), chunks_.end(), [&](const Chunk& chunk) {
      return std::any_of(partitions_.begin(), partitions_.end(),
                         [&](const PartitionPtr& partition) {
                           return partition->number == chunk.assignment && !partition->paused;
                         });
    });
    if (at != chunks_.end()) {
      taken = std::move(*at);
      chunks_.erase(at);
    }
    return closed_ || partitions_.empty() || taken.has_value();
  };
  if (timeout_ms > 0) {
    chunk_came_.wait_for(lock, std::chrono::milliseconds(timeout_ms), take);
  } else {
    take();
  }
  if (closed_) {
    return Status(ErrorCode::kShuttingDown, "the consumer is closed");
  }
  if (partitions_.empty()) {
    return Status(ErrorCode::kInvalidArgument, "no partition is assigned");
  }
  return taken;
}

Fetcher::Use Fetcher::use_of(const Chunk& chunk) const {
  const std::unique_lock lock(mutex_);
  for (const PartitionPtr& partition : partitions_) {
    if (partition->number == chunk.assignment && partition->generation == chunk.generation) {
      return partition->paused ? Use::kHold : Use::kShow;
    }
  }
  return Use::kDrop;
}

bool Fetcher::advance(const Chunk& chunk, uint64_t offset) {
  const std::unique_lock lock(mutex_);
  for (const PartitionPtr& partition : partitions_) {
    if (partition->number == chunk.assignment && partition->generation == chunk.generation) {
      partition->shown = offset;
      return true;
    }
  }
  return false;
}

void Fetcher::put_back(Chunk rest) {
  const std::unique_lock lock(mutex_);
  for (const PartitionPtr& partition : partitions_) {
    if (partition->number == rest.assignment && partition->generation == rest.generation) {
      chunks_.push_front(std::move(rest));
      return;
    }
  }
}

void Fetcher::release(const Chunk& chunk) {
  std::unique_lock lock(mutex_);
  for (const PartitionPtr& partition : partitions_) {
    if (partition->number == chunk.assignment && partition->generation == chunk.generation) {
      partition->buffered_bytes -= chunk.charged_bytes;
    }
  }
  lock.unlock();
  wake_();
}

void Fetcher::stop(const Chunk& chunk) {
  const std::unique_lock lock(mutex_);
  for (const PartitionPtr& partition : partitions_) {
    if (partition->number == chunk.assignment && partition->generation == chunk.generation) {
      drop_chunks(*partition);
      ++partition->generation;  // what is under way is void, too
      partition->busy = false;
      partition->buffered_bytes = 0;
      partition->state = State::kStopped;
    }
  }
}

}  // namespace tidemark::client_core
