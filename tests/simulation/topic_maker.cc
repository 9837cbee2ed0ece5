#include "tests/simulation/topic_maker.h"

namespace tidemark::sim {

namespace fbs = protocol::fbs;

namespace {

constexpr int64_t kRetryUs = 200'000;

}  // namespace

void TopicMaker::schedule() {
  if (idle()) {
    return;
  }
  if (connection_ == 0) {
    send();
  }
  scheduler_.after_us(kRetryUs, [this] { schedule(); });
}

protocol::Frame TopicMaker::create_request() const {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(wish_.name);
  fbs::TopicConfigBuilder config(builder);
  config.add_ttl_ms(wish_.ttl_ms);
  config.add_dedupe_window_ms(wish_.dedupe_window_ms);
  config.add_compact_after_ms(wish_.compact_after_ms);
  config.add_tombstone_ms(wish_.tombstone_ms);
  const auto finished = config.Finish();
  return testing::request_frame(builder,
                                fbs::CreateTopicCreate(builder, name, wish_.partitions, finished),
                                protocol::FrameType::kTopicCreate, correlation_);
}

void TopicMaker::send() {
  connection_ = connection_to(ShardId{0});
  if (connection_ == 0) {
    return;
  }
  correlation_ = next_correlation();
  const std::vector<std::string> names = {wish_.name};
  network_.send(connection_,
                created_ ? testing::metadata_request(names, correlation_) : create_request());
}

void TopicMaker::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  const Status error = testing::error_of(frame);
  if (!created_) {
    created_ = error.ok() || (unsure_ && error.code() == ErrorCode::kAlreadyExists);
    require(created_ || is_transient(error.code()),
            "topic " + wish_.name + " was refused: " + error.to_string());
    unsure_ = true;
    return;
  }
  if (!error.ok()) {
    return require(is_transient(error.code()), "metadata was refused: " + error.to_string());
  }
  const auto* topics = testing::read_reply<fbs::MetadataReply>(frame).topics();
  require(topics != nullptr && topics->size() == 1, "metadata of one topic was asked for");
  const auto& info = *topics->Get(0);
  const Status known = protocol::to_status(info.error());
  require(known.ok(), "a topic that was acknowledged is not there: " + known.to_string());
  require(info.partitions()->size() == wish_.partitions, "a topic with other partitions");
  KnownTopic topic;
  topic.name = wish_.name;
  topic.id = TopicId{info.id()};
  for (const auto* partition : *info.partitions()) {
    topic.shards.push_back(ShardId{partition->shard()});
  }
  directory_.topics.push_back(std::move(topic));
}

void TopicMaker::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    unsure_ = true;
  }
}

}  // namespace tidemark::sim
