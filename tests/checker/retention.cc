// I24: what retention may remove.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

using enum Field;

struct Policy {
  int64_t ms = -1;     // -1: none
  int64_t bytes = -1;  // -1: none
};

Policy policy_of(const Facts& facts, TextId topic) {
  const EventIndex event = facts.topic(topic);
  if (event == kNoEvent) {
    return {};
  }
  return {facts.history().find(event, kRetentionMs).value_or(-1),
          facts.history().find(event, kRetentionBytes).value_or(-1)};
}

// Bytes that are known to lie behind each sighting of a partition, by its offset.
std::vector<int64_t> bytes_behind(const Facts& facts, std::span<const Sighting> all) {
  const History& history = facts.history();
  std::vector<int64_t> behind(all.size(), 0);
  int64_t sum = 0;
  int64_t here = 0;
  for (size_t i = all.size(); i-- > 0;) {
    if (i + 1 < all.size() && all[i + 1].offset != all[i].offset) {
      sum += here;
      here = 0;
    }
    const Message* message = facts.find(all[i].uid);
    const EventIndex sent = message == nullptr ? kNoEvent : message->first;
    for (const EventIndex event : {all[i].event, sent}) {
      if (event != kNoEvent && history.has(event, kBytes)) {
        here = std::max(here, history.number(event, kBytes));
      }
    }
    behind[i] = sum;
  }
  return behind;
}

// `removed` shows that everything before its offset is gone.
void check_removal(const Facts& facts, EventIndex removed, Report& report) {
  const History& history = facts.history();
  const uint64_t start = history.unsigned_of(removed, kOffset);
  const PartitionIndex partition = facts.partition_of(removed);
  if (start == 0) {
    return;
  }
  report.judge(Invariant::kRetention);
  const Policy policy = policy_of(facts, facts.partitions()[partition].topic);
  const std::string where = facts.text_of(partition);
  if (policy.ms < 0 && policy.bytes < 0) {
    report.violate(Invariant::kRetention, where + " lost its beginning, and keeps all for ever",
                   {removed});
    return;
  }
  const std::optional<int64_t> now_ms = history.find(removed, kWallMs);
  const std::span<const Sighting> all = facts.from(partition, 0);
  const std::vector<int64_t> behind = bytes_behind(facts, all);
  for (size_t i = 0; i < all.size() && all[i].offset < start; ++i) {
    const Message* message = facts.find(all[i].uid);
    if (message == nullptr) {
      continue;
    }
    const std::optional<int64_t> sent_ms = history.find(message->first, kWallMs);
    const bool old = policy.ms >= 0 && (!now_ms.has_value() || !sent_ms.has_value() ||
                                        *now_ms - *sent_ms + facts.config(kSkewMs, 0) >= policy.ms);
    const bool pushed_out = policy.bytes >= 0 && behind[i] >= policy.bytes;
    if (!old && !pushed_out) {
      report.violate(Invariant::kRetention,
                     "uid " + std::to_string(message->uid) + " at " + where + " offset " +
                         std::to_string(all[i].offset) + " was removed too soon",
                     {message->first, removed});
      return;
    }
  }
}

}  // namespace

void check_retention(const Facts& facts, Report& report) {
  for (EventIndex event = 0; event < facts.history().size(); ++event) {
    const Op op = facts.history().at(event).op;
    if (op == Op::kTrim || op == Op::kDrainStart) {
      check_removal(facts, event, report);
    }
  }
}

}  // namespace tidemark::checker
