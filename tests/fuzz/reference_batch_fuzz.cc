// References and bodies from anybody, as they are and with length, magic and checksum made right. A
// reference that is read is written again byte for byte; a message that it stands for is one that a
// producer could have sent; a selection has the records that were kept, at their offsets.
//
// One byte for what is kept, three for the bytes of the first batch (little-endian), the first
// batch (a reference), the second one (a body).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/format/batch_select.h"
#include "log/format/record_batch.h"
#include "log/format/reference_batch.h"

namespace tidemark::format {
namespace {

constexpr size_t kHeadBytes = 4;

struct Kept {
  uint32_t offset_delta = 0;
  int64_t timestamp_ms = 0;
  std::vector<uint8_t> bytes;  // key and value

  friend bool operator==(const Kept&, const Kept&) = default;
};

Kept kept_of(const RecordView& record) {
  Kept kept{record.offset_delta, record.timestamp_ms, {record.key.begin(), record.key.end()}};
  kept.bytes.insert(kept.bytes.end(), record.value.begin(), record.value.end());
  return kept;
}

std::vector<Kept> read(ByteView batch) {
  auto reader = BatchReader::open(batch);
  TIDEMARK_CHECK(reader.ok());
  std::vector<Kept> records;
  RecordView record;
  while (reader->next(record)) {
    records.push_back(kept_of(record));
  }
  TIDEMARK_CHECK(reader->status().ok(), reader->status().to_string());
  return records;
}

// Base offset and leader epoch are no part of what is compared.
ByteView behind_stamp(ByteView batch) { return batch.subspan(kBatchStampBytes); }

BatchReference try_read(ByteView batch, uint32_t record) {
  const auto reference = read_reference(batch);
  if (!reference.ok()) {
    TIDEMARK_CHECK(reference.error().code() == ErrorCode::kMalformed);
    return {
        .position = LogPosition{8}, .bytes = kBatchHeaderBytes, .record = record, .headers = {}};
  }
  TIDEMARK_CHECK(is_reference(batch));
  const auto again = build_reference(*reference, decode_batch_header(batch)->base_timestamp_ms);
  TIDEMARK_CHECK(again.ok());
  TIDEMARK_CHECK(std::ranges::equal(behind_stamp(again->view()), behind_stamp(batch)));
  return *reference;
}

void try_resolve(const BatchReference& reference, ByteView body) {
  const auto batch = resolve_reference(reference, body);
  if (!batch.ok()) {
    TIDEMARK_CHECK(batch.error().code() == ErrorCode::kCorrupted);
    return;
  }
  const auto header = validate_produced_batch(batch->view());
  TIDEMARK_CHECK(header.ok(), header.error().to_string());
  TIDEMARK_CHECK(header->record_count == 1 && header->producer_id == -1);
  TIDEMARK_CHECK(reference.record < decode_batch_header(body)->record_count);
}

void try_select(ByteView batch, uint8_t mask) {
  std::vector<Kept> expected;
  const auto selected = select_records(batch, [&](const RecordView& record) {
    const bool keep = (mask >> (record.offset_delta % 8) & 1) != 0;
    if (keep) {
      expected.push_back(kept_of(record));
    }
    return keep;
  });
  if (!selected.ok()) {
    return;
  }
  TIDEMARK_CHECK(selected->kept == expected.size());
  const auto whole = decode_batch_header(batch);
  if (expected.empty() || expected.size() == whole->record_count) {
    TIDEMARK_CHECK(selected->batch.size() == 0);
    return;
  }
  const auto header = verify_batch(selected->batch.view());
  TIDEMARK_CHECK(header.ok(), header.error().to_string());
  TIDEMARK_CHECK(header->last_offset_delta == whole->last_offset_delta);
  TIDEMARK_CHECK(header->record_count == expected.size());
  TIDEMARK_CHECK(header->base_offset == whole->base_offset);
  TIDEMARK_CHECK(read(selected->batch.view()) == expected);
  const auto again = select_records(selected->batch.view(), [](const RecordView&) { return true; });
  TIDEMARK_CHECK(again.ok() && again->kept == selected->kept && again->batch.size() == 0);
}

void try_batches(ByteView first, ByteView body, uint8_t mask) {
  const BatchReference reference = try_read(first, mask % 4);
  try_resolve(reference, body);
  try_select(body, mask);
}

// With length, magic and checksum as they should be, if it is large enough to have them.
std::vector<uint8_t> repaired(ByteView input) {
  std::vector<uint8_t> batch(input.begin(), input.end());
  if (batch.size() >= kBatchHeaderBytes) {
    store_be(batch.data() + 8, static_cast<uint32_t>(batch.size() - 12));
    batch[16] = 2;
    store_be(batch.data() + 17, crc32c(ByteView(batch).subspan(21)));
  }
  return batch;
}

void try_input(ByteView input) {
  if (input.size() < kHeadBytes || input.size() > 2 * limits::kBatchBytesMax) {
    return;
  }
  const auto head = load_le<uint32_t>(input.data());
  const auto mask = static_cast<uint8_t>(head);
  const ByteView rest = input.subspan(kHeadBytes);
  const size_t border = std::min<size_t>(head >> 8, rest.size());
  try_batches(rest.first(border), rest.subspan(border), mask);
  try_batches(repaired(rest.first(border)), repaired(rest.subspan(border)), mask);
}

}  // namespace
}  // namespace tidemark::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::format::try_input({data, size});
  return 0;
}
