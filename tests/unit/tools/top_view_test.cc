#include "tools/top_view.h"

#include <string>

#include <doctest/doctest.h>

#include "tools/parse.h"

namespace tidemark::tools {
namespace {

BrokerMetrics metrics(const std::string& in, const std::string& syncs, const std::string& seconds) {
  return BrokerMetrics::parse("tidemark_messages_in_total{shard=\"0\"} " + in +
                              "\n"
                              "tidemark_log_syncs_total{shard=\"0\"} " +
                              syncs +
                              "\n"
                              "tidemark_log_sync_seconds_total{shard=\"0\"} " +
                              seconds +
                              "\n"
                              "tidemark_log_sync_seconds_max{shard=\"0\"} 0.25\n"
                              "tidemark_shard_ready{shard=\"0\"} 1\n"
                              "tidemark_delays_pending{shard=\"0\",due_within=\"1m\"} 3\n"
                              "tidemark_delays_pending{shard=\"0\",due_within=\"1h\"} 4\n");
}

bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("rates are of the time between two looks, the rest is of the second") {
  const TopView view = compare(metrics("1000", "10", "1"), metrics("3000", "20", "1.05"), 2);
  CHECK(view.messages_in == 1'000);
  CHECK(view.syncs == 5);
  CHECK(view.sync_ms == doctest::Approx(5));
  CHECK(view.sync_ms_max == 250);
  CHECK(view.delays_pending == 7);
  CHECK(view.not_ready == 0);
}

TEST_CASE("a broker that was started in between has no rates below 0") {
  const TopView view = compare(metrics("3000", "20", "1"), metrics("10", "20", "0"), 1);
  CHECK(view.messages_in == 0);
  CHECK(view.sync_ms == 0);
}

TEST_CASE("groups with the most lag come first, the total is of all") {
  TopView view = compare(metrics("0", "0", "0"), metrics("0", "0", "0"), 1);
  CHECK(mentions(top_text(view, 2), "no answer"));
  CHECK(top_json(view)["lag"].is_null());
  view.groups = {{.group = "a", .members = 1, .partitions = 4, .lag = 5},
                 {.group = "b", .members = 0, .partitions = 4, .lag = 1'000},
                 {.group = "c", .members = 2, .partitions = 4, .lag = 7}};
  const std::string text = top_text(view, 2);
  CHECK(mentions(text, "groups   3, lag 1,012"));
  CHECK(text.find("\nb ") < text.find("\nc "));
  CHECK_FALSE(mentions(text, "\na "));
  CHECK(top_json(view)["lag"] == 1'012);
  CHECK(top_json(view)["groups"].size() == 3);
}

TEST_CASE("dead letters are told by topic, those with the most first") {
  TopView view;
  CHECK(mentions(top_text(view, 1), "dead     no answer"));
  CHECK(top_json(view)["dead_letters"].is_null());
  view.dead_letters = std::vector<DeadLetters>();
  CHECK_FALSE(mentions(top_text(view, 1), "dead     "));
  CHECK(top_json(view)["dead_letters"].empty());
  view.dead_letters = {{.topic = "a", .letters = 0}};
  CHECK(mentions(top_text(view, 1), "dead     0 letters\n"));
  view.dead_letters = {{.topic = "a", .letters = 1},
                       {.topic = "b", .letters = 2'000},
                       {.topic = "c", .letters = 3},
                       {.topic = "d", .letters = 2}};
  CHECK(mentions(top_text(view, 1), "dead     2,006 letters: b 2,000, c 3, d 2\n"));
  CHECK(top_json(view)["dead_letters"].dump() ==
        R"([{"topic":"a","letters":1},{"topic":"b","letters":2000},{"topic":"c","letters":3},)"
        R"({"topic":"d","letters":2}])");
}

TEST_CASE("a time that no broker can have run is shown as a long one") {
  TopView view;
  view.uptime_s = 1e300;
  const std::string longest = format_span(static_cast<int64_t>(kCountMax));
  CHECK(mentions(top_text(view, 1), "up " + longest + ","));
}

TEST_CASE("what is wrong with shards is told") {
  TopView view;
  CHECK(mentions(top_text(view, 1), "broker   ready, "));
  view.not_ready = 1;
  view.disk_full = 2;
  CHECK(mentions(top_text(view, 1), "1 shard not ready, 2 shards with a full disk"));
}

}  // namespace
}  // namespace tidemark::tools
