#include "tools/check_rules.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "broker/meta/topic_name.h"
#include "log/base/limits.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

// 0.4 of a message is more than none.
std::optional<uint64_t> whole(std::optional<double> value) {
  return value ? std::optional(to_count(std::ceil(*value))) : std::nullopt;
}

std::string number_text(const CheckResult& result, uint64_t number) {
  return result.unit == "ms" ? format_span(static_cast<int64_t>(number)) : format_count(number);
}

// A name, the last '>' and a number.
struct Bound {
  std::string_view name;
  uint64_t max = 0;
};

std::optional<Bound> parse_bound(std::string_view text) {
  const size_t sign = text.rfind('>');
  const std::string_view number = sign == std::string_view::npos ? "" : text.substr(sign + 1);
  Bound bound;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), bound.max);
  if (number.empty() || error != std::errc() || end != number.data() + number.size()) {
    return std::nullopt;
  }
  bound.name = text.substr(0, sign);
  return bound;
}

}  // namespace

Result<LagBound> parse_lag_bound(std::string_view text) {
  const std::optional<Bound> bound = parse_bound(text);
  if (!bound || bound->name.empty() || bound->name.size() > limits::kGroupNameBytesMax) {
    return Status(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is not the name of a group, > and a number, as in "
                              "'billing>1000' (in quotes: shells know >)",
                              text));
  }
  return LagBound{.group = std::string(bound->name), .lag_max = bound->max};
}

Result<LettersBound> parse_letters_bound(std::string_view text) {
  const std::optional<Bound> bound = parse_bound(text);
  if (!bound || !meta::check_topic_name(bound->name).ok()) {
    return Status(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is not the name of a topic, > and a number, as in "
                              "'mails-dead>0' (in quotes: shells know >)",
                              text));
  }
  return LettersBound{.topic = std::string(bound->name), .letters_max = bound->max};
}

CheckRules CheckRules::defaults() {
  CheckRules rules;
  rules.ready = true;
  rules.read_only = true;
  rules.disk_full = true;
  rules.delay_overdue_max = 0;
  rules.txn_parked_max = 0;
  return rules;
}

std::vector<CheckResult> check_metrics(const CheckRules& rules, const BrokerMetrics& metrics) {
  std::vector<CheckResult> results;
  const auto add = [&results](std::string name, std::string subject, std::string unit,
                              std::optional<double> value, uint64_t threshold) {
    results.push_back({.name = std::move(name),
                       .subject = std::move(subject),
                       .unit = std::move(unit),
                       .group = {},
                       .topic = {},
                       .value = whole(value),
                       .threshold = threshold});
  };
  if (rules.ready) {
    add("ready", "shards that are not ready", "shards", metrics.zeros("tidemark_shard_ready"), 0);
  }
  if (rules.read_only) {
    add("read-only", "shards that are read-only", "shards", metrics.sum("tidemark_shard_read_only"),
        0);
  }
  if (rules.disk_full) {
    add("disk-full", "shards whose disk is full", "shards", metrics.sum("tidemark_shard_disk_full"),
        0);
  }
  if (rules.delay_overdue_max) {
    add("delay-overdue", "delayed messages overdue by a minute", "messages",
        metrics.sum("tidemark_delays_overdue"), *rules.delay_overdue_max);
  }
  if (rules.txn_parked_max) {
    add("txn-parked", "parked transactions", "transactions", metrics.sum("tidemark_txn_parked"),
        *rules.txn_parked_max);
  }
  if (rules.txn_oldest_ms_max) {
    std::optional<double> age_ms = metrics.max("tidemark_txn_oldest_age_seconds");
    age_ms = age_ms ? std::optional(*age_ms * 1'000) : age_ms;
    add("txn-oldest", "age of the oldest transaction", "ms", age_ms,
        static_cast<uint64_t>(*rules.txn_oldest_ms_max));
  }
  return results;
}

CheckResult check_lag(const LagBound& bound, std::optional<uint64_t> lag) {
  return {.name = "lag",
          .subject = fmt::format("lag of group {}{}", printable(bound.group),
                                 lag ? "" : ", which is not there"),
          .unit = "messages",
          .group = bound.group,
          .topic = {},
          .value = lag,
          .threshold = bound.lag_max};
}

CheckResult check_letters(const LettersBound& bound, std::optional<uint64_t> letters) {
  return {.name = "dead-letters",
          .subject = fmt::format("dead letters in topic {}{}", bound.topic,
                                 letters ? "" : ", which is not there"),
          .unit = "messages",
          .group = {},
          .topic = bound.topic,
          .value = letters,
          .threshold = bound.letters_max};
}

bool all_ok(const std::vector<CheckResult>& results) {
  return std::ranges::all_of(results, &CheckResult::ok);
}

std::string check_table(const std::vector<CheckResult>& results) {
  const auto right = Table::Align::kRight;
  Table table({{"STATE"}, {"CHECK"}, {"VALUE", right}, {"AT MOST", right}});
  for (const CheckResult& one : results) {
    table.add({one.ok() ? "ok" : "critical", one.subject,
               one.value ? number_text(one, *one.value) : "unknown",
               number_text(one, one.threshold)});
  }
  return table.to_string();
}

Json check_json(const std::vector<CheckResult>& results) {
  Json checks = Json::array();
  for (const CheckResult& one : results) {
    Json object = Json{{"check", one.name}};
    if (!one.group.empty()) {
      add_bytes_field(object, "group", one.group);
    }
    if (!one.topic.empty()) {
      object["topic"] = one.topic;
    }
    object["state"] = one.ok() ? "ok" : "critical";
    object["value"] = one.value ? Json(*one.value) : Json();
    object["threshold"] = one.threshold;
    object["unit"] = one.unit;
    checks.push_back(std::move(object));
  }
  return Json{{"ok", all_ok(results)}, {"checks", std::move(checks)}};
}

}  // namespace tidemark::tools
