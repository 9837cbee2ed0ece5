#include "broker/queue/ack_set.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::queue {
namespace {

constexpr uint64_t kChunk = AckSet::kChunkOffsets;
constexpr uint64_t kMax = UINT64_MAX;

void shuffle(std::vector<uint64_t>& values, Random& random) {
  for (size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[random.below(i)]);
  }
}

TEST_CASE("nothing is settled at first") {
  const AckSet set;
  CHECK(set.floor() == Offset{0});
  CHECK(set.above_floor() == 0);
  CHECK(!set.contains(Offset{0}));
  CHECK(!set.contains(Offset{kMax}));
  CHECK(set.next_unsettled(Offset{7}) == Offset{7});
  CHECK(set.next_settled(Offset{0}) == std::nullopt);
  CHECK(set.hash() == AckSet().hash());
}

TEST_CASE("add says how many were not settled before, and the floor follows") {
  AckSet set;
  CHECK(set.add(Offset{5}) == 1);
  CHECK(set.add(Offset{5}) == 0);
  CHECK(set.add(Offset{3}, 5) == 4);
  CHECK(set.add(Offset{3}, 0) == 0);
  CHECK(set.floor() == Offset{0});
  CHECK(set.above_floor() == 5);
  CHECK(set.next_unsettled(Offset{3}) == Offset{8});
  CHECK(set.next_settled(Offset{0}) == Offset{3});
  CHECK(set.next_settled(Offset{8}) == std::nullopt);
  CHECK(set.add(Offset{0}, 2) == 2);
  CHECK(set.floor() == Offset{2});
  CHECK(set.add(Offset{0}, 3) == 1);
  CHECK(set.floor() == Offset{8});
  CHECK(set.above_floor() == 0);
  CHECK(set.contains(Offset{0}));
  CHECK(set.contains(Offset{7}));
  CHECK(!set.contains(Offset{8}));
  CHECK(set.next_settled(Offset{0}) == Offset{0});
  CHECK(set.next_unsettled(Offset{0}) == Offset{8});
}

TEST_CASE("a range over many chunks costs one run, whatever lay in it") {
  AckSet set;
  CHECK(set.add(Offset{kChunk + 5}, 10) == 10);
  CHECK(set.add(Offset{3 * kChunk}, 2 * kChunk) == 2 * kChunk);
  CHECK(set.add(Offset{7 * kChunk + 1}, 1) == 1);
  CHECK(set.add(Offset{1}, 10 * kChunk) == 8 * kChunk - 11);
  CHECK(set.above_floor() == 10 * kChunk);
  CHECK(set.run_at(1) == 9);
  CHECK(set.bits_of(0) != nullptr);
  CHECK(set.bits_of(1) == nullptr);
  CHECK(set.bits_of(10) != nullptr);
  CHECK(set.add(Offset{2}, 10 * kChunk - 1) == 0);
  CHECK(set.next_unsettled(Offset{1}) == Offset{10 * kChunk + 1});
  CHECK(set.add(Offset{0}) == 1);
  CHECK(set.floor() == Offset{10 * kChunk + 1});
  CHECK(set.above_floor() == 0);
  CHECK(set.run_at(1) == 0);
  CHECK(set.bits_of(10) == nullptr);
}

TEST_CASE("runs that touch become one, and a chunk that fills up joins both sides") {
  AckSet set;
  set.add(Offset{2 * kChunk}, kChunk);
  set.add(Offset{4 * kChunk}, kChunk);
  set.add(Offset{3 * kChunk + 1}, kChunk - 1);
  CHECK(set.run_at(2) == 1);
  CHECK(set.run_at(4) == 1);
  CHECK(set.add(Offset{3 * kChunk}) == 1);
  CHECK(set.run_at(2) == 3);
  CHECK(set.run_at(4) == 0);
  CHECK(set.add(Offset{kChunk}, kChunk) == kChunk);
  CHECK(set.run_at(1) == 4);
  CHECK(set.add(Offset{5 * kChunk}, kChunk) == kChunk);
  CHECK(set.run_at(1) == 5);
}

