#include "clients/cpp/src/call.h"

#include <algorithm>
#include <utility>

#include "clients/cpp/src/topic_config.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

constexpr int64_t kRetryPauseMs = 50;

int64_t now_ns() { return system_clock().monotonic().ns; }

// A request per home, answered together.
struct Gather {
  std::map<Home, Reply> replies;
  size_t missing = 0;
  RepliesHandler handler;

  void answer(Home home, Reply reply) {
    if (reply.status.ok()) {
      ReplyError error = error_of(reply.frame);
      reply.status = std::move(error.status);
      reply.retry_after_ms = error.retry_after_ms;
    }
    replies[home] = std::move(reply);
    if (--missing == 0) {
      handler(std::exchange(replies, {}));
    }
  }
};

}  // namespace

Call::Call(const client::Client& client, int64_t deadline_ms)
    : client_(client.impl()), until_ns_(now_ns() + std::max<int64_t>(deadline_ms, 1) * kNsPerMs) {}

Status Call::check() const {
  return client_->runtime().on_thread()
             ? Status(ErrorCode::kInvalidArgument,
                      "calls that wait for an answer cannot be made in a callback")
             : Status();
}

Reply Call::ask(FrameType type, Buffer table, Cluster::Repeat repeat) {
  auto promise = std::make_shared<Promise<Reply>>();
  Runtime* const runtime = &client_->runtime();
  runtime->post([promise, runtime, type, repeat, deadline = MonotonicTime{until_ns_},
                 table = std::move(table)] {
    runtime->cluster().call(type, table.view(), deadline, repeat,
                            [promise](Reply reply) { promise->set(std::move(reply)); });
  });
  return promise->wait();
}

std::map<Home, Reply> Call::ask_homes(FrameType type, std::map<Home, Buffer> tables) {
  auto promise = std::make_shared<Promise<std::map<Home, Reply>>>();
  Runtime* const runtime = &client_->runtime();
  runtime->post([promise, runtime, type, until = MonotonicTime{until_ns_},
                 tables = std::move(tables)] {
    send_to_homes(runtime->cluster(), type, tables, until,
                  [promise](std::map<Home, Reply> replies) { promise->set(std::move(replies)); });
  });
  return promise->wait();
}

BrokerFacts Call::facts() {
  return client_->on_io_thread<BrokerFacts>(
      [](Runtime& runtime) { return runtime.cluster().facts(); });
}

bool Call::pause() {
  if (now_ns() + kRetryPauseMs * kNsPerMs >= until_ns_) {
    return false;
  }
  static_cast<void>(Promise<bool>().wait_ms(kRetryPauseMs));
  return true;
}

void send_to_homes(Cluster& cluster, FrameType type, const std::map<Home, Buffer>& tables,
                   MonotonicTime until, RepliesHandler handler) {
  if (tables.empty()) {
    handler({});
    return;
  }
  auto gather = std::make_shared<Gather>();
  gather->missing = tables.size();
  gather->handler = std::move(handler);
  const MonotonicTime one_request{cluster.clock().monotonic().ns +
                                  cluster.options().request_timeout_ns};
  for (const auto& [home, table] : tables) {
    Session* const session = cluster.session_of({.shard = home.second, .leader = home.first});
    if (session == nullptr) {
      Reply reply;
      reply.status = Status(ErrorCode::kUnavailable, "shard " + std::to_string(home.second) +
                                                         " has no leader at the moment");
      gather->answer(home, std::move(reply));
      continue;
    }
    session->request(type, home.second, table.view(), {}, std::min(until, one_request),
                     [gather, to = home](Reply reply) { gather->answer(to, std::move(reply)); });
  }
}

Buffer finished_copy(const flatbuffers::FlatBufferBuilder& builder) {
  return Buffer::copy_of(protocol::finished(builder));
}

Reply ask_metadata(Asker& asker, const std::vector<std::string>& names) {
  flatbuffers::FlatBufferBuilder builder(256);
  const auto list = builder.CreateVectorOfStrings(names);
  builder.Finish(fbs::CreateMetadata(builder, list));
  return asker.ask(FrameType::kMetadata, finished_copy(builder), Cluster::Repeat::kAlways);
}

Result<std::vector<client::TopicDescription>> find_all_topics(Asker& asker) {
  const Reply reply = ask_metadata(asker, {});
  RETURN_IF_ERROR(reply.status);
  const auto& table = table_of<fbs::MetadataReply>(reply);
  std::vector<client::TopicDescription> topics;
  if (table.topics() != nullptr) {
    for (const fbs::TopicInfo* topic : *table.topics()) {
      if (protocol::to_status(topic->error()).ok()) {
        topics.push_back(describe(*topic));
      }
    }
  }
  std::sort(topics.begin(), topics.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return topics;
}

Result<client::TopicDescription> find_topic(Asker& asker, std::string_view name) {
  const Reply reply = ask_metadata(asker, {std::string(name)});
  RETURN_IF_ERROR(reply.status);
  const auto& table = table_of<fbs::MetadataReply>(reply);
  if (table.topics() != nullptr) {
    for (const fbs::TopicInfo* topic : *table.topics()) {
      if (protocol::view(topic->name()) != name) {
        continue;
      }
      RETURN_IF_ERROR(protocol::to_status(topic->error()));
      return describe(*topic);
    }
  }
  return Status(ErrorCode::kUnknownTopic, "topic \"" + std::string(name) + "\" does not exist");
}

client::TopicDescription describe(const fbs::TopicInfo& info) {
  client::TopicDescription topic;
  topic.name = std::string(protocol::view(info.name()));
  topic.id = info.id();
  topic.created_ms = info.created_ms();
  if (const fbs::TopicConfig* const config = info.config(); config != nullptr) {
    topic.config = read_topic_config(*config);
  }
  if (info.partitions() != nullptr) {
    for (const fbs::PartitionInfo* partition : *info.partitions()) {
      topic.partitions.push_back({.partition = partition->index(),
                                  .shard = partition->shard(),
                                  .leader = partition->leader()});
    }
  }
  return topic;
}

std::set<Home> homes_of(const client::TopicDescription& topic) {
  std::set<Home> homes;
  for (const client::PartitionPlace& place : topic.partitions) {
    homes.insert(home_of(place));
  }
  return homes;
}

void ask_in_chunks(Asker& asker, FrameType type, std::map<Home, std::vector<size_t>> items,
                   size_t chunk_max, const ItemsBuilder& build, const ItemsTaker& take) {
  while (!items.empty()) {
    std::map<Home, std::vector<size_t>> chunks;
    std::map<Home, Buffer> tables;
    for (auto& [home, list] : items) {
      const auto end = list.begin() + static_cast<ptrdiff_t>(std::min(list.size(), chunk_max));
      chunks[home].assign(list.begin(), end);
      list.erase(list.begin(), end);
      tables[home] = build(chunks[home]);
    }
    std::erase_if(items, [](const auto& each) { return each.second.empty(); });
    for (const auto& [home, reply] : asker.ask_homes(type, std::move(tables))) {
      take(home, chunks.at(home), reply);
    }
  }
}

bool may_ask_again(const Status& status) {
  return error_is_retryable(status.code()) || status.code() == ErrorCode::kUnknownPartition;
}

Status first_failure(const std::map<Home, Reply>& replies) {
  for (const auto& [home, reply] : replies) {
    RETURN_IF_ERROR(reply.status);
  }
  return {};
}

}  // namespace tidemark::client_core
