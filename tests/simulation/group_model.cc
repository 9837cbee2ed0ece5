#include "tests/simulation/group_model.h"

#include <algorithm>

#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

std::string text_of(const GroupModel::Name& name) {
  return "group " + name.group + ", topic " + std::to_string(name.partition.topic.value()) +
         " partition " + std::to_string(name.partition.index.value());
}

std::string text_of(const GroupModel::Position& position) {
  return position.has_value() ? std::to_string(position->value()) : "none";
}

std::string text_of(const std::set<GroupModel::Position>& positions) {
  std::string text;
  for (const GroupModel::Position& position : positions) {
    text += (text.empty() ? "" : ", ") + text_of(position);
  }
  return text;
}

// An answer says 0 where nothing was committed.
Offset shown(const GroupModel::Position& position) { return position.value_or(Offset{0}); }

GroupModel::Position after(GroupModel::Kind kind, Offset offset,
                           const GroupModel::Position& before) {
  if (kind == GroupModel::Kind::kCommit && before.has_value()) {
    return std::max(*before, offset);
  }
  return offset;
}

}  // namespace

// --- events

uint64_t GroupModel::commit_sent(const Name& name, Kind kind, uint32_t epoch, Offset offset) {
  const uint64_t id = next_commit_++;
  commits_[id] = {name, kind, epoch, offset, INT64_MAX, std::nullopt, {}, INT64_MAX};
  return id;
}

void GroupModel::commit_arrived(uint64_t commit, int64_t at_ns) {
  const auto it = commits_.find(commit);
  if (it == commits_.end() || forgotten_.contains(it->second.name.partition.topic)) {
    return;
  }
  it->second.arrived_ns = at_ns;
  Journal& journal = journals_[it->second.name];
  journal.commits.push_back(commit);
  if (it->second.kind == Kind::kReset) {
    journal.skipped = std::max(journal.skipped, it->second.offset);
  }
}

void GroupModel::commit_answered(uint64_t commit, Answer answer, Recorded recorded,
                                 int64_t left_ns) {
  const auto it = commits_.find(commit);
  if (it == commits_.end()) {
    return;
  }
  it->second.answer = answer;
  it->second.recorded = recorded;
  it->second.left_ns = left_ns;
  if (answer == Answer::kOk) {
    ++counters_.commits;
    counters_.rewinds += it->second.kind == Kind::kRewind ? 1 : 0;
    counters_.resets += it->second.kind == Kind::kReset ? 1 : 0;
  }
  counters_.fenced += answer == Answer::kFenced ? 1 : 0;
}

void GroupModel::looked(const Name& name, const Look& look, int64_t at_ns) {
  if (forgotten_.contains(name.partition.topic)) {
    return;
  }
  ++counters_.looks;
  require(look.end >= std::max(look.start, look.committed.value_or(Offset{})), [&] {
    return "I8: lag is negative: " + text_of(name) + " begins at " +
           std::to_string(look.start.value()) + ", is read up to " + text_of(look.committed) +
           " and ends at " + std::to_string(look.end.value());
  });
  journals_[name].looks.push_back({at_ns, look});
  watermark(name.partition, look.end, at_ns, at_ns);
}

void GroupModel::leased(const Name& name, uint32_t epoch, int64_t left_ns) {
  if (!forgotten_.contains(name.partition.topic)) {
    journals_[name].leases.emplace_back(left_ns, epoch);
  }
}

void GroupModel::watermark(PartitionId partition, Offset end, int64_t sent_ns, int64_t left_ns) {
  if (!forgotten_.contains(partition.topic)) {
    watermarks_[partition].seen.push_back({sent_ns, left_ns, end});
  }
}

void GroupModel::delivered(const Name& name, Offset offset) {
  if (forgotten_.contains(name.partition.topic)) {
    return;
  }
  std::vector<bool>& delivered = journals_[name].delivered;
  if (delivered.size() <= offset.value()) {
    delivered.resize(offset.value() + 1);
  }
  counters_.delivered += delivered[offset.value()] ? 0 : 1;
  delivered[offset.value()] = true;
}

void GroupModel::forget(TopicId topic) {
  forgotten_.insert(topic);
  std::erase_if(journals_, [&](const auto& entry) { return entry.first.partition.topic == topic; });
  std::erase_if(watermarks_, [&](const auto& entry) { return entry.first.topic == topic; });
}

std::vector<GroupModel::Name> GroupModel::names() const {
  std::vector<Name> names;
  for (const auto& [name, journal] : journals_) {
    names.push_back(name);
  }
  return names;
}

// --- judging

std::string GroupModel::describe(const Commit& commit) const {
  static constexpr const char* kKinds[] = {"commit", "rewind", "reset"};
  return std::string(kKinds[static_cast<size_t>(commit.kind)]) + " to " +
         std::to_string(commit.offset.value()) + " in epoch " + std::to_string(commit.epoch) +
         ", arrived at " + std::to_string(commit.arrived_ns) + ", answered " +
         std::to_string(commit.recorded.offset.value()) + " in epoch " +
         std::to_string(commit.recorded.epoch) + ": " + text_of(commit.name);
}

