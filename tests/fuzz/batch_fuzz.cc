// Record batches from anybody: the input as it is, and the input with its length, magic and
// checksum made right, so that the fuzzer gets past them. What the broker accepts, a reader must
// read to the end and a builder must be able to write again with the same content.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/format/batch_builder.h"
#include "log/format/record_batch.h"

namespace tidemark::format {
namespace {

struct Record {
  RecordView view;
  std::vector<HeaderInput> headers;
};

RecordInput input_of(const Record& record) {
  return {.timestamp_ms = record.view.timestamp_ms,
          .has_key = record.view.has_key,
          .key = record.view.key,
          .has_value = record.view.has_value,
          .value = record.view.value,
          .headers = record.headers};
}

bool same_bytes(ByteView a, ByteView b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

bool same(const Record& a, const Record& b) {
  return a.view.timestamp_ms == b.view.timestamp_ms && a.view.has_key == b.view.has_key &&
         same_bytes(a.view.key, b.view.key) && a.view.has_value == b.view.has_value &&
         same_bytes(a.view.value, b.view.value) &&
         std::equal(a.headers.begin(), a.headers.end(), b.headers.begin(), b.headers.end(),
                    [](const HeaderInput& x, const HeaderInput& y) {
                      return x.key == y.key && x.has_value == y.has_value &&
                             same_bytes(x.value, y.value);
                    });
}

// All records; they are sound if `must_be_sound`.
std::vector<Record> read(BatchReader& reader, bool must_be_sound) {
  std::vector<Record> records;
  Record record;
  while (reader.next(record.view)) {
    record.headers.clear();
    HeaderCursor cursor(record.view.headers, record.view.header_count);
    HeaderView header;
    while (cursor.next(header)) {
      record.headers.push_back({header.key, header.value, header.has_value});
    }
    TIDEMARK_CHECK(!must_be_sound || !cursor.failed());
    TIDEMARK_CHECK(record.view.offset_delta == records.size() || !must_be_sound);
    records.push_back(record);
  }
  if (must_be_sound) {
    TIDEMARK_CHECK(reader.status().ok(), reader.status().to_string());
    TIDEMARK_CHECK(records.size() == reader.header().record_count);
  }
  return records;
}

void check_rebuild(const std::vector<Record>& records) {
  BatchBuilder builder;
  for (const Record& record : records) {
    const Status status = builder.append(input_of(record));
    if (!status.ok()) {
      // The batch may have been compressed, and its times may be far apart.
      TIDEMARK_CHECK(status.code() == ErrorCode::kLimitExceeded ||
                     status.code() == ErrorCode::kInvalidArgument);
      return;
    }
  }
  const auto batch = builder.finish(Codec::kZstd, 1, {});
  TIDEMARK_CHECK(batch.ok(), batch.error().to_string());
  TIDEMARK_CHECK(validate_produced_batch(batch->view()).ok());
  auto reader = BatchReader::open(batch->view());
  TIDEMARK_CHECK(reader.ok());
  const std::vector<Record> again = read(*reader, true);
  TIDEMARK_CHECK(std::equal(records.begin(), records.end(), again.begin(), again.end(), same));
}

void try_batch(ByteView batch) {
  static_cast<void>(batch_bytes_from_prefix(batch).ok());
  const bool decodes = decode_batch_header(batch).ok();
  const bool verifies = verify_batch(batch).ok();
  const auto valid = validate_produced_batch(batch);
  TIDEMARK_CHECK(decodes || !verifies);
  TIDEMARK_CHECK(verifies || !valid.ok());
  auto reader = BatchReader::open(batch);
  TIDEMARK_CHECK(decodes || !reader.ok());
  if (!reader.ok()) {
    TIDEMARK_CHECK(!valid.ok() || reader.error().code() == ErrorCode::kUnsupportedType);
    return;
  }
  const std::vector<Record> records = read(*reader, valid.ok());
  if (valid.ok()) {
    check_rebuild(records);
  }
}

// The input with length, magic and checksum as they should be.
void try_repaired(ByteView input) {
  std::vector<uint8_t> batch(input.begin(), input.end());
  store_be(batch.data() + 8, static_cast<uint32_t>(batch.size() - 12));
  batch[16] = 2;
  store_be(batch.data() + 17, crc32c(ByteView(batch).subspan(21)));
  try_batch(batch);
}

}  // namespace
}  // namespace tidemark::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::format::try_batch({data, size});
  if (size >= tidemark::format::kBatchHeaderBytes && size <= tidemark::limits::kBatchBytesMax) {
    tidemark::format::try_repaired({data, size});
  }
  return 0;
}
