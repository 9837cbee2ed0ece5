// Settings of a topic on their way to the broker and back.
#include "clients/cpp/src/topic_config.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace tidemark::client_core {
namespace {

namespace fbs = protocol::fbs;
using client::TopicConfig;

TopicConfig there_and_back(const TopicConfig& config) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(build_topic_config(builder, config));
  return read_topic_config(*flatbuffers::GetRoot<fbs::TopicConfig>(builder.GetBufferPointer()));
}

void check_same(const TopicConfig& a, const TopicConfig& b) {
  CHECK(a.retention_ms == b.retention_ms);
  CHECK(a.retention_bytes == b.retention_bytes);
  CHECK(a.delay_pending_max == b.delay_pending_max);
  CHECK(a.delay_bytes_max == b.delay_bytes_max);
  CHECK(a.late_policy == b.late_policy);
  CHECK(a.late_max_ms == b.late_max_ms);
  CHECK(a.late_topic == b.late_topic);
  CHECK(a.retry_delays_ms == b.retry_delays_ms);
  CHECK(a.retry_factor_percent == b.retry_factor_percent);
  CHECK(a.retry_max_ms == b.retry_max_ms);
  CHECK(a.max_deliveries == b.max_deliveries);
  CHECK(a.dead_letter_topic == b.dead_letter_topic);
  CHECK(a.ttl_ms == b.ttl_ms);
  CHECK(a.dedupe_window_ms == b.dedupe_window_ms);
  CHECK(a.compact_after_ms == b.compact_after_ms);
  CHECK(a.tombstone_ms == b.tombstone_ms);
}

TEST_CASE("every setting travels under its own name") {
  const TopicConfig config{.retention_ms = 1,
                           .retention_bytes = 2,
                           .delay_pending_max = 3,
                           .delay_bytes_max = 4,
                           .late_policy = client::LatePolicy::kDeadLetter,
                           .late_max_ms = 5,
                           .late_topic = "late",
                           .retry_delays_ms = {6, 7, 8},
                           .retry_factor_percent = 150,
                           .retry_max_ms = 9,
                           .max_deliveries = 10,
                           .dead_letter_topic = "dead",
                           .ttl_ms = 11,
                           .dedupe_window_ms = 12,
                           .compact_after_ms = 13,
                           .tombstone_ms = 14};
  check_same(there_and_back(config), config);

  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(build_topic_config(builder, config));
  const auto& wire = *flatbuffers::GetRoot<fbs::TopicConfig>(builder.GetBufferPointer());
  CHECK(wire.retry_delays_ms()->size() == 3);
  CHECK(wire.retry_delays_ms()->Get(2) == 8);
  CHECK(wire.retry_factor_percent() == 150);
  CHECK(wire.retry_max_ms() == 9);
  CHECK(wire.max_deliveries() == 10);
  CHECK(wire.dead_letter_topic()->str() == "dead");
  CHECK(wire.ttl_ms() == 11);
  CHECK(wire.dedupe_window_ms() == 12);
  CHECK(wire.compact_after_ms() == 13);
  CHECK(wire.tombstone_ms() == 14);
}

TEST_CASE("what is not said has its default on both sides") {
  check_same(there_and_back({}), {});
  // A broker that knows none of the fields.
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fbs::CreateTopicConfig(builder));
  check_same(read_topic_config(*flatbuffers::GetRoot<fbs::TopicConfig>(builder.GetBufferPointer())),
             {});
}

TEST_CASE("a change names the fields that are meant, as the wire calls them, and no others") {
  CHECK(alteration_of({}).set.empty());
  const Alteration one = alteration_of({.max_deliveries = 0});
  CHECK(one.set == std::vector<std::string>{"max_deliveries"});

  const Alteration all = alteration_of({.retention_ms = 1,
                                        .retention_bytes = 2,
                                        .partitions = 3,
                                        .delay_pending_max = 4,
                                        .delay_bytes_max = 5,
                                        .late_policy = client::LatePolicy::kSkip,
                                        .late_max_ms = 6,
                                        .late_topic = "late",
                                        .retry_delays_ms = std::vector<int64_t>{7, 8},
                                        .retry_factor_percent = 300,
                                        .retry_max_ms = 9,
                                        .max_deliveries = 10,
                                        .dead_letter_topic = "dead",
                                        .ttl_ms = 11,
                                        .dedupe_window_ms = 12,
                                        .compact_after_ms = 13,
                                        .tombstone_ms = 14});
  check_same(all.config, {.retention_ms = 1,
                          .retention_bytes = 2,
                          .delay_pending_max = 4,
                          .delay_bytes_max = 5,
                          .late_policy = client::LatePolicy::kSkip,
                          .late_max_ms = 6,
                          .late_topic = "late",
                          .retry_delays_ms = {7, 8},
                          .retry_factor_percent = 300,
                          .retry_max_ms = 9,
                          .max_deliveries = 10,
                          .dead_letter_topic = "dead",
                          .ttl_ms = 11,
                          .dedupe_window_ms = 12,
                          .compact_after_ms = 13,
                          .tombstone_ms = 14});
  CHECK(all.set == std::vector<std::string>{"retention_ms", "retention_bytes", "delay_pending_max",
                                            "delay_bytes_max", "late_policy", "late_max_ms",
                                            "late_topic", "retry_delays_ms", "retry_factor_percent",
                                            "retry_max_ms", "max_deliveries", "dead_letter_topic",
                                            "ttl_ms", "dedupe_window_ms", "compact_after_ms",
                                            "tombstone_ms", "partitions"});
}

}  // namespace
}  // namespace tidemark::client_core