void GroupModel::acknowledged(const Commit& commit, Point& point) {
  const Recorded& recorded = commit.recorded;
  if (commit.kind == Kind::kReset) {
    require(recorded.epoch > point.epoch, [&] {
      return "I9: a reset that fences nobody in epoch " + std::to_string(point.epoch) + ": " +
             describe(commit);
    });
  } else {
    require(commit.epoch >= point.epoch && recorded.epoch == commit.epoch, [&] {
      return "I9: acknowledged, although the epoch is at least " + std::to_string(point.epoch) +
             ": " + describe(commit);
    });
  }
  const bool possible =
      std::any_of(point.positions.begin(), point.positions.end(), [&](const Position& before) {
        return after(commit.kind, commit.offset, before) == recorded.offset;
      });
  require(possible, [&] {
    return "I8: possible were " + text_of(point.positions) + ": " + describe(commit);
  });
  point = {{recorded.offset}, recorded.epoch};
}

void GroupModel::refused(const Commit& commit, Point& point) {
  require(commit.kind != Kind::kReset,
          [&] { return "I9: a reset was fenced: " + describe(commit); });
  require(commit.recorded.epoch > commit.epoch && commit.recorded.epoch >= point.epoch, [&] {
    return "I9: fenced, although the epoch was at least " + std::to_string(point.epoch) + ": " +
           describe(commit);
  });
  std::erase_if(point.positions, [&](const Position& position) {
    return shown(position) != commit.recorded.offset;
  });
  require(!point.positions.empty(),
          [&] { return "I8: not a possible position: " + describe(commit); });
  point.epoch = commit.recorded.epoch;
}

void GroupModel::step(const Commit& commit, Point& point) {
  if (commit.certain()) {
    return *commit.answer == Answer::kOk ? acknowledged(commit, point) : refused(commit, point);
  }
  if (commit.kind != Kind::kReset && commit.epoch < point.epoch) {
    return;  // whatever became of it, it did nothing
  }
  std::set<Position> more;
  for (const Position& before : point.positions) {
    more.insert(after(commit.kind, commit.offset, before));
  }
  point.positions.merge(more);
}

GroupModel::Point GroupModel::replay(const Name& name, Journal& journal) {
  std::stable_sort(journal.looks.begin(), journal.looks.end(),
                   [](const TimedLook& a, const TimedLook& b) { return a.at_ns < b.at_ns; });
  std::sort(journal.leases.begin(), journal.leases.end());
  std::vector<Point> points = {journal.begin};
  size_t look = 0;
  size_t lease = 0;
  const auto know = [&](Point& point, int64_t before_ns) {
    for (; look < journal.looks.size() && journal.looks[look].at_ns < before_ns; ++look) {
      point.epoch = std::max(point.epoch, journal.looks[look].look.epoch);
    }
    for (; lease < journal.leases.size() && journal.leases[lease].first < before_ns; ++lease) {
      point.epoch = std::max(point.epoch, journal.leases[lease].second);
    }
  };
  for (const uint64_t id : journal.commits) {
    const Commit& commit = commits_.at(id);
    Point point = points.back();
    know(point, commit.arrived_ns);
    step(commit, point);
    points.push_back(std::move(point));
  }
  check_looks(name, journal, points);
  Point last = points.back();
  know(last, INT64_MAX);
  return last;
}

void GroupModel::check_looks(const Name& name, const Journal& journal,
                             const std::vector<Point>& points) {
  for (const TimedLook& look : journal.looks) {
    check_look(name, journal, points, look);
  }
  check_order_of_looks(name, journal);
}

// It saw what some of the commits made: all that were answered before it, none that came after.
void GroupModel::check_look(const Name& name, const Journal& journal,
                            const std::vector<Point>& points, const TimedLook& look) const {
  size_t first = 0;
  size_t last = 0;
  for (size_t i = 0; i < journal.commits.size(); ++i) {
    const Commit& commit = commits_.at(journal.commits[i]);
    first = commit.certain() && commit.left_ns < look.at_ns ? i + 1 : first;
    last = commit.arrived_ns <= look.at_ns ? i + 1 : last;
  }
  bool possible = false;
  for (size_t i = first; i <= last; ++i) {
    possible = possible || points[i].positions.contains(look.look.committed);
  }
  require(possible, [&] {
    return "I8: " + text_of(name) + " at " + std::to_string(look.at_ns) + " shows " +
           text_of(look.look.committed) + ", possible was " + text_of(points[last].positions);
  });
  uint32_t epoch = points[first].epoch;
  for (const auto& [told_ns, leased] : journal.leases) {
    epoch = told_ns < look.at_ns ? std::max(epoch, leased) : epoch;
  }
  require(look.look.epoch >= epoch, [&] {
    return "I9: " + text_of(name) + " shows epoch " + std::to_string(look.look.epoch) + " after " +
           std::to_string(epoch);
  });
}

