#include "broker/partition/index_view.h"

#include <algorithm>
#include <limits>

#include "broker/partition/index_chunk.h"
#include "broker/partition/store_keys.h"
#include "log/base/check.h"

namespace tidemark::partition {

Offset IndexView::memory_start() const {
  if (!refs_.empty()) {
    const bool everything = !has_stored_ && evicted_ == 0;
    return everything ? Offset{0} : refs_.front().base;
  }
  return has_stored_ ? Offset{std::numeric_limits<uint64_t>::max()} : Offset{0};
}

std::optional<std::vector<BatchRef>> IndexView::find(Offset from, size_t bytes_max,
                                                     Offset start) const {
  if (!complete_from(std::max(from, start))) {
    return std::nullopt;
  }
  auto it =
      std::lower_bound(refs_.begin(), refs_.end(), from,
                       [](const BatchRef& ref, Offset offset) { return ref.end() <= offset; });
  std::vector<BatchRef> found;
  size_t bytes = 0;
  for (; it != refs_.end(); ++it) {
    if (!found.empty() && bytes + it->bytes > bytes_max) {
      break;
    }
    bytes += it->bytes;
    found.push_back(*it);
  }
  return found;
}

std::optional<BatchRef> IndexView::find_time(int64_t time_ms, Offset start) const {
  // Offsets and times grow together, so one bisection serves both bounds.
  const auto it = std::partition_point(refs_.begin(), refs_.end(), [&](const BatchRef& ref) {
    return ref.received_ms < time_ms || ref.end() <= start;
  });
  if (it == refs_.end() || (it == refs_.begin() && !complete_from(start))) {
    return std::nullopt;
  }
  return *it;
}

void IndexView::freeze(PartitionId id, kv::WriteBatch& batch) {
  frozen_end_ = evicted_ + refs_.size();
  frozen_chunk_begin_ = chunk_begin_;
  if (frozen_end_ == stored_) {
    return;
  }
  std::vector<BatchRef> chunk;
  uint64_t at = chunk_begin_;
  while (at < frozen_end_) {
    const uint64_t end = std::min<uint64_t>(frozen_end_, at + kChunkRefsMax);
    const auto first = refs_.begin() + static_cast<std::ptrdiff_t>(at - evicted_);
    chunk.assign(first, first + static_cast<std::ptrdiff_t>(end - at));
    batch.put(keys::chunk(id, chunk.front().base), encode_chunk(chunk));
    if (end - at == kChunkRefsMax) {
      frozen_chunk_begin_ = end;
    }
    at = end;
  }
}

void IndexView::commit_done() {
  has_stored_ = has_stored_ || frozen_end_ > 0;
  stored_ = std::max(stored_, frozen_end_);
  chunk_begin_ = std::max(chunk_begin_, frozen_chunk_begin_);
}

void IndexView::commit_failed() { frozen_end_ = stored_; }

void IndexView::evict_before(LogPosition position) {
  // A partial chunk stays: it is written again when it grows.
  while (!refs_.empty() && evicted_ < chunk_begin_ && refs_.front().position < position) {
    refs_.pop_front();
    ++evicted_;
  }
}

void IndexView::trim(Offset start) {
  // Only what a checkpoint no longer needs: the open chunk is written from its first reference on.
  while (!refs_.empty() && evicted_ < chunk_begin_ && refs_.front().end() <= start) {
    refs_.pop_front();
    ++evicted_;
  }
}

void IndexView::load_last_chunk(std::vector<BatchRef> refs) {
  TIDEMARK_CHECK(refs_.empty() && evicted_ == 0);
  has_stored_ = true;
  refs_.assign(refs.begin(), refs.end());
  stored_ = frozen_end_ = refs_.size();
  chunk_begin_ = refs_.size() == kChunkRefsMax ? refs_.size() : 0;
}

}  // namespace tidemark::partition
