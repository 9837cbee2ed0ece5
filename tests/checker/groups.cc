// I8 to I10: positions, members and progress of groups.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

using enum Field;

// A group in one partition, in the order of time.
struct Journal {
  // No later look may find a lower position.
  std::optional<uint64_t> floor;
  EventIndex floor_event = kNoEvent;
  // No look may find a higher one: nobody asked for it.
  std::optional<uint64_t> ceiling;
  // Resets that may be done now or later.
  std::set<std::pair<uint64_t, EventIndex>> resets;
  // The last one that ended; what began before may have been done before it.
  int64_t reset_ns = INT64_MIN;
  uint64_t reset_offset = 0;
  // Looks that are under way, with what they may not go below.
  std::map<EventIndex, std::optional<uint64_t>> looks;
  // The highest generation that a member was seen in, and since when.
  std::vector<std::pair<int64_t, EventIndex>> generations;

  void lower(uint64_t offset) {
    if (floor.has_value()) {
      floor = std::min(*floor, offset);
    }
    for (auto& [look, least] : looks) {
      if (least.has_value()) {
        least = std::min(*least, offset);
      }
    }
  }

  // The position was at least `offset` at some time after `since_ns`.
  void raise(uint64_t offset, int64_t since_ns, EventIndex event) {
    if (!resets.empty()) {
      offset = std::min(offset, resets.begin()->first);
    }
    if (since_ns <= reset_ns) {
      offset = std::min(offset, reset_offset);
    }
    if (!floor.has_value() || offset > *floor) {
      floor = offset;
      floor_event = event;
    }
  }
};

class Positions {
 public:
  Positions(const Facts& facts, Report& report)
      : facts_(facts), history_(facts.history()), report_(report) {}

  void run() {
    for (EventIndex event = 0; event < history_.size(); ++event) {
      const Phase phase = history_.at(event).phase;
      const Op op = history_.at(event).op;
      if (op == Op::kAssign) {
        assigned(event);
      } else if (op == Op::kOffsetCommit) {
        phase == Phase::kInvoke ? note_asked(event) : commit_answered(event, phase);
      } else if (op == Op::kOffsetReset) {
        phase == Phase::kInvoke ? reset_sent(event) : reset_answered(event, phase);
      } else if (op == Op::kOffsetFetch) {
        phase == Phase::kInvoke ? look(event) : looked(event, phase);
      }
    }
  }

 private:
  Journal& journal_of(EventIndex invoke) {
    return journals_[{history_.text_id(invoke, kGroup), facts_.partition_of(invoke)}];
  }

  [[nodiscard]] std::string name_of(EventIndex invoke) const {
    return "group " + std::string(history_.text(invoke, kGroup)) + " in " +
           facts_.text_of(facts_.partition_of(invoke));
  }

  void assigned(EventIndex event) {
    const int64_t generation = history_.number(event, kGeneration);
    const auto [owner, first] = owners_.emplace(
        std::tuple(history_.text_id(event, kGroup), facts_.partition_of(event), generation), event);
    report_.expect(history_.text_id(owner->second, kMember) == history_.text_id(event, kMember),
                   Invariant::kGroupCoverage,
                   [&] {
                     return name_of(event) + ": two members in generation " +
                            std::to_string(generation);
                   },
                   {owner->second, event});
    auto& generations = journal_of(event).generations;
    if (generations.empty() ||
        generation > history_.number(generations.back().second, kGeneration)) {
      generations.emplace_back(history_.at(event).t_ns, event);
    }
  }

  void note_asked(EventIndex invoke) {
    Journal& journal = journal_of(invoke);
    const uint64_t offset = history_.unsigned_of(invoke, kOffset);
    journal.ceiling = std::max(journal.ceiling.value_or(0), offset);
  }

  void commit_answered(EventIndex end, Phase phase) {
    const EventIndex invoke = history_.at(end).partner;
    if (phase != Phase::kOk) {
      return;
    }
    Journal& journal = journal_of(invoke);
    journal.raise(history_.unsigned_of(invoke, kOffset), history_.at(invoke).t_ns, end);
    if (!history_.has(invoke, kGeneration)) {
      return;
    }
    EventIndex newer = kNoEvent;
    for (const auto& [since_ns, event] : journal.generations) {
      if (since_ns < history_.at(invoke).t_ns &&
          history_.number(event, kGeneration) > history_.number(invoke, kGeneration)) {
        newer = event;
      }
    }
    report_.expect(newer == kNoEvent, Invariant::kGroupCoverage,
                   [&] { return name_of(invoke) + ": a commit of an old generation was taken"; },
                   {newer, invoke, end});
  }

  void reset_sent(EventIndex invoke) {
    Journal& journal = journal_of(invoke);
    note_asked(invoke);
    const uint64_t offset = history_.unsigned_of(invoke, kOffset);
    journal.resets.emplace(offset, invoke);
    journal.lower(offset);
  }