TEST_CASE("the floor is raised over gaps, bitmaps and into runs") {
  AckSet set;
  set.add(Offset{10}, 5);
  set.add(Offset{kChunk}, 4 * kChunk);
  CHECK(set.raise_floor(Offset{0}) == 0);
  CHECK(set.raise_floor(Offset{3}) == 3);
  CHECK(set.floor() == Offset{3});
  CHECK(set.raise_floor(Offset{2}) == 0);
  CHECK(set.raise_floor(Offset{12}) == 7);
  CHECK(set.floor() == Offset{15});
  CHECK(set.above_floor() == 4 * kChunk);
  CHECK(set.raise_floor(Offset{2 * kChunk + 1}) == kChunk - 15);
  CHECK(set.floor() == Offset{5 * kChunk});
  CHECK(set.above_floor() == 0);
  set.add(Offset{9 * kChunk + 1}, 2);
  CHECK(set.raise_floor(Offset{9 * kChunk + 2}) == 4 * kChunk + 1);
  CHECK(set.floor() == Offset{9 * kChunk + 3});
  CHECK(set.raise_floor(Offset{20 * kChunk}) == 11 * kChunk - 3);
  CHECK(set.floor() == Offset{20 * kChunk});
}

TEST_CASE("the largest offset can be settled, and nothing beyond it") {
  AckSet set;
  CHECK(set.add(Offset{kMax}) == 0);
  CHECK(set.add(Offset{kMax - 1}) == 1);
  CHECK(set.add(Offset{kMax - 1}, 5) == 0);
  CHECK(set.add(Offset{kMax - 3}, kMax) == 2);
  CHECK(set.contains(Offset{kMax - 1}));
  CHECK(!set.contains(Offset{kMax}));
  CHECK(set.next_unsettled(Offset{kMax - 3}) == Offset{kMax});
  CHECK(set.next_unsettled(Offset{kMax}) == Offset{kMax});
  CHECK(set.next_settled(Offset{kMax}) == std::nullopt);
  CHECK(set.add(Offset{1}, kMax) == kMax - 4);
  CHECK(set.above_floor() == kMax - 1);
  CHECK(set.run_at(1) == AckSet::kChunks - 2);
  CHECK(set.add(Offset{0}, kMax) == 1);
  CHECK(set.floor() == Offset{kMax});
  CHECK(set.above_floor() == 0);
  CHECK(set.add(Offset{0}, kMax) == 0);
  CHECK(set.raise_floor(Offset{kMax}) == 0);

  AckSet raised;
  CHECK(raised.raise_floor(Offset{kMax}) == kMax);
  CHECK(raised.floor() == Offset{kMax});
  CHECK(raised.add(Offset{kMax}, 1) == 0);
}

TEST_CASE("the hash tells sets apart, not the ways to them") {
  AckSet one;
  one.add(Offset{1}, 3 * kChunk);
  one.add(Offset{9 * kChunk});
  AckSet other;
  other.add(Offset{9 * kChunk});
  for (uint64_t offset = 3 * kChunk; offset > 0; --offset) {
    other.add(Offset{offset});
  }
  CHECK(one.hash() == other.hash());
  other.add(Offset{9 * kChunk + 1});
  CHECK(one.hash() != other.hash());
  one.add(Offset{9 * kChunk + 1});
  CHECK(one.hash() == other.hash());
  // From a floor that was raised, and from one that moved there.
  AckSet raised;
  raised.raise_floor(Offset{3 * kChunk + 1});
  raised.add(Offset{9 * kChunk}, 2);
  CHECK(raised.hash() != one.hash());
  one.add(Offset{0});
  CHECK(raised.hash() == one.hash());
}

