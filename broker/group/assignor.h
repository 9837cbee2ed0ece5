// Assignor: which member of a consumer group is to have which partition. A pure function.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tidemark::group {

inline constexpr uint32_t kNobody = UINT32_MAX;

// Topics of a member, numbered from 0 without large gaps; ascending, each once.
using Subscription = std::span<const uint32_t>;

struct Assignable {
  uint32_t topic = 0;
  uint32_t present = kNobody;  // number of the member that has it
  // False: it is on its way from `present`, or not yet there, so that its move to someone else
  // interrupts nobody.
  bool firm = true;
};

// For every partition the number of the member that is to have it; kNobody: none subscribes to its
// topic. Members are numbered by their place in `members`.
//
// What holds: loads of members with the same subscription differ by at most one. No partition could
// go from its member to another one that subscribes to its topic and has two fewer.
// Sticky: who subscribes to its topic keeps a partition unless the loads require a move; where all
// have the same subscription, no assignment with such loads has fewer moves. Partitions that are
// not firm go first. Deterministic.
std::vector<uint32_t> assign(const std::vector<Subscription>& members,
                             const std::vector<Assignable>& partitions);

}  // namespace tidemark::group
