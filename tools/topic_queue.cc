#include "tools/topic_queue.h"

#include <charconv>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "broker/meta/topic_name.h"
#include "log/base/limits.h"
#include "tidemark/delay.h"
#include "tools/cli_options.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kRetryDelaysMax = 16;

// An option that is read by `parse`, whose mistakes name the option.
template <typename Value>
void add_parsed(CLI::App& command, const std::string& name, std::optional<Value>& out,
                Result<Value> (*parse)(std::string_view), const std::string& type,
                const std::string& help) {
  const auto set = [&out, name, parse](const std::string& text) {
    Result<Value> parsed = parse(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError(name, std::string(parsed.error().context()));
    }
    out = *std::move(parsed);
  };
  command.add_option_function<std::string>(name, set, help)->type_name(type);
}

// A duration of `ms_min` to `ms_max`, or `word`, which is -1. `on_ms`: what "on" stands for, if
// anything.
void add_duration_or(CLI::App& command, const std::string& name, std::optional<int64_t>& out,
                     const std::string& word, int64_t ms_min, int64_t ms_max,
                     const std::string& help, std::optional<int64_t> on_ms = {}) {
  const auto set = [&out, name, word, ms_min, ms_max, on_ms](const std::string& text) {
    if (on_ms && text == "on") {
      out = on_ms;
      return;
    }
    const Result<int64_t> parsed = text == word ? Result<int64_t>(-1) : parse_duration_ms(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError(
          name, fmt::format("{} or {}", std::string(parsed.error().context()), word));
    }
    if (text != word && (*parsed < ms_min || *parsed > ms_max)) {
      throw CLI::ValidationError(
          name, fmt::format("'{}' is not within {} and {}, or {}", text, format_duration(ms_min),
                            format_duration(ms_max), word));
    }
    out = *parsed;
  };
  command.add_option_function<std::string>(name, set, help)->type_name("TIME");
}

// Of whatever has the members of TopicQueueOptions under the same names.
template <typename Target>
void apply(const TopicQueueOptions& options, Target& target) {
  const auto take = [](const auto& from, auto& to) {
    if (from) {
      to = *from;
    }
  };
  take(options.retry_delays_ms, target.retry_delays_ms);
  take(options.retry_factor_percent, target.retry_factor_percent);
  take(options.retry_max_ms, target.retry_max_ms);
  take(options.max_deliveries, target.max_deliveries);
  take(options.dead_letter_topic, target.dead_letter_topic);
  take(options.ttl_ms, target.ttl_ms);
  take(options.dedupe_window_ms, target.dedupe_window_ms);
  take(options.compact_after_ms, target.compact_after_ms);
  take(options.tombstone_ms, target.tombstone_ms);
}

std::string compaction_text(const client::TopicConfig& config) {
  return config.compact_after_ms < 0 ? std::string("off")
                                     : fmt::format("after {}, tombstones after {}",
                                                   format_duration(config.compact_after_ms),
                                                   format_duration(config.tombstone_ms));
}

// "2", "1.5", "1.05".
std::string factor_text(uint32_t percent) {
  return fmt::format("{:g}", static_cast<double>(percent) / 100);
}

}  // namespace

bool TopicQueueOptions::any() const {
  return retry_delays_ms || retry_factor_percent || retry_max_ms || max_deliveries ||
         dead_letter_topic || ttl_ms || dedupe_window_ms || compact_after_ms || tombstone_ms;
}

void TopicQueueOptions::apply_to(client::TopicConfig& config) const { apply(*this, config); }

void TopicQueueOptions::apply_to(client::TopicChange& change) const { apply(*this, change); }

Result<std::vector<int64_t>> parse_retry_delays(std::string_view text) {
  std::vector<int64_t> delays;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    ASSIGN_OR_RETURN(const int64_t delay, parse_duration_ms(text.substr(begin, end - begin)));
    if (delay < 0) {
      return Status(ErrorCode::kInvalidArgument, "a retry that waits for ever is none");
    }
    delays.push_back(delay);
    begin = end + 1;
  }
  if (delays.size() > kRetryDelaysMax) {
    return Status(ErrorCode::kInvalidArgument,
                  fmt::format("{} delays; allowed are 1 to {}", delays.size(), kRetryDelaysMax));
  }
  return delays;
}

