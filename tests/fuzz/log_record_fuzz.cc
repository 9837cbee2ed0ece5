// Payloads of log entries. A payload that is read to its end has exactly one encoding: building the
// same records again gives the same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "log/base/check.h"
#include "log/base/limits.h"
#include "log/format/log_record.h"

namespace tidemark::format {
namespace {

void try_payload(ByteView payload) {
  RecordListReader reader(payload);
  RecordListBuilder builder;
  LogRecord record;
  while (reader.next(record)) {
    TIDEMARK_CHECK(record.body_offset + record.body.size() <= payload.size());
    TIDEMARK_CHECK(record.body.data() == payload.data() + record.body_offset);
    const auto produce = decode_produce(record);
    if (produce.ok()) {
      TIDEMARK_CHECK(produce->batch.data() == payload.data() + produce->batch_offset);
      builder.add_produce(produce->partition, produce->received_ms, produce->batch, produce->ttl,
                          produce->sequences);
    } else {
      builder.add(record.kind, record.body);
    }
  }
  if (reader.status().ok()) {
    const SharedBytes again = builder.take();
    TIDEMARK_CHECK(
        std::equal(payload.begin(), payload.end(), again.data(), again.data() + again.size()));
  }
}

}  // namespace
}  // namespace tidemark::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::format::try_payload({data, size});
  return 0;
}
