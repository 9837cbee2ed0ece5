#include "broker/queue/ack_ranges.h"

#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/coding.h"
#include "log/base/random.h"

namespace tidemark::queue {
namespace {

using Bytes = std::vector<uint8_t>;

AckRange range_of(uint64_t first, uint64_t count = 1) { return {Offset{first}, count}; }

Bytes numbers(const std::vector<uint64_t>& values) {
  Bytes out;
  ByteWriter writer(out);
  for (const uint64_t value : values) {
    writer.varint(value);
  }
  return out;
}

std::vector<AckRange> unpacked(const Bytes& bytes) {
  const Result<std::vector<AckRange>> ranges = unpack_ranges(bytes);
  REQUIRE(ranges.ok());
  return *ranges;
}

void check_malformed(const Bytes& bytes, const char* why) {
  CAPTURE(why);
  const Result<std::vector<AckRange>> ranges = unpack_ranges(bytes);
  REQUIRE(!ranges.ok());
  CHECK(ranges.error().code() == ErrorCode::kMalformed);
  CHECK(ranges.error().context() == std::string("packed offsets: ") + why);
}

TEST_CASE("ranges are packed as their number, gaps, and offsets - 1") {
  CHECK(pack_ranges({}) == Bytes{0});
  CHECK(pack_ranges({range_of(0)}) == Bytes{1, 0, 0});
  CHECK(pack_ranges({range_of(5, 3), range_of(300)}) == numbers({2, 5, 2, 292, 0}));
  CHECK(unpacked({0}).empty());
  CHECK(unpacked(numbers({2, 5, 2, 292, 0})) ==
        std::vector<AckRange>{range_of(5, 3), range_of(300)});
}

TEST_CASE("ranges are sorted and joined before they are packed") {
  const auto joined = [](const std::vector<AckRange>& ranges) {
    return unpacked(pack_ranges(ranges));
  };
  CHECK(joined({range_of(9), range_of(1), range_of(5)}) ==
        std::vector<AckRange>{range_of(1), range_of(5), range_of(9)});
  CHECK(joined({range_of(2), range_of(1)}) == std::vector<AckRange>{range_of(1, 2)});
  CHECK(joined({range_of(1, 10), range_of(3, 2)}) == std::vector<AckRange>{range_of(1, 10)});
  CHECK(joined({range_of(1, 10), range_of(5, 10)}) == std::vector<AckRange>{range_of(1, 14)});
  CHECK(joined({range_of(7), range_of(7)}) == std::vector<AckRange>{range_of(7)});
  CHECK(joined({range_of(7, 0), range_of(9)}) == std::vector<AckRange>{range_of(9)});
}

TEST_CASE("what is beyond the largest offset is cut off") {
  constexpr uint64_t kMax = UINT64_MAX;
  CHECK(end_of(Offset{3}, 4) == Offset{7});
  CHECK(end_of(Offset{kMax - 1}, 1) == Offset{kMax});
  CHECK(end_of(Offset{kMax - 1}, 2) == Offset{kMax});
  CHECK(end_of(Offset{kMax}, 1) == Offset{kMax});
  CHECK(end_of(Offset{1}, kMax) == Offset{kMax});
  CHECK(unpacked(pack_ranges({range_of(0, kMax)})) == std::vector<AckRange>{range_of(0, kMax)});
  CHECK(unpacked(pack_ranges({range_of(kMax - 2, 100), range_of(4, kMax)})) ==
        std::vector<AckRange>{range_of(4, kMax - 4)});
  CHECK(unpacked(pack_ranges({range_of(kMax - 1)})) == std::vector<AckRange>{range_of(kMax - 1)});
  CHECK(pack_ranges({range_of(kMax)}) == Bytes{0});
}

TEST_CASE("ranges beyond the largest offset are malformed") {
  constexpr uint64_t kMax = UINT64_MAX;
  const char* const why = "beyond the largest offset";
  check_malformed(numbers({1, kMax, 0}), why);
  check_malformed(numbers({1, 0, kMax}), why);
  check_malformed(numbers({1, kMax - 1, 1}), why);
  check_malformed(numbers({2, 1, kMax - 3, 1, 0}), why);
  check_malformed(numbers({2, kMax - 1, 0, 1, 0}), why);
  CHECK(unpacked(numbers({2, 1, kMax - 4, 1, 0})) ==
        std::vector<AckRange>{range_of(1, kMax - 3), range_of(kMax - 1)});
}

TEST_CASE("what the packer does not write is malformed") {
  check_malformed({}, "more ranges than bytes");
  check_malformed({0x80}, "more ranges than bytes");
  check_malformed({2, 0, 0}, "more ranges than bytes");
  check_malformed(numbers({UINT64_MAX, 0, 0}), "more ranges than bytes");
  check_malformed({0x80, 0}, "more ranges than bytes");
  check_malformed({1, 0x85, 0}, "a number is cut or too long");
  check_malformed({1, 0x85, 0x00, 0}, "a number is cut or too long");
  check_malformed({1, 5, 0x80, 0x00}, "a number is cut or too long");
  check_malformed({2, 1, 0, 0, 0}, "two ranges touch");
  check_malformed({0, 0}, "bytes behind the last range");
  check_malformed({1, 5, 0, 9}, "bytes behind the last range");
}

TEST_CASE("an ack at load costs two to four bytes") {
  Random random(1);
  std::vector<AckRange> ranges;
  uint64_t at = 1'000'000'000;
  for (int i = 0; i < 1000; ++i) {
    at += 2 + random.below(1000);
    ranges.push_back(range_of(at));
  }
  CHECK(pack_ranges(ranges).size() < 4 * 1000);
  CHECK(pack_ranges(ranges).size() >= 2 * 1000);
}

TEST_CASE("any ranges come back as the offsets that they have") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const uint64_t base = random.chance(1, 4) ? UINT64_MAX - 60 : random.below(100);
    std::vector<AckRange> ranges;
    std::set<uint64_t> offsets;
    for (uint64_t i = random.below(20); i > 0; --i) {
      const AckRange range = range_of(base + random.below(60), random.below(6));
      ranges.push_back(range);
      for (uint64_t k = 0; k < range.count && range.first.value() < UINT64_MAX - k; ++k) {
        offsets.insert(range.first.value() + k);
      }
    }
    const Bytes packed = pack_ranges(ranges);
    std::set<uint64_t> back;
    for (const AckRange& range : unpacked(packed)) {
      for (uint64_t k = 0; k < range.count; ++k) {
        CHECK(back.insert(range.first.value() + k).second);
      }
    }
    CHECK(back == offsets);
    CHECK(pack_ranges(unpacked(packed)) == packed);
  }
}

}  // namespace
}  // namespace tidemark::queue
