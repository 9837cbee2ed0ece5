// I20: what a queue gives out, and what becomes of it.
#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

using enum Field;

// A message in the queue of a group.
struct Queued {
  EventIndex acked = kNoEvent;    // end that was ok; of an ack or a move to the dead letters
  EventIndex settled = kNoEvent;  // invocation of one that may have been done
  EventIndex dead = kNoEvent;
  EventIndex leased = kNoEvent;  // the last time
  // An ack that was ok and while which nobody else was given the message.
  EventIndex acked_alone = kNoEvent;
};

class Queues {
 public:
  Queues(const Facts& facts, Report& report)
      : facts_(facts), history_(facts.history()), report_(report) {}

  void run() {
    for (EventIndex event = 0; event < history_.size(); ++event) {
      take(event);
    }
    for (auto& [queue, ranges] : settled_) {
      std::sort(ranges.begin(), ranges.end());
      check_kept(queue.first, queue.second, ranges);
    }
  }

 private:
  struct Range {
    uint64_t from = 0;
    uint64_t until = 0;
    EventIndex event = kNoEvent;

    friend auto operator<=>(const Range&, const Range&) = default;
  };

  using Name = std::tuple<TextId, PartitionIndex, uint64_t>;

  [[nodiscard]] Name name_of(EventIndex event) const {
    return {history_.text_id(event, kGroup), facts_.partition_of(event),
            history_.unsigned_of(event, kOffset)};
  }

  [[nodiscard]] std::string text_of(const Name& name) const {
    return facts_.text_of(std::get<1>(name)) + " offset " + std::to_string(std::get<2>(name)) +
           " of group " + std::string(history_.text_of(std::get<0>(name)));
  }

  void take(EventIndex event);
  void leased(EventIndex event);
  void died(EventIndex event);
  void check_kept(TextId group, PartitionIndex partition, const std::vector<Range>& ranges);

  const Facts& facts_;
  const History& history_;
  Report& report_;
  std::map<Name, Queued> queued_;
  std::map<std::pair<TextId, PartitionIndex>, std::vector<Range>> settled_;
  std::map<std::pair<TextId, PartitionIndex>, uint64_t> begins_;
};

void Queues::take(EventIndex event) {
  const Event& one = history_.at(event);
  if (one.op == Op::kLease) {
    leased(event);
  } else if (one.op == Op::kDead) {
    died(event);
  } else if (one.op == Op::kQueueFinal) {
    const std::pair queue(history_.text_id(event, kGroup), facts_.partition_of(event));
    settled_[queue].push_back(
        {history_.unsigned_of(event, kOffset), history_.unsigned_of(event, kEnd), event});
    if (history_.has(event, kFrom)) {
      begins_[queue] = history_.unsigned_of(event, kFrom);
    }
  } else if (one.op == Op::kSettle && one.phase == Phase::kInvoke) {
    const std::string_view how = history_.text(event, kHow);
    if ((how == "ack" || how == "dead") && history_.outcome(event) != Phase::kFail) {
      queued_[name_of(event)].settled = event;
    }
  } else if (one.op == Op::kSettle && one.phase == Phase::kOk) {
    const std::string_view how = history_.text(one.partner, kHow);
    if (how == "ack" || how == "dead") {
      Queued& queued = queued_[name_of(one.partner)];
      queued.acked = event;
      const bool others = queued.leased != kNoEvent &&
                          history_.at(queued.leased).t_ns > history_.at(one.partner).t_ns;
      if (how == "ack" && !others) {
        queued.acked_alone = event;
      }
    }
  }
}

void Queues::leased(EventIndex event) {
  const Name name = name_of(event);
  const EventIndex acked = queued_[name].acked;
  queued_[name].leased = event;
  report_.expect(acked == kNoEvent || history_.at(acked).t_ns == history_.at(event).t_ns,
                 Invariant::kSettledOnce,
                 [&] { return text_of(name) + " came again after it was settled"; },
                 {acked, event});
  const EventIndex topic = facts_.topic(history_.text_id(event, kTopicName));
  if (topic == kNoEvent || !history_.has(topic, kMaxDeliveries) ||
      history_.number(topic, kMaxDeliveries) == 0 || !history_.has(event, kDeliveries)) {
    return;
  }
  report_.expect(history_.number(event, kDeliveries) <= history_.number(topic, kMaxDeliveries),
                 Invariant::kSettledOnce,
                 [&] {
                   return text_of(name) + " was delivered " +
                          std::to_string(history_.number(event, kDeliveries)) + " times";
                 },
                 {topic, event});
}

void Queues::died(EventIndex event) {
  const Name name = name_of(event);
  Queued& queued = queued_[name];
  // An ack whose answer was lost is sent again, and is ok for whatever is settled by then.
  report_.expect(queued.dead == kNoEvent && queued.acked_alone == kNoEvent, Invariant::kSettledOnce,
                 [&] {
                   return text_of(name) + (queued.dead != kNoEvent
                                               ? " is a dead letter twice"
                                               : " was acked, and is a dead letter");
                 },
                 {queued.dead != kNoEvent ? queued.dead : queued.acked_alone, event});
  queued.dead = event;
}

// Each message that is stored is settled for a reason, or waits.
void Queues::check_kept(TextId group, PartitionIndex partition, const std::vector<Range>& ranges) {
  const auto begin = begins_.find({group, partition});
  for (const Sighting& one : facts_.from(partition, begin == begins_.end() ? 0 : begin->second)) {
    if (one.kind != Sighting::Kind::kDrain) {
      continue;
    }
    const auto range = std::find_if(ranges.begin(), ranges.end(), [&](const Range& settled) {
      return settled.from <= one.offset && one.offset < settled.until;
    });
    const Name name(group, partition, one.offset);
    const auto found = queued_.find(name);
    const Queued queued = found == queued_.end() ? Queued() : found->second;
    if (range == ranges.end()) {
      const EventIndex ended = queued.dead != kNoEvent ? queued.dead : queued.acked;
      report_.expect(ended == kNoEvent, Invariant::kSettledOnce,
                     [&] { return text_of(name) + " was settled, and is not in the end"; },
                     {ended, ranges.back().event});
    } else {
      report_.expect(queued.settled != kNoEvent || queued.dead != kNoEvent, Invariant::kSettledOnce,
                     [&] { return text_of(name) + " is settled, and nobody did it"; },
                     {one.event, range->event});
    }
  }
}

}  // namespace

void check_queues(const Facts& facts, Report& report) { Queues(facts, report).run(); }

}  // namespace tidemark::checker
