#include "log/base/growing_buffer.h"

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark {
namespace {

TEST_CASE("GrowingBuffer: a vector that does not zero-fill") {
  GrowingBuffer buffer;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    std::vector<uint8_t> model;
    for (uint64_t left = random.below(40); left > 0; --left) {
      const size_t bytes = random.below(random.chance(1, 10) ? 20'000 : 60);
      const auto fill = static_cast<uint8_t>(random.next());
      std::fill_n(buffer.extend(bytes), bytes, fill);
      model.insert(model.end(), bytes, fill);
      REQUIRE(buffer.size() == model.size());
      REQUIRE(buffer.empty() == model.empty());
      REQUIRE(buffer.capacity() >= buffer.size());
    }
    REQUIRE(std::equal(model.begin(), model.end(), buffer.view().begin(), buffer.view().end()));
    if (random.chance(1, 4)) {
      buffer.clear();
    } else {
      const Buffer taken = buffer.take();
      REQUIRE(std::equal(model.begin(), model.end(), taken.view().begin(), taken.view().end()));
    }
    REQUIRE(buffer.empty());
  }
}

TEST_CASE("GrowingBuffer: take hands out a nearly full block and copies out of a roomy one") {
  GrowingBuffer buffer;
  const uint8_t* const block = buffer.extend(1024);
  const Buffer full = buffer.take();
  CHECK(full.data() == block);
  CHECK(buffer.capacity() == 0);

  buffer.extend(1);  // begins as large as the block that was handed out
  CHECK(buffer.capacity() == 1024);
  buffer.clear();
  const uint8_t* const same = buffer.extend(10);
  const Buffer small = buffer.take();
  CHECK(small.data() != same);
  CHECK(small.size() == 10);
  CHECK(buffer.capacity() == 1024);
  CHECK(buffer.take().size() == 0);
}

}  // namespace
}  // namespace tidemark
