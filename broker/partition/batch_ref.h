// Where one record batch of a partition lies.
#pragma once

#include <cstdint>

#include "log/base/ids.h"

namespace tidemark::partition {

struct BatchRef {
  Offset base;
  uint32_t count = 0;    // messages; offsets [base, base + count)
  uint32_t bytes = 0;    // of the batch, its header included; 0: nothing is left of it
  LogPosition position;  // of the batch's first byte (inside its entry)
  int64_t received_ms = 0;

  [[nodiscard]] Offset end() const { return base + count; }

  // Compaction has left nothing of it: there is nothing to be read.
  [[nodiscard]] bool is_dead() const { return bytes == 0; }

  friend bool operator==(const BatchRef&, const BatchRef&) = default;
};

// A batch that compaction has changed: it lies elsewhere, or (no bytes) nothing is left of it.
struct MovedBatch {
  Offset base;
  LogPosition position;
  uint32_t bytes = 0;

  friend bool operator==(const MovedBatch&, const MovedBatch&) = default;
};

}  // namespace tidemark::partition
