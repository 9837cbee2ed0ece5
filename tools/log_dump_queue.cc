#include "tools/log_dump_queue.h"

#include <fmt/format.h>

#include "broker/queue/ack_ranges.h"
#include "log/format/schema/control_generated.h"
#include "tools/json_text.h"
#include "tools/log_dump_records.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using format::RecordKind;
namespace fbs = format::fbs;

constexpr size_t kMessageIdBytes = 16;

ByteView bytes_of(const flatbuffers::Vector<uint8_t>* bytes) {
  return bytes == nullptr ? ByteView() : ByteView(bytes->data(), bytes->size());
}

Status describe_acks(ByteView packed, Json& object, std::string& text, QueueTotals& totals) {
  if (packed.empty()) {
    return Status();
  }
  ASSIGN_OR_RETURN(const std::vector<queue::AckRange> ranges, queue::unpack_ranges(packed));
  uint64_t acks = 0;
  Json list = Json::array();
  for (const queue::AckRange& range : ranges) {
    acks += range.count;
    list.push_back(Json{{"first", range.first.value()}, {"count", range.count}});
  }
  totals.acks += acks;
  object["acks"] = acks;
  object["ack_ranges"] = std::move(list);
  if (!ranges.empty()) {
    text += fmt::format(", {} acks in {} ranges from {}", acks, ranges.size(),
                        ranges.front().first.value());
  }
  return Status();
}

void describe_failures(const fbs::QueueSettle& settle, Json& object, std::string& text,
                       QueueTotals& totals) {
  if (settle.failures() == nullptr || settle.failures()->size() == 0) {
    return;
  }
  Json list = Json::array();
  for (const fbs::QueueFailure* failure : *settle.failures()) {
    list.push_back(Json{{"offset", failure->offset()}, {"retry_ms", failure->retry_ms()}});
  }
  totals.failures += list.size();
  text += fmt::format(", {} failures", list.size());
  object["failures"] = std::move(list);
}

void describe_letters(const fbs::QueueSettle& settle, Json& object, std::string& text,
                      QueueTotals& totals) {
  if (settle.letters() == nullptr || settle.letters()->size() == 0) {
    return;
  }
  Json list = Json::array();
  for (const fbs::QueueLetter* letter : *settle.letters()) {
    list.push_back(Json{{"offset", letter->offset()},
                        {"to_topic_id", letter->topic()},
                        {"to_partition", letter->partition()},
                        {"body_position", letter->body_position()},
                        {"batch_bytes", bytes_of(letter->batch()).size()}});
  }
  totals.letters += list.size();
  text += fmt::format(", {} letters", list.size());
  object["letters"] = std::move(list);
}

Status describe_settle(const format::LogRecord& record, Json& object, std::string& text,
                       QueueTotals& totals) {
  const auto* settle = control_table<fbs::QueueSettle>(record.body);
  if (settle == nullptr || !is_aligned(settle->failures())) {
    return unreadable_record();
  }
  const std::string group = settle->group() == nullptr ? std::string() : settle->group()->str();
  add_bytes_field(object, "group", group);
  object["topic_id"] = settle->topic();
  object["partition"] = settle->partition();
  object["time_ms"] = settle->time_ms();
  text += fmt::format(" group '{}' topic {} partition {} at {}", printable(group), settle->topic(),
                      settle->partition(), format_time(settle->time_ms()));
  RETURN_IF_ERROR(describe_acks(bytes_of(settle->acks()), object, text, totals));
  object["expired"] = settle->expired();
  object["filtered"] = settle->filtered();
  describe_failures(*settle, object, text, totals);
  describe_letters(*settle, object, text, totals);
  return Status();
}

Status describe_ids(const format::LogRecord& record, Json& object, std::string& text,
                    QueueTotals& totals) {
  const auto* ids = control_table<fbs::MessageIds>(record.body);
  if (ids == nullptr || bytes_of(ids->ids()).size() % kMessageIdBytes != 0) {
    return unreadable_record();
  }
  const size_t count = bytes_of(ids->ids()).size() / kMessageIdBytes;
  totals.message_ids += count;
  object["topic_id"] = ids->topic();
  object["partition"] = ids->partition();
  object["time_ms"] = ids->time_ms();
  object["message_ids"] = count;
  text += fmt::format(" topic {} partition {} at {}: {} message ids", ids->topic(),
                      ids->partition(), format_time(ids->time_ms()), count);
  return Status();
}

}  // namespace

bool is_queue_record(RecordKind kind) { return kind == RecordKind::kQueueSettle; }

void describe_queue_record(const format::LogRecord& record, Json& object, std::string& text,
                           QueueTotals& totals) {
  Status status;
  if (record.kind == RecordKind::kQueueSettle) {
    ++totals.records;
    totals.record_bytes += format::record_bytes(record.body.size());
    status = describe_settle(record, object, text, totals);
  } else {
    status = describe_ids(record, object, text, totals);
  }
  if (!status.ok()) {
    object["error"] = status.to_string();
    text += " " + status.to_string();
  }
}

}  // namespace tidemark::tools
