// What became of the positions of consumer groups. Events come in any order with their times; all
// that is known is judged at once, when a process of the broker has ended and the next one has
// read its log, and at the end.
//
// A shard applies the requests about a partition in the order in which they arrived. So the journal
// of a group and a partition is played again: with each request the positions that are possible
// then are those before, if it may have failed, and what it makes of them, if it may have been
// done.
//
//   I7  where a partition ends for readers never goes back
//   I8  a position goes back by a rewind or a reset only; after a restart it is not lower than what
//       was acknowledged; lag is never negative
//   I9  a commit is acknowledged under the present epoch only, and epochs never go back; every
//       message is delivered to each group at least once
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "log/base/ids.h"
#include "tests/simulation/member_model.h"

namespace tidemark::sim {

class GroupModel {
 public:
  enum class Kind : uint8_t { kCommit, kRewind, kReset };
  // kUnsure: may have been done, or be done later.
  enum class Answer : uint8_t { kOk, kFenced, kUnsure };

  struct Name {
    std::string group;
    PartitionId partition;

    friend auto operator<=>(const Name&, const Name&) = default;
  };

  // As an answer tells it.
  struct Recorded {
    Offset offset;
    uint32_t epoch = 0;
  };

  struct Look {
    std::optional<Offset> committed;
    uint32_t epoch = 0;
    Offset start;
    Offset end;
  };

  using Position = std::optional<Offset>;

  // --- positions
  // Gives the number of the commit.
  uint64_t commit_sent(const Name& name, Kind kind, uint32_t epoch, Offset offset);
  void commit_arrived(uint64_t commit, int64_t at_ns);
  void commit_answered(uint64_t commit, Answer answer, Recorded recorded, int64_t left_ns);
  // Answered when the question arrived.
  void looked(const Name& name, const Look& look, int64_t at_ns);
  // A member was told that it has the partition.
  void leased(const Name& name, uint32_t epoch, int64_t left_ns);
  // A consumer was told where the partition ends.
  void watermark(PartitionId partition, Offset end, int64_t sent_ns, int64_t left_ns);

  // --- messages
  void delivered(const Name& name, Offset offset);
  // Requires: all has been delivered that will be.
  void check_delivered(const Name& name, Offset start, Offset end) const;

  // --- the broker
  // Names that have been committed to, or leased, of partitions that were not deleted.
  [[nodiscard]] std::vector<Name> names() const;
  // What the next process has read. All before is judged.
  void recovered(const Name& name, Position position, uint32_t epoch);
  // All names were.
  void broker_started(int64_t at_ns);
  // Judges what is known now. Requires: no commit is under way.
  void check();
  void forget(TopicId topic);

  [[nodiscard]] MemberModel& members() { return members_; }

  struct Counters {
    uint64_t commits = 0;  // acknowledged, rewinds and resets included
    uint64_t rewinds = 0;
    uint64_t resets = 0;
    uint64_t fenced = 0;
    uint64_t looks = 0;
    uint64_t delivered = 0;
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Commit {
    Name name;
    Kind kind = Kind::kCommit;
    uint32_t epoch = 0;
    Offset offset;
    int64_t arrived_ns = INT64_MAX;
    std::optional<Answer> answer;
    Recorded recorded;
    int64_t left_ns = INT64_MAX;

    [[nodiscard]] bool certain() const { return answer.has_value() && *answer != Answer::kUnsure; }
  };

  struct TimedLook {
    int64_t at_ns = 0;
    Look look;
  };

  // Known of a journal after some of its commits.
  struct Point {
    std::set<Position> positions;  // possible ones
    uint32_t epoch = 0;            // at least
  };

  struct Journal {
    Point begin{{std::nullopt}, 0};
    std::vector<uint64_t> commits;  // as they arrived
    std::vector<TimedLook> looks;
    std::vector<std::pair<int64_t, uint32_t>> leases;  // told at, epoch
    // By offset; for ever.
    std::vector<bool> delivered;
    Offset skipped;  // a reset may have led over what lies before
  };

  struct Seen {
    int64_t sent_ns = 0;
    int64_t left_ns = 0;
    Offset end;
  };

  struct Watermarks {
    Offset floor;
    std::vector<Seen> seen;
  };

  Point replay(const Name& name, Journal& journal);
  void step(const Commit& commit, Point& point);
  void acknowledged(const Commit& commit, Point& point);
  void refused(const Commit& commit, Point& point);
  void check_looks(const Name& name, const Journal& journal, const std::vector<Point>& points);
  void check_look(const Name& name, const Journal& journal, const std::vector<Point>& points,
                  const TimedLook& look) const;
  void check_order_of_looks(const Name& name, const Journal& journal) const;
  void check_watermarks();
  [[nodiscard]] std::string describe(const Commit& commit) const;

  uint64_t next_commit_ = 1;
  std::map<uint64_t, Commit> commits_;  // of this process
  std::map<Name, Journal> journals_;
  std::map<PartitionId, Watermarks> watermarks_;
  std::set<TopicId> forgotten_;
  MemberModel members_;
  Counters counters_;
};

}  // namespace tidemark::sim
