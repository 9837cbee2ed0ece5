// What a topic asks of queue mode, and of messages that expire or come twice.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "log/base/coding.h"
#include "log/base/ids.h"

namespace tidemark::partition {

struct QueueConfig {
  static constexpr size_t kRetryDelaysMax = 16;

  // The first `retry_delays` count; see queue/retry_policy.h.
  std::array<int64_t, kRetryDelaysMax> retry_delays_ms{1000};
  uint8_t retry_delays = 1;
  uint32_t retry_factor_percent = 200;
  int64_t retry_max_ms = 300'000;
  uint32_t max_deliveries = 0;  // 0: no bound
  TopicId dead_letter_topic;    // with max_deliveries; 0: none
  int64_t ttl_ms = -1;          // of messages that name none; -1: they do not expire
  int64_t dedupe_window_ms = -1;

  void write(ByteWriter& writer) const {
    writer.le(retry_delays);
    for (size_t i = 0; i < retry_delays; ++i) {
      writer.le(retry_delays_ms[i]);
    }
    writer.le(retry_factor_percent);
    writer.le(retry_max_ms);
    writer.le(max_deliveries);
    writer.le(dead_letter_topic.value());
    writer.le(ttl_ms);
    writer.le(dedupe_window_ms);
  }

  static QueueConfig read(ByteReader& reader) {
    QueueConfig config;
    config.retry_delays_ms = {};
    config.retry_delays = reader.le<uint8_t>();
    for (size_t i = 0; i < config.retry_delays && !reader.failed(); ++i) {
      const auto delay = reader.le<int64_t>();
      if (i < kRetryDelaysMax) {
        config.retry_delays_ms[i] = delay;
      }
    }
    config.retry_factor_percent = reader.le<uint32_t>();
    config.retry_max_ms = reader.le<int64_t>();
    config.max_deliveries = reader.le<uint32_t>();
    config.dead_letter_topic = TopicId{reader.le<uint32_t>()};
    config.ttl_ms = reader.le<int64_t>();
    config.dedupe_window_ms = reader.le<int64_t>();
    return config;
  }

  // False after read(): there were more delays than there can be.
  [[nodiscard]] bool is_readable() const { return retry_delays <= kRetryDelaysMax; }

  // A table of log/format/schema/control.fbs.
  template <typename Table>
  static QueueConfig of(const Table* table) {
    QueueConfig config;
    if (table == nullptr) {
      return config;
    }
    if (const auto* delays = table->retry_delays_ms(); delays != nullptr && delays->size() > 0) {
      config.retry_delays_ms = {};
      config.retry_delays = 0;
      for (const int64_t delay : *delays) {
        if (config.retry_delays < kRetryDelaysMax) {
          config.retry_delays_ms[config.retry_delays++] = delay;
        }
      }
    }
    config.retry_factor_percent = table->retry_factor_percent();
    config.retry_max_ms = table->retry_max_ms();
    config.max_deliveries = table->max_deliveries();
    config.dead_letter_topic = TopicId{table->dead_letter_topic()};
    config.ttl_ms = table->ttl_ms();
    config.dedupe_window_ms = table->dedupe_window_ms();
    return config;
  }

  friend bool operator==(const QueueConfig&, const QueueConfig&) = default;
};

}  // namespace tidemark::partition
