#include "log/format/varint.h"

#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/unit/log/format/raw_batch.h"

namespace tidemark::format {
namespace {

Bytes encoded(int64_t value) {
  Bytes bytes(varint_bytes(value) + 1, 0xEE);
  uint8_t* const end = put_varint(bytes.data(), value);
  REQUIRE(end == bytes.data() + bytes.size() - 1);
  REQUIRE(bytes.back() == 0xEE);
  bytes.pop_back();
  return bytes;
}

void check_round_trip(int64_t value) {
  CAPTURE(value);
  const Bytes bytes = encoded(value);
  REQUIRE(bytes == RawWriter().varint(value).out);
  int64_t wide = 0;
  RecordScanner in(bytes);
  REQUIRE(in.varint64(wide));
  REQUIRE(wide == value);
  REQUIRE(in.remaining() == 0);
  int32_t narrow = 0;
  const bool fits = value >= INT32_MIN && value <= INT32_MAX;
  REQUIRE(RecordScanner(bytes).varint32(narrow) == fits);
  if (fits) {
    REQUIRE(narrow == value);
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    REQUIRE_FALSE(RecordScanner(ByteView(bytes).first(size)).varint64(wide));
    REQUIRE_FALSE(RecordScanner(ByteView(bytes).first(size)).varint32(narrow));
  }
}

TEST_CASE("varint: encodings of the published format") {
  CHECK(encoded(0) == Bytes{0x00});
  CHECK(encoded(-1) == Bytes{0x01});
  CHECK(encoded(1) == Bytes{0x02});
  CHECK(encoded(63) == Bytes{0x7E});
  CHECK(encoded(-64) == Bytes{0x7F});
  CHECK(encoded(64) == Bytes{0x80, 0x01});
  CHECK(encoded(-65) == Bytes{0x81, 0x01});
  CHECK(encoded(INT32_MAX) == Bytes{0xFE, 0xFF, 0xFF, 0xFF, 0x0F});
  CHECK(encoded(INT64_MIN) == Bytes{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01});
}

TEST_CASE("varint: round trip around every power of two, and at random") {
  for (unsigned bit = 0; bit < 63; ++bit) {
    const int64_t power = int64_t{1} << bit;
    for (const int64_t value : {power - 1, power, power + 1, -power - 1, -power, -power + 1}) {
      check_round_trip(value);
    }
  }
  check_round_trip(INT64_MAX);
  check_round_trip(INT64_MIN);
  constexpr uint64_t kSeed = 11;
  CAPTURE(kSeed);
  Random random(kSeed);
  for (int i = 0; i < 2000; ++i) {
    check_round_trip(static_cast<int64_t>(random.next() >> random.below(64)));
  }
}

TEST_CASE("varint: overlong encodings are refused") {
  const std::vector<Bytes> overlong = {
      {0x80, 0x00},                    // zero in two bytes
      {0xFE, 0x00},                    // 63 in two
      {0x81, 0x80, 0x00},              // -65 in three
      {0x80, 0x80, 0x80, 0x80, 0x00},  // zero in five
  };
  for (const Bytes& bytes : overlong) {
    int32_t narrow = 0;
    int64_t wide = 0;
    CHECK_FALSE(RecordScanner(bytes).varint32(narrow));
    CHECK_FALSE(RecordScanner(bytes).varint64(wide));
  }
}

TEST_CASE("varint: more bits than the type has are refused") {
  int32_t narrow = 0;
  int64_t wide = 0;
  const Bytes bits_33{0xFF, 0xFF, 0xFF, 0xFF, 0x1F};
  CHECK_FALSE(RecordScanner(bits_33).varint32(narrow));
  CHECK(RecordScanner(bits_33).varint64(wide));
  const Bytes six{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01};
  CHECK_FALSE(RecordScanner(six).varint32(narrow));
  CHECK(RecordScanner(six).varint64(wide));
  Bytes bits_65(9, 0xFF);
  bits_65.push_back(0x02);
  CHECK_FALSE(RecordScanner(bits_65).varint64(wide));
  Bytes eleven(10, 0xFF);
  eleven.push_back(0x01);
  CHECK_FALSE(RecordScanner(eleven).varint64(wide));
}

TEST_CASE("scanner: never reads past the end") {
  const Bytes three{1, 2, 3};
  RecordScanner in(three);
  ByteView part;
  uint8_t byte = 0;
  CHECK_FALSE(in.bytes(4, part));
  CHECK(in.bytes(2, part));
  CHECK(part.size() == 2);
  CHECK(in.byte(byte));
  CHECK(byte == 3);
  CHECK_FALSE(in.byte(byte));
  CHECK_FALSE(in.bytes(SIZE_MAX, part));
  CHECK(in.bytes(0, part));
  RecordScanner nothing{ByteView()};
  CHECK_FALSE(nothing.byte(byte));
  CHECK(nothing.bytes(0, part));
}

}  // namespace
}  // namespace tidemark::format
