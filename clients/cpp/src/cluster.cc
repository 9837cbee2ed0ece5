#include "clients/cpp/src/cluster.h"

#include <algorithm>
#include <limits>

#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

constexpr int64_t kRefreshEveryNsMin = 50 * kNsPerMs;
constexpr int64_t kRefreshEveryNs = 60'000 * kNsPerMs;
constexpr size_t kTopicsPerMetadataMax = 1000;

template <typename T>
ReplyError error_of_table(const protocol::Frame& reply) {
  const auto table = protocol::read_table<T>(
      reply.table(), protocol::frame_type_name(static_cast<FrameType>(reply.header.type)));
  if (!table.ok()) {
    return {table.error(), 0};
  }
  const fbs::Error* error = (*table)->error();
  return {protocol::to_status(error), protocol::retry_after_ms(error)};
}

bool is_any_host(std::string_view host) {
  return host.empty() || host == "0.0.0.0" || host == "::";
}

}  // namespace

ReplyError error_of(const protocol::Frame& reply) {
  switch (static_cast<FrameType>(reply.header.type)) {
    case FrameType::kHello:
      return error_of_table<fbs::HelloReply>(reply);
    case FrameType::kInitProducer:
      return error_of_table<fbs::InitProducerReply>(reply);
    case FrameType::kMetadata:
      return error_of_table<fbs::MetadataReply>(reply);
    case FrameType::kTopicCreate:
    case FrameType::kTopicAlter:
    case FrameType::kTopicDelete:
      return error_of_table<fbs::TopicReply>(reply);
    case FrameType::kProduce:
      return error_of_table<fbs::ProduceReply>(reply);
    case FrameType::kFetch:
      return error_of_table<fbs::FetchReply>(reply);
    case FrameType::kListOffsets:
      return error_of_table<fbs::ListOffsetsReply>(reply);
    case FrameType::kPartitionDescribe:
      return error_of_table<fbs::PartitionDescribeReply>(reply);
    case FrameType::kDelayCancel:
    case FrameType::kDelayReschedule:
      return error_of_table<fbs::DelayChangeReply>(reply);
    case FrameType::kDelayList:
      return error_of_table<fbs::DelayListReply>(reply);
    case FrameType::kDelayShow:
      return error_of_table<fbs::DelayShowReply>(reply);
    case FrameType::kDelayStats:
      return error_of_table<fbs::DelayStatsReply>(reply);
    case FrameType::kTxnEnd:
    case FrameType::kTxnRecheck:
      return error_of_table<fbs::TxnResultReply>(reply);
    case FrameType::kTxnPoll:
      return error_of_table<fbs::TxnPollReply>(reply);
    case FrameType::kTxnList:
      return error_of_table<fbs::TxnListReply>(reply);
    case FrameType::kTxnShow:
      return error_of_table<fbs::TxnShowReply>(reply);
    case FrameType::kTxnStats:
      return error_of_table<fbs::TxnStatsReply>(reply);
    case FrameType::kGroupHeartbeat:
      return error_of_table<fbs::GroupHeartbeatReply>(reply);
    case FrameType::kGroupCommit:
      return error_of_table<fbs::GroupCommitReply>(reply);
    case FrameType::kGroupOffsets:
      return error_of_table<fbs::GroupOffsetsReply>(reply);
    case FrameType::kGroupList:
      return error_of_table<fbs::GroupListReply>(reply);
    case FrameType::kGroupDescribe:
      return error_of_table<fbs::GroupDescribeReply>(reply);
    case FrameType::kGroupDelete:
      return error_of_table<fbs::GroupDeleteReply>(reply);
    case FrameType::kQueueReceive:
      return error_of_table<fbs::QueueReceiveReply>(reply);
    case FrameType::kQueueSettle:
      return error_of_table<fbs::QueueSettleReply>(reply);
    case FrameType::kQueueDescribe:
      return error_of_table<fbs::QueueDescribeReply>(reply);
    case FrameType::kQueueRedrive:
      return error_of_table<fbs::QueueRedriveReply>(reply);
    case FrameType::kQueueUnsettled:
      return error_of_table<fbs::QueueUnsettledReply>(reply);
    case FrameType::kError:
      return error_of_table<fbs::ErrorReply>(reply);
  }
  return {
      Status(ErrorCode::kMalformed, "reply of unknown type " + std::to_string(reply.header.type)),
      0};
}

Cluster::Cluster(ClusterOptions options, ChannelFactory& factory, Clock& clock, uint64_t seed)
    : options_(std::move(options)),
      factory_(factory),
      clock_(clock),
      random_(seed),
      candidates_(options_.brokers) {
  TIDEMARK_CHECK(!candidates_.empty(), "the options are checked before");
}

const TopicMeta* Cluster::find(std::string_view topic) const {
  const auto found = topics_.find(topic);
  return found != topics_.end() && found->second.answered ? &found->second.meta : nullptr;
}

