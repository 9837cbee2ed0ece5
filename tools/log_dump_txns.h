// What `log dump` says of records about transactions.
//
// Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "log/format/log_record.h"

namespace tidemark::tools {

struct TxnTotals {
  uint64_t records = 0;          // about transactions, half messages included
  uint64_t half_messages = 0;    // taken in; relocated ones were counted before
  uint64_t half_bytes = 0;       // of the batches and schedule sets that they are stored in
  uint64_t half_body_bytes = 0;  // of their keys, values and headers
  // What transactions cost in the log: entries with records about them, without the records about
  // anything else.
  uint64_t log_bytes = 0;
};

// Of half messages, the ends of transactions and what leads there, and producers of transactions.
bool is_txn_record(format::RecordKind kind);

// Adds fields to `object` and words to `text`, and to `totals` (not log_bytes). A record that
// cannot be read gets an "error".
void describe_txn_record(const format::LogRecord& record, nlohmann::ordered_json& object,
                         std::string& text, TxnTotals& totals);

}  // namespace tidemark::tools
