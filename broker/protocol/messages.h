// Typed access to the tables of a frame: verified views of what came in, builders for what goes
// out.
//
// Every table passes the FlatBuffers Verifier (depth and count bounded), and its vectors are
// aligned, before a field is read.
#pragma once

#include <string>
#include <string_view>

#include "broker/protocol/alignment.h"
#include "broker/protocol/frame.h"
#include "broker/protocol/schema/protocol_generated.h"
#include "flatbuffers/flatbuffers.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::protocol {

// The table of a frame as T, or kMalformed naming the frame type. The pointer lives as long as the
// frame's bytes. `table` lies at a multiple of 8, as in every frame: the Verifier counts from
// there.
template <typename T>
Result<const T*> read_table(ByteView table, std::string_view name) {
  flatbuffers::Verifier verifier(table.data(), table.size(), /*max_depth=*/16,
                                 /*max_tables=*/limits::kTablesPerFrameMax);
  if (table.size() < 8 || !verifier.VerifyBuffer<T>(nullptr)) {
    return Status(ErrorCode::kMalformed,
                  std::string("table of ") + std::string(name) + " does not verify");
  }
  const T* const root = flatbuffers::GetRoot<T>(table.data());
  if (!vectors_aligned(*root)) {
    return Status(ErrorCode::kMalformed,
                  "table of " + std::string(name) + " has a vector that is not aligned");
  }
  return root;
}

inline std::string_view view(const flatbuffers::String* text) {
  return text ? std::string_view(text->c_str(), text->size()) : std::string_view();
}

// Ok when absent or code 0.
Status to_status(const fbs::Error* error);
uint32_t retry_after_ms(const fbs::Error* error);

// nullptr offset for an ok status (the field is then left out).
flatbuffers::Offset<fbs::Error> build_error(flatbuffers::FlatBufferBuilder& builder,
                                            const Status& status, uint32_t retry_after_ms = 0);

inline ByteView finished(const flatbuffers::FlatBufferBuilder& builder) {
  return {builder.GetBufferPointer(), builder.GetSize()};
}

// An ErrorReply frame for a request that cannot be answered in its own type.
OutFrame make_error_frame(uint64_t correlation, const Status& status, uint32_t retry_after_ms = 0);

}  // namespace tidemark::protocol
