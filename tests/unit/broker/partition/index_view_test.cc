#include "broker/partition/index_view.h"

#include <map>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/chunk_reader.h"
#include "broker/partition/index_chunk.h"
#include "tests/unit/broker/partition/random_refs.h"

namespace tidemark::partition {
namespace {

constexpr PartitionId kId{TopicId{1}, PartitionIndex{0}};

// An IndexView with its store, beside a map that knows everything.
class Harness {
 public:
  explicit Harness(uint64_t seed, bool moves = false) : random_(seed), moves_(moves) {}

  void step() {
    if (moves_ && random_.chance(1, 3)) {
      return move(random_.between(1, 40));
    }
    switch (random_.below(10)) {
      case 0:
        return freeze();
      case 1:
        return end_commit(true);
      case 2:
        return random_.chance(1, 2) ? end_commit(true) : end_commit(false);
      case 3:
        return evict();
      case 4:
        return random_.chance(1, 3) ? trim() : append(1);
      case 5:
        return random_.chance(1, 6) ? restart() : append(2);
      case 6:
        return append(random_.chance(1, 4) ? random_.between(1, 1500) : 5);
      default:
        return append(random_.between(1, 60));
    }
  }

  void check() {
    const Offset end = last_.end();
    for (int i = 0; i < 4; ++i) {
      if (start_ == end) {
        return;
      }
      const Offset from{random_.between(start_.value(), end.value() - 1)};
      const size_t bytes_max = random_.between(1, 3'000'000);
      auto found = view_.find(from, bytes_max, start_);
      if (!found.has_value()) {
        // Memory does not have it: then the store must.
        found = find_stored(*store_.read().value(), kId, from, bytes_max).value();
        view_.amend(*found);
        if (moves_) {
          check_found(*found, from);
          continue;
        }
        const auto expected = model_find(from, bytes_max);
        // The store may end before the budget does, never before the first reference.
        REQUIRE(!found->empty());
        REQUIRE(found->size() <= expected.size());
        CHECK(std::equal(found->begin(), found->end(), expected.begin()));
      } else if (moves_) {
        check_found(*found, from);
      } else {
        CHECK(*found == model_find(from, bytes_max));
      }
    }
    check_time();
  }

 private:
  void append(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      last_ = next_ref(random_, last_);
      view_.append(last_);
      model_.emplace(last_.base, last_);
    }
  }

  // A run of compaction, over neighbours or here and there.
  void move(uint64_t count) {
    auto it = model_.lower_bound(Offset{random_.between(start_.value(), last_.end().value())});
    const bool all = random_.chance(1, 2);
    for (; count > 0 && it != model_.end(); ++it, --count) {
      if (it->second.is_dead() || (!all && random_.chance(1, 2))) {
        continue;
      }
      const auto bytes =
          static_cast<uint32_t>(random_.chance(2, 3) ? 0 : random_.between(61, it->second.bytes));
      const MovedBatch moved{it->first, last_.position + 8 * random_.below(1'000), bytes};
      view_.move(moved);
      unstored_.push_back(moved);
      it->second.position = moved.position;
      it->second.bytes = moved.bytes;
    }
  }

  // Everything from `from` on that lives is there, as it is now, up to where the answer ends.
  void check_found(const std::vector<BatchRef>& found, Offset from) {
    REQUIRE(!found.empty());
    REQUIRE(found.front().base <= from);
    REQUIRE(found.front().end() > from);
    auto it = std::prev(model_.upper_bound(from));
    Offset next = found.front().base;
    for (const BatchRef& ref : found) {
      REQUIRE(ref.base == next);
      next = ref.end();
      if (!ref.is_dead()) {
        REQUIRE(ref == it->second);
      }
      for (; it != model_.end() && it->first < ref.end(); ++it) {
        REQUIRE(it->second.is_dead() == ref.is_dead());
      }
    }
  }

  void freeze() {
    if (!committing_) {
      committing_ = true;
      batch_ = kv::WriteBatch();
      view_.freeze(kId, batch_);
      const auto moved = view_.frozen_moves();
      REQUIRE(move_stored(*store_.read().value(), batch_, kId, start_, moved).ok());
      frozen_ = unstored_.size();
    }
  }

  void end_commit(bool ok) {
    if (!committing_) {
      return;
    }
    committing_ = false;
    if (!ok) {
      return view_.commit_failed();
    }
    REQUIRE(store_.commit(batch_).ok());
    view_.commit_done();
    unstored_.erase(unstored_.begin(), unstored_.begin() + static_cast<std::ptrdiff_t>(frozen_));
  }

  void evict() { view_.evict_before(LogPosition{random_.below(last_.position.value() + 1)}); }

  void trim() {
    // To the border of a batch, as retention does.
    auto it = model_.lower_bound(Offset{random_.between(start_.value(), last_.end().value())});
    start_ = it == model_.end() ? last_.end() : it->first;
    model_.erase(model_.begin(), it);
    view_.trim(start_);
  }

  // What was not committed is applied again from the log.
  void restart() {
    committing_ = false;
    const auto stored = last_stored_chunk(*store_.read().value(), kId).value();
    view_ = IndexView();
    Offset stored_end;
    if (!stored.empty()) {
      stored_end = stored.back().end();
      view_.load_last_chunk(stored);
    }
    for (const auto& [base, ref] : everything_after(stored_end)) {
      view_.append(ref);
    }
    for (const MovedBatch& moved : unstored_) {
      view_.move(moved);
    }
  }

  std::map<Offset, BatchRef> everything_after(Offset offset) {
    // Trimmed references are in the log too; the model forgot them, so a restart waits until none
    // of them is unstored.
    return {model_.lower_bound(offset), model_.end()};
  }

  std::vector<BatchRef> model_find(Offset from, size_t bytes_max) {
    auto it = model_.upper_bound(from);
    --it;
    std::vector<BatchRef> found;
    size_t bytes = 0;
    for (; it != model_.end() && (found.empty() || bytes + it->second.bytes <= bytes_max); ++it) {
      bytes += it->second.bytes;
      found.push_back(it->second);
    }
    return found;
  }

  void check_time() {
    if (model_.empty()) {
      return;
    }
    const auto time =
        static_cast<int64_t>(random_.below(static_cast<uint64_t>(last_.received_ms) + 1));
    const auto expected = std::find_if(model_.begin(), model_.end(), [&](const auto& pair) {
      return pair.second.received_ms >= time;
    });
    auto found = view_.find_time(time, start_);
    if (!found.has_value()) {
      found = find_stored_time(*store_.read().value(), kId, start_, last_.end(), time).value();
      if (!found.has_value()) {
        REQUIRE(!view_.refs().empty());
        found = view_.refs().front();
      }
    }
    REQUIRE(expected != model_.end());
    if (moves_) {
      CHECK(found->base <= expected->first);
      CHECK(found->end() > expected->first);
      CHECK(found->received_ms >= time);
      return;
    }
    CHECK(*found == expected->second);
  }

  Random random_;
  bool moves_;
  std::vector<MovedBatch> unstored_;  // in order; the first `frozen_` are in a checkpoint's batch
  size_t frozen_ = 0;
  IndexView view_;
  kv::MemoryStore store_;
  kv::WriteBatch batch_;
  bool committing_ = false;
  std::map<Offset, BatchRef> model_;
  Offset start_;
  BatchRef last_;
};

TEST_CASE(
    "the index in memory and store is one index, through checkpoints, failures, eviction, trims "
    "and restarts") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    Harness harness(seed);
    for (int i = 0; i < 120; ++i) {
      CAPTURE(i);
      harness.step();
      harness.check();
    }
  }
}

TEST_CASE("what compaction changes is in the index at once, and in the store with a checkpoint") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Harness harness(seed, true);
    for (int i = 0; i < 120; ++i) {
      CAPTURE(i);
      harness.step();
      harness.check();
    }
  }
}

