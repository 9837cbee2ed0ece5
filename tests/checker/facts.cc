#include "tests/checker/facts.h"

#include <algorithm>
#include <tuple>

namespace tidemark::checker {

namespace {

using enum Field;

const std::vector<EventIndex> kNothing;

auto place_key(const Sighting& one) {
  return std::tuple(one.partition, one.offset, one.kind, one.event);
}

auto uid_key(const Sighting& one) {
  return std::tuple(one.uid, one.partition, one.offset, one.kind, one.event);
}

}  // namespace

Facts::Facts(History& history) : history_(history) {
  // An end may name what its invocation could not, so all places are known first.
  for (EventIndex event = 0; event < history_.size(); ++event) {
    if (const std::optional<Place> place = named_place(event); place.has_value()) {
      const auto index = static_cast<PartitionIndex>(partitions_.size());
      if (partition_ids_.emplace(*place, index).second) {
        partitions_.push_back({.topic = place->first, .number = place->second, .gaps = {}});
      }
    }
  }
  for (EventIndex event = 0; event < history_.size(); ++event) {
    take(event);
  }
  sort();
  judge_sequences();
  judge_drains();
}

std::optional<Facts::Place> Facts::named_place(EventIndex event) const {
  TextId topic = history_.text_id(event, kTopicName);
  std::optional<int64_t> number = history_.find(event, kPartition);
  if (const EventIndex partner = history_.at(event).partner; partner != kNoEvent) {
    topic = topic == kNoText ? history_.text_id(partner, kTopicName) : topic;
    number = number.has_value() ? number : history_.find(partner, kPartition);
  }
  return topic == kNoText || !number.has_value() ? std::nullopt
                                                 : std::optional(Place(topic, *number));
}

void Facts::take(EventIndex event) {
  const Event& one = history_.at(event);
  if (history_.has(event, kUid) && history_.number(event, kUid) == 0) {
    history_.add_error(event, "a uid is from 1 on");
  }
  const bool invoked = one.phase == Phase::kInvoke;
  if (one.op == Op::kSend) {
    invoked ? take_send(event) : take_send_end(event);
  } else if (one.op == Op::kRead || one.op == Op::kLease) {
    see(event, Sighting::Kind::kRead);
  } else if (one.op == Op::kTopic) {
    topics_[history_.text_id(event, kTopicName)] = event;
  } else if (one.op == Op::kConfig) {
    configs_.push_back(event);
  } else if (one.op == Op::kCancel && invoked) {
    cancels_[history_.unsigned_of(event, kUid)].push_back(event);
  } else if (one.op == Op::kReschedule && invoked) {
    reschedules_[history_.unsigned_of(event, kUid)].push_back(event);
  } else if (one.op == Op::kFault && invoked) {
    faults_.push_back({event, one.partner});
  } else {
    take_drain(event);
  }
}

void Facts::take_send(EventIndex event) {
  const uint64_t uid = history_.unsigned_of(event, kUid);
  const auto [it, added] = message_ids_.emplace(uid, static_cast<uint32_t>(messages_.size()));
  if (added) {
    messages_.push_back({.uid = uid,
                         .first = event,
                         .txn = history_.text_id(event, kTxn),
                         .delayed = history_.has(event, kDelayMs) || history_.has(event, kDueMs)});
  }
  Message& message = messages_[it->second];
  if (!added) {
    judge_retry(message, event);
  }
  message.last = event;
  message.may_be_stored = message.may_be_stored || history_.outcome(event) != Phase::kFail;
  if (const PartitionIndex partition = partition_of(event); partition != kNoPartition) {
    if (message.partition != kNoPartition && message.partition != partition) {
      history_.add_error(event, "uid " + std::to_string(uid) + " was sent to another partition");
    }
    message.partition = partition;
  }
}

void Facts::take_send_end(EventIndex event) {
  const EventIndex invoke = history_.at(event).partner;
  if (invoke == kNoEvent || history_.at(event).phase != Phase::kOk) {
    return;
  }
  Message& message = messages_[message_ids_.at(history_.unsigned_of(invoke, kUid))];
  if (message.ack == kNoEvent) {
    message.ack = event;
  }
  if (message.partition == kNoPartition) {
    history_.add_error(event, "was stored, and nobody says in which partition");
    return;
  }
  if (message.plain() != history_.has(event, kOffset)) {
    history_.add_error(event, message.plain() ? "was stored, and nobody says at which offset"
                                              : "has no offset yet");
    return;
  }
  if (message.plain()) {
    by_place_.push_back({.partition = message.partition,
                         .event = event,
                         .offset = history_.unsigned_of(event, kOffset),
                         .uid = message.uid,
                         .kind = Sighting::Kind::kAck});
  }
}

void Facts::judge_retry(const Message& message, EventIndex again) {
  for (const Field field :
       {kTopicName, kProducer, kEpoch, kSequence, kTxn, kDelayMs, kDueMs, kCrc}) {
    if (history_.find(message.first, field) != history_.find(again, field)) {
      history_.add_error(again, "uid " + std::to_string(message.uid) + " had another " +
                                    std::string(name_of(field)) + " at " +
                                    history_.place_of(message.first));
    }
  }
}

void Facts::take_drain(EventIndex event) {
  const Op op = history_.at(event).op;
  if (op != Op::kDrainStart && op != Op::kDrain && op != Op::kDrainGap && op != Op::kDrainEnd) {
    return;
  }
  Partition& partition = partitions_[partition_of(event)];
  if (op == Op::kDrain) {
    see(event, Sighting::Kind::kDrain);
  } else if (op == Op::kDrainStart) {
    if (partition.start_event != kNoEvent) {
      history_.add_error(event, "the partition is drained twice");
    }
    partition.start_event = event;
    partition.start = history_.unsigned_of(event, kOffset);
  } else if (op == Op::kDrainEnd) {
    if (partition.end_event != kNoEvent) {
      history_.add_error(event, "the partition is drained twice");
    }
    partition.end_event = event;
    partition.end = history_.unsigned_of(event, kEnd);
  } else {
    const uint64_t from = history_.unsigned_of(event, kOffset);
    const uint64_t until = history_.unsigned_of(event, kEnd);
    if (from >= until) {
      history_.add_error(event, "the gap is empty");
    }
    partition.gaps.emplace_back(from, until);
  }
}

void Facts::see(EventIndex event, Sighting::Kind kind) {
  by_place_.push_back({.partition = partition_of(event),
                       .event = event,
                       .offset = history_.unsigned_of(event, kOffset),
                       .uid = static_cast<uint64_t>(history_.find(event, kUid).value_or(0)),
                       .kind = kind});
}

void Facts::sort() {
  by_uid_ = by_place_;
  std::sort(by_place_.begin(), by_place_.end(),
            [](const Sighting& a, const Sighting& b) { return place_key(a) < place_key(b); });
  std::sort(by_uid_.begin(), by_uid_.end(),
            [](const Sighting& a, const Sighting& b) { return uid_key(a) < uid_key(b); });
  for (Partition& partition : partitions_) {
    std::sort(partition.gaps.begin(), partition.gaps.end());
  }
}

void Facts::judge_sequences() {
  for (uint32_t i = 0; i < messages_.size(); ++i) {
    const EventIndex first = messages_[i].first;
    if (!messages_[i].plain() || !history_.has(first, kProducer) ||
        !history_.has(first, kSequence) || messages_[i].partition == kNoPartition) {
      continue;
    }
    sequenced_.push_back({.producer = history_.unsigned_of(first, kProducer),
                          .partition = messages_[i].partition,
                          .epoch = static_cast<uint64_t>(history_.find(first, kEpoch).value_or(0)),
                          .sequence = history_.unsigned_of(first, kSequence),
                          .message = i});
  }
  std::sort(sequenced_.begin(), sequenced_.end());
  const auto name = [](const Sequenced& one) {
    return std::tuple(one.producer, one.partition, one.epoch, one.sequence);
  };
  for (size_t i = 1; i < sequenced_.size(); ++i) {
    if (name(sequenced_[i - 1]) == name(sequenced_[i])) {
      history_.add_error(messages_[sequenced_[i].message].first,
                         "another message of the producer has this seq");
    }
  }
}

void Facts::judge_drains() {
  for (EventIndex event = 0; event < history_.size(); ++event) {
    const PartitionIndex index = partition_of(event);
    if (index == kNoPartition) {
      continue;
    }
    Partition& partition = partitions_[index];
    if (partition.start_event == kNoEvent || partition.end_event == kNoEvent) {
      history_.add_error(event, text_of(index) + " has no final drain");
      partition.start_event = partition.end_event = event;  // said once
      partition.end = UINT64_MAX;
    }
    if (history_.at(event).op == Op::kDrain) {
      const uint64_t offset = history_.unsigned_of(event, kOffset);
      if (offset < partition.start || offset >= partition.end) {
        history_.add_error(event, "lies outside of the partition");
      }
    }
  }
}

PartitionIndex Facts::partition_of(EventIndex event) const {
  const std::optional<Place> place = named_place(event);
  return place.has_value() ? partition_ids_.at(*place) : kNoPartition;
}

std::string Facts::text_of(PartitionIndex partition) const {
  return std::string(history_.text_of(partitions_[partition].topic)) + "/" +
         std::to_string(partitions_[partition].number);
}

const Message* Facts::find(uint64_t uid) const {
  const auto found = message_ids_.find(uid);
  return found == message_ids_.end() ? nullptr : &messages_[found->second];
}

std::span<const Sighting> Facts::from(PartitionIndex partition, uint64_t offset) const {
  const auto begin =
      std::lower_bound(by_place_.begin(), by_place_.end(), std::pair(partition, offset),
                       [](const Sighting& one, const auto& place) {
                         return std::pair(one.partition, one.offset) < place;
                       });
  const auto end = std::upper_bound(
      begin, by_place_.end(), partition,
      [](PartitionIndex index, const Sighting& one) { return index < one.partition; });
  return {begin, end};
}

std::span<const Sighting> Facts::of(uint64_t uid) const {
  const auto begin =
      std::lower_bound(by_uid_.begin(), by_uid_.end(), uid,
                       [](const Sighting& one, uint64_t id) { return one.uid < id; });
  const auto end = std::upper_bound(begin, by_uid_.end(), uid,
                                    [](uint64_t id, const Sighting& one) { return id < one.uid; });
  return {begin, end};
}

std::optional<uint64_t> Facts::place_of(const Message& message) const {
  for (const Sighting& one : of(message.uid)) {
    if (one.partition == message.partition) {
      return one.offset;
    }
  }
  return std::nullopt;
}

size_t Facts::times_seen(const Message& message) const {
  size_t times = 0;
  std::optional<std::pair<PartitionIndex, uint64_t>> last;
  for (const Sighting& one : of(message.uid)) {
    const std::pair place(one.partition, one.offset);
    if (one.seen() && (message.partition == kNoPartition || one.partition == message.partition) &&
        last != place) {
      last = place;
      ++times;
    }
  }
  return times;
}

bool Facts::nothing_removed(const Message& message) const {
  return message.partition != kNoPartition && partitions_[message.partition].start == 0;
}

EventIndex Facts::topic(TextId name) const {
  const auto found = topics_.find(name);
  return found == topics_.end() ? kNoEvent : found->second;
}

int64_t Facts::config(Field field, int64_t fallback) const {
  for (const EventIndex event : configs_) {
    if (history_.has(event, field)) {
      return history_.number(event, field);
    }
  }
  return fallback;
}

const std::vector<EventIndex>& Facts::cancels_of(uint64_t uid) const {
  const auto found = cancels_.find(uid);
  return found == cancels_.end() ? kNothing : found->second;
}

const std::vector<EventIndex>& Facts::reschedules_of(uint64_t uid) const {
  const auto found = reschedules_.find(uid);
  return found == reschedules_.end() ? kNothing : found->second;
}

int64_t Facts::trouble_until_ns(int64_t from_ns, int64_t until_ns) const {
  const int64_t recovery_ns = config(kRecoveryMs, 0) * 1'000'000;
  int64_t latest = INT64_MIN;
  for (const Fault& fault : faults_) {
    const int64_t begin_ns = history_.at(fault.begin).t_ns;
    const int64_t end_ns =
        fault.end == kNoEvent ? INT64_MAX : history_.at(fault.end).t_ns + recovery_ns;
    if (begin_ns <= until_ns && end_ns >= from_ns) {
      latest = std::max(latest, end_ns);
    }
  }
  return latest;
}

}  // namespace tidemark::checker
