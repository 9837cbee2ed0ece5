// What a wheel entry knows of its message besides due time, id and position: enough to deliver it
// without reading it.
//
//   bits 63-32 topic id    31-22 partition    21 special    20-0 bytes of its record batch
//
// Special: it has a key or recurs, so there is more about it in the tables of PendingDelays. The
// low half is the `tag` of receipts and handles.
#pragma once

#include <cstdint>

#include "log/base/ids.h"
#include "log/base/limits.h"

namespace tidemark::delay {

struct DelayTag {
  PartitionId partition;
  bool special = false;
  uint32_t bytes = 0;

  [[nodiscard]] constexpr uint32_t low() const {
    return (partition.index.value() << 22) | (uint32_t{special} << 21) | bytes;
  }

  [[nodiscard]] constexpr uint64_t packed() const {
    return (uint64_t{partition.topic.value()} << 32) | low();
  }

  static constexpr DelayTag unpack(uint64_t packed) {
    return {{TopicId{static_cast<uint32_t>(packed >> 32)},
             PartitionIndex{static_cast<uint32_t>(packed >> 22) & 0x3FF}},
            ((packed >> 21) & 1) != 0,
            static_cast<uint32_t>(packed) & 0x1F'FFFF};
  }

  static constexpr DelayTag unpack(TopicId topic, uint32_t low) {
    return unpack((uint64_t{topic.value()} << 32) | low);
  }
};

static_assert(limits::kPartitionsPerTopicMax <= 1u << 10);
static_assert(limits::kBatchBytesMax < 1u << 21);

}  // namespace tidemark::delay
