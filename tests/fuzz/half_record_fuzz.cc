// Parts of transactions among the records of an entry, and the input as the body of one. What is
// decoded lies within the payload and has exactly one encoding: building it again gives the same
// bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "log/base/check.h"
#include "log/base/limits.h"
#include "log/format/log_record.h"

namespace tidemark::format {
namespace {

bool same_bytes(ByteView a, ByteView b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void try_record(ByteView payload, const LogRecord& record) {
  const Result<HalfRecord> half = decode_half(record);
  if (!half.ok()) {
    return;
  }
  const size_t payload_end = half->payload_offset + half->payload.size();
  TIDEMARK_CHECK(half->payload.data() == payload.data() + half->payload_offset);
  TIDEMARK_CHECK(payload_end == record.body_offset + record.body.size());
  TIDEMARK_CHECK(half->group.size() <= limits::kTxnTextBytesMax &&
                 half->reference.size() <= limits::kTxnTextBytesMax);
  RecordListBuilder builder;
  builder.add_half(record.kind, *half);
  const SharedBytes again = builder.take();
  TIDEMARK_CHECK(again.size() == record_bytes(record.body.size()));
  TIDEMARK_CHECK(
      same_bytes(again.view().subspan(kRecordHeaderBytes, record.body.size()), record.body));
}

void try_payload(ByteView payload) {
  RecordListReader reader(payload);
  LogRecord record;
  while (reader.next(record)) {
    try_record(payload, record);
  }
}

void try_body(ByteView body) {
  if (body.size() <= limits::kBatchBytesMax) {
    try_record(body, {.kind = RecordKind::kHalf, .body = body, .body_offset = 0});
  }
}

}  // namespace
}  // namespace tidemark::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::format::try_payload({data, size});
  tidemark::format::try_body({data, size});
  return 0;
}
