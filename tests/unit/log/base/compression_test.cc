#include "log/base/compression.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <zstd.h>

#include "log/base/limits.h"
#include "log/base/random.h"

namespace tidemark {
namespace {

using Bytes = std::vector<uint8_t>;

// Text-like bytes: compressible, but not trivially.
Bytes words(uint64_t seed, size_t size) {
  Random random(seed);
  Bytes bytes;
  while (bytes.size() < size) {
    const Bytes word(random.between(1, 9), static_cast<uint8_t>('a' + random.below(26)));
    bytes.insert(bytes.end(), word.begin(), word.end());
  }
  bytes.resize(size);
  return bytes;
}

// A frame as a streaming writer makes it: no content size in its header.
Bytes streamed_frame(ByteView plain, int window_log = 0, bool checksum = false) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, window_log);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, checksum ? 1 : 0);
  Bytes out(ZSTD_compressBound(plain.size()) + 64);
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  ZSTD_inBuffer from{plain.data(), plain.size(), 0};
  REQUIRE(!ZSTD_isError(ZSTD_compressStream2(context.get(), &to, &from, ZSTD_e_continue)));
  REQUIRE(ZSTD_compressStream2(context.get(), &to, &from, ZSTD_e_end) == 0);
  out.resize(to.pos);
  REQUIRE(ZSTD_getFrameContentSize(out.data(), out.size()) == ZSTD_CONTENTSIZE_UNKNOWN);
  return out;
}

Bytes joined(const Bytes& a, const Bytes& b) {
  Bytes both = a;
  both.insert(both.end(), b.begin(), b.end());
  return both;
}

void check_refused(ByteView compressed, size_t size_max, ErrorCode code) {
  const auto plain = zstd_decompress(compressed, size_max);
  REQUIRE_FALSE(plain.ok());
  CHECK_MESSAGE(plain.error().code() == code, plain.error().to_string());
}

TEST_CASE("zstd: round trip at every level and many sizes") {
  for (const size_t size : std::initializer_list<size_t>{0, 1, 2, 100, 4096, 70000, 300000}) {
    const Bytes plain = words(size + 1, size);
    for (int level = 1; level <= 19; level += size > 10'000 ? 6 : 1) {
      CAPTURE(size);
      CAPTURE(level);
      const auto compressed = zstd_compress(plain, level);
      REQUIRE(compressed.ok());
      const auto back = zstd_decompress(*compressed, size);
      REQUIRE(back.ok());
      REQUIRE(*back == plain);
    }
  }
}

TEST_CASE("zstd_compress: a level outside the range names it and the range") {
  for (const int level : {0, -1, 20, 1000}) {
    const auto compressed = zstd_compress({}, level);
    REQUIRE_FALSE(compressed.ok());
    CHECK(compressed.error().code() == ErrorCode::kInvalidArgument);
    const std::string text = compressed.error().to_string();
    CHECK(text.find(std::to_string(level)) != std::string::npos);
    CHECK(text.find("1 to 19") != std::string::npos);
  }
}

TEST_CASE("zstd_compress_into: fits or kTooLarge, never beyond the given memory") {
  const Bytes plain = words(3, 5000);
  const Bytes whole = *zstd_compress(plain, 1);
  for (size_t room = 0; room <= whole.size() + 8; ++room) {
    CAPTURE(room);
    Bytes out(room + 4, 0xEE);
    const auto size = zstd_compress_into(plain, 1, MutableByteView(out).first(room));
    if (size.ok()) {
      REQUIRE(*size <= room);
      REQUIRE(*zstd_decompress(ByteView(out).first(*size), plain.size()) == plain);
    } else {
      REQUIRE(size.error().code() == ErrorCode::kTooLarge);
    }
    REQUIRE(std::all_of(out.begin() + static_cast<std::ptrdiff_t>(room), out.end(),
                        [](uint8_t byte) { return byte == 0xEE; }));
  }
  Bytes enough(whole.size() + 64);
  CHECK(zstd_compress_into(plain, 1, enough).ok());
}

