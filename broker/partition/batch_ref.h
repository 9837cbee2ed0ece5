// Where one record batch of a partition lies.
#pragma once

#include <cstdint>

#include "log/base/ids.h"

namespace tidemark::partition {

struct BatchRef {
  Offset base;
  uint32_t count = 0;    // messages; offsets [base, base + count)
  uint32_t bytes = 0;    // of the batch, its header included
  LogPosition position;  // of the batch's first byte (inside its entry)
  int64_t received_ms = 0;

  [[nodiscard]] Offset end() const { return base + count; }

  friend bool operator==(const BatchRef&, const BatchRef&) = default;
};

}  // namespace tidemark::partition
