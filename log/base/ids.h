// Strong types for the numbers that must not be mixed up. Conversion is explicit in both
// directions: `Offset{5}` and `offset.value()`. Comparison works within one type only.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace tidemark {

template <typename Tag, typename Rep>
class StrongId {
 public:
  using Representation = Rep;

  constexpr StrongId() = default;

  constexpr explicit StrongId(Rep value) : value_(value) {}

  [[nodiscard]] constexpr Rep value() const { return value_; }

  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  friend constexpr bool operator==(StrongId, StrongId) = default;

  // Distance arithmetic: id + n is an id; id - id is a plain number.
  friend constexpr StrongId operator+(StrongId a, Rep n) {
    return StrongId(static_cast<Rep>(a.value_ + n));
  }

  friend constexpr Rep operator-(StrongId a, StrongId b) {
    return static_cast<Rep>(a.value_ - b.value_);
  }

  constexpr StrongId& operator++() {
    ++value_;
    return *this;
  }

 private:
  Rep value_ = 0;
};

// Place of a message in a partition, dense from 0, assigned when the log entry is applied.
using Offset = StrongId<struct OffsetTag, uint64_t>;
// Byte address in a shard's replicated log: counts replicated entries only (header and padding
// included), so it is the same on every replica. Entry positions are multiples of 8.
using LogPosition = StrongId<struct LogPositionTag, uint64_t>;
// Raft log index, dense from 1; 0 means none.
using LogIndex = StrongId<struct LogIndexTag, uint64_t>;
using Term = StrongId<struct TermTag, uint64_t>;
using NodeId = StrongId<struct NodeIdTag, uint64_t>;
using ShardId = StrongId<struct ShardIdTag, uint16_t>;
// Never reused, also not after a topic with the same name was deleted; 0 means none.
using TopicId = StrongId<struct TopicIdTag, uint32_t>;
// Number of a partition within its topic, from 0.
using PartitionIndex = StrongId<struct PartitionIndexTag, uint32_t>;
// Never reused; 0 means none (not idempotent).
using ProducerId = StrongId<struct ProducerIdTag, uint64_t>;

// A partition of a topic, cluster wide.
struct PartitionId {
  TopicId topic;
  PartitionIndex index;

  friend constexpr auto operator<=>(const PartitionId&, const PartitionId&) = default;
};

}  // namespace tidemark

template <typename Tag, typename Rep>
struct std::hash<tidemark::StrongId<Tag, Rep>> {
  size_t operator()(tidemark::StrongId<Tag, Rep> id) const { return std::hash<Rep>{}(id.value()); }
};

template <>
struct std::hash<tidemark::PartitionId> {
  size_t operator()(const tidemark::PartitionId& id) const {
    const uint64_t both = (uint64_t{id.topic.value()} << 32) | id.index.value();
    return static_cast<size_t>(both * 0x9E3779B97F4A7C15ull);
  }
};
