// What the descriptions of records in `log dump` share.
//
// Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "flatbuffers/flatbuffers.h"
#include "log/base/bytes.h"
#include "log/base/result.h"
#include "log/format/log_record.h"
#include "log/format/schedule_set.h"

namespace tidemark::tools {

// The table of a control record, or nullptr. The log may be damaged in ways that its hashes do not
// show: nothing is believed here.
template <typename T>
const T* control_table(ByteView body) {
  flatbuffers::Verifier verifier(body.data(), body.size());
  return body.size() >= 8 && verifier.VerifyBuffer<T>(nullptr)
             ? flatbuffers::GetRoot<T>(body.data())
             : nullptr;
}

// Whether the elements of a vector lie where structs of their kind may be read: the Verifier does
// not look. nullptr: there are none.
template <typename Struct>
bool is_aligned(const flatbuffers::Vector<const Struct*>* structs) {
  return structs == nullptr || structs->size() == 0 ||
         reinterpret_cast<uintptr_t>(structs->Data()) % alignof(Struct) == 0;
}

inline Status unreadable_record() {
  return Status(ErrorCode::kMalformed, "the record does not verify");
}

// Keys, values and headers of the records in a batch; of a batch that cannot be read, all of it.
uint64_t body_bytes(ByteView batch);

// What is in a schedule set.
struct SetSummary {
  format::ScheduleHeader header;
  int64_t due_first_ms = INT64_MAX;  // as in the set: of a half message a delay, maybe
  int64_t due_last_ms = INT64_MIN;
  uint64_t body_bytes = 0;
};

Result<SetSummary> summarize_set(ByteView set);

// Adds what a MessageIds record says: fields to `object`, words to `text`. One that cannot be read
// gets an "error".
void describe_message_ids(ByteView body, nlohmann::ordered_json& object, std::string& text);

// The same for what compaction writes.
bool is_compaction_record(format::RecordKind kind);
void describe_compaction(const format::LogRecord& record, nlohmann::ordered_json& object,
                         std::string& text);

}  // namespace tidemark::tools
