// What a topic asks of queue mode and of message ids: from the request to the partitions, and back.
#include <array>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {
namespace {

namespace fbs = protocol::fbs;

// Fields of a request; the builder's defaults stand for what a test does not name.
struct Wanted {
  std::vector<int64_t> retry_delays_ms = {};
  uint32_t retry_factor_percent = 200;
  int64_t retry_max_ms = 300'000;
  uint32_t max_deliveries = 0;
  std::string dead_letter_topic = {};
  int64_t ttl_ms = -1;
  int64_t dedupe_window_ms = -1;
  int64_t compact_after_ms = -1;
  int64_t tombstone_ms = 86'400'000;
};

flatbuffers::Offset<fbs::TopicConfig> build(flatbuffers::FlatBufferBuilder& builder,
                                            const Wanted& wanted) {
  const auto delays = builder.CreateVector(wanted.retry_delays_ms);
  const auto dead = builder.CreateString(wanted.dead_letter_topic);
  fbs::TopicConfigBuilder config(builder);
  config.add_retry_delays_ms(delays);
  config.add_retry_factor_percent(wanted.retry_factor_percent);
  config.add_retry_max_ms(wanted.retry_max_ms);
  config.add_max_deliveries(wanted.max_deliveries);
  config.add_dead_letter_topic(dead);
  config.add_ttl_ms(wanted.ttl_ms);
  config.add_dedupe_window_ms(wanted.dedupe_window_ms);
  config.add_compact_after_ms(wanted.compact_after_ms);
  config.add_tombstone_ms(wanted.tombstone_ms);
  return config.Finish();
}

struct TopicsHarness : ShardHarness {
  using ShardHarness::ShardHarness;

  // Delivers this shard's mail to itself until none is left; other shards never answer.
  protocol::Frame ask_topic(const protocol::Frame& request) {
    receive(request);
    settle();
    for (auto letters = outbox.take_mail(); !letters.empty(); letters = outbox.take_mail()) {
      for (const ShardMail& letter : letters) {
        if (letter.to == options.shard) {
          core->receive_mail(letter, now);
        }
        mailed.push_back(letter);
      }
      settle();
    }
    advance_ms(10'000);  // an answer is given at last, be there other shards or not
    tick();
    outbox.letters.clear();
    return outbox.take();
  }

  Status create(const std::string& name, uint32_t partitions, const Wanted& wanted = {}) {
    flatbuffers::FlatBufferBuilder builder;
    const auto text = builder.CreateString(name);
    const auto config = build(builder, wanted);
    return testing::error_of(ask_topic(
        testing::request_frame(builder, fbs::CreateTopicCreate(builder, text, partitions, config),
                               protocol::FrameType::kTopicCreate)));
  }

  Status alter(const std::string& name, const std::vector<std::string>& set, const Wanted& wanted,
               uint32_t partitions = 0) {
    flatbuffers::FlatBufferBuilder builder;
    const auto text = builder.CreateString(name);
    const auto config = build(builder, wanted);
    const auto fields = builder.CreateVectorOfStrings(set);
    return testing::error_of(ask_topic(testing::request_frame(
        builder, fbs::CreateTopicAlter(builder, text, config, fields, partitions),
        protocol::FrameType::kTopicAlter)));
  }

  const meta::Topic& topic(std::string_view name) const {
    return *core->views().catalog().find(name);
  }

  const partition::PartitionConfig& config_of(std::string_view name, uint32_t number = 0) const {
    return core->views().find({topic(name).id, PartitionIndex{number}})->config();
  }

