#include "tools/broker_metrics.h"

#include <string>

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

const std::string kMetrics =
    "# HELP tidemark_build_info What runs here\n"
    "tidemark_build_info{version=\"0.1.0\",fsync=\"batch\",cluster_id=\"77\",node_id=\"1\"} 1\n"
    "# HELP tidemark_log_written_bytes_total Bytes\n"
    "tidemark_log_written_bytes_total{shard=\"0\"} 1000\n"
    "tidemark_log_written_bytes_total{shard=\"1\"} 234\n"
    "tidemark_log_syncs_total{shard=\"0\"} 5\n"
    "tidemark_log_syncs_total{shard=\"1\"} 7\n"
    "tidemark_log_sync_seconds_total{shard=\"0\"} 0.5";

TEST_CASE("what the logs of all shards wrote is added up") {
  const auto writes = log_writes_of(BrokerMetrics::parse(kMetrics), 77, 1);
  REQUIRE(writes.has_value());
  CHECK(writes->bytes == 1'234);
  CHECK(writes->syncs == 12);
}

TEST_CASE("the metrics of another broker, or no metrics, say nothing") {
  CHECK_FALSE(log_writes_of(BrokerMetrics::parse(kMetrics), 7, 1).has_value());
  CHECK_FALSE(log_writes_of(BrokerMetrics::parse(kMetrics), 77, 2).has_value());
  CHECK_FALSE(log_writes_of(BrokerMetrics::parse(""), 77, 1).has_value());
  CHECK_FALSE(
      log_writes_of(BrokerMetrics::parse("HTTP/1.1 200 OK\r\n\r\nhello"), 77, 1).has_value());
}

TEST_CASE("numbers are taken over all labels; what was not told has none") {
  const BrokerMetrics metrics = BrokerMetrics::parse(
      "# HELP tidemark_x Numbers\n"
      "tidemark_x{shard=\"0\"} 0\n"
      "tidemark_x{shard=\"0\",topic=\"a b\"} 1.5e+03\n"
      "tidemark_x{shard=\"1\"} 0\n"
      "tidemark_below{shard=\"1\"} -3\n"
      "tidemark_plain 17\n"
      "tidemark_odd NaN\n"
      "tidemark_nothing\n"
      "other_x 5\n");
  CHECK(metrics.sum("tidemark_x") == 1'500);
  CHECK(metrics.max("tidemark_x") == 1'500);
  CHECK(metrics.zeros("tidemark_x") == 2);
  CHECK(metrics.max("tidemark_below") == -3);
  CHECK(metrics.sum("tidemark_plain") == 17);
  for (const char* const name : {"tidemark_odd", "tidemark_nothing", "other_x", "tidemark"}) {
    CHECK_FALSE(metrics.sum(name).has_value());
  }
}

TEST_CASE("where metrics are") {
  CHECK(metrics_place("", "h").to_string() == "h:9471");
  CHECK(metrics_place("m:1", "h").to_string() == "m:1");
  CHECK(metrics_place("m", "h").to_string() == "m:9471");
  CHECK(metrics_place("[::1]:80", "h").host == "::1");
  CHECK(metrics_place_of("", "a:1,b:2").to_string() == "a:9471");
  CHECK(metrics_place_of("m:3", "a:1,b:2").to_string() == "m:3");
}

}  // namespace
}  // namespace tidemark::tools