Result<uint32_t> parse_retry_factor(std::string_view text) {
  double factor = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), factor);
  // Written so that what is no number is refused as well.
  if (error != std::errc() || end != text.data() + text.size() || !(factor >= 1 && factor <= 10)) {
    return Status(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is not a factor from 1 to 10; write 2 or 1.5", text));
  }
  return static_cast<uint32_t>(factor * 100 + 0.5);
}

void add_topic_queue_options(CLI::App& command, TopicQueueOptions& options) {
  add_parsed(command, "--retry-delays", options.retry_delays_ms, parse_retry_delays, "TIMES",
             "Queue mode: how long a message waits after its first, second, ... failed delivery: "
             "1s,10s,1m (default 1s)");
  add_parsed(command, "--retry-factor", options.retry_factor_percent, parse_retry_factor, "FACTOR",
             "Behind the last of them each wait is this many times the one before: 1 to 10 "
             "(default 2)");
  add_duration_within(command, "--retry-max", options.retry_max_ms, 0, limits::kQueueDelayMsMax,
                      "No wait is longer (default 5m)");
  command
      .add_option("--max-deliveries", options.max_deliveries,
                  "After so many failed deliveries a message goes to --dead-letter-topic; 0: never")
      ->type_name("N");
  const auto valid = [](const std::string& text) {
    return text.empty() ? std::string() : std::string(meta::check_topic_name(text).context());
  };
  command
      .add_option("--dead-letter-topic", options.dead_letter_topic,
                  "Where to; '' for none. It needs a partition on every shard of this topic")
      ->check(valid)
      ->type_name("TOPIC");
  add_duration_or(command, "--ttl", options.ttl_ms, "none", 1, client::kDelayMsMax,
                  "Messages that name no time to live are not delivered later than this: 1h, none");
  add_duration_or(
      command, "--dedupe", options.dedupe_window_ms, "off", limits::kDedupeWindowMsMin,
      limits::kDedupeWindowMsMax,
      "A message id that comes again within this time is stored once: on (2m), 10m, off",
      limits::kDedupeWindowMsDefault);
  add_duration_or(command, "--compact", options.compact_after_ms, "off", 0, client::kDelayMsMax,
                  "Of the messages of a key the newest is kept; earlier ones go when they are at "
                  "least so old: 0s, 1h, off");
  add_duration_within(command, "--tombstones", options.tombstone_ms, 0, client::kDelayMsMax,
                      "With --compact: a message without a value that is the newest of its key "
                      "goes when it is so old (default 24h)");
}

std::string topic_queue_text(const client::TopicConfig& config) {
  std::string delays;
  for (const int64_t delay : config.retry_delays_ms) {
    delays += fmt::format("{}{}", delays.empty() ? "" : ", ", format_duration(delay));
  }
  std::string deliveries = config.max_deliveries == 0
                               ? std::string("unlimited")
                               : fmt::format("at most {}", config.max_deliveries);
  if (!config.dead_letter_topic.empty()) {
    deliveries += fmt::format(", dead letters to {}", config.dead_letter_topic);
  }
  return fmt::format(
      "retries     after {}, then {} times as long each, at most {}\ndeliveries  {}\n"
      "ttl         {}\ndedupe      {}\ncompaction  {}\n",
      delays, factor_text(config.retry_factor_percent), format_duration(config.retry_max_ms),
      deliveries, config.ttl_ms < 0 ? "none" : format_duration(config.ttl_ms),
      config.dedupe_window_ms < 0 ? "off" : format_duration(config.dedupe_window_ms),
      compaction_text(config));
}

void add_topic_queue_json(const client::TopicConfig& config, Json& object) {
  object["retry_delays_ms"] = config.retry_delays_ms;
  object["retry_factor_percent"] = config.retry_factor_percent;
  object["retry_max_ms"] = config.retry_max_ms;
  object["max_deliveries"] = config.max_deliveries;
  object["dead_letter_topic"] =
      config.dead_letter_topic.empty() ? Json() : Json(config.dead_letter_topic);
  object["ttl_ms"] = config.ttl_ms;
  object["dedupe_window_ms"] = config.dedupe_window_ms;
  object["compact_after_ms"] = config.compact_after_ms;
  object["tombstone_ms"] = config.tombstone_ms;
}

}  // namespace tidemark::tools
