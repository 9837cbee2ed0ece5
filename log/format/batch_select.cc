#include "log/format/batch_select.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "log/base/coding.h"
#include "log/base/compression.h"
#include "log/format/batch_layout.h"

namespace tidemark::format {
namespace {

// Fast, and better than what most producers use.
constexpr int kZstdLevel = 3;

// The kept records as ranges of the plain block; neighbours are one range.
struct Kept {
  std::vector<ByteView> ranges;
  size_t bytes = 0;
  uint32_t count = 0;
  int64_t max_timestamp_ms = INT64_MIN;

  void add(ByteView record, int64_t timestamp_ms) {
    if (!ranges.empty() && ranges.back().data() + ranges.back().size() == record.data()) {
      ranges.back() = {ranges.back().data(), ranges.back().size() + record.size()};
    } else {
      ranges.push_back(record);
    }
    bytes += record.size();
    ++count;
    max_timestamp_ms = std::max(max_timestamp_ms, timestamp_ms);
  }
};

// The header of `whole` and the kept records; how the rest of the header changes is not yet in it.
Buffer join(ByteView whole, const Kept& kept) {
  Buffer batch(kBatchHeaderBytes + kept.bytes);
  std::memcpy(batch.data(), whole.data(), kBatchHeaderBytes);
  uint8_t* at = batch.data() + kBatchHeaderBytes;
  for (const ByteView range : kept.ranges) {
    std::memcpy(at, range.data(), range.size());
    at += range.size();
  }
  return batch;
}

Result<Buffer> compress(Buffer plain) {
  Buffer batch(limits::kBatchBytesMax);
  std::memcpy(batch.data(), plain.data(), kBatchHeaderBytes);
  const Result<size_t> size =
      zstd_compress_into(plain.view().subspan(kBatchHeaderBytes), kZstdLevel,
                         batch.mutable_view().subspan(kBatchHeaderBytes));
  if (!size.ok()) {
    return Status(size.error().code(),
                  "a batch of " + std::to_string(plain.size()) +
                      " bytes with records left out: " + std::string(size.error().context()));
  }
  return Buffer::copy_of(batch.view().first(kBatchHeaderBytes + *size));
}

}  // namespace

Result<Selection> select_records(ByteView batch, const std::function<bool(const RecordView&)>& keep,
                                 SelectedCodec wanted) {
  ASSIGN_OR_RETURN(BatchReader reader, BatchReader::open(batch));
  Kept kept;
  RecordView record;
  ByteView before = reader.unread();
  while (reader.next(record)) {
    if (keep(record)) {
      kept.add(before.first(before.size() - reader.unread().size()), record.timestamp_ms);
    }
    before = reader.unread();
  }
  RETURN_IF_ERROR(reader.status());
  Selection selection;
  selection.kept = kept.count;
  if (kept.count == 0 || kept.count == reader.header().record_count) {
    return selection;
  }
  Codec codec = Codec::kNone;
  selection.batch = join(batch, kept);
  const bool compressed = reader.header().codec != Codec::kNone;
  if (selection.batch.size() > limits::kBatchBytesMax ||
      (compressed && wanted == SelectedCodec::kSame)) {
    codec = Codec::kZstd;
    ASSIGN_OR_RETURN(selection.batch, compress(std::move(selection.batch)));
  }
  uint8_t* const at = selection.batch.data();
  const auto attributes = load_be<uint16_t>(at + kAttributesAt);
  store_be(at + kLengthAt, static_cast<uint32_t>(selection.batch.size() - kLengthCoversFrom));
  store_be(at + kAttributesAt,
           static_cast<uint16_t>((attributes & ~kCodecMask) | static_cast<uint16_t>(codec)));
  store_be(at + kMaxTimestampAt, kept.max_timestamp_ms);
  store_be(at + kRecordCountAt, kept.count);
  put_crc(selection.batch.mutable_view());
  return selection;
}

}  // namespace tidemark::format
