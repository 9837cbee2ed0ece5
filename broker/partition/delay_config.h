// What a topic asks of its delayed messages.
#pragma once

#include <cstdint>

#include "log/base/coding.h"
#include "log/base/ids.h"

namespace tidemark::partition {

// What becomes of a delayed message that is late by more than late_max_ms when it could be
// delivered at last.
enum class LatePolicy : uint8_t { kDeliver = 0, kSkip = 1, kDeadLetter = 2 };

struct DelayConfig {
  int64_t pending_max = -1;  // of a partition; -1: no bound
  int64_t bytes_max = -1;    // of their batches
  LatePolicy late_policy = LatePolicy::kDeliver;
  int64_t late_max_ms = -1;  // -1: never too late
  TopicId late_topic;        // kDeadLetter: where to

  void write(ByteWriter& writer) const {
    writer.le(pending_max);
    writer.le(bytes_max);
    writer.le(static_cast<uint8_t>(late_policy));
    writer.le(late_max_ms);
    writer.le(late_topic.value());
  }

  static DelayConfig read(ByteReader& reader) {
    DelayConfig config;
    config.pending_max = reader.le<int64_t>();
    config.bytes_max = reader.le<int64_t>();
    config.late_policy = static_cast<LatePolicy>(reader.le<uint8_t>());
    config.late_max_ms = reader.le<int64_t>();
    config.late_topic = TopicId{reader.le<uint32_t>()};
    return config;
  }

  // A table of log/format/schema/control.fbs or one like it.
  template <typename Table>
  static DelayConfig of(const Table* table) {
    DelayConfig config;
    if (table != nullptr) {
      config.pending_max = table->pending_max();
      config.bytes_max = table->bytes_max();
      config.late_policy = static_cast<LatePolicy>(table->late_policy());
      config.late_max_ms = table->late_max_ms();
      config.late_topic = TopicId{table->late_topic()};
    }
    return config;
  }

  friend bool operator==(const DelayConfig&, const DelayConfig&) = default;
};

}  // namespace tidemark::partition