  void reset_answered(EventIndex end, Phase phase) {
    const EventIndex invoke = history_.at(end).partner;
    if (phase == Phase::kInfo) {
      return;  // it may still be done
    }
    Journal& journal = journal_of(invoke);
    const uint64_t offset = history_.unsigned_of(invoke, kOffset);
    journal.resets.erase({offset, invoke});
    if (phase == Phase::kOk) {
      journal.raise(offset, history_.at(invoke).t_ns, end);
      journal.reset_offset = journal.reset_ns >= history_.at(invoke).t_ns
                                 ? std::min(journal.reset_offset, offset)
                                 : offset;
      journal.reset_ns = history_.at(end).t_ns;
    }
  }

  void look(EventIndex invoke) {
    Journal& journal = journal_of(invoke);
    journal.looks.emplace(invoke, journal.floor);
  }

  void looked(EventIndex end, Phase phase) {
    const EventIndex invoke = history_.at(end).partner;
    Journal& journal = journal_of(invoke);
    const std::optional<uint64_t> least = journal.looks.at(invoke);
    journal.looks.erase(invoke);
    if (phase != Phase::kOk) {
      return;
    }
    const auto found = history_.find(end, kOffset);
    const bool back =
        least.has_value() && (!found.has_value() || static_cast<uint64_t>(*found) < *least);
    const bool ahead = found.has_value() && journal.ceiling.has_value() &&
                       static_cast<uint64_t>(*found) > *journal.ceiling;
    report_.expect(
        !back && !ahead, Invariant::kPositionsNeverGoBack,
        [&] {
          return name_of(invoke) +
                 (found.has_value() ? " is at " + std::to_string(*found) : " has no position") +
                 (back ? ", it was at " + std::to_string(*least) : ", nobody set it so high");
        },
        {back ? journal.floor_event : kNoEvent, end});
    if (found.has_value() && !ahead) {
      journal.raise(static_cast<uint64_t>(*found), history_.at(invoke).t_ns, end);
    }
  }

  const Facts& facts_;
  const History& history_;
  Report& report_;
  std::map<std::pair<TextId, PartitionIndex>, Journal> journals_;
  std::map<std::tuple<TextId, PartitionIndex, int64_t>, EventIndex> owners_;
};

// What groups were given, and whether that is all.
class Coverage {
 public:
  Coverage(const Facts& facts, Report& report)
      : facts_(facts), history_(facts.history()), report_(report) {}

  void run() {
    for (EventIndex event = 0; event < history_.size(); ++event) {
      if (history_.at(event).op == Op::kRead && history_.has(event, kGroup)) {
        given_.emplace_back(history_.text_id(event, kGroup), facts_.partition_of(event),
                            history_.unsigned_of(event, kOffset));
      } else if (history_.at(event).op == Op::kHeal) {
        healed_ns_ = history_.at(event).t_ns;
      }
    }
    std::sort(given_.begin(), given_.end());
    for (EventIndex event = 0; event < history_.size(); ++event) {
      if (history_.at(event).op == Op::kGroupFinal) {
        check(event);
      }
    }
  }

 private:
  void check(EventIndex event) {
    const PartitionIndex partition = facts_.partition_of(event);
    const auto from = static_cast<uint64_t>(history_.find(event, kFrom).value_or(0));
    const uint64_t position = history_.unsigned_of(event, kOffset);
    const std::string name =
        "group " + std::string(history_.text(event, kGroup)) + " in " + facts_.text_of(partition);
    EventIndex missed = kNoEvent;
    EventIndex behind = kNoEvent;
    for (const Sighting& one : facts_.from(partition, from)) {
      if (one.kind != Sighting::Kind::kDrain) {
        continue;
      }
      if (one.offset >= position) {
        behind = one.event;
        break;
      }
      report_.judge(Invariant::kGroupCoverage);
      if (!std::binary_search(given_.begin(), given_.end(),
                              std::tuple(history_.text_id(event, kGroup), partition, one.offset))) {
        missed = missed == kNoEvent ? one.event : missed;
      }
    }
    if (missed != kNoEvent) {
      report_.violate(
          Invariant::kGroupCoverage,
          name + " was never given offset " + std::to_string(history_.unsigned_of(missed, kOffset)),
          {missed, event});
    }
    if (history_.find(event, kMembers).value_or(1) == 0) {
      return;
    }
    const int64_t late_ns = healed_ns_ == INT64_MIN ? 0 : history_.at(event).t_ns - healed_ns_;
    const bool late = late_ns > facts_.config(kProgressMs, 30'000) * 1'000'000;
    report_.expect(behind == kNoEvent && !late, Invariant::kGroupProgress,
                   [&] {
                     return behind != kNoEvent
                                ? name + " did not get to the end"
                                : name + " took " + std::to_string(late_ns / 1'000'000) +
                                      " ms to catch up";
                   },
                   {event, behind});
  }

  const Facts& facts_;
  const History& history_;
  Report& report_;
  std::vector<std::tuple<TextId, PartitionIndex, uint64_t>> given_;
  int64_t healed_ns_ = INT64_MIN;
};

}  // namespace

void check_groups(const Facts& facts, Report& report) {
  Positions(facts, report).run();
  Coverage(facts, report).run();
}

}  // namespace tidemark::checker
