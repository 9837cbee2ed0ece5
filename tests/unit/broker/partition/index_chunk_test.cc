#include "broker/partition/index_chunk.h"

#include <doctest/doctest.h>

#include "tests/unit/broker/partition/random_refs.h"

namespace tidemark::partition {
namespace {

std::vector<BatchRef> random_run(Random& random, size_t count) {
  std::vector<BatchRef> refs;
  BatchRef previous;
  previous.base = Offset{random.below(1'000'000'000'000)};
  previous.position = LogPosition{random.below(1'000'000'000'000)};
  for (size_t i = 0; i < count; ++i) {
    previous = next_ref(random, previous);
    // A gap, as removed batches would leave one.
    previous.base = previous.base + (random.chance(1, 10) ? random.below(100) : 0);
    refs.push_back(previous);
  }
  return refs;
}

TEST_CASE("a chunk comes back as it was, for any run of references") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const size_t count = seed % 10 == 0 ? kChunkRefsMax : random.between(1, kChunkRefsMax);
    const std::vector<BatchRef> refs = random_run(random, count);
    const auto decoded = decode_chunk(encode_chunk(refs));
    REQUIRE(decoded.ok());
    CHECK(*decoded == refs);
  }
}

TEST_CASE("a batch that was appended out of position order keeps its position") {
  // References may point backwards once delayed messages are delivered by reference.
  const std::vector<BatchRef> refs = {{Offset{0}, 1, 100, LogPosition{8'000'000}, 5},
                                      {Offset{1}, 1, 100, LogPosition{80}, 6}};
  const auto decoded = decode_chunk(encode_chunk(refs));
  REQUIRE(decoded.ok());
  CHECK(*decoded == refs);
}

TEST_CASE("every flipped bit and every cut of a chunk is refused") {
  Random random(7);
  const std::string good = encode_chunk(random_run(random, 9));
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      CHECK(decode_chunk(bad).status().code() == ErrorCode::kCorrupted);
    }
    CHECK(decode_chunk(good.substr(0, i)).status().code() == ErrorCode::kCorrupted);
  }
  CHECK(decode_chunk(good + '\0').status().code() == ErrorCode::kCorrupted);
}

TEST_CASE("a chunk takes about ten bytes per reference of a busy partition") {
  std::vector<BatchRef> refs;
  BatchRef previous{Offset{1'000'000}, 1, 0, LogPosition{1ull << 40}, 1'700'000'000'000};
  for (size_t i = 0; i < kChunkRefsMax; ++i) {
    previous = {previous.end(), 100, 16'000, previous.position + 65'536, previous.received_ms + 2};
    refs.push_back(previous);
  }
  CHECK(encode_chunk(refs).size() <= 12 * kChunkRefsMax);
}

}  // namespace
}  // namespace tidemark::partition
