#include "log/base/random.h"

#include <array>
#include <set>

#include <doctest/doctest.h>

namespace tidemark {

TEST_CASE("random: the published sequence of xoshiro256++ seeded by SplitMix64") {
  // Computed with the authors' C code: SplitMix64 from 0 fills the state.
  Random random(0);
  CHECK(random.next() == 0x53175d61490b23dfull);
  CHECK(random.next() == 0x61da6f3dc380d507ull);
  CHECK(random.next() == 0x5c0fdf91ec9a7bfcull);
}

TEST_CASE("random: the same seed gives the same sequence, another seed another one") {
  Random a(7);
  Random b(7);
  Random c(8);
  int same = 0;
  for (int i = 0; i < 100; ++i) {
    const uint64_t value = a.next();
    CHECK(value == b.next());
    same += value == c.next() ? 1 : 0;
  }
  CHECK(same == 0);
}

TEST_CASE("random: ranges") {
  Random random(3);
  std::array<int, 7> counts{};
  for (int i = 0; i < 7000; ++i) {
    ++counts[random.below(7)];
    const uint64_t value = random.between(10, 12);
    CHECK(value >= 10);
    CHECK(value <= 12);
    const double unit = random.unit();
    CHECK(unit >= 0.0);
    CHECK(unit < 1.0);
  }
  for (const int count : counts) {
    CHECK(count > 800);
    CHECK(count < 1200);
  }
  CHECK(random.below(1) == 0);
  CHECK(random.chance(1, 1));
  CHECK(!random.chance(0, 5));
}

TEST_CASE("random: seeds of the system differ") {
  std::set<uint64_t> seeds;
  for (int i = 0; i < 10; ++i) {
    seeds.insert(seed_from_system());
  }
  CHECK(seeds.size() == 10);
}

}  // namespace tidemark
