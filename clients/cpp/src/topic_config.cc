#include "clients/cpp/src/topic_config.h"

#include <optional>

namespace tidemark::client_core {

namespace {

namespace fbs = protocol::fbs;

fbs::LatePolicy to_wire(client::LatePolicy policy) {
  switch (policy) {
    case client::LatePolicy::kDeliver:
      return fbs::LatePolicy::kDeliver;
    case client::LatePolicy::kSkip:
      return fbs::LatePolicy::kSkip;
    case client::LatePolicy::kDeadLetter:
      return fbs::LatePolicy::kDeadLetter;
  }
  return fbs::LatePolicy::kDeliver;
}

client::LatePolicy from_wire(fbs::LatePolicy policy) {
  switch (policy) {
    case fbs::LatePolicy::kSkip:
      return client::LatePolicy::kSkip;
    case fbs::LatePolicy::kDeadLetter:
      return client::LatePolicy::kDeadLetter;
    case fbs::LatePolicy::kDeliver:
      break;
  }
  return client::LatePolicy::kDeliver;
}

template <typename T>
void take(Alteration& out, const char* name, const std::optional<T>& value,
          T client::TopicConfig::*field) {
  if (value) {
    out.config.*field = *value;
    out.set.emplace_back(name);
  }
}

}  // namespace

flatbuffers::Offset<fbs::TopicConfig> build_topic_config(flatbuffers::FlatBufferBuilder& builder,
                                                         const client::TopicConfig& config) {
  const auto late_topic = config.late_topic.empty() ? 0 : builder.CreateString(config.late_topic);
  const auto retry_delays =
      config.retry_delays_ms.empty() ? 0 : builder.CreateVector(config.retry_delays_ms);
  const auto dead_letter_topic =
      config.dead_letter_topic.empty() ? 0 : builder.CreateString(config.dead_letter_topic);
  return fbs::CreateTopicConfig(
      builder, config.retention_ms, config.retention_bytes, config.delay_pending_max,
      config.delay_bytes_max, to_wire(config.late_policy), config.late_max_ms, late_topic,
      retry_delays, config.retry_factor_percent, config.retry_max_ms, config.max_deliveries,
      dead_letter_topic, config.ttl_ms, config.dedupe_window_ms, config.compact_after_ms,
      config.tombstone_ms);
}

client::TopicConfig read_topic_config(const fbs::TopicConfig& config) {
  client::TopicConfig out{
      .retention_ms = config.retention_ms(),
      .retention_bytes = config.retention_bytes(),
      .delay_pending_max = config.delay_pending_max(),
      .delay_bytes_max = config.delay_bytes_max(),
      .late_policy = from_wire(config.late_policy()),
      .late_max_ms = config.late_max_ms(),
      .late_topic = std::string(protocol::view(config.late_topic())),
      .retry_factor_percent = config.retry_factor_percent(),
      .retry_max_ms = config.retry_max_ms(),
      .max_deliveries = config.max_deliveries(),
      .dead_letter_topic = std::string(protocol::view(config.dead_letter_topic())),
      .ttl_ms = config.ttl_ms(),
      .dedupe_window_ms = config.dedupe_window_ms(),
      .compact_after_ms = config.compact_after_ms(),
      .tombstone_ms = config.tombstone_ms()};
  if (config.retry_delays_ms() != nullptr && config.retry_delays_ms()->size() != 0) {
    out.retry_delays_ms.assign(config.retry_delays_ms()->begin(), config.retry_delays_ms()->end());
  }
  return out;
}

Alteration alteration_of(const client::TopicChange& change) {
  using client::TopicConfig;
  Alteration out;
  take(out, "retention_ms", change.retention_ms, &TopicConfig::retention_ms);
  take(out, "retention_bytes", change.retention_bytes, &TopicConfig::retention_bytes);
  take(out, "delay_pending_max", change.delay_pending_max, &TopicConfig::delay_pending_max);
  take(out, "delay_bytes_max", change.delay_bytes_max, &TopicConfig::delay_bytes_max);
  take(out, "late_policy", change.late_policy, &TopicConfig::late_policy);
  take(out, "late_max_ms", change.late_max_ms, &TopicConfig::late_max_ms);
  take(out, "late_topic", change.late_topic, &TopicConfig::late_topic);
  take(out, "retry_delays_ms", change.retry_delays_ms, &TopicConfig::retry_delays_ms);
  take(out, "retry_factor_percent", change.retry_factor_percent,
       &TopicConfig::retry_factor_percent);
  take(out, "retry_max_ms", change.retry_max_ms, &TopicConfig::retry_max_ms);
  take(out, "max_deliveries", change.max_deliveries, &TopicConfig::max_deliveries);
  take(out, "dead_letter_topic", change.dead_letter_topic, &TopicConfig::dead_letter_topic);
  take(out, "ttl_ms", change.ttl_ms, &TopicConfig::ttl_ms);
  take(out, "dedupe_window_ms", change.dedupe_window_ms, &TopicConfig::dedupe_window_ms);
  take(out, "compact_after_ms", change.compact_after_ms, &TopicConfig::compact_after_ms);
  take(out, "tombstone_ms", change.tombstone_ms, &TopicConfig::tombstone_ms);
  if (change.partitions) {
    out.set.emplace_back("partitions");
  }
  return out;
}

}  // namespace tidemark::client_core
