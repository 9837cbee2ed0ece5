// Views: what consumer groups in queue mode settled.
#include <algorithm>

#include "broker/queue/ack_ranges.h"
#include "broker/shard/views.h"
#include "log/format/control_record.h"
#include "log/format/message_properties.h"

namespace tidemark::shard {

namespace fbs = format::fbs;
using format::control_table;
using format::control_text;

void Views::apply_queue_settle(const format::LogRecord& record, LogPosition payload_position,
                               RecordOutcome& outcome) {
  const auto& settle = control_table<fbs::QueueSettle>(record.body);
  advance_time(settle.time_ms());
  const PartitionId id{TopicId{settle.topic()}, PartitionIndex{settle.partition()}};
  outcome.partition = id;
  const partition::Partition* const partition = find(id);
  if (partition == nullptr) {
    outcome.error = ErrorCode::kUnknownPartition;
    return;
  }
  const std::string_view group = control_text(settle.group());
  if (const Status opened = queues_.open(group, id, partition->start()); !opened.ok()) {
    outcome.error = opened.code();
    return;
  }
  uint64_t acked = 0;
  if (const auto* packed = settle.acks(); packed != nullptr && packed->size() > 0) {
    const auto ranges = queue::unpack_ranges({packed->data(), packed->size()});
    TIDEMARK_CHECK(ranges.ok(), ranges.status().to_string());
    for (queue::AckRange range : *ranges) {
      // Nothing that is yet to come is ever settled.
      if (range.first < partition->end()) {
        range.count = std::min(range.count, partition->end() - range.first);
        acked += queues_.ack(group, id, range);
      }
    }
  }
  queues_.count(group, id, settle.expired(), settle.filtered());
  queue_counts_.acked += acked - std::min<uint64_t>(acked, settle.expired() + settle.filtered());
  queue_counts_.expired += settle.expired();
  queue_counts_.filtered += settle.filtered();
  if (settle.failures() != nullptr) {
    for (const fbs::QueueFailure* failure : *settle.failures()) {
      const Offset offset{failure->offset()};
      if (offset < partition->end() && queues_.fail(group, id, offset, failure->retry_ms())) {
        ++queue_counts_.failed;
      }
    }
  }
  apply_queue_letters(settle, id, record.body, payload_position + record.body_offset);
}

void Views::apply_queue_letters(const fbs::QueueSettle& settle, PartitionId from, ByteView body,
                                LogPosition body_position) {
  if (settle.letters() == nullptr) {
    return;
  }
  for (const fbs::QueueLetter* letter : *settle.letters()) {
    const PartitionId to{TopicId{letter->topic()}, PartitionIndex{letter->partition()}};
    const auto destination = partitions_.find(to);
    const auto* batch = letter->batch();
    // Without a place to go it stays where it is: nothing is lost. What was settled before, or is
    // trimmed, does not come up elsewhere.
    if (destination == partitions_.end() || batch == nullptr ||
        Offset{letter->offset()} >= find(from)->end() ||
        !queues_.dead_letter(control_text(settle.group()), from, Offset{letter->offset()})) {
      continue;
    }
    const LogPosition position = body_position + static_cast<uint64_t>(batch->data() - body.data());
    destination->second.append_reference(position, 1, batch->size(), log_time_ms_,
                                         LogPosition{letter->body_position()});
    ++(control_text(settle.group()) == format::kDeadLetterGroup ? queue_counts_.redriven
                                                                : queue_counts_.dead_lettered);
    if (exposed_.empty() || exposed_.back() != to) {
      exposed_.push_back(to);
    }
  }
}

}  // namespace tidemark::shard
