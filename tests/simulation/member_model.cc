#include "tests/simulation/member_model.h"

#include <algorithm>

#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// Surely before anything is given to others after a start.
constexpr int64_t kClaimsNs = 2'500 * kNsPerMs;

std::string text_of(const MemberModel::Share& share) {
  return "topic " + std::to_string(share.partition.topic.value()) + " partition " +
         std::to_string(share.partition.index.value()) + " in epoch " + std::to_string(share.epoch);
}

}  // namespace

uint64_t MemberModel::sent(Beat beat) {
  const uint64_t id = next_++;
  records_[id].beat = std::move(beat);
  return id;
}

void MemberModel::arrived(uint64_t id, int64_t at_ns) {
  if (const auto it = records_.find(id); it != records_.end()) {
    it->second.arrived_ns = at_ns;
  }
}

void MemberModel::answered(uint64_t id, Answer answer, const testing::HeartbeatResult& result,
                           int64_t left_ns) {
  const auto it = records_.find(id);
  if (it == records_.end()) {
    return;
  }
  it->second.answer = answer;
  it->second.result = result;
  it->second.left_ns = left_ns;
  counters_.beats += answer == Answer::kOk ? 1 : 0;
  counters_.fenced += answer == Answer::kFenced ? 1 : 0;
}

void MemberModel::broker_started(int64_t at_ns) {
  check();
  records_.clear();
  groups_.clear();
  started_ns_ = at_ns;
}

void MemberModel::check() {
  struct Point {
    int64_t at_ns;
    bool answer;  // after what arrived at the same time
    uint64_t id;

    auto operator<=>(const Point&) const = default;
  };

  std::vector<Point> points;
  for (const auto& [id, record] : records_) {
    if (record.arrived_ns >= 0) {
      points.push_back({record.arrived_ns, false, id});
    }
    if (record.answer.has_value()) {
      points.push_back({record.left_ns, true, id});
    }
  }
  std::sort(points.begin(), points.end());
  for (const Point& point : points) {
    const Record& record = records_.at(point.id);
    point.answer ? on_answer(record) : on_arrival(record);
  }
  std::erase_if(records_, [](const auto& entry) { return entry.second.answer.has_value(); });
}

void MemberModel::on_arrival(const Record& record) {
  const Beat& beat = record.beat;
  Group& group = groups_[beat.group];
  Member& member = group[beat.member];
  if (record.arrived_ns - member.heard_ns >= int64_t{member.session_ms} * kNsPerMs) {
    member.told.clear();  // it may have been given up
    member.works_on.clear();
  }
  for (auto& [name, other] : group) {
    if (name != beat.member && !beat.instance.empty() && other.instance == beat.instance) {
      other.told.clear();
      other.works_on.clear();
    }
  }
  std::erase_if(member.works_on, [&](const auto& work) {
    return beat.leave || std::none_of(beat.owned.begin(), beat.owned.end(), [&](const Share& own) {
             return own.partition == work.first;
           });
  });
  const bool heard = record.answer.has_value() && *record.answer == Answer::kOk && !beat.leave;
  if (!heard) {
    return;
  }
  member.instance = beat.instance;
  member.heard_ns = record.arrived_ns;
  member.session_ms = beat.session_ms;
  for (const Share& own : beat.owned) {
    claim(record, group, own);
  }
}

void MemberModel::claim(const Record& record, Group& group, const Share& share) {
  Member& member = group[record.beat.member];
  bool works = member.told.contains(share) || record.arrived_ns - started_ns_ < kClaimsNs;
  for (auto& [name, other] : group) {
    const auto work = other.works_on.find(share.partition);
    if (name == record.beat.member || work == other.works_on.end()) {
      continue;
    }
    if (work->second < share.epoch) {
      other.works_on.erase(work);  // the higher epoch wins
    } else {
      works = false;  // it may have been told before the other one claimed it
    }
  }
  if (works) {
    member.works_on[share.partition] = share.epoch;
  }
}

void MemberModel::on_answer(const Record& record) {
  Group& group = groups_[record.beat.group];
  Member& member = group[record.beat.member];
  if (*record.answer == Answer::kFenced) {
    require(!record.beat.instance.empty(),
            "I9: a member without an instance was replaced: " + record.beat.member);
    member.told.clear();
    member.works_on.clear();
    return;
  }
  if (*record.answer != Answer::kOk) {
    return;
  }
  if (!record.beat.leave) {
    check_generation(record, member);
  }
  for (const Share& share : record.result.assigned) {
    const auto [holder, fresh] = holders_.emplace(
        std::tuple(record.beat.group, share.partition, share.epoch), record.beat.member);
    counters_.leases += fresh ? 1 : 0;
    require(holder->second == record.beat.member,
            "I9: two members of group " + record.beat.group + ", " + holder->second + " and " +
                record.beat.member + ", have " + text_of(share));
    check_free(record, group, share);
    member.told.insert(share);
  }
}

void MemberModel::check_generation(const Record& record, Member& member) {
  std::vector<Share> told = record.result.assigned;
  std::sort(told.begin(), told.end());
  for (size_t i = 1; i < told.size(); ++i) {
    require(told[i - 1].partition != told[i].partition,
            "I9: told twice to " + record.beat.member + ": " + text_of(told[i]));
  }
  require(record.result.generation >= member.generation,
          "I9: the generation of " + record.beat.member + " went back to " +
              std::to_string(record.result.generation));
  require(told == member.last_told || record.result.generation > member.generation,
          "I9: " + record.beat.member + " was told something else in generation " +
              std::to_string(member.generation));
  member.generation = record.result.generation;
  member.last_told = std::move(told);
}

void MemberModel::check_free(const Record& record, const Group& group, const Share& share) const {
  for (const auto& [name, other] : group) {
    const bool live = record.left_ns - other.heard_ns < int64_t{other.session_ms} * kNsPerMs;
    require(name == record.beat.member || !live || !other.works_on.contains(share.partition),
            "I9: given to " + record.beat.member + " at " + std::to_string(record.left_ns) +
                ", while " + name + " works on it: " + text_of(share));
  }
}

}  // namespace tidemark::sim