// Between two looks without a rewind or a reset nothing goes back, whatever is known of commits.
void GroupModel::check_order_of_looks(const Name& name, const Journal& journal) const {
  for (size_t i = 1; i < journal.looks.size(); ++i) {
    const TimedLook& before = journal.looks[i - 1];
    const TimedLook& now = journal.looks[i];
    const bool excused =
        std::any_of(journal.commits.begin(), journal.commits.end(), [&](uint64_t id) {
          const Commit& commit = commits_.at(id);
          return commit.kind != Kind::kCommit && commit.arrived_ns <= now.at_ns &&
                 (!commit.certain() || commit.left_ns >= before.at_ns);
        });
    require(excused || now.look.committed >= before.look.committed, [&] {
      return "I8: " + text_of(name) + " went back from " + text_of(before.look.committed) + " to " +
             text_of(now.look.committed);
    });
    require(now.look.epoch >= before.look.epoch && now.look.start >= before.look.start,
            [&] { return "I9: " + text_of(name) + ": the epoch or the start went back"; });
  }
}

void GroupModel::check_watermarks() {
  for (auto& [partition, marks] : watermarks_) {
    std::vector<Seen> by_end = marks.seen;  // in the order in which answers left
    std::sort(by_end.begin(), by_end.end(),
              [](const Seen& a, const Seen& b) { return a.left_ns < b.left_ns; });
    std::sort(marks.seen.begin(), marks.seen.end(),
              [](const Seen& a, const Seen& b) { return a.sent_ns < b.sent_ns; });
    size_t known = 0;
    for (const Seen& seen : marks.seen) {
      for (; known < by_end.size() && by_end[known].left_ns < seen.sent_ns; ++known) {
        marks.floor = std::max(marks.floor, by_end[known].end);
      }
      require(seen.end >= marks.floor, [&] {
        return "I7: topic " + std::to_string(partition.topic.value()) + " partition " +
               std::to_string(partition.index.value()) + " ended at " +
               std::to_string(marks.floor.value()) + ", later at " +
               std::to_string(seen.end.value());
      });
    }
    for (; known < by_end.size(); ++known) {
      marks.floor = std::max(marks.floor, by_end[known].end);
    }
    marks.seen.clear();
  }
}

void GroupModel::recovered(const Name& name, Position position, uint32_t epoch) {
  if (forgotten_.contains(name.partition.topic)) {
    return;
  }
  const auto it = journals_.find(name);
  if (it == journals_.end()) {
    require(!position.has_value(), [&] {
      return "I8: nobody committed " + text_of(position) +
             ", which is there after a restart: " + text_of(name);
    });
    return;
  }
  Journal& journal = it->second;
  const Point last = replay(name, journal);
  require(last.positions.contains(position), [&] {
    return "I8: after a restart the position is " + text_of(position) + ", possible was " +
           text_of(last.positions) + ": " + text_of(name);
  });
  require(epoch >= last.epoch, [&] {
    return "I9: after a restart the epoch is " + std::to_string(epoch) + ", it was " +
           std::to_string(last.epoch) + ": " + text_of(name);
  });
  journal.begin = {{position}, epoch};
  journal.commits.clear();
  journal.looks.clear();
  journal.leases.clear();
}

void GroupModel::broker_started(int64_t at_ns) {
  check_watermarks();
  // What is left is about partitions that are not open yet.
  for (auto& [name, journal] : journals_) {
    for (const uint64_t id : journal.commits) {
      require(!commits_.at(id).certain(), [&] {
        return "I8: the partition is gone after a restart: " + describe(commits_.at(id));
      });
    }
    journal.commits.clear();
  }
  commits_.clear();
  members_.broker_started(at_ns);
}

void GroupModel::check() {
  check_watermarks();
  members_.check();
  for (auto& [name, journal] : journals_) {
    journal.begin = replay(name, journal);
    for (const uint64_t id : journal.commits) {
      commits_.erase(id);
    }
    journal.commits.clear();
    journal.looks.clear();
    journal.leases.clear();
  }
}

void GroupModel::check_delivered(const Name& name, Offset start, Offset end) const {
  const auto it = journals_.find(name);
  for (Offset offset = start; offset < end; ++offset) {
    const bool done =
        it != journals_.end() &&
        (offset < it->second.skipped ||
         (offset.value() < it->second.delivered.size() && it->second.delivered[offset.value()]));
    require(done, [&] {
      return "I9: never delivered: " + text_of(name) + " offset " + std::to_string(offset.value());
    });
  }
}

}  // namespace tidemark::sim
