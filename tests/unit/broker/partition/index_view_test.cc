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
  explicit Harness(uint64_t seed) : random_(seed) {}

  void step() {
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
        const auto expected = model_find(from, bytes_max);
        // The store may end before the budget does, never before the first reference.
        REQUIRE(!found->empty());
        REQUIRE(found->size() <= expected.size());
        CHECK(std::equal(found->begin(), found->end(), expected.begin()));
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

  void freeze() {
    if (!committing_) {
      committing_ = true;
      batch_ = kv::WriteBatch();
      view_.freeze(kId, batch_);
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
    CHECK(*found == expected->second);
  }

  Random random_;
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
