#include "tools/log_dump_txns.h"

#include <array>

#include <fmt/format.h>

#include "log/format/record_batch.h"
#include "log/format/schema/control_generated.h"
#include "tidemark/transaction.h"
#include "tools/json_text.h"
#include "tools/log_dump_records.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using format::RecordKind;
namespace fbs = format::fbs;

// As the tool prints it elsewhere.
std::string id_text(uint64_t producer, uint64_t number, uint16_t shard) {
  return client::TransactionId{.producer = producer, .number = number, .shard = shard}.to_string();
}

std::string text_of(const flatbuffers::String* text) {
  return text == nullptr ? std::string() : text->str();
}

// The shard is not in every record: without it a transaction is named by producer and number.
void add_name(uint64_t producer, uint64_t number, Json& object, std::string& text) {
  object["producer"] = producer;
  object["epoch"] = number >> 48;
  object["count"] = number & ((uint64_t{1} << 48) - 1);
  text += fmt::format(" {}-{}-{}", producer, number >> 48, number & ((uint64_t{1} << 48) - 1));
}

struct HalfPayload {
  uint64_t messages = 0;
  uint64_t body_bytes = 0;
};

Result<HalfPayload> payload_of(const format::HalfRecord& half) {
  if (half.schedule) {
    ASSIGN_OR_RETURN(const SetSummary set, summarize_set(half.payload));
    return HalfPayload{.messages = set.header.items, .body_bytes = set.body_bytes};
  }
  ASSIGN_OR_RETURN(const format::BatchHeader batch, format::decode_batch_header(half.payload));
  return HalfPayload{.messages = batch.record_count, .body_bytes = body_bytes(half.payload)};
}

Status describe_half(const format::LogRecord& record, Json& object, std::string& text,
                     TxnTotals& totals) {
  ASSIGN_OR_RETURN(const format::HalfRecord half, format::decode_half(record));
  ASSIGN_OR_RETURN(const HalfPayload payload, payload_of(half));
  if (record.kind == RecordKind::kHalf) {
    totals.half_messages += payload.messages;
    totals.half_bytes += half.payload.size();
    totals.half_body_bytes += payload.body_bytes;
  }
  const std::string id = id_text(half.producer, half.number, half.coordinator.value());
  const std::string group(half.group);
  const std::string reference(half.reference);
  object["txn"] = id;
  add_bytes_field(object, "group", group);
  add_bytes_field(object, "reference", reference);
  object["topic_id"] = half.partition.topic.value();
  object["partition"] = half.partition.index.value();
  object["received_ms"] = half.received_ms;
  object["index"] = half.index;
  object["timeout_ms"] = half.timeout_ms;
  object["delayed"] = half.schedule;
  object["messages"] = payload.messages;
  object["payload_bytes"] = half.payload.size();
  object["body_bytes"] = payload.body_bytes;
  text += fmt::format(
      " {} group '{}'{} topic {} partition {} at {}: part {}, {} {}messages in {} "
      "bytes",
      id, printable(group), reference.empty() ? "" : " reference '" + printable(reference) + "'",
      half.partition.topic.value(), half.partition.index.value(), format_time(half.received_ms),
      half.index, payload.messages, half.schedule ? "delayed " : "", half.payload.size());
  return Status();
}

constexpr std::array<std::string_view, 4> kEndedBy = {"producer", "check", "operator",
                                                      "coordinator"};

Status describe_end(ByteView body, Json& object, std::string& text) {
  const auto* end = control_table<fbs::TxnEnd>(body);
  if (end == nullptr) {
    return unreadable_record();
  }
  const std::string id = id_text(end->producer(), end->number(), end->shard());
  const std::string_view outcome = end->commit() ? "commit" : "rollback";
  const std::string_view by = end->by() < kEndedBy.size() ? kEndedBy.at(end->by()) : "unknown";
  object["txn"] = id;
  object["outcome"] = outcome;
  object["by"] = by;
  object["halves"] = end->halves() == UINT32_MAX ? Json() : Json(end->halves());
  Json shards = Json::array();
  if (end->shards() != nullptr) {
    for (const uint16_t shard : *end->shards()) {
      shards.push_back(shard);
    }
  }
  text += fmt::format(" {} {} by {} at {}{}", id, outcome, by, format_time(end->time_ms()),
                      shards.empty() ? "" : ", shards " + shards.dump());
  object["shards"] = std::move(shards);
  object["time_ms"] = end->time_ms();
  return Status();
}