  std::vector<ShardMail> mailed;
};

Wanted everything() { return {{100, 2'000}, 150, 60'000, 5, "dead", 90'000, 120'000}; }

partition::QueueConfig expected(TopicId dead) {
  partition::QueueConfig config;
  config.retry_delays_ms = {100, 2'000};
  config.retry_delays = 2;
  config.retry_factor_percent = 150;
  config.retry_max_ms = 60'000;
  config.max_deliveries = 5;
  config.dead_letter_topic = dead;
  config.ttl_ms = 90'000;
  config.dedupe_window_ms = 120'000;
  return config;
}

TEST_CASE("queue settings of a topic reach its partitions, survive a restart, and are told") {
  TopicsHarness harness;
  REQUIRE(harness.create("filler", 1).ok());
  REQUIRE(harness.create("dead", 1).ok());
  REQUIRE(harness.create("t", 2, everything()).ok());
  const TopicId dead = harness.topic("dead").id;
  const auto check = [&] {
    CHECK(harness.topic("t").config.queue == expected(dead));
    for (uint32_t i = 0; i < 2; ++i) {
      CHECK(harness.config_of("t", i).queue == expected(dead));
      CHECK(harness.config_of("t", i).dead_letter_partition ==
            PartitionId{dead, PartitionIndex{0}});
    }
  };
  check();
  CHECK(harness.config_of("dead").queue == partition::QueueConfig());
  CHECK(harness.config_of("dead").dead_letter_partition == PartitionId{});
  harness.restart();
  check();
  harness.checkpoint();
  harness.restart_from_checkpoint();
  check();

  const std::vector<std::string> names = {"t"};
  const protocol::Frame reply = harness.ask(testing::metadata_request(names));
  const auto* config = testing::read_reply<fbs::MetadataReply>(reply).topics()->Get(0)->config();
  REQUIRE(config->retry_delays_ms()->size() == 2);
  CHECK(config->retry_delays_ms()->Get(0) == 100);
  CHECK(config->retry_delays_ms()->Get(1) == 2'000);
  CHECK(config->retry_factor_percent() == 150);
  CHECK(config->retry_max_ms() == 60'000);
  CHECK(config->max_deliveries() == 5);
  CHECK(protocol::view(config->dead_letter_topic()) == "dead");
  CHECK(config->ttl_ms() == 90'000);
  CHECK(config->dedupe_window_ms() == 120'000);
}

TEST_CASE("each queue setting can be altered alone") {
  TopicsHarness harness;
  REQUIRE(harness.create("dead", 1).ok());
  REQUIRE(harness.create("t", 1).ok());
  partition::QueueConfig now;
  CHECK(harness.config_of("t").queue == now);
  const TopicId dead = harness.topic("dead").id;

  struct Step {
    std::vector<std::string> set;
    std::function<void(partition::QueueConfig&)> change;
  };

  const partition::QueueConfig all = expected(dead);
  const std::vector<Step> steps = {
      {{"retry_delays_ms"},
       [&](partition::QueueConfig& config) {
         config.retry_delays_ms = all.retry_delays_ms;
         config.retry_delays = 2;
       }},
      {{"retry_factor_percent"},
       [](partition::QueueConfig& config) { config.retry_factor_percent = 150; }},
      {{"retry_max_ms"}, [](partition::QueueConfig& config) { config.retry_max_ms = 60'000; }},
      {{"max_deliveries", "dead_letter_topic"},
       [&](partition::QueueConfig& config) {
         config.max_deliveries = 5;
         config.dead_letter_topic = dead;
       }},
      {{"ttl_ms"}, [](partition::QueueConfig& config) { config.ttl_ms = 90'000; }},
      {{"dedupe_window_ms"},
       [](partition::QueueConfig& config) { config.dedupe_window_ms = 120'000; }}};
  for (const Step& step : steps) {
    CAPTURE(step.set.front());
    REQUIRE(harness.alter("t", step.set, everything()).ok());
    step.change(now);
    CHECK(harness.config_of("t").queue == now);
  }
  CHECK(now == all);
  // No list: the default. No bound of deliveries: no dead-letter topic.
  REQUIRE(harness.alter("t", {"retry_delays_ms", "max_deliveries"}, Wanted()).ok());
  now.retry_delays_ms = {1'000};
  now.retry_delays = 1;
  now.max_deliveries = 0;
  now.dead_letter_topic = TopicId{0};
  CHECK(harness.config_of("t").queue == now);
  CHECK(harness.config_of("t").dead_letter_partition == PartitionId{});
  const Status unknown = harness.alter("t", {"retry_delay"}, Wanted());
  CHECK(unknown.code() == ErrorCode::kInvalidArgument);
  CHECK(unknown.context() ==
        "unknown setting 'retry_delay'; known are partitions, late_topic, dead_letter_topic, "
        "retention_ms, retention_bytes, delay_pending_max, delay_bytes_max, late_policy, "
        "late_max_ms, retry_delays_ms, retry_factor_percent, retry_max_ms, max_deliveries, ttl_ms, "
        "dedupe_window_ms, compact_after_ms, tombstone_ms");
}

TEST_CASE("queue settings have ranges, both ends included") {
  TopicsHarness harness;
  REQUIRE(harness.create("dead", 1).ok());
  constexpr int64_t kDelayMax = 31'622'400'000;  // 366 days
  const std::string retries = "delays of retries, and retry_max_ms, are 0 to 31622400000 ms";
  const std::string window =
      "dedupe_window_ms is -1 (message ids mean nothing) or 1000 to 604800000";
  const std::string together =
      "max_deliveries and dead_letter_topic go together: when a message is given up, and where it "
      "goes then";

  struct Case {
    Wanted wanted;
    std::string error;  // none: it is taken
  };

  const std::vector<int64_t> most(16, kDelayMax);
  const std::vector<int64_t> too_many(17, 1);
  std::vector<int64_t> far_too_many(300, 1);  // more than its count can say
  const std::vector<Case> cases = {
      {{.retry_delays_ms = {0}}, ""},
      {{.retry_delays_ms = most}, ""},
      {{.retry_delays_ms = too_many}, "retry_delays_ms has 1 to 16 delays"},
      {{.retry_delays_ms = far_too_many}, "retry_delays_ms has 1 to 16 delays"},
      {{.retry_delays_ms = {5, -1}}, retries},
      {{.retry_delays_ms = {kDelayMax + 1}}, retries},
      {{.retry_max_ms = 0}, ""},
      {{.retry_max_ms = kDelayMax}, ""},
      {{.retry_max_ms = -1}, retries},
      {{.retry_max_ms = kDelayMax + 1}, retries},
      {{.retry_factor_percent = 100}, ""},
      {{.retry_factor_percent = 1'000}, ""},
      {{.retry_factor_percent = 99}, "retry_factor_percent is 100 to 1000"},
      {{.retry_factor_percent = 1'001}, "retry_factor_percent is 100 to 1000"},
      {{.max_deliveries = 1, .dead_letter_topic = "dead"}, ""},
      {{.max_deliveries = 1'000, .dead_letter_topic = "dead"}, ""},
      {{.max_deliveries = 1'001, .dead_letter_topic = "dead"},
       "max_deliveries is 0 (no bound) or at most 1000"},
      {{.max_deliveries = 1}, together},
      {{.dead_letter_topic = "dead"}, together},
      {{.ttl_ms = 1}, ""},
      {{.ttl_ms = 0}, "ttl_ms is -1 (messages do not expire) or at least 1"},
      {{.ttl_ms = -2}, "ttl_ms is -1 (messages do not expire) or at least 1"},
      {{.dedupe_window_ms = 1'000}, ""},
      {{.dedupe_window_ms = limits::kDedupeWindowMsMax}, ""},
      {{.dedupe_window_ms = 999}, window},
      {{.dedupe_window_ms = 0}, window},
      {{.dedupe_window_ms = -2}, window},
      {{.dedupe_window_ms = limits::kDedupeWindowMsMax + 1}, window},
      {{.compact_after_ms = 0}, ""},
      {{.compact_after_ms = -2}, "compact_after_ms is -1 (no compaction) or at least 0"},
      {{.tombstone_ms = 0}, ""},
      {{.tombstone_ms = -1}, "tombstone_ms is at least 0"},
      {{.max_deliveries = 1, .dead_letter_topic = "dead", .compact_after_ms = 0},
       "max_deliveries and dead_letter_topic are of queue mode, in which a topic with "
       "compact_after_ms cannot be consumed"}};
  const std::vector<std::string> all = {"retry_delays_ms",  "retry_factor_percent", "retry_max_ms",
                                        "max_deliveries",   "dead_letter_topic",    "ttl_ms",
                                        "dedupe_window_ms", "compact_after_ms",     "tombstone_ms"};
  REQUIRE(harness.create("altered", 1).ok());
  for (size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(i);
    for (const Status& status : {harness.create("t" + std::to_string(i), 1, cases[i].wanted),
                                 harness.alter("altered", all, cases[i].wanted)}) {
      CHECK(status.context() == cases[i].error);
      CHECK(status.code() ==
            (cases[i].error.empty() ? ErrorCode::kOk : ErrorCode::kInvalidArgument));
    }
  }
}

TEST_CASE("compaction settings reach the partitions, survive a restart, and are told") {
  TopicsHarness harness;
  REQUIRE(harness.create("t", 2, {.compact_after_ms = 5, .tombstone_ms = 7}).ok());
  REQUIRE(harness.create("plain", 1).ok());
  const partition::CompactionConfig wanted{.after_ms = 5, .tombstone_ms = 7};
  const auto check = [&](const partition::CompactionConfig& config) {
    CHECK(harness.topic("t").config.compaction == config);
    CHECK(harness.config_of("t", 0).compaction == config);
    CHECK(harness.config_of("t", 1).compaction == config);
    CHECK(harness.config_of("plain").compaction == partition::CompactionConfig());
  };
  check(wanted);
  harness.restart();
  check(wanted);
  harness.checkpoint();
  harness.restart_from_checkpoint();
  check(wanted);
  const std::vector<std::string> names = {"t"};
  const protocol::Frame reply = harness.ask(testing::metadata_request(names));
  const auto* config = testing::read_reply<fbs::MetadataReply>(reply).topics()->Get(0)->config();
  CHECK(config->compact_after_ms() == 5);
  CHECK(config->tombstone_ms() == 7);
  REQUIRE(harness.alter("t", {"tombstone_ms"}, {.tombstone_ms = 9}).ok());
  check({.after_ms = 5, .tombstone_ms = 9});
  REQUIRE(harness.alter("t", {"compact_after_ms"}, {}).ok());
  check({.after_ms = -1, .tombstone_ms = 9});
}

TEST_CASE("a topic that takes dead letters is not compacted") {
  TopicsHarness harness;
  REQUIRE(harness.create("dead", 1).ok());
  REQUIRE(harness.create("compacted", 1, {.compact_after_ms = 0}).ok());
  Status status = harness.create("t", 1, {.max_deliveries = 1, .dead_letter_topic = "compacted"});
  CHECK(status.context() ==
        "topic compacted has compact_after_ms: the dead letters of a key would replace each other");
  REQUIRE(harness.create("t", 1, {.max_deliveries = 1, .dead_letter_topic = "dead"}).ok());
  status = harness.alter("dead", {"compact_after_ms"}, {.compact_after_ms = 0});
  CHECK(status.code() == ErrorCode::kInvalidArgument);
  CHECK(status.context() ==
        "topic dead is the dead_letter_topic of topic t: with compact_after_ms the dead letters of "
        "a key would replace each other");
  CHECK(harness.alter("dead", {"ttl_ms"}, {.ttl_ms = 5}).ok());
  REQUIRE(harness.alter("t", {"max_deliveries"}, {}).ok());
  CHECK(harness.alter("dead", {"compact_after_ms"}, {.compact_after_ms = 0}).ok());
}

TEST_CASE("a dead-letter topic is there, on every shard, and another one") {
  TopicsHarness harness(0, 2);
  (void)harness.create("dead", 1);  // on shard 0
  (void)harness.create("wide", 2);
  const auto to = [](const std::string& name) {
    return Wanted{.max_deliveries = 3, .dead_letter_topic = name};
  };
  Status status = harness.create("t", 1, to("nobody"));
  CHECK(status.code() == ErrorCode::kUnknownTopic);
  CHECK(status.context() == "dead_letter_topic nobody");
  status = harness.create("t", 2, to("dead"));
  CHECK(status.code() == ErrorCode::kInvalidArgument);
  CHECK(status.context() ==
        "topic dead has no partition on shard 1, which it needs to take dead letters; give it more "
        "partitions (2 shards)");
  (void)harness.create("t", 2, to("wide"));
  REQUIRE(harness.core->views().catalog().find("t") != nullptr);
  const std::vector<std::string> set = {"max_deliveries", "dead_letter_topic"};
  status = harness.alter("t", set, to("dead"));
  CHECK(status.code() == ErrorCode::kInvalidArgument);
  status = harness.alter("t", set, to("nobody"));
  CHECK(status.code() == ErrorCode::kUnknownTopic);
  status = harness.alter("t", set, to("t"));
  CHECK(status.code() == ErrorCode::kInvalidArgument);
  CHECK(status.context() == "a topic cannot be its own dead_letter_topic");
  CHECK(harness.topic("t").config.queue.dead_letter_topic == harness.topic("wide").id);
}

TEST_CASE("each shard is told which of its partitions takes dead letters") {
  TopicsHarness harness(0, 2);
  (void)harness.create("wide", 4);
  harness.mailed.clear();
  (void)harness.create("t", 2, {.max_deliveries = 3, .dead_letter_topic = "wide"});
  const meta::Topic& wide = harness.topic("wide");
  std::array<int, 2> letters = {};
  for (const ShardMail& letter : harness.mailed) {
    if (letter.kind == ShardMail::Kind::kPartitions && letter.topic == harness.topic("t").id) {
      ++letters[letter.to.value()];
      CHECK(letter.queue.dead_letter_topic == wide.id);
      CHECK(letter.dead_letter_partition == wide.partitions_on(letter.to).front());
    }
  }
  CHECK(letters[0] > 0);
  CHECK(letters[1] > 0);
  CHECK(wide.partitions_on(ShardId{0}).front() != wide.partitions_on(ShardId{1}).front());
}

TEST_CASE("a dead-letter topic that is deleted leaves its topic as it is; it can be altered") {
  TopicsHarness harness;
  REQUIRE(harness.create("dead", 1).ok());
  REQUIRE(harness.create("t", 1, {.max_deliveries = 3, .dead_letter_topic = "dead"}).ok());
  const TopicId dead = harness.topic("dead").id;
  (void)harness.ask_topic(testing::topic_delete_request("dead"));
  REQUIRE(harness.core->views().catalog().find(dead) == nullptr);
  REQUIRE(harness.alter("t", {"ttl_ms"}, {.ttl_ms = 5}).ok());
  CHECK(harness.config_of("t").queue.ttl_ms == 5);
  CHECK(harness.config_of("t").queue.dead_letter_topic == dead);
  REQUIRE(harness.alter("t", {"max_deliveries"}, {}).ok());
  CHECK(harness.config_of("t").queue.dead_letter_topic == TopicId{0});
}

}  // namespace
}  // namespace tidemark::shard
