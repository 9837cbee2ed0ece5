#include "tools/log_dump_records.h"

#include <algorithm>
#include <iterator>
#include <string_view>

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

namespace {

void fail(nlohmann::ordered_json& object, std::string& text, const Status& status) {
  object["error"] = status.to_string();
  text += " " + status.to_string();
}

// One batch again, with what is left of it.
void describe_compact(const format::LogRecord& record, nlohmann::ordered_json& object,
                      std::string& text) {
  const Result<format::CompactRecord> compact = format::decode_compact(record);
  if (!compact.ok()) {
    return fail(object, text, compact.status());
  }
  object["topic_id"] = compact->partition.topic.value();
  object["partition"] = compact->partition.index.value();
  object["base_offset"] = compact->base.value();
  object["replaced_position"] = compact->replaced.value();
  object["replaced_bytes"] = compact->replaced_bytes;
  text += fmt::format(" topic {} partition {} offset {} in place of {} bytes at {}",
                      compact->partition.topic.value(), compact->partition.index.value(),
                      compact->base.value(), compact->replaced_bytes, compact->replaced.value());
  const Result<format::BatchHeader> batch = format::verify_batch(compact->batch);
  if (!batch.ok()) {
    return fail(object, text, batch.status());
  }
  object["messages"] = batch->record_count;
  object["offsets"] = batch->last_offset_delta + 1;
  text += fmt::format(", {} of {} messages", batch->record_count, batch->last_offset_delta + 1);
}

void describe_compacted(ByteView body, nlohmann::ordered_json& object, std::string& text) {
  constexpr std::string_view kSteps[] = {"begin", "dead", "end"};
  const auto* record = control_table<format::fbs::Compacted>(body);
  if (record == nullptr || record->step() >= std::size(kSteps)) {
    return fail(object, text, unreadable_record());
  }
  const std::string_view step = kSteps[record->step()];
  object["topic_id"] = record->topic();
  object["partition"] = record->partition();
  object["step"] = step;
  text += fmt::format(" topic {} partition {} {}", record->topic(), record->partition(), step);
  if (step == "dead") {
    const size_t batches = record->dead() == nullptr ? 0 : record->dead()->size();
    object["batches"] = batches;
    text += fmt::format(", {} batches", batches);
  } else if (step == "end") {
    object["low_position"] = record->low_position();
    object["scan_from"] = record->scan_from();
    object["dirty_bytes"] = record->dirty_bytes();
    text += fmt::format(", the next run looks from offset {} on", record->scan_from());
  }
}

}  // namespace

bool is_compaction_record(format::RecordKind kind) {
  return kind == format::RecordKind::kCompact || kind == format::RecordKind::kCompacted;
}

void describe_compaction(const format::LogRecord& record, nlohmann::ordered_json& object,
                         std::string& text) {
  if (record.kind == format::RecordKind::kCompact) {
    describe_compact(record, object, text);
  } else {
    describe_compacted(record.body, object, text);
  }
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
