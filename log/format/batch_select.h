// A batch with some of its records: what a reader with a filter gets, or a consumer of single
// messages. As published for compacted batches: offset deltas, the last offset delta, producer,
// attributes but the codec, and what is stamped are those of the whole batch, so that offsets stay
// and the reader goes on behind all of it; the max timestamp is the largest of what is kept (with
// log append time: the batch's, which is every record's). The records are copied byte by byte, so
// the base timestamp stays, too.
#pragma once

#include <cstdint>
#include <functional>

#include "log/base/bytes.h"
#include "log/base/result.h"
#include "log/format/record_batch.h"

namespace tidemark::format {

struct Selection {
  uint32_t kept = 0;
  // All are kept: empty, use the batch as it is. Else the new batch; empty if none is kept. Codec
  // none; zstd only if it would exceed limits::kBatchBytesMax without, or as SelectedCodec says.
  Buffer batch;
};

// kSame: a batch that was compressed is compressed again, for one that is stored.
enum class SelectedCodec : uint8_t { kNone, kSame };

// `keep` is asked about each record in order, once. Requires: a verified batch; one made by this
// function will do. kMalformed, kCorrupted, kUnsupportedType, kTooLarge (inflated): it cannot be
// read. kTooLarge also if what is kept exceeds limits::kBatchBytesMax even with zstd: only a batch
// whose producer compressed harder than we do comes to that.
Result<Selection> select_records(ByteView batch, const std::function<bool(const RecordView&)>& keep,
                                 SelectedCodec codec = SelectedCodec::kNone);

}  // namespace tidemark::format
