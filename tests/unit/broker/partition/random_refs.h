// Random runs of batch references, as appends would make them.
#pragma once

#include "broker/partition/batch_ref.h"
#include "log/base/random.h"

namespace tidemark::partition {

// The reference after `previous`: often small steps, now and then extreme ones.
inline BatchRef next_ref(Random& random, const BatchRef& previous) {
  BatchRef ref;
  ref.base = previous.end();
  ref.count =
      static_cast<uint32_t>(random.chance(1, 8) ? random.between(1, 65'536) : random.between(1, 3));
  ref.bytes = static_cast<uint32_t>(random.between(61, 1'000'000));
  ref.position =
      previous.position + 8 * random.between(1, random.chance(1, 16) ? 1'000'000'000 : 100);
  ref.received_ms =
      previous.received_ms + static_cast<int64_t>(random.chance(1, 3) ? random.below(50) : 0);
  return ref;
}

}  // namespace tidemark::partition
