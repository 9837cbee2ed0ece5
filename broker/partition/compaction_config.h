// Whether, and how, a topic is compacted by key.
#pragma once

#include <algorithm>
#include <cstdint>

#include "log/base/coding.h"

namespace tidemark::partition {

struct CompactionConfig {
  // A message goes when it is so old (by the time it was received, in log time) and a later one has
  // its key; -1: no compaction.
  int64_t after_ms = -1;
  // One without a value that is the newest of its key goes when it is so old.
  int64_t tombstone_ms = 86'400'000;

  [[nodiscard]] bool on() const { return after_ms >= 0; }

  // A tombstone never goes before what it stands for: else that would come up again.
  [[nodiscard]] int64_t tombstone_after_ms() const { return std::max(after_ms, tombstone_ms); }

  void write(ByteWriter& writer) const {
    writer.le(after_ms);
    writer.le(tombstone_ms);
  }

  static CompactionConfig read(ByteReader& reader) {
    CompactionConfig config;
    config.after_ms = reader.le<int64_t>();
    config.tombstone_ms = reader.le<int64_t>();
    return config;
  }

  // A table of log/format/schema/control.fbs.
  template <typename Table>
  static CompactionConfig of(const Table* table) {
    CompactionConfig config;
    if (table != nullptr) {
      config.after_ms = table->after_ms();
      config.tombstone_ms = table->tombstone_ms();
    }
    return config;
  }

  friend bool operator==(const CompactionConfig&, const CompactionConfig&) = default;
};

}  // namespace tidemark::partition