TEST_CASE("zstd: the limit is exact, with and without a size in the frame") {
  const Bytes plain = words(4, 200'000);
  const Bytes sized = *zstd_compress(plain, 1);
  for (const bool checksum : {false, true}) {
    for (const Bytes& frame : {sized, streamed_frame(plain, 0, checksum)}) {
      REQUIRE(*zstd_decompress(frame, plain.size()) == plain);
      REQUIRE(*zstd_decompress(frame, plain.size() + 1) == plain);
      REQUIRE(*zstd_decompress(frame, SIZE_MAX) == plain);
      check_refused(frame, plain.size() - 1, ErrorCode::kTooLarge);
      check_refused(frame, 1, ErrorCode::kTooLarge);
      check_refused(frame, 0, ErrorCode::kTooLarge);
    }
  }
}

TEST_CASE("zstd: a bomb is refused, and the text names the limit") {
  const Bytes zeros(64 * limits::kMiB);
  const size_t size_max = 16 * limits::kMiB;
  const Bytes sized = *zstd_compress(zeros, 1);
  const Bytes streamed = streamed_frame(zeros);
  REQUIRE(sized.size() < 10'000);
  for (const Bytes& frame : {sized, streamed}) {
    const auto plain = zstd_inflate(frame, size_max);
    REQUIRE_FALSE(plain.ok());
    CHECK(plain.error().code() == ErrorCode::kTooLarge);
    CHECK(plain.error().to_string().find(std::to_string(size_max)) != std::string::npos);
  }
  // Many small frames add up.
  Bytes many;
  const Bytes one = *zstd_compress(Bytes(limits::kMiB), 1);
  for (int i = 0; i < 17; ++i) {
    many.insert(many.end(), one.begin(), one.end());
  }
  check_refused(many, size_max, ErrorCode::kTooLarge);
  CHECK(zstd_inflate(ByteView(many).first(16 * one.size()), size_max).ok());
}

TEST_CASE("zstd: several frames give one output") {
  const Bytes a = words(5, 1000);
  const Bytes b = words(6, 90'000);
  const Bytes expected = joined(a, b);
  CHECK(*zstd_decompress(joined(*zstd_compress(a, 1), *zstd_compress(b, 3)), 91'000) == expected);
  CHECK(*zstd_decompress(joined(streamed_frame(a), *zstd_compress(b, 3)), 91'000) == expected);
  CHECK(*zstd_decompress(joined(*zstd_compress(a, 1), streamed_frame(b)), 91'000) == expected);
  CHECK(*zstd_decompress(joined(*zstd_compress({}, 1), *zstd_compress(a, 1)), 1000) == a);
}

TEST_CASE("zstd: cut frames, garbage and foreign frames are kCorrupted") {
  const Bytes plain = words(7, 3000);
  for (const Bytes& frame : {*zstd_compress(plain, 1), streamed_frame(plain, 0, true)}) {
    for (size_t size = 0; size < frame.size(); ++size) {
      CAPTURE(size);
      check_refused(ByteView(frame).first(size), 10'000, ErrorCode::kCorrupted);
    }
    check_refused(joined(frame, {0}), 10'000, ErrorCode::kCorrupted);
    check_refused(joined(frame, {1, 2, 3, 4, 5, 6, 7, 8}), 10'000, ErrorCode::kCorrupted);
  }
  check_refused(as_bytes("not zstd at all"), 10'000, ErrorCode::kCorrupted);
  // A skippable frame with four bytes in it.
  const Bytes skippable{0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
  check_refused(skippable, 10'000, ErrorCode::kCorrupted);
}

TEST_CASE("zstd: a frame of unknown size may ask for a window of 8 MiB, not of 16") {
  const Bytes plain = words(8, 1000);
  CHECK(*zstd_decompress(streamed_frame(plain, 23), 1000) == plain);
  check_refused(streamed_frame(plain, 24), 1000, ErrorCode::kCorrupted);
  // A refused frame leaves nothing behind for the next one.
  CHECK(*zstd_decompress(streamed_frame(plain), 1000) == plain);
}

TEST_CASE("zstd: damaged frames never give more than the limit") {
  const Bytes plain = words(9, 20'000);
  const Bytes sized = *zstd_compress(plain, 3);
  const Bytes streamed = streamed_frame(plain);
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Bytes frame = random.chance(1, 2) ? sized : streamed;
    for (uint64_t flips = random.between(1, 4); flips > 0; --flips) {
      frame[random.below(frame.size())] ^= static_cast<uint8_t>(random.between(1, 255));
    }
    const auto out = zstd_inflate(frame, 30'000);
    REQUIRE((!out.ok() || out->size() <= 30'000));
  }
}

}  // namespace
}  // namespace tidemark
