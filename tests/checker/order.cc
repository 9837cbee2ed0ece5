// I5; of I6 that a reader skips nothing, of I7 that a high watermark never falls.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

using enum Field;

// One reader in one partition.
struct Session {
  std::optional<uint64_t> last;      // read
  std::optional<uint64_t> expected;  // where the next read begins to look
  EventIndex last_event = kNoEvent;
  uint64_t high_watermark = 0;
  EventIndex watermark_event = kNoEvent;
};

class Readers {
 public:
  Readers(const Facts& facts, Report& report)
      : facts_(facts), history_(facts.history()), report_(report) {}

  void run() {
    for (EventIndex event = 0; event < history_.size(); ++event) {
      const Op op = history_.at(event).op;
      if (op == Op::kSeek) {
        seek(event);
      } else if (op == Op::kPoll) {
        poll(event);
      } else if (op == Op::kRead) {
        read(event);
      }
    }
  }

 private:
  Session& session_of(EventIndex event) {
    return sessions_[{history_.text_id(event, kProcess), history_.text_id(event, kSession),
                      facts_.partition_of(event)}];
  }

  void seek(EventIndex event) {
    Session& session = session_of(event);
    session.last.reset();
    session.expected.reset();
    session.last_event = event;
    if (history_.has(event, kOffset)) {
      session.expected = history_.unsigned_of(event, kOffset);
    }
  }

  void poll(EventIndex event) {
    Session& session = session_of(event);
    const uint64_t mark = history_.unsigned_of(event, kHighWatermark);
    report_.expect(mark >= session.high_watermark, Invariant::kReadStays,
                   [&] {
                     return "the high watermark of " + facts_.text_of(facts_.partition_of(event)) +
                            " fell from " + std::to_string(session.high_watermark) + " to " +
                            std::to_string(mark);
                   },
                   {session.watermark_event, event});
    const Partition& partition = facts_.partitions()[facts_.partition_of(event)];
    if (mark > partition.end) {
      report_.violate(
          Invariant::kReadStays,
          "the high watermark was above the end of " + facts_.text_of(facts_.partition_of(event)),
          {event, partition.end_event});
    }
    session.high_watermark = std::max(session.high_watermark, mark);
    session.watermark_event = event;
  }

  void read(EventIndex event) {
    Session& session = session_of(event);
    const PartitionIndex partition = facts_.partition_of(event);
    const uint64_t offset = history_.unsigned_of(event, kOffset);
    const bool forward = !session.last.has_value() || offset > *session.last;
    report_.expect(forward, Invariant::kOrder,
                   [&] {
                     return "a reader of " + facts_.text_of(partition) + " got offset " +
                            std::to_string(offset) + " behind offset " +
                            std::to_string(*session.last);
                   },
                   {session.last_event, event});
    if (forward && session.expected.has_value()) {
      const std::optional<uint64_t> skipped = drained_between(partition, *session.expected, offset);
      report_.expect(!skipped.has_value(), Invariant::kNoSkip,
                     [&] {
                       return "a reader of " + facts_.text_of(partition) + " got offset " +
                              std::to_string(offset) + " and not offset " +
                              std::to_string(*skipped);
                     },
                     {session.last_event, event});
    }
    session.last = offset;
    session.expected = offset + 1;
    session.last_event = event;
  }

  std::optional<uint64_t> drained_between(PartitionIndex partition, uint64_t from,
                                          uint64_t until) const {
    if (from >= until) {
      return std::nullopt;
    }
    for (const Sighting& one : facts_.from(partition, from)) {
      if (one.offset >= until) {
        break;
      }
      if (one.kind == Sighting::Kind::kDrain) {
        return one.offset;
      }
    }
    return std::nullopt;
  }

  const Facts& facts_;
  const History& history_;
  Report& report_;
  std::map<std::tuple<TextId, TextId, PartitionIndex>, Session> sessions_;
};

// Messages of one producer and partition lie in the order of their seq.
void check_sequences(const Facts& facts, Report& report) {
  const Sequenced* before = nullptr;
  uint64_t before_offset = 0;
  for (const Sequenced& one : facts.sequenced()) {
    const std::optional<uint64_t> offset = facts.place_of(facts.messages()[one.message]);
    if (!offset.has_value()) {
      continue;
    }
    if (before != nullptr && std::tuple(before->producer, before->partition, before->epoch) ==
                                 std::tuple(one.producer, one.partition, one.epoch)) {
      report.expect(*offset > before_offset, Invariant::kOrder,
                    [&] {
                      return "seq " + std::to_string(one.sequence) + " of producer " +
                             std::to_string(one.producer) + " is at " +
                             facts.text_of(one.partition) + " offset " + std::to_string(*offset) +
                             ", seq " + std::to_string(before->sequence) + " at " +
                             std::to_string(before_offset);
                    },
                    {facts.messages()[before->message].first, facts.messages()[one.message].first});
    }
    before = &one;
    before_offset = *offset;
  }
}

// What was acknowledged before another one was sent lies before it.
class RealTime {
 public:
  RealTime(const Facts& facts, Report& report)
      : facts_(facts),
        history_(facts.history()),
        report_(report),
        marks_(facts.partitions().size()) {}

  void run() {
    for (EventIndex event = 0; event < history_.size(); ++event) {
      const PartitionIndex partition =
          history_.at(event).op == Op::kSend ? facts_.partition_of(event) : kNoPartition;
      if (partition == kNoPartition) {
        continue;
      }
      if (history_.at(event).phase == Phase::kInvoke) {
        invoked(event, partition);
      } else if (history_.at(event).phase == Phase::kOk && history_.has(event, kOffset)) {
        acknowledged(event, partition);
      }
    }
  }

 private:
  struct Mark {
    int64_t t_ns = 0;
    uint64_t offset = 0;  // the largest one acknowledged up to then
    EventIndex event = kNoEvent;
  };

  void acknowledged(EventIndex event, PartitionIndex partition) {
    const uint64_t offset = history_.unsigned_of(event, kOffset);
    std::vector<Mark>& marks = marks_[partition];
    if (marks.empty() || offset > marks.back().offset) {
      marks.push_back({history_.at(event).t_ns, offset, event});
    }
  }

  void invoked(EventIndex event, PartitionIndex partition) {
    const Message& message = *facts_.find(history_.unsigned_of(event, kUid));
    const std::optional<uint64_t> offset = facts_.place_of(message);
    // Of events with the same time nobody knows which was first.
    auto mark = marks_[partition].rbegin();
    while (mark != marks_[partition].rend() && mark->t_ns >= history_.at(event).t_ns) {
      ++mark;
    }
    if (message.first != event || !message.plain() || !offset.has_value() ||
        mark == marks_[partition].rend()) {
      return;
    }
    report_.expect(*offset > mark->offset, Invariant::kOrder,
                   [&] {
                     return "uid " + std::to_string(message.uid) + " is at " +
                            facts_.text_of(partition) + " offset " + std::to_string(*offset) +
                            ", and was sent when offset " + std::to_string(mark->offset) +
                            " was acknowledged";
                   },
                   {mark->event, event});
  }

  const Facts& facts_;
  const History& history_;
  Report& report_;
  std::vector<std::vector<Mark>> marks_;  // by partition
};

}  // namespace

void check_order(const Facts& facts, Report& report) {
  Readers(facts, report).run();
  check_sequences(facts, report);
  RealTime(facts, report).run();
}

}  // namespace tidemark::checker
