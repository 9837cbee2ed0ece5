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
  const auto writes = parse_log_writes(kMetrics, 77, 1);
  REQUIRE(writes.has_value());
  CHECK(writes->bytes == 1'234);
  CHECK(writes->syncs == 12);
}

TEST_CASE("the metrics of another broker, or no metrics, say nothing") {
  CHECK_FALSE(parse_log_writes(kMetrics, 7, 1).has_value());
  CHECK_FALSE(parse_log_writes(kMetrics, 77, 2).has_value());
  CHECK_FALSE(parse_log_writes("", 77, 1).has_value());
  CHECK_FALSE(parse_log_writes("HTTP/1.1 200 OK\r\n\r\nhello", 77, 1).has_value());
}

}  // namespace
}  // namespace tidemark::tools
