// I1 to I4 and I11; of I6 that the final drain has no hole, of I7 that what was read is in it.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

using enum Field;

std::string text_of(const Facts& facts, PartitionIndex partition, uint64_t offset) {
  return facts.text_of(partition) + " offset " + std::to_string(offset);
}

// All sightings of one offset.
std::span<const Sighting> same_place(std::span<const Sighting> rest) {
  size_t count = 1;
  while (count < rest.size() && rest[count].partition == rest.front().partition &&
         rest[count].offset == rest.front().offset) {
    ++count;
  }
  return rest.first(count);
}

const Sighting* find(std::span<const Sighting> place, Sighting::Kind kind) {
  const auto found = std::find_if(place.begin(), place.end(),
                                  [&](const Sighting& one) { return one.kind == kind; });
  return found == place.end() ? nullptr : &*found;
}

// I4: different messages at one offset.
void check_identity(const Facts& facts, std::span<const Sighting> place, Report& report) {
  const Sighting* first = nullptr;
  for (const Sighting& one : place) {
    if (one.uid == 0) {
      continue;
    }
    if (first != nullptr && first->uid != one.uid) {
      report.violate(Invariant::kOffsetIdentity,
                     text_of(facts, one.partition, one.offset) + " is uid " +
                         std::to_string(first->uid) + " and uid " + std::to_string(one.uid),
                     {first->event, one.event});
      return;
    }
    first = first == nullptr ? &one : first;
  }
}

// I1 and I7: what was acknowledged or read at one offset against the drain there.
void check_drained(const Facts& facts, std::span<const Sighting> place, Report& report) {
  const Partition& partition = facts.partitions()[place.front().partition];
  if (place.front().offset < partition.start) {
    return;  // for I24 to judge
  }
  const auto where = [&] { return text_of(facts, place.front().partition, place.front().offset); };
  if (const Sighting* read = find(place, Sighting::Kind::kRead); read != nullptr) {
    report.expect(find(place, Sighting::Kind::kDrain) != nullptr, Invariant::kReadStays,
                  [&] { return where() + " was read, and is not in the final drain"; },
                  {read->event, partition.start_event});
  }
  for (const Sighting& one : place) {
    if (one.kind != Sighting::Kind::kAck) {
      continue;
    }
    const bool there = std::any_of(place.begin(), place.end(), [&](const Sighting& other) {
      return other.kind == Sighting::Kind::kDrain && other.uid == one.uid;
    });
    report.expect(there, Invariant::kAckedNeverLost,
                  [&] {
                    return "uid " + std::to_string(one.uid) + " was acknowledged at " + where() +
                           ", and is not there in the final drain";
                  },
                  {one.event, partition.start_event});
  }
}

void check_places(const Facts& facts, Report& report) {
  for (std::span<const Sighting> rest = facts.sightings(); !rest.empty();) {
    const std::span<const Sighting> place = same_place(rest);
    report.judge(Invariant::kOffsetIdentity);
    check_identity(facts, place, report);
    check_drained(facts, place, report);
    rest = rest.subspan(place.size());
  }
}

// I6: an offset of [from, until) that nobody knows, though none of it was drained. One that was
// acknowledged or read is missed by I1 or I7.
std::optional<uint64_t> unknown_offset(const Facts& facts, PartitionIndex partition, uint64_t from,
                                       uint64_t until) {
  for (const Sighting& one : facts.from(partition, from)) {
    if (one.offset > from || from >= until) {
      break;
    }
    from = std::max(from, one.offset + 1);
  }
  return from < until ? std::optional(from) : std::nullopt;
}

