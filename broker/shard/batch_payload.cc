#include "broker/shard/batch_payload.h"

#include <cstring>
#include <utility>

#include "log/base/limits.h"
#include "log/format/record_batch.h"

namespace tidemark::shard {

namespace {

// Batches smaller than this are copied.
constexpr size_t kCopiedBatchBytes = 4 * limits::kKiB;

bool is_large(const ServedBatch& batch) { return batch.bytes.size() >= kCopiedBatchBytes; }

size_t copied_bytes(const ServedBatch& batch) {
  return is_large(batch) ? format::kBatchStampBytes : batch.bytes.size();
}

}  // namespace

void append_batches(std::span<const ServedBatch> batches, std::vector<SharedBytes>& out) {
  size_t i = 0;
  while (i < batches.size()) {
    // One block for a run: whole small batches, and the head of the large one that ends it.
    size_t block_bytes = 0;
    size_t end = i;
    bool large = false;
    while (end < batches.size() && !large) {
      large = is_large(batches[end]);
      block_bytes += copied_bytes(batches[end]);
      ++end;
    }
    Buffer block(block_bytes);
    size_t at = 0;
    for (; i < end; ++i) {
      const SharedBytes& bytes = batches[i].bytes;
      const size_t copied = copied_bytes(batches[i]);
      std::memcpy(block.data() + at, bytes.data(), copied);
      format::stamp_batch(block.mutable_view().subspan(at, format::kBatchStampBytes),
                          batches[i].base.value(), static_cast<uint32_t>(bytes.size()), 0);
      at += copied;
    }
    out.emplace_back(std::move(block));
    if (large) {
      const SharedBytes& last = batches[end - 1].bytes;
      out.push_back(last.slice(format::kBatchStampBytes, last.size() - format::kBatchStampBytes));
    }
  }
}

}  // namespace tidemark::shard
