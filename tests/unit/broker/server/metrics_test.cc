#include "broker/metrics.h"

#include <set>
#include <sstream>
#include <string>

#include <doctest/doctest.h>

namespace tidemark::broker {
namespace {

BrokerReport two_loops() {
  BrokerReport report;
  report.version = "1.2.3";
  report.fsync = "interval:100";
  report.cluster_id = 99;
  report.node_id = 1;
  report.started_ms = 1'700'000'000'500;
  report.uptime_seconds = 12.5;
  report.resident_bytes = 4096;
  for (uint32_t loop = 0; loop < 2; ++loop) {
    LoopReport& one = report.loops.emplace_back();
    one.loop = loop;
    one.connections.frames_in = 100 + loop;
    for (uint16_t shard = static_cast<uint16_t>(loop); shard < 4;
         shard = static_cast<uint16_t>(shard + 2)) {
      ShardReport& entry = one.shards.emplace_back();
      entry.ready = true;
      entry.stats.shard = shard;
      entry.stats.messages_in = 1000u * shard;
      entry.stats.cold_reads = 5;
      entry.stats.fetch_filtered = 6;
      entry.stats.fetch_expired = 7;
      entry.stats.sync_ns_total = 1'500'000'000;
      entry.stats.txn_open = 10u + shard;
      entry.stats.txn_parked = 2;
      entry.stats.txn_oldest_age_ms = 61'500;
      entry.stats.txn_half_bytes = 4096;
      entry.stats.txn_begun = 30;
      entry.stats.txn_committed = 12;
      entry.stats.txn_rolled_back = 4;
      entry.stats.txn_checks = 7;
    }
  }
  return report;
}

TEST_CASE("numbers carry shard and loop") {
  const std::string text = to_prometheus(two_loops());
  for (const std::string line : {
           "tidemark_build_info{version=\"1.2.3\",fsync=\"interval:100\",cluster_id=\"99\",node_id="
           "\"1\"} 1\n",
           "tidemark_messages_in_total{shard=\"3\"} 3000\n",
           "tidemark_shard_ready{shard=\"0\"} 1\n",
           "tidemark_log_sync_seconds_total{shard=\"2\"} 1.5\n",
           "tidemark_cold_reads_total{shard=\"1\"} 5\n",
           "tidemark_fetch_filtered_total{shard=\"1\"} 6\n",
           "tidemark_fetch_expired_total{shard=\"1\"} 7\n",
           "tidemark_frames_in_total{loop=\"1\"} 101\n",
           "tidemark_uptime_seconds 12.5\n",
           "tidemark_resident_memory_bytes 4096\n",
       }) {
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
  }
}

TEST_CASE("transactions are shown by shard, ended ones by outcome") {
  const std::string text = to_prometheus(two_loops());
  for (const std::string line : {
           "tidemark_txn_open{shard=\"3\"} 13\n",
           "tidemark_txn_parked{shard=\"0\"} 2\n",
           "tidemark_txn_oldest_age_seconds{shard=\"1\"} 61.5\n",
           "tidemark_txn_half_bytes{shard=\"2\"} 4096\n",
           "tidemark_txn_begun_total{shard=\"0\"} 30\n",
           "tidemark_txn_ended_total{shard=\"3\",outcome=\"committed\"} 12\n",
           "tidemark_txn_ended_total{shard=\"3\",outcome=\"rolled_back\"} 4\n",
           "tidemark_txn_checks_total{shard=\"2\"} 7\n",
       }) {
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
  }
}

TEST_CASE("every metric has help and type, a name of ours, and comes once") {
  std::istringstream text(to_prometheus(two_loops()));
  std::set<std::string> helped;
  std::set<std::string> typed;
  std::set<std::string> series;
  std::string line;
  while (std::getline(text, line)) {
    CAPTURE(line);
    std::istringstream words(line);
    std::string hash;
    std::string kind;
    std::string name;
    if (line.starts_with("# ")) {
      words >> hash >> kind >> name;
      CHECK(name.starts_with("tidemark_"));
      CHECK((kind == "HELP" ? helped : typed).insert(name).second);
      continue;
    }
    std::string metric = line.substr(0, line.find_first_of("{ "));
    for (const std::string_view part : {"_count", "_sum", "_bucket"}) {
      // Of a histogram: its parts come under its name.
      const std::string_view whole =
          std::string_view(metric).substr(0, metric.size() - std::min(metric.size(), part.size()));
      if (metric.ends_with(part) && typed.contains(std::string(whole))) {
        metric = whole;
        break;
      }
    }
    CHECK(helped.count(metric) == 1);
    CHECK(typed.count(metric) == 1);
    CHECK(series.insert(line.substr(0, line.rfind(' '))).second);
  }
  CHECK(helped.size() == typed.size());
  CHECK(helped.size() > 40);
}

}  // namespace
}  // namespace tidemark::broker
