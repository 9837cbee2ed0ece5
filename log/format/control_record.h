// Control records: FlatBuffers tables as bodies of log records (schema/control.fbs).
#pragma once

#include <string_view>

#include "flatbuffers/flatbuffers.h"
#include "log/base/bytes.h"
#include "log/base/check.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::format {

// The table in a record of a committed entry. The entry's hash was right, so a body that does not
// verify is our own bug.
template <typename T>
const T& control_table(ByteView body) {
  flatbuffers::Verifier verifier(body.data(), body.size());
  TIDEMARK_CHECK(body.size() >= 8 && verifier.VerifyBuffer<T>(nullptr),
                 "control record does not verify");
  return *flatbuffers::GetRoot<T>(body.data());
}

// A text of such a table; empty if it has none. Views the record.
inline std::string_view control_text(const flatbuffers::String* text) {
  return text ? std::string_view(text->c_str(), text->size()) : std::string_view();
}

}  // namespace tidemark::format