void Cluster::want(std::string_view topic) {
  auto found = topics_.find(topic);
  if (found == topics_.end()) {
    found = topics_.emplace(std::string(topic), Watched{}).first;
    found->second.asked_at = {std::numeric_limits<int64_t>::min() / 2};
  }
  found->second.wanted = true;
}

Session* Cluster::session_of(const PartitionHome& home) {
  const auto known = by_home_.find({home.leader, home.shard});
  if (known != by_home_.end()) {
    return known->second;
  }
  const auto node = nodes_.find(home.leader);
  if (node == nodes_.end()) {
    return nullptr;
  }
  Session& found = session(node->second, home.shard);
  by_home_[{home.leader, home.shard}] = &found;
  return &found;
}

Session& Cluster::session(const Address& address, uint16_t shard) {
  std::unique_ptr<Session>& place = sessions_[{address.text(), shard}];
  if (place == nullptr) {
    place = std::make_unique<Session>(
        address, shard, options_.session, factory_, clock_, random_.next(),
        [this, address](const BrokerFacts& facts) { return on_hello(facts, address); });
  }
  return *place;
}

// One broker leads all shards of a cluster.
Session* Cluster::session_of_shard(uint16_t shard) {
  if (facts_.cluster_id == 0) {
    return nullptr;
  }
  Session* const known = session_of({.shard = shard, .leader = facts_.node_id});
  return known != nullptr ? known : &session(facts_from_, shard);
}

Status Cluster::on_hello(const BrokerFacts& facts, const Address& from) {
  if (facts_.cluster_id != 0 && facts.cluster_id != facts_.cluster_id) {
    return {ErrorCode::kConflict, "belongs to cluster " + std::to_string(facts.cluster_id) +
                                      ", this client talks to cluster " +
                                      std::to_string(facts_.cluster_id)};
  }
  if (facts.shards == 0) {
    return {ErrorCode::kMalformed, "HelloReply names no shards"};  // calls ask the first one
  }
  facts_ = facts;
  facts_from_ = from;
  return {};
}

void Cluster::call(FrameType type, ByteView table, MonotonicTime deadline, Repeat repeat,
                   ReplyHandler handler) {
  start(std::make_shared<Call>(Call{.type = type,
                                    .table = SharedBytes(Buffer::copy_of(table)),
                                    .deadline = deadline,
                                    .repeat = repeat,
                                    .handler = std::move(handler),
                                    .backoff = Backoff(20 * kNsPerMs, 1000 * kNsPerMs),
                                    .retry_at = {},
                                    .sent_to = {}}));
}

void Cluster::start(std::shared_ptr<Call> call) {
  Session& to = session(candidates_[candidate_ % candidates_.size()], 0);
  call->sent_to = to.address();
  const MonotonicTime one_request{clock_.monotonic().ns + options_.request_timeout_ns};
  const MonotonicTime deadline = std::min(call->deadline, one_request);
  const SharedBytes table = call->table;
  // Before `call` is moved: arguments are evaluated in any order.
  const FrameType type = call->type;
  to.request(
      type, protocol::kNoShard, table.view(), {}, deadline,
      [this, call = std::move(call)](Reply reply) { on_call_reply(call, std::move(reply)); });
}

void Cluster::on_call_reply(const std::shared_ptr<Call>& call, Reply reply) {
  if (reply.status.ok()) {
    ReplyError error = error_of(reply.frame);
    reply.status = std::move(error.status);
    reply.retry_after_ms = error.retry_after_ms;
    if (reply.status.ok() && call->type == FrameType::kMetadata) {
      learn_brokers(**protocol::read_table<fbs::MetadataReply>(reply.frame.table(), "Metadata"),
                    call->sent_to);
    }
  }
  const ErrorCode code = reply.status.code();
  const bool again =
      error_is_retryable(code) && (call->repeat == Repeat::kAlways || !error_outcome_unknown(code));
  if (!again) {
    call->handler(std::move(reply));
    return;
  }
  if (code == ErrorCode::kUnavailable || code == ErrorCode::kShuttingDown ||
      error_outcome_unknown(code)) {
    // Several calls may fail together: only the first moves on to the next broker.
    if (candidates_[candidate_ % candidates_.size()] == call->sent_to) {
      ++candidate_;
    }
  }
  const int64_t asked_for = int64_t{reply.retry_after_ms} * kNsPerMs;
  call->retry_at = {clock_.monotonic().ns + std::max(asked_for, call->backoff.next_ns(random_))};
  if (call->retry_at >= call->deadline) {
    call->handler(std::move(reply));
    return;
  }
  waiting_calls_.push_back(call);
}

MonotonicTime Cluster::run(MonotonicTime now) {
  for (auto at = waiting_calls_.begin(); at != waiting_calls_.end();) {
    if (now >= (*at)->retry_at) {
      start(std::move(*at));
      at = waiting_calls_.erase(at);
    } else {
      ++at;
    }
  }
  ask_for_wanted(now);
  MonotonicTime next = kNever;
  for (auto& [key, each] : sessions_) {
    next = std::min(next, each->run(now));
  }
  // Handlers that ran just now may have left new work.
  for (const auto& call : waiting_calls_) {
    next = std::min(next, call->retry_at);
  }
  if (!asking_) {
    for (const auto& [name, topic] : topics_) {
      const int64_t pause = topic.wanted ? kRefreshEveryNsMin : kRefreshEveryNs;
      next = std::min(next, MonotonicTime{topic.asked_at.ns + pause});
    }
  }
  return next;
}

