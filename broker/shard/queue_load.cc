#include "broker/shard/queue_load.h"

#include <algorithm>
#include <limits>

#include "log/base/checksum.h"
#include "log/base/limits.h"
#include "log/format/message_properties.h"
#include "log/format/record_batch.h"

namespace tidemark::shard {

namespace {

constexpr size_t kQuickBytes = 64 * limits::kKiB;

QueueMessage to_message(const partition::BatchRef& ref, const format::RecordView& record,
                        const ParseWanted& wanted) {
  QueueMessage out;
  out.message.offset = ref.base + record.offset_delta;
  out.message.bytes =
      static_cast<uint32_t>(record.key.size() + record.value.size() + record.headers.size());
  if (record.has_key) {
    // 0 stands for no key.
    out.message.key_hash = std::max<uint64_t>(xxh3(record.key), 1);
  }
  int64_t ttl_ms = wanted.ttl_ms;
  if (record.header_count > 0) {
    const format::MessageProperties properties = format::read_properties(record);
    out.message.priority = std::min<uint8_t>(properties.priority, queue::kPriorities - 1);
    // What dies brings its headers along, but does not die again by them; what was sent back does.
    if (properties.ttl_ms.has_value() && !format::is_dead_letter(record)) {
      ttl_ms = *properties.ttl_ms;
    }
  }
  if (ttl_ms >= 0 && ttl_ms < std::numeric_limits<int64_t>::max() - ref.received_ms) {
    out.expires_ms = ref.received_ms + ttl_ms;
  }
  out.wanted = wanted.filter == nullptr || wanted.filter->matches(record);
  return out;
}

Status parse_batch(const partition::BatchRef& ref, ByteView batch, const ParseWanted& wanted,
                   std::vector<QueueMessage>& out) {
  ASSIGN_OR_RETURN(format::BatchReader reader, format::BatchReader::open(batch));
  if (reader.header().record_count != ref.count) {
    return Status(ErrorCode::kCorrupted, "a batch of " +
                                             std::to_string(reader.header().record_count) +
                                             " messages, not " + std::to_string(ref.count));
  }
  format::RecordView record;
  while (reader.next(record)) {
    out.push_back(to_message(ref, record, wanted));
  }
  return reader.status();
}

}  // namespace

bool is_quick_to_parse(std::span<const Result<SharedBytes>> batches) {
  size_t bytes = 0;
  for (const Result<SharedBytes>& batch : batches) {
    if (!batch.ok()) {
      continue;
    }
    bytes += batch->size();
    const Result<format::BatchHeader> header = format::decode_batch_header(batch->view());
    if (bytes > kQuickBytes || (header.ok() && header->codec != format::Codec::kNone)) {
      return false;
    }
  }
  return true;
}

ParsedBatches parse_batches(std::span<const partition::BatchRef> refs,
                            std::span<const Result<SharedBytes>> batches,
                            const ParseWanted& wanted) {
  ParsedBatches out;
  for (size_t i = 0; i < batches.size(); ++i) {
    const size_t before = out.messages.size();
    const Status status = batches[i].ok()
                              ? parse_batch(refs[i], batches[i]->view(), wanted, out.messages)
                              : batches[i].status();
    if (!status.ok()) {
      out.messages.resize(before);
      out.damaged.push_back({refs[i], status});
    }
  }
  return out;
}

}  // namespace tidemark::shard
