// What `log dump` says of records about queue mode and message ids.
//
// Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "log/format/log_record.h"

namespace tidemark::tools {

struct QueueTotals {
  uint64_t records = 0;       // queue_settle
  uint64_t record_bytes = 0;  // of them, with their headers in the entry
  uint64_t acks = 0;          // offsets, those that expired or were filtered included
  uint64_t failures = 0;
  uint64_t letters = 0;  // dead-lettered or redriven
  uint64_t message_ids = 0;
  // What queue mode costs in the log: entries with records about it, without the records about
  // anything else.
  uint64_t log_bytes = 0;

  // Of record_bytes; 0 without an ack.
  [[nodiscard]] double bytes_per_ack() const {
    return acks == 0 ? 0 : static_cast<double>(record_bytes) / static_cast<double>(acks);
  }
};

// Of kQueueSettle. kMessageIds is described here as well, but is about produced messages.
bool is_queue_record(format::RecordKind kind);

// Requires: kQueueSettle or kMessageIds. Adds fields to `object` and words to `text`, and to
// `totals` (not log_bytes). A record that cannot be read gets an "error".
void describe_queue_record(const format::LogRecord& record, nlohmann::ordered_json& object,
                           std::string& text, QueueTotals& totals);

}  // namespace tidemark::tools
