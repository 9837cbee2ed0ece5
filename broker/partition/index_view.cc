#include "broker/partition/index_view.h"

#include <algorithm>
#include <limits>
#include <utility>

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
    if (found.empty() || !join_dead(found.back(), *it)) {
      found.push_back(*it);
    }
  }
  return found;
}

void IndexView::move(const MovedBatch& moved) {
  const auto it =
      std::lower_bound(refs_.begin(), refs_.end(), moved.base,
                       [](const BatchRef& ref, Offset offset) { return ref.base < offset; });
  if (it != refs_.end() && it->base == moved.base) {
    it->position = moved.position;
    it->bytes = moved.bytes;
  }
  const auto [move, inserted] = moves_.try_emplace(moved.base);
  if (inserted || move->second.state == MoveState::kStored ||
      move->second.state == MoveState::kOld) {
    ++unstored_moves_;
  }
  move->second = {moved, MoveState::kNew};
  open_changed_ = open_changed_ || moved.base >= open_begin();
}

void IndexView::amend(std::vector<BatchRef>& refs) const {
  if (moves_.empty()) {
    return;
  }
  for (BatchRef& ref : refs) {
    if (const auto it = moves_.find(ref.base); it != moves_.end() && !ref.is_dead()) {
      ref.position = it->second.batch.position;
      ref.bytes = it->second.batch.bytes;
    }
  }
}

Offset IndexView::open_begin() const {
  const uint64_t at = chunk_begin_ - evicted_;
  return at < refs_.size() ? refs_[at].base : Offset{std::numeric_limits<uint64_t>::max()};
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
  for (auto& [base, move] : moves_) {
    if (move.state == MoveState::kNew) {
      move.state = MoveState::kFrozen;
    }
  }
  frozen_open_changed_ = std::exchange(open_changed_, false);
  if (frozen_end_ == stored_ && !frozen_open_changed_) {
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

std::vector<MovedBatch> IndexView::frozen_moves() const {
  std::vector<MovedBatch> moved;
  const auto end = moves_.lower_bound(open_begin());
  for (auto it = moves_.begin(); it != end; ++it) {
    if (it->second.state == MoveState::kFrozen) {
      moved.push_back(it->second.batch);
    }
  }
  return moved;
}

void IndexView::commit_done() {
  for (auto& [base, move] : moves_) {
    if (move.state == MoveState::kFrozen) {
      move.state = MoveState::kStored;
      --unstored_moves_;
    }
  }
  has_stored_ = has_stored_ || frozen_end_ > 0;
  stored_ = std::max(stored_, frozen_end_);
  chunk_begin_ = std::max(chunk_begin_, frozen_chunk_begin_);
}

void IndexView::commit_failed() {
  frozen_end_ = stored_;
  open_changed_ = open_changed_ || frozen_open_changed_;
  for (auto& [base, move] : moves_) {
    if (move.state == MoveState::kFrozen) {
      move.state = MoveState::kNew;
    }
  }
}

void IndexView::evict_before(LogPosition position) {
  // A look-up that began before the store had them may end after that.
  std::erase_if(moves_, [](const auto& one) { return one.second.state == MoveState::kOld; });
  for (auto& [base, move] : moves_) {
    if (move.state == MoveState::kStored) {
      move.state = MoveState::kOld;
    }
  }
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
