#include "tools/check_rules.h"

#include <string>

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

const std::string kMetrics =
    "tidemark_shard_ready{shard=\"0\"} 1\n"
    "tidemark_shard_ready{shard=\"1\"} 0\n"
    "tidemark_shard_read_only{shard=\"0\"} 0\n"
    "tidemark_shard_disk_full{shard=\"0\"} 0\n"
    "tidemark_delays_overdue{shard=\"0\"} 3\n"
    "tidemark_delays_overdue{shard=\"1\"} 4\n"
    "tidemark_txn_parked{shard=\"0\"} 0\n"
    "tidemark_txn_oldest_age_seconds{shard=\"0\"} 0.5\n"
    "tidemark_txn_oldest_age_seconds{shard=\"1\"} 1.5\n";

TEST_CASE("a lag bound is the name of a group and a number") {
  const auto bound = parse_lag_bound("a>b>17");
  REQUIRE(bound.ok());
  CHECK(bound->group == "a>b");
  CHECK(bound->lag_max == 17);
  for (const char* const wrong : {"", "g", ">5", "g>", "g>-1", "g>5x", "g>99999999999999999999"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_lag_bound(wrong).ok());
  }
  CHECK_FALSE(parse_lag_bound(std::string(256, 'g') + ">1").ok());
}

TEST_CASE("a bound of dead letters is the name of a topic and a number") {
  const auto bound = parse_letters_bound("mails-dead>0");
  REQUIRE(bound.ok());
  CHECK(bound->topic == "mails-dead");
  CHECK(bound->letters_max == 0);
  for (const char* const wrong : {"", "t", ">5", "t>", "t>-1", "a/b>1", "a>b>1", "..>1"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_letters_bound(wrong).ok());
  }
  const CheckResult found = check_letters({.topic = "dead", .letters_max = 2}, 3);
  CHECK_FALSE(found.ok());
  CHECK(check_json({found}).dump() ==
        R"({"ok":false,"checks":[{"check":"dead-letters","topic":"dead","state":"critical",)"
        R"("value":3,"threshold":2,"unit":"messages"}]})");
  const CheckResult missing = check_letters({.topic = "dead", .letters_max = 2}, {});
  CHECK_FALSE(missing.ok());
  CHECK(check_table({missing}).find("dead letters in topic dead, which is not there") !=
        std::string::npos);
}

TEST_CASE("anything that is asked for replaces the default") {
  CheckRules rules;
  CHECK_FALSE(rules.any());
  rules.dead_letters.push_back({.topic = "dead", .letters_max = 0});
  CHECK(rules.any());
  CHECK_FALSE(rules.needs_metrics());
  CHECK(CheckRules::defaults().any());
}

TEST_CASE("a number that no broker can have is above any threshold") {
  for (const char* const number : {"1e300", "1e19", "5e18"}) {
    CAPTURE(number);
    const auto results = check_metrics(
        CheckRules::defaults(),
        BrokerMetrics::parse("tidemark_delays_overdue{shard=\"0\"} " + std::string(number)));
    CHECK(results[3].value == kCountMax);
    CHECK_FALSE(results[3].ok());
  }
}

TEST_CASE("what is above its threshold is critical") {
  const BrokerMetrics metrics = BrokerMetrics::parse(kMetrics);
  CheckRules rules = CheckRules::defaults();
  auto results = check_metrics(rules, metrics);
  REQUIRE(results.size() == 5);
  CHECK(results[0].name == "ready");
  CHECK(results[0].value == 1);
  CHECK_FALSE(results[0].ok());
  CHECK(results[1].ok());
  CHECK(results[2].ok());
  CHECK(results[3].value == 7);
  CHECK_FALSE(results[3].ok());
  CHECK(results[4].ok());
  CHECK_FALSE(all_ok(results));

  rules = {};
  rules.delay_overdue_max = 7;
  rules.txn_oldest_ms_max = 1'500;
  CHECK(all_ok(check_metrics(rules, metrics)));
  rules.txn_oldest_ms_max = 1'499;
  results = check_metrics(rules, metrics);
  CHECK_FALSE(all_ok(results));
  CHECK(check_json(results).dump() ==
        R"({"ok":false,"checks":[)"
        R"({"check":"delay-overdue","state":"ok","value":7,"threshold":7,"unit":"messages"},)"
        R"({"check":"txn-oldest","state":"critical","value":1500,"threshold":1499,"unit":"ms"}]})");
}

TEST_CASE("what nobody tells is not ok") {
  const auto results = check_metrics(CheckRules::defaults(), BrokerMetrics());
  CHECK(results.size() == 5);
  for (const CheckResult& one : results) {
    CHECK_FALSE(one.ok());
  }
  const CheckResult lag = check_lag({.group = "g", .lag_max = 5}, {});
  CHECK_FALSE(lag.ok());
  CHECK(check_lag({.group = "g", .lag_max = 5}, 5).ok());
  CHECK(check_table({lag}) ==
        "STATE     CHECK                                 VALUE  AT MOST\n"
        "critical  lag of group g, which is not there  unknown        5\n");
}

}  // namespace
}  // namespace tidemark::tools
