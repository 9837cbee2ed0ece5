#include "tools/topic_queue.h"

#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

TopicQueueOptions parsed(const std::string& line) {
  CLI::App app;
  TopicQueueOptions options;
  add_topic_queue_options(app, options);
  app.parse(line);
  return options;
}

TEST_CASE("retry delays are a list of durations") {
  CHECK(parse_retry_delays("1s,10s,1m").value() == std::vector<int64_t>{1'000, 10'000, 60'000});
  CHECK(parse_retry_delays("0ms").value() == std::vector<int64_t>{0});
  CHECK(parse_retry_delays("1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s").value().size() == 16);
  for (const char* const wrong : {"", ",", "1s,", "1s,,2s", "1s 2s", "-1s", "forever",
                                  "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_retry_delays(wrong).ok());
  }
}

TEST_CASE("a retry factor has hundredths") {
  CHECK(parse_retry_factor("1").value() == 100);
  CHECK(parse_retry_factor("2.0").value() == 200);
  CHECK(parse_retry_factor("1.15").value() == 115);
  CHECK(parse_retry_factor("10").value() == 1'000);
  for (const char* const wrong : {"", "0.99", "10.01", "x", "2x", "nan", "inf", "-2"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_retry_factor(wrong).ok());
  }
}

TEST_CASE("what is not given stays as it is") {
  client::TopicConfig config;
  client::TopicChange change;
  const TopicQueueOptions none = parsed("");
  CHECK_FALSE(none.any());
  none.apply_to(config);
  none.apply_to(change);
  CHECK(config.retry_delays_ms == std::vector<int64_t>{1'000});
  CHECK(config.dedupe_window_ms == -1);
  CHECK_FALSE(change.retry_delays_ms.has_value());
  CHECK_FALSE(change.dead_letter_topic.has_value());

  const TopicQueueOptions all = parsed(
      "--retry-delays 1s,2s --retry-factor 1.5 --retry-max 1m --max-deliveries 5 "
      "--dead-letter-topic dead --ttl 1h --dedupe 2m --compact 10m --tombstones 2d");
  CHECK(all.any());
  all.apply_to(config);
  all.apply_to(change);
  CHECK(config.retry_delays_ms == std::vector<int64_t>{1'000, 2'000});
  CHECK(config.retry_factor_percent == 150);
  CHECK(config.retry_max_ms == 60'000);
  CHECK(config.max_deliveries == 5);
  CHECK(config.dead_letter_topic == "dead");
  CHECK(config.ttl_ms == 3'600'000);
  CHECK(config.dedupe_window_ms == 120'000);
  CHECK(config.compact_after_ms == 600'000);
  CHECK(config.tombstone_ms == 172'800'000);
  CHECK(change.retry_factor_percent == 150);
  CHECK(change.ttl_ms == 3'600'000);
  CHECK(change.compact_after_ms == 600'000);
  CHECK(change.tombstone_ms == 172'800'000);
}

TEST_CASE("words turn things off, and mistakes are named") {
  CHECK(parsed("--ttl none --dedupe off").ttl_ms == -1);
  CHECK(parsed("--ttl none --dedupe off").dedupe_window_ms == -1);
  CHECK(parsed("--dedupe on").dedupe_window_ms == 120'000);
  CHECK(parsed("--max-deliveries 0").max_deliveries == 0);
  CHECK(parsed("--compact off").compact_after_ms == -1);
  CHECK(parsed("--compact 0s").compact_after_ms == 0);
  CHECK(parsed("--compact off").any());
  CHECK(parsed("--tombstones 0s").tombstone_ms == 0);
  CHECK(parsed("--tombstones 0s").any());
  for (const char* const wrong :
       {"--ttl 0", "--ttl forever", "--ttl off", "--dedupe 8d", "--dedupe none", "--dedupe 0ms",
        "--retry-max 400d", "--max-deliveries -1", "--dead-letter-topic a/b", "--retry-factor 11",
        "--compact none", "--compact -1s", "--compact 40y", "--tombstones off"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parsed(wrong), CLI::ParseError);
  }
}

TEST_CASE("settings of queue mode as text and as json") {
  client::TopicConfig config;
  CHECK(topic_queue_text(config) ==
        "retries     after 1s, then 2 times as long each, at most 5m\n"
        "deliveries  unlimited\n"
        "ttl         none\n"
        "dedupe      off\n"
        "compaction  off\n");
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  add_topic_queue_json(config, object);
  CHECK(object.dump() ==
        R"({"retry_delays_ms":[1000],"retry_factor_percent":200,"retry_max_ms":300000,)"
        R"("max_deliveries":0,"dead_letter_topic":null,"ttl_ms":-1,"dedupe_window_ms":-1,)"
        R"("compact_after_ms":-1,"tombstone_ms":86400000})");

  config.retry_delays_ms = {1'000, 10'000};
  config.retry_factor_percent = 105;
  config.max_deliveries = 3;
  config.dead_letter_topic = "dead";
  config.ttl_ms = 60'000;
  config.dedupe_window_ms = 120'000;
  config.compact_after_ms = 600'000;
  CHECK(topic_queue_text(config) ==
        "retries     after 1s, 10s, then 1.05 times as long each, at most 5m\n"
        "deliveries  at most 3, dead letters to dead\n"
        "ttl         1m\n"
        "dedupe      2m\n"
        "compaction  after 10m, tombstones after 1d\n");
  object = nlohmann::ordered_json::object();
  add_topic_queue_json(config, object);
  CHECK(object["dead_letter_topic"] == "dead");
  CHECK(object["compact_after_ms"] == 600'000);
}

}  // namespace
}  // namespace tidemark::tools