void check_holes(const Facts& facts, PartitionIndex index, Report& report) {
  struct Covered {
    uint64_t from = 0;
    uint64_t until = 0;
    EventIndex event = kNoEvent;
  };

  const Partition& partition = facts.partitions()[index];
  std::vector<Covered> all;
  for (const Sighting& one : facts.from(index, partition.start)) {
    if (one.kind == Sighting::Kind::kDrain) {
      all.push_back({one.offset, one.offset + 1, one.event});
    }
  }
  for (const auto& [from, until] : partition.gaps) {
    all.push_back({from, until, partition.end_event});
  }
  std::sort(all.begin(), all.end(),
            [](const Covered& a, const Covered& b) { return a.from < b.from; });
  all.push_back({partition.end, partition.end, partition.end_event});
  uint64_t next = partition.start;
  EventIndex before = partition.start_event;
  for (const Covered& one : all) {
    const std::optional<uint64_t> hole = unknown_offset(facts, index, next, one.from);
    report.expect(
        !hole.has_value(), Invariant::kNoSkip,
        [&] { return text_of(facts, index, *hole) + " is not in the final drain, nor in a gap"; },
        {before, one.event});
    next = std::max(next, one.until);
    before = one.event;
  }
}

// I2 and I3: whether it was sent, to where, and what.
void check_seen(const Facts& facts, const Sighting& one, Report& report) {
  const History& history = facts.history();
  const auto where = [&] { return text_of(facts, one.partition, one.offset); };
  report.judge(Invariant::kIntact);
  if (one.uid == 0) {
    report.violate(Invariant::kIntact, where() + " is no message of anybody", {one.event});
    return;
  }
  const Message* message = facts.find(one.uid);
  const auto uid = [&] { return "uid " + std::to_string(one.uid); };
  report.expect(message != nullptr && message->may_be_stored &&
                    history.at(one.event).t_ns >= history.at(message->first).t_ns,
                Invariant::kNoPhantom,
                [&] {
                  return uid() + " at " + where() +
                         (message == nullptr       ? " was sent by nobody"
                          : message->may_be_stored ? " was seen before it was sent"
                                                   : " was refused each time it was sent");
                },
                {message == nullptr ? kNoEvent : message->last, one.event});
  if (message == nullptr) {
    return;
  }
  const bool in_place =
      message->partition != kNoPartition
          ? message->partition == one.partition
          : facts.partitions()[one.partition].topic == history.text_id(message->first, kTopicName);
  if (!in_place) {
    report.violate(Invariant::kIntact, uid() + " is at " + where() + ", it was not sent there",
                   {message->first, one.event});
    return;
  }
  const std::optional<int64_t> sent = history.find(message->first, kCrc);
  const std::optional<int64_t> read = history.find(one.event, kCrc);
  if (sent.has_value() && read.has_value() && sent != read) {
    report.violate(Invariant::kIntact, uid() + " at " + where() + " is not what was sent",
                   {message->first, one.event});
  }
}

// I11: of what has a seq. Delayed messages are counted by I13, those of transactions by I17.
void check_dedup(const Facts& facts, Report& report) {
  for (const Sequenced& one : facts.sequenced()) {
    const Message& message = facts.messages()[one.message];
    const Sighting* ack = nullptr;
    bool acks_agree = true;
    EventIndex other = kNoEvent;
    for (const Sighting& sighting : facts.of(message.uid)) {
      if (sighting.kind == Sighting::Kind::kAck) {
        acks_agree = acks_agree && (ack == nullptr || ack->offset == sighting.offset);
        ack = ack == nullptr ? &sighting : ack;
        other = sighting.event;
      }
    }
    report.expect(acks_agree, Invariant::kDedup,
                  [&] {
                    return "uid " + std::to_string(message.uid) +
                           " was acknowledged at several offsets";
                  },
                  {ack == nullptr ? kNoEvent : ack->event, other});
    if (acks_agree && facts.times_seen(message) > 1) {
      report.violate(Invariant::kDedup,
                     "uid " + std::to_string(message.uid) + " is in " +
                         facts.text_of(message.partition) + " several times",
                     {message.first, facts.of(message.uid).back().event});
    }
  }
}

}  // namespace

void check_records(const Facts& facts, Report& report) {
  check_places(facts, report);
  for (PartitionIndex index = 0; index < facts.partitions().size(); ++index) {
    check_holes(facts, index, report);
  }
  for (const Sighting& one : facts.sightings()) {
    if (one.seen()) {
      check_seen(facts, one, report);
    }
  }
  check_dedup(facts, report);
}

}  // namespace tidemark::checker