Status describe_join(ByteView body, Json& object, std::string& text) {
  const auto* join = control_table<fbs::TxnJoin>(body);
  if (join == nullptr) {
    return unreadable_record();
  }
  add_name(join->producer(), join->number(), object, text);
  object["participant"] = join->participant();
  add_bytes_field(object, "group", text_of(join->group()));
  add_bytes_field(object, "reference", text_of(join->reference()));
  object["time_ms"] = join->time_ms();
  text += fmt::format(" has parts on shard {}", join->participant());
  return Status();
}

Status describe_confirm(ByteView body, Json& object, std::string& text) {
  const auto* confirm = control_table<fbs::TxnConfirm>(body);
  if (confirm == nullptr) {
    return unreadable_record();
  }
  add_name(confirm->producer(), confirm->number(), object, text);
  object["participant"] = confirm->participant();
  text += fmt::format(" followed by shard {}", confirm->participant());
  return Status();
}

Status describe_names(ByteView body, Json& object, std::string& text) {
  const auto* names = control_table<fbs::TxnNames>(body);
  if (names == nullptr || !is_aligned(names->names())) {
    return unreadable_record();
  }
  Json list = Json::array();
  if (names->names() != nullptr) {
    for (const fbs::TxnName* name : *names->names()) {
      Json one = Json::object();
      add_name(name->producer(), name->number(), one, text);
      list.push_back(std::move(one));
    }
  }
  object["txns"] = std::move(list);
  object["time_ms"] = names->time_ms();
  text += fmt::format(" at {}", format_time(names->time_ms()));
  return Status();
}

Status describe_forget(ByteView body, Json& object, std::string& text) {
  const auto* forget = control_table<fbs::TxnForget>(body);
  if (forget == nullptr) {
    return unreadable_record();
  }
  object["ended_before_ms"] = forget->ended_before_ms();
  object["time_ms"] = forget->time_ms();
  text += fmt::format(" what ended before {}", format_time(forget->ended_before_ms()));
  return Status();
}

// Group and instance, with a zero byte between them.
Status describe_producer_name(ByteView body, Json& object, std::string& text) {
  const auto* named = control_table<fbs::ProducerName>(body);
  if (named == nullptr) {
    return unreadable_record();
  }
  const std::string name = text_of(named->name());
  const size_t cut = name.find('\0');
  const std::string group = name.substr(0, cut);
  const std::string instance = cut == std::string::npos ? std::string() : name.substr(cut + 1);
  add_bytes_field(object, "group", group);
  add_bytes_field(object, "instance", instance);
  object["time_ms"] = named->time_ms();
  text += fmt::format(" group '{}' instance '{}'", printable(group), printable(instance));
  return Status();
}

// Both kinds name producer and epoch alike.
template <typename T>
Status describe_fence(ByteView body, Json& object, std::string& text) {
  const auto* fence = control_table<T>(body);
  if (fence == nullptr) {
    return unreadable_record();
  }
  object["producer"] = fence->producer();
  object["epoch"] = fence->epoch();
  text += fmt::format(" producer {} below epoch {}", fence->producer(), fence->epoch());
  return Status();
}

Status describe(const format::LogRecord& record, Json& object, std::string& text,
                TxnTotals& totals) {
  if (record.kind == RecordKind::kHalf || record.kind == RecordKind::kRelocateHalf) {
    return describe_half(record, object, text, totals);
  }
  if (record.kind == RecordKind::kTxnEnd || record.kind == RecordKind::kTxnSettle) {
    return describe_end(record.body, object, text);
  }
  if (record.kind == RecordKind::kTxnJoin) {
    return describe_join(record.body, object, text);
  }
  if (record.kind == RecordKind::kTxnConfirm) {
    return describe_confirm(record.body, object, text);
  }
  if (record.kind == RecordKind::kTxnForget) {
    return describe_forget(record.body, object, text);
  }
  if (record.kind == RecordKind::kProducerName) {
    return describe_producer_name(record.body, object, text);
  }
  if (record.kind == RecordKind::kProducerFence) {
    return describe_fence<fbs::ProducerFence>(record.body, object, text);
  }
  if (record.kind == RecordKind::kProducerFenced) {
    return describe_fence<fbs::ProducerFenced>(record.body, object, text);
  }
  return describe_names(record.body, object, text);
}

}  // namespace

bool is_txn_record(RecordKind kind) {
  return kind == RecordKind::kHalf || kind == RecordKind::kRelocateHalf ||
         kind == RecordKind::kProducerName || kind == RecordKind::kProducerFenced ||
         (kind >= RecordKind::kTxnEnd && kind <= RecordKind::kProducerFence);
}

void describe_txn_record(const format::LogRecord& record, Json& object, std::string& text,
                         TxnTotals& totals) {
  ++totals.records;
  const Status status = describe(record, object, text, totals);
  if (!status.ok()) {
    object["error"] = status.to_string();
    text += " " + status.to_string();
  }
}

}  // namespace tidemark::tools