void Cluster::ask_for_wanted(MonotonicTime now) {
  if (asking_) {
    return;
  }
  std::vector<std::string> names;
  for (auto& [name, topic] : topics_) {
    const int64_t pause = topic.wanted ? kRefreshEveryNsMin : kRefreshEveryNs;
    if (now.ns - topic.asked_at.ns >= pause && names.size() < kTopicsPerMetadataMax) {
      topic.asked_at = now;
      topic.wanted = false;
      names.push_back(name);
    }
  }
  if (names.empty()) {
    return;
  }
  flatbuffers::FlatBufferBuilder builder(256);
  std::vector<flatbuffers::Offset<flatbuffers::String>> offsets;
  offsets.reserve(names.size());
  for (const std::string& name : names) {
    offsets.push_back(builder.CreateString(name));
  }
  const auto list = builder.CreateVector(offsets);
  builder.Finish(fbs::CreateMetadata(builder, list));
  asking_ = true;
  // One attempt per call: failures come back here at once, so that metadata_error() is up to date.
  Session& to = session(candidates_[candidate_ % candidates_.size()], 0);
  to.request(
      FrameType::kMetadata, protocol::kNoShard, protocol::finished(builder), {},
      {now.ns + options_.request_timeout_ns}, [this, &to, names = std::move(names)](Reply reply) {
        asking_ = false;
        if (reply.status.ok()) {
          reply.status = error_of(reply.frame).status;
        }
        if (reply.status.ok()) {
          learn_brokers(**protocol::read_table<fbs::MetadataReply>(reply.frame.table(), "Metadata"),
                        to.address());
        } else if (candidates_[candidate_ % candidates_.size()] == to.address()) {
          ++candidate_;
        }
        on_metadata(std::move(reply), names);
      });
}

void Cluster::learn_brokers(const fbs::MetadataReply& reply, const Address& from) {
  if (reply.brokers() == nullptr) {
    return;
  }
  for (const fbs::BrokerInfo* broker : *reply.brokers()) {
    Address address{.host = std::string(protocol::view(broker->host())), .port = broker->port()};
    if (is_any_host(address.host)) {
      address.host = from.host;
    }
    if (address.port == 0) {
      address.port = from.port;
    }
    if (std::find(candidates_.begin(), candidates_.end(), address) == candidates_.end() &&
        candidates_.size() < 1000) {
      candidates_.push_back(address);
    }
    Address& known = nodes_[broker->id()];
    if (!(known == address)) {
      known = std::move(address);
      by_home_.clear();
    }
  }
}

void Cluster::on_metadata(Reply reply, const std::vector<std::string>& asked) {
  metadata_error_ = reply.status;
  if (!reply.status.ok()) {
    for (const std::string& name : asked) {
      topics_[name].wanted = true;
    }
    return;
  }
  const fbs::MetadataReply& table =
      **protocol::read_table<fbs::MetadataReply>(reply.frame.table(), "Metadata");
  ++metadata_version_;
  for (const std::string& name : asked) {
    Watched& watched = topics_[name];
    watched.answered = true;
    watched.meta.version = metadata_version_;
    watched.meta.status = Status(ErrorCode::kUnknownTopic, "topic \"" + name + "\" does not exist");
  }
  if (table.topics() == nullptr) {
    return;
  }
  for (const fbs::TopicInfo* topic : *table.topics()) {
    const auto found = topics_.find(protocol::view(topic->name()));
    if (found == topics_.end()) {
      continue;
    }
    TopicMeta& meta = found->second.meta;
    const Status status = protocol::to_status(topic->error());
    if (!status.ok()) {
      if (error_is_retryable(status.code())) {
        found->second.wanted = true;
      }
      if (status.code() != ErrorCode::kUnknownTopic) {
        meta.status = status;
      }
      continue;
    }
    std::vector<PartitionHome> homes(topic->partitions() != nullptr ? topic->partitions()->size()
                                                                    : 0);
    bool dense = !homes.empty();
    for (size_t i = 0; i < homes.size(); ++i) {
      const fbs::PartitionInfo* info =
          topic->partitions()->Get(static_cast<flatbuffers::uoffset_t>(i));
      dense = dense && info->index() == i;
      homes[i] = {.shard = info->shard(), .leader = info->leader()};
    }
    if (!dense) {
      meta.status = Status(ErrorCode::kMalformed,
                           "metadata of \"" + found->first + "\": partitions are not 0 to n-1");
      continue;
    }
    meta.status = Status();
    meta.id = topic->id();
    meta.partitions = std::move(homes);
  }
}

}  // namespace tidemark::client_core