TEST_CASE("changes name the chunks whose values are others now") {
  AckSet set;
  using Chunks = std::set<uint64_t>;
  set.add(Offset{kChunk + 1});
  set.add(Offset{5 * kChunk}, kChunk);
  AckSet::Changes changes = set.take_changes();
  CHECK(changes.chunks == Chunks{1, 5});
  CHECK(!changes.emptied_from);
  CHECK(set.take_changes().chunks.empty());
  set.add(Offset{kChunk + 1});
  CHECK(set.take_changes().chunks.empty());
  set.add(Offset{4 * kChunk}, kChunk);  // the run begins elsewhere
  CHECK(set.take_changes().chunks == Chunks{4, 5});
  set.add(Offset{2 * kChunk});
  set.raise_floor(Offset{2 * kChunk - 1});
  changes = set.take_changes();
  CHECK(changes.chunks == Chunks{1, 2});  // of chunk 1 nothing is left
  CHECK(changes.emptied_from == 0);
  set.raise_floor(Offset{4 * kChunk + 9});
  changes = set.take_changes();
  CHECK(set.floor() == Offset{6 * kChunk});
  CHECK(changes.emptied_from == 1);
  CHECK(changes.chunks.empty());

  AckSet::Changes earlier{{3, 9}, 0};
  changes.merge(std::move(earlier));
  CHECK(changes.emptied_from == 0);
  CHECK(changes.chunks == Chunks{3, 9});
  changes.merge({{4}, 7});
  CHECK(changes.emptied_from == 0);
  CHECK(changes.chunks == Chunks{3, 4, 9});
}

TEST_CASE("memory of the changes goes with the floor, too") {
  AckSet set;
  for (uint64_t chunk = 1; chunk < 1000; ++chunk) {
    set.add(Offset{chunk * kChunk + 1});
  }
  CHECK(set.memory_bytes() > 1000 * (512 + 32));
  set.raise_floor(Offset{1000 * kChunk});
  CHECK(set.memory_bytes() == AckSet().memory_bytes());
}

TEST_CASE("no AckSet has a value that is not stored by one") {
  AckSet::Bits some{};
  some[1] = 6;
  AckSet::Bits all;
  all.fill(kMax);
  SUBCASE("bitmaps") {
    AckSet set;
    CHECK(set.load_floor(Offset{3 * kChunk + 65}));
    CHECK(!set.load_floor(Offset{3 * kChunk + 65}));
    CHECK(!set.load_bits(2, some));  // below the floor
    CHECK(!set.load_bits(3, some));  // says that the floor is settled
    CHECK(!set.load_bits(4, all));
    CHECK(!set.load_bits(4, AckSet::Bits{}));
    AckSet::Bits behind{};
    behind[1] = 4;
    CHECK(set.load_bits(3, behind));
    CHECK(!set.load_bits(3, behind));
    CHECK(set.load_bits(4, some));
    CHECK(set.above_floor() == 3);
    CHECK(set.contains(Offset{3 * kChunk + 66}));
    CHECK(!set.load_bits(AckSet::kChunks, some));
    AckSet::Bits no_offset{};
    no_offset.back() = uint64_t{1} << 63;
    CHECK(!set.load_bits(AckSet::kChunks - 1, no_offset));
    CHECK(set.load_bits(AckSet::kChunks - 2, no_offset));
    CHECK(set.take_changes().chunks.empty());
  }
  SUBCASE("runs") {
    AckSet set;
    CHECK(set.load_floor(Offset{3 * kChunk}));
    CHECK(!set.load_run(2, 5));
    CHECK(!set.load_run(3, 5));  // the floor is not settled
    CHECK(!set.load_run(4, 0));
    CHECK(!set.load_run(4, AckSet::kChunks - 4));
    CHECK(!set.load_run(4, kMax));
    CHECK(!set.load_run(AckSet::kChunks, 1));
    CHECK(set.load_run(4, 2));
    CHECK(!set.load_run(5, 4));
    CHECK(!set.load_run(6, 4));  // would be one with it
    CHECK(!set.load_bits(5, some));
    CHECK(set.load_bits(6, some));
    CHECK(!set.load_run(6, 1));
    CHECK(set.load_run(7, AckSet::kChunks - 8));
    CHECK(set.above_floor() == 2 * kChunk + 2 + (AckSet::kChunks - 8) * kChunk);
    CHECK(set.take_changes().chunks.empty());
  }
}

// A set of offsets in [base, base + kSpan), what is below base is settled or not as a whole.
class Model {
 public:
  uint64_t add(uint64_t first, uint64_t count) {
    uint64_t added = 0;
    for (uint64_t i = 0; i < count && first + i < kMax; ++i) {
      added += first + i >= floor_ && settled_.insert(first + i).second ? 1 : 0;
    }
    advance();
    return added;
  }

  uint64_t raise(uint64_t floor) {
    uint64_t added = 0;
    for (; floor_ < floor; ++floor_) {
      added += settled_.erase(floor_) == 0 ? 1 : 0;
    }
    advance();
    return added;
  }

