#include "log/base/checksum.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark {
namespace {

// CRC-32C bit by bit, as the polynomial is defined.
uint32_t slow_crc32c(ByteView bytes) {
  uint32_t crc = ~uint32_t{0};
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    }
  }
  return ~crc;
}

std::vector<uint8_t> random_bytes(Random& random, size_t size) {
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(random.next());
  }
  return bytes;
}

TEST_CASE("crc32c: published check values") {
  CHECK(crc32c({}) == 0);
  CHECK(crc32c(as_bytes("123456789")) == 0xE3069283u);
  // RFC 3720, appendix B.4.
  CHECK(crc32c(std::vector<uint8_t>(32, 0x00)) == 0x8A9136AAu);
  CHECK(crc32c(std::vector<uint8_t>(32, 0xFF)) == 0x62A8AB43u);
}

TEST_CASE("crc32c: every size and alignment equals the definition") {
  constexpr uint64_t kSeed = 7;
  CAPTURE(kSeed);
  Random random(kSeed);
  const std::vector<uint8_t> bytes = random_bytes(random, 2048);
  for (size_t begin = 0; begin < 16; ++begin) {
    for (size_t size = 0; size + begin <= 300; ++size) {
      const ByteView part = ByteView(bytes).subspan(begin, size);
      REQUIRE(crc32c(part) == slow_crc32c(part));
    }
  }
  CHECK(crc32c(bytes) == slow_crc32c(bytes));
}

TEST_CASE("crc32c: piece by piece is the same as at once") {
  Random random(8);
  const std::vector<uint8_t> bytes = random_bytes(random, 300);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    const ByteView whole(bytes);
    REQUIRE(crc32c(whole.subspan(cut), crc32c(whole.first(cut))) == crc32c(whole));
  }
}

TEST_CASE("xxh3: published values") {
  CHECK(xxh3({}) == 0x2D06800538D394C2u);
  CHECK(xxh3(as_bytes("abc")) == 0x78AF5F94892F3950u);
}

TEST_CASE("xxh3_128: published values") {
  CHECK(xxh3_128({}) == Hash128{0x6001C324468D497Fu, 0x99AA06D3014798D8u});
  CHECK(xxh3_128(as_bytes("abc")) == Hash128{0x78AF5F94892F3950u, 0x06B05AB6733A6185u});
  CHECK(xxh3_128(as_bytes("abc")) != xxh3_128(as_bytes("abd")));
}

TEST_CASE("xxh3: the seed matters") {
  const std::string text = "a few bytes";
  CHECK(xxh3(as_bytes(text), 0) == xxh3(as_bytes(text)));
  CHECK(xxh3(as_bytes(text), 1) != xxh3(as_bytes(text), 0));
}

TEST_CASE("Xxh3Stream: any split equals the hash of the whole") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const std::vector<uint8_t> bytes = random_bytes(random, random.below(5000));
    Xxh3Stream stream(seed);
    for (size_t at = 0; at < bytes.size();) {
      const size_t part = std::min<size_t>(random.below(700), bytes.size() - at);
      stream.update(ByteView(bytes).subspan(at, part));
      at += part;
    }
    REQUIRE(stream.digest() == xxh3(bytes, seed));
    REQUIRE(stream.digest() == xxh3(bytes, seed));  // reading it changes nothing
  }
}

TEST_CASE("Xxh3Stream: nothing hashed") {
  Xxh3Stream stream;
  stream.update({});
  CHECK(stream.digest() == xxh3({}));
}

}  // namespace
}  // namespace tidemark
