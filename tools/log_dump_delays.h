// What `log dump` says of records about delayed messages.
//
// Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "log/format/log_record.h"

namespace tidemark::tools {

struct DelayTotals {
  uint64_t messages = 0;    // taken in; relocated ones were counted before
  uint64_t body_bytes = 0;  // of their keys, values and headers
  // What delayed messages cost in the log: entries with records about them, without the records
  // about anything else.
  uint64_t log_bytes = 0;
};

// Of kSchedule, kRelocate, kAdvance, kRelocated and what changes pending messages.
bool is_delay_record(format::RecordKind kind);

// Adds fields to `object` and words to `text`, and the messages of a set to `totals` (not
// log_bytes). A record that cannot be read gets an "error".
void describe_delay_record(const format::LogRecord& record, nlohmann::ordered_json& object,
                           std::string& text, DelayTotals& totals);

}  // namespace tidemark::tools