TEST_CASE("what a checkpoint stored is remembered until the one after it") {
  IndexView view;
  kv::MemoryStore store;
  const auto checkpoint = [&] {
    kv::WriteBatch batch;
    view.freeze(kId, batch);
    REQUIRE(move_stored(*store.read().value(), batch, kId, Offset{0}, view.frozen_moves()).ok());
    REQUIRE(store.commit(batch).ok());
    view.commit_done();
    view.evict_before(LogPosition{1'000'000'000});
  };
  BatchRef ref;
  for (size_t i = 0; i < kChunkRefsMax + 1; ++i) {
    ref = {ref.end(), 1, 100, ref.position + 200, 1};
    view.append(ref);
  }
  checkpoint();
  const auto before = find_stored(*store.read().value(), kId, Offset{7}, 1).value();
  view.move({Offset{7}, LogPosition{500'000}, 90});
  CHECK(view.unstored_moves() == 1);
  const auto amended = [&](std::vector<BatchRef> refs) {
    view.amend(refs);
    return refs.front();
  };
  CHECK(amended(before).position == LogPosition{500'000});
  CHECK(amended(before).bytes == 90);
  checkpoint();
  CHECK(view.unstored_moves() == 0);
  CHECK(find_stored(*store.read().value(), kId, Offset{7}, 1).value().front().bytes == 90);
  CHECK(amended(before).bytes == 90);  // a look-up that began before
  checkpoint();
  CHECK(amended(before).bytes == 100);
}

TEST_CASE("find_time passes over batches that retention removed but memory still has") {
  IndexView view;
  view.append({Offset{0}, 10, 100, LogPosition{80}, 1000});
  view.append({Offset{10}, 10, 100, LogPosition{200}, 1000});
  view.append({Offset{20}, 10, 100, LogPosition{300}, 2000});
  view.trim(Offset{10});  // nothing is stored yet, so the references stay
  REQUIRE(view.refs().size() == 3);
  CHECK(view.find_time(500, Offset{10})->base == Offset{10});
  CHECK(view.find_time(1500, Offset{10})->base == Offset{20});
  CHECK_FALSE(view.find_time(2001, Offset{10}).has_value());
}

TEST_CASE("full chunks leave memory, the open one stays") {
  IndexView view;
  BatchRef ref;
  for (size_t i = 0; i < kChunkRefsMax + 10; ++i) {
    ref = {ref.end(), 1, 100, ref.position + 200, 1};
    view.append(ref);
  }
  view.evict_before(LogPosition{1'000'000'000});
  CHECK(view.refs().size() == kChunkRefsMax + 10);  // not stored yet
  kv::WriteBatch batch;
  view.freeze(kId, batch);
  view.commit_done();
  view.evict_before(LogPosition{1'000'000'000});
  CHECK(view.refs().size() == 10);
  CHECK(view.memory_start() == Offset{kChunkRefsMax});
  CHECK_FALSE(view.find(Offset{0}, 1000, Offset{0}).has_value());
}

}  // namespace
}  // namespace tidemark::partition
