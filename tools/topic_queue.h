// What a topic asks of queue mode, of messages that expire, of those that come twice, and of
// compaction: options, and how they are told.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "log/base/result.h"
#include "tidemark/admin.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidemark::tools {

// What is not given stays as it is, or is the default of a new topic.
struct TopicQueueOptions {
  std::optional<std::vector<int64_t>> retry_delays_ms;
  std::optional<uint32_t> retry_factor_percent;
  std::optional<int64_t> retry_max_ms;
  std::optional<uint32_t> max_deliveries;
  std::optional<std::string> dead_letter_topic;
  std::optional<int64_t> ttl_ms;
  std::optional<int64_t> dedupe_window_ms;
  std::optional<int64_t> compact_after_ms;
  std::optional<int64_t> tombstone_ms;

  [[nodiscard]] bool any() const;
  void apply_to(client::TopicConfig& config) const;
  void apply_to(client::TopicChange& change) const;
};

void add_topic_queue_options(CLI::App& command, TopicQueueOptions& options);
// Names of the options, for a sentence.
inline constexpr std::string_view kTopicQueueOptionNames =
    "--retry-delays, --retry-factor, --retry-max, --max-deliveries, --dead-letter-topic, --ttl, "
    "--dedupe, --compact, --tombstones";

// "1s,10s,1m": 1 to 16 durations.
Result<std::vector<int64_t>> parse_retry_delays(std::string_view text);
// "2", "1.5": 1 to 10, in hundredths.
Result<uint32_t> parse_retry_factor(std::string_view text);

// Lines "name        value" of `topic describe`.
std::string topic_queue_text(const client::TopicConfig& config);
void add_topic_queue_json(const client::TopicConfig& config, nlohmann::ordered_json& object);

}  // namespace tidemark::tools
