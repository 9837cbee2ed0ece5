// What a message asks of the queue: record headers whose names begin with "tm-". They travel and
// are stored like any header; values are text.
//
//   tm-tag       a tag, for filters; may come several times
//   tm-ttl       ms that the message may be delivered after it became visible, decimal
//   tm-priority  0 to 7 in queue mode; 7 goes first
//   tm-id        message id: a second one within the topic's window is not stored
//   tm-dead-*    history of a dead letter, one set for each time that it died, oldest first:
//                -topic -topic-id -partition -offset (where it was), -group, -reason, -deliveries,
//                -time (ms)
//   tm-redriven  when it was sent back, ms; one for each time
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "log/format/record_batch.h"

namespace tidemark::format {

inline constexpr std::string_view kTagHeader = "tm-tag";
inline constexpr std::string_view kTtlHeader = "tm-ttl";
inline constexpr std::string_view kPriorityHeader = "tm-priority";
inline constexpr std::string_view kMessageIdHeader = "tm-id";
inline constexpr std::string_view kDeadTopicHeader = "tm-dead-topic";
// Ids are never reused: where a redriven message goes.
inline constexpr std::string_view kDeadTopicIdHeader = "tm-dead-topic-id";
inline constexpr std::string_view kDeadPartitionHeader = "tm-dead-partition";
inline constexpr std::string_view kDeadOffsetHeader = "tm-dead-offset";
inline constexpr std::string_view kDeadGroupHeader = "tm-dead-group";
inline constexpr std::string_view kDeadReasonHeader = "tm-dead-reason";
inline constexpr std::string_view kDeadDeliveriesHeader = "tm-dead-deliveries";
inline constexpr std::string_view kDeadTimeHeader = "tm-dead-time";
inline constexpr std::string_view kRedrivenHeader = "tm-redriven";

// The group that dead letters are settled for when they are redriven or purged.
inline constexpr std::string_view kDeadLetterGroup = "$dlq";

inline constexpr int kPriorityMax = 7;

struct MessageProperties {
  std::optional<int64_t> ttl_ms = {};
  uint8_t priority = 0;
  std::optional<std::string_view> id = {};  // views the record
};

// A value that is no number of the allowed range (ttl: at least 1; priority: 0 to kPriorityMax) and
// an id that is empty or longer than limits::kMessageIdBytesMax are passed over: the message is
// what it is without them. Of several good values the first counts. Damaged headers: what came
// before them. No allocation.
MessageProperties read_properties(const RecordView& record);

// It died, and was not sent back since. Its history says tm-dead-* for each death and tm-redriven
// for each time that it was sent back.
bool is_dead_letter(const RecordView& record);

}  // namespace tidemark::format
