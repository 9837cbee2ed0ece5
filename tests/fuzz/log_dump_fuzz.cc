// Records of every kind from a damaged log, as `log dump` describes them: nothing is believed, a
// description is one JSON object of one line, and totals only grow by what was there.
//
// The first byte is the kind, the rest the body; the whole input is also read as the payload of an
// entry.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "log/base/check.h"
#include "log/format/log_record.h"
#include "tools/json_text.h"
#include "tools/log_dump_delays.h"
#include "tools/log_dump_queue.h"
#include "tools/log_dump_records.h"
#include "tools/log_dump_txns.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

void check_description(const Json& object, const std::string& text) {
  const std::string line = dump_json(object);
  TIDEMARK_CHECK(std::ranges::count(line, '\n') <= 1);
  TIDEMARK_CHECK(!Json::parse(line, nullptr, /*allow_exceptions=*/false).is_discarded());
  TIDEMARK_CHECK(object.contains("error") || !object.empty() || text.empty());
}

void try_record(const format::LogRecord& record) {
  const uint64_t bytes_max = 2 * record.body.size() + 1'000;
  Json object = Json::object();
  std::string text;
  if (is_delay_record(record.kind)) {
    DelayTotals totals;
    describe_delay_record(record, object, text, totals);
    TIDEMARK_CHECK(totals.messages <= bytes_max);
  } else if (is_txn_record(record.kind)) {
    TxnTotals totals;
    describe_txn_record(record, object, text, totals);
    TIDEMARK_CHECK(totals.half_bytes <= bytes_max);
  } else if (record.kind == format::RecordKind::kMessageIds) {
    describe_message_ids(record.body, object, text);
  } else if (is_compaction_record(record.kind)) {
    describe_compaction(record, object, text);
  } else if (is_queue_record(record.kind)) {
    QueueTotals totals;
    describe_queue_record(record, object, text, totals);
    TIDEMARK_CHECK(totals.records <= 1 && totals.letters <= bytes_max);
  }
  check_description(object, text);
  if (const auto set = summarize_set(record.body); set.ok()) {
    TIDEMARK_CHECK(set->header.items > 0 && set->header.items <= bytes_max);
  }
}

void try_input(ByteView bytes) {
  if (!bytes.empty()) {
    // A block of its own: tables lie at multiples of 8 in an entry.
    const Buffer body = Buffer::copy_of(bytes.subspan(1));
    try_record({.kind = static_cast<format::RecordKind>(bytes.front()),
                .body = body.view(),
                .body_offset = 0});
  }
  format::RecordListReader reader(bytes);
  format::LogRecord record;
  while (reader.next(record)) {
    try_record(record);
  }
}

}  // namespace
}  // namespace tidemark::tools

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::tools::try_input({data, size});
  return 0;
}
