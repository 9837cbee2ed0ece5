#include "log/format/reference_batch.h"

#include <algorithm>
#include <array>

#include "log/base/check.h"
#include "log/base/coding.h"
#include "log/format/batch_builder.h"
#include "log/format/batch_layout.h"

namespace tidemark::format {
namespace {

constexpr std::string_view kReferenceKey = "tm-ref";

// The value of the one record, little-endian.
constexpr size_t kPositionAt = 0;
constexpr size_t kBytesAt = 8;
constexpr size_t kRecordAt = 12;
constexpr size_t kReservedAt = 16;
constexpr size_t kValueBytes = 24;

Status malformed(const std::string& what) {
  return Status(ErrorCode::kMalformed, "reference batch: " + what);
}

Status corrupted(const BatchReference& reference, std::string_view what) {
  return Status(ErrorCode::kCorrupted,
                "message " + std::to_string(reference.record) + " of the batch at log position " +
                    std::to_string(reference.position.value()) + ": " + std::string(what));
}

bool is_possible(const BatchReference& reference) {
  return reference.bytes >= kBatchHeaderBytes && reference.bytes <= limits::kBatchBytesMax &&
         reference.record < limits::kRecordsPerBatchMax;
}

size_t bytes_of(const std::pair<std::string, std::string>& header) {
  return header.first.size() + header.second.size();
}

HeaderInput input_of(const std::pair<std::string, std::string>& header) {
  return {.key = header.first, .value = as_bytes(header.second)};
}

// The record that is referred to; `reader` holds its bytes.
Result<RecordView> find_record(const BatchReference& reference, BatchReader& reader) {
  RecordView record;
  for (uint32_t i = 0; i <= reference.record; ++i) {
    if (!reader.next(record)) {
      return corrupted(
          reference,
          reader.status().ok()
              ? "the batch has " + std::to_string(reader.header().record_count) + " messages"
              : std::string(reader.status().context()));
    }
  }
  return record;
}

// As many of the added headers as the message has room for, the newest.
void add_headers(const BatchReference& reference, const RecordView& record,
                 std::vector<HeaderInput>& headers) {
  size_t message_bytes = record.key.size() + record.value.size();
  for (const HeaderInput& header : headers) {
    message_bytes += header.key.size() + header.value.size();
  }
  auto first = reference.headers.end();
  for (size_t count = headers.size();
       first != reference.headers.begin() && count < limits::kHeadersPerMessageMax; ++count) {
    message_bytes += bytes_of(*(first - 1));
    if (message_bytes > limits::kMessageBytesMax) {
      break;
    }
    --first;
  }
  std::transform(first, reference.headers.end(), std::back_inserter(headers), input_of);
}

}  // namespace

bool is_reference(ByteView batch) {
  return batch.size() >= kBatchHeaderBytes && batch[kMagicAt] == kMagic &&
         (load_be<uint16_t>(batch.data() + kAttributesAt) & kControlBit) != 0;
}

Result<Buffer> build_reference(const BatchReference& reference, int64_t timestamp_ms) {
  TIDEMARK_CHECK(is_possible(reference), "a reference to what is no message of a batch");
  std::array<uint8_t, kValueBytes> value{};
  store_le(value.data() + kPositionAt, reference.position.value());
  store_le(value.data() + kBytesAt, reference.bytes);
  store_le(value.data() + kRecordAt, reference.record);
  store_le(value.data() + kReservedAt, uint64_t{0});
  std::vector<HeaderInput> headers;
  std::transform(reference.headers.begin(), reference.headers.end(), std::back_inserter(headers),
                 input_of);
  BatchBuilder builder;
  const Status added = builder.append({.timestamp_ms = timestamp_ms,
                                       .has_key = true,
                                       .key = as_bytes(kReferenceKey),
                                       .value = value,
                                       .headers = headers});
  if (!added.ok()) {
    return Status(ErrorCode::kLimitExceeded, "reference batch: " + std::string(added.context()));
  }
  ASSIGN_OR_RETURN(Buffer batch, builder.finish(Codec::kNone, 1, {}));
  store_be(batch.data() + kAttributesAt, kControlBit);
  put_crc(batch.mutable_view());
  return batch;
}

Result<BatchReference> read_reference(ByteView batch) {
  Result<BatchReader> reader = BatchReader::open(batch);
  if (!reader.ok()) {
    return malformed(std::string(reader.error().context()));
  }
  RecordView record;
  if (!is_reference(batch) || !reader->next(record)) {
    return malformed(reader->status().ok() ? "not a control batch"
                                           : std::string(reader->status().context()));
  }
  if (as_text(record.key) != kReferenceKey || record.value.size() != kValueBytes) {
    return malformed("a key or a value that references do not have");
  }
  const uint8_t* const value = record.value.data();
  BatchReference reference{.position = LogPosition{load_le<uint64_t>(value + kPositionAt)},
                           .bytes = load_le<uint32_t>(value + kBytesAt),
                           .record = load_le<uint32_t>(value + kRecordAt),
                           .headers = {}};
  if (!is_possible(reference)) {
    return malformed("it refers to message " + std::to_string(reference.record) +
                     " of a batch of " + std::to_string(reference.bytes) + " bytes");
  }
  HeaderCursor cursor(record.headers, record.header_count);
  HeaderView header;
  while (cursor.next(header)) {
    reference.headers.emplace_back(header.key, as_text(header.value));
  }
  // One reference has one encoding: what is not compared here field by field is compared at once.
  const Result<Buffer> again = build_reference(reference, reader->header().base_timestamp_ms);
  if (!again.ok() || !std::ranges::equal(again->view().subspan(kLeaderEpochAt + 4),
                                         batch.subspan(kLeaderEpochAt + 4))) {
    return malformed("fields that references do not have");
  }
  return reference;
}

Result<Buffer> resolve_reference(const BatchReference& reference, ByteView body) {
  const Result<BatchHeader> verified = verify_whole_batch(body);
  if (!verified.ok()) {
    return corrupted(reference, verified.error().context());
  }
  if (is_reference(body)) {
    return corrupted(reference, "it is a reference itself");
  }
  Result<BatchReader> reader = BatchReader::open(body);
  if (!reader.ok()) {
    return corrupted(reference, reader.error().context());
  }
  ASSIGN_OR_RETURN(const RecordView record, find_record(reference, *reader));
  std::vector<HeaderInput> headers;
  headers.reserve(record.header_count + reference.headers.size());
  HeaderCursor cursor(record.headers, record.header_count);
  HeaderView header;
  while (cursor.next(header)) {
    headers.push_back({.key = header.key, .value = header.value, .has_value = header.has_value});
  }
  if (cursor.failed()) {
    return corrupted(reference, "bad headers");
  }
  add_headers(reference, record, headers);
  BatchBuilder builder;
  const Status added = builder.append({.timestamp_ms = record.timestamp_ms,
                                       .has_key = record.has_key,
                                       .key = record.key,
                                       .has_value = record.has_value,
                                       .value = record.value,
                                       .headers = headers});
  if (!added.ok()) {
    return corrupted(reference, added.context());
  }
  return builder.finish(Codec::kNone, 1, {});
}

}  // namespace tidemark::format
