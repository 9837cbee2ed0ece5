#include "tools/log_dump_records.h"

#include <algorithm>

#include "log/format/record_batch.h"

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

}  // namespace tidemark::tools
