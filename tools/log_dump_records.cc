#include "tools/log_dump_records.h"

#include <algorithm>

#include <fmt/format.h>

#include "log/format/record_batch.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::tools {

uint64_t body_bytes(ByteView batch) {
  Result<format::BatchReader> reader = format::BatchReader::open(batch);
  if (!reader.ok()) {
    return batch.size();
  }
  uint64_t bytes = 0;
  format::RecordView record;
  while (reader->next(record)) {
    bytes += record.key.size() + record.value.size();
    format::HeaderCursor headers(record.headers, record.header_count);
    format::HeaderView header;
    while (headers.next(header)) {
      bytes += header.key.size() + header.value.size();
    }
  }
  return bytes;
}

Result<SetSummary> summarize_set(ByteView set) {
  ASSIGN_OR_RETURN(format::ScheduleReader reader, format::ScheduleReader::open(set));
  SetSummary summary;
  summary.header = reader.header();
  format::ScheduleItem item;
  while (reader.next(item)) {
    summary.due_first_ms = std::min(summary.due_first_ms, item.due_ms);
    summary.due_last_ms = std::max(summary.due_last_ms, item.due_ms);
    summary.body_bytes += body_bytes(item.batch);
  }
  RETURN_IF_ERROR(reader.status());
  return summary;
}

void describe_message_ids(ByteView body, nlohmann::ordered_json& object, std::string& text) {
  constexpr size_t kIdBytes = 16;
  const auto* record = control_table<format::fbs::MessageIds>(body);
  if (record == nullptr) {
    object["error"] = unreadable_record().to_string();
    text += " " + unreadable_record().to_string();
    return;
  }
  const size_t ids = record->ids() == nullptr ? 0 : record->ids()->size() / kIdBytes;
  object["topic_id"] = record->topic();
  object["partition"] = record->partition();
  object["ids"] = ids;
  object["known"] = record->known();
  text += fmt::format(" topic {} partition {} {} ids{}", record->topic(), record->partition(), ids,
                      record->known() ? ", known: a batch that is not stored" : "");
  if (record->producer_id() >= 0) {
    object["producer_id"] = record->producer_id();
    object["producer_epoch"] = record->producer_epoch();
    object["base_sequence"] = record->base_sequence();
    text += fmt::format(" producer {}:{} sequence {}", record->producer_id(),
                        record->producer_epoch(), record->base_sequence());
  }
}

}  // namespace tidemark::tools