  [[nodiscard]] bool contains(uint64_t offset) const {
    return offset < floor_ || settled_.contains(offset);
  }

  [[nodiscard]] uint64_t floor() const { return floor_; }

  [[nodiscard]] const std::set<uint64_t>& settled() const { return settled_; }

  explicit Model(uint64_t floor) : floor_(floor) {}

 private:
  void advance() {
    while (settled_.erase(floor_) > 0) {
      ++floor_;
    }
  }

  uint64_t floor_;
  std::set<uint64_t> settled_;
};

void check_looks(const AckSet& set, const Model& model, uint64_t at) {
  CHECK(set.contains(Offset{at}) == model.contains(at));
  uint64_t unsettled = std::max(at, model.floor());
  while (model.contains(unsettled)) {
    ++unsettled;
  }
  CHECK(set.next_unsettled(Offset{at}) == Offset{unsettled});
  std::optional<Offset> settled;
  if (at < model.floor()) {
    settled = Offset{at};
  } else if (const auto it = model.settled().lower_bound(at); it != model.settled().end()) {
    settled = Offset{*it};
  }
  CHECK(set.next_settled(Offset{at}) == settled);
}

// Built anew from what the set says: the same, in another order.
uint64_t hash_of(const Model& model) {
  AckSet set;
  for (auto it = model.settled().rbegin(); it != model.settled().rend(); ++it) {
    set.add(Offset{*it});
  }
  set.raise_floor(Offset{model.floor()});
  return set.hash();
}

TEST_CASE("a random AckSet is as a set of offsets") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const uint64_t span = kChunk * (1 + random.below(6));
    const uint64_t base = random.chance(1, 4) ? kMax - span : random.below(3 * kChunk);
    AckSet set;
    Model model(base);
    CHECK(set.raise_floor(Offset{base}) == base);
    for (int step = 0; step < 200; ++step) {
      const uint64_t at = base + random.below(span);
      if (random.chance(1, 100)) {
        const uint64_t floor = std::min(at, model.floor() + random.below(2 * kChunk));
        REQUIRE(set.raise_floor(Offset{floor}) == model.raise(floor));
      } else {
        uint64_t first = at;
        uint64_t count = random.chance(1, 20) ? random.below(2 * kChunk) : random.below(40);
        if (random.chance(1, 20)) {  // whole chunks
          first -= first % kChunk;
          count = kChunk * random.below(3);
        }
        count = std::min(count, base + span - std::min(first, base + span));
        REQUIRE(set.add(Offset{first}, count) == model.add(first, count));
      }
      REQUIRE(set.floor() == Offset{model.floor()});
      REQUIRE(set.above_floor() == model.settled().size());
      check_looks(set, model, base + random.below(span));
    }
    CHECK(set.hash() == hash_of(model));
  }
}

TEST_CASE("a million acks in random order with 100,000 holes are small") {
  Random random(7);
  std::vector<uint64_t> offsets(1'100'000);
  std::iota(offsets.begin(), offsets.end(), 0);
  shuffle(offsets, random);
  const std::vector<uint64_t> holes(offsets.begin() + 1'000'000, offsets.end());
  offsets.resize(1'000'000);
  AckSet set;
  size_t peak = 0;
  uint64_t added = 0;
  for (size_t i = 0; i < offsets.size(); ++i) {
    added += set.add(Offset{offsets[i]});
    peak = i % 10'000 == 0 ? std::max(peak, set.memory_bytes()) : peak;
  }
  MESSAGE("1,000,000 acks with 100,000 holes: " << set.memory_bytes() << " bytes, at most "
                                                << peak);
  CHECK(added == 1'000'000);
  CHECK(peak < 256 * 1024);
  CHECK(set.floor().value() + set.above_floor() >= 1'000'000);
  uint64_t unsettled = 0;
  for (const uint64_t hole : holes) {
    unsettled += set.contains(Offset{hole}) ? 0 : 1;
  }
  CHECK(unsettled == 100'000);
  for (const uint64_t hole : holes) {
    set.add(Offset{hole});
  }
  CHECK(set.floor() == Offset{1'100'000});
  CHECK(set.above_floor() == 0);
}

}  // namespace
}  // namespace tidemark::queue
