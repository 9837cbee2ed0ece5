#include "tools/log_dump_delays.h"

#include <fmt/format.h>

#include "log/format/schema/control_generated.h"
#include "tools/log_dump_records.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
namespace fbs = format::fbs;

Status describe_set(ByteView set, Json& object, std::string& text, DelayTotals& totals) {
  ASSIGN_OR_RETURN(const SetSummary summary, summarize_set(set));
  const format::ScheduleHeader& header = summary.header;
  totals.messages += header.items;
  totals.body_bytes += summary.body_bytes;
  object["topic_id"] = header.partition.topic.value();
  object["partition"] = header.partition.index.value();
  object["received_ms"] = header.received_ms;
  object["messages"] = header.items;
  object["first_delay_id"] = header.first_id;
  object["due_first_ms"] = summary.due_first_ms;
  object["due_last_ms"] = summary.due_last_ms;
  object["body_bytes"] = summary.body_bytes;
  object["producer_id"] = header.producer_id;
  object["producer_epoch"] = header.producer_epoch;
  object["base_sequence"] = header.base_sequence;
  text += fmt::format(
      " topic {} partition {} at {}: {} messages from id {}, due {} to {}, producer {} epoch {} "
      "sequence {}",
      header.partition.topic.value(), header.partition.index.value(),
      format_time(header.received_ms), header.items, header.first_id,
      format_time(summary.due_first_ms), format_time(summary.due_last_ms), header.producer_id,
      header.producer_epoch, header.base_sequence);
  return Status();
}

Status describe_relocate(const format::LogRecord& record, Json& object, std::string& text) {
  ASSIGN_OR_RETURN(const format::RelocateRecord moved, format::decode_relocate(record));
  object["topic_id"] = moved.partition.topic.value();
  object["partition"] = moved.partition.index.value();
  object["delay_id"] = moved.id;
  object["due_ms"] = moved.due_ms;
  text += fmt::format(" topic {} partition {} id {} due {}", moved.partition.topic.value(),
                      moved.partition.index.value(), moved.id, format_time(moved.due_ms));
  return Status();
}

Status describe_advance(ByteView body, Json& object, std::string& text) {
  const auto* advance = control_table<fbs::Advance>(body);
  if (advance == nullptr) {
    return unreadable_record();
  }
  object["now_ms"] = advance->now_ms();
  object["time_ms"] = advance->time_ms();
  object["until_id"] = advance->until_id();
  object["limit"] = advance->limit();
  text += fmt::format(" to {}, at most {}", format_time(advance->now_ms()), advance->limit());
  return Status();
}

// Cancel and reschedule name their message with the same fields.
template <typename T>
Status describe_change(ByteView body, Json& object, std::string& text, const T*& change) {
  change = control_table<T>(body);
  if (change == nullptr) {
    return unreadable_record();
  }
  object["topic_id"] = change->topic();
  object["delay_id"] = change->id();
  object["due_ms"] = change->due_ms();
  text += fmt::format(" topic {} id {} due {}", change->topic(), change->id(),
                      format_time(change->due_ms()));
  return Status();
}

Status describe_reschedule(ByteView body, Json& object, std::string& text) {
  const fbs::DelayReschedule* change = nullptr;
  RETURN_IF_ERROR(describe_change(body, object, text, change));
  object["new_delay_id"] = change->new_id();
  object["new_due_ms"] = change->new_due_ms();
  text += fmt::format(" becomes id {} due {}", change->new_id(), format_time(change->new_due_ms()));
  return Status();
}

Status describe(const format::LogRecord& record, Json& object, std::string& text,
                DelayTotals& totals) {
  if (record.kind == format::RecordKind::kSchedule) {
    return describe_set(record.body, object, text, totals);
  }
  if (record.kind == format::RecordKind::kRelocate) {
    return describe_relocate(record, object, text);
  }
  if (record.kind == format::RecordKind::kAdvance) {
    return describe_advance(record.body, object, text);
  }
  if (record.kind == format::RecordKind::kDelayCancel) {
    const fbs::DelayCancel* change = nullptr;
    return describe_change(record.body, object, text, change);
  }
  if (record.kind == format::RecordKind::kDelayReschedule) {
    return describe_reschedule(record.body, object, text);
  }
  return Status();
}

}  // namespace

bool is_delay_record(format::RecordKind kind) {
  return kind == format::RecordKind::kSchedule || kind == format::RecordKind::kRelocate ||
         kind == format::RecordKind::kAdvance || kind == format::RecordKind::kDelayCancel ||
         kind == format::RecordKind::kDelayReschedule || kind == format::RecordKind::kDelayNext ||
         kind == format::RecordKind::kRelocated;
}

void describe_delay_record(const format::LogRecord& record, Json& object, std::string& text,
                           DelayTotals& totals) {
  const Status status = describe(record, object, text, totals);
  if (!status.ok()) {
    object["error"] = status.to_string();
    text += " " + status.to_string();
  }
}

}  // namespace tidemark::tools
