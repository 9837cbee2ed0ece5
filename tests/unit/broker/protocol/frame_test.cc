#include "broker/protocol/frame.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/random.h"

namespace tidemark::protocol {
namespace {

std::vector<uint8_t> flatten(const OutFrame& frame) {
  std::vector<uint8_t> bytes(frame.head.view().begin(), frame.head.view().end());
  for (const SharedBytes& part : frame.payload) {
    bytes.insert(bytes.end(), part.view().begin(), part.view().end());
  }
  return bytes;
}

Buffer random_bytes(Random& random, size_t size) {
  Buffer buffer(size);
  for (uint8_t& byte : buffer.mutable_view()) {
    byte = static_cast<uint8_t>(random.next());
  }
  return buffer;
}

std::vector<uint8_t> random_frame(Random& random, size_t payload_bytes) {
  const Buffer table = random_bytes(random, random.below(200));
  std::vector<SharedBytes> payload;
  while (payload_bytes > 0) {
    const size_t part = 1 + random.below(payload_bytes);
    payload.emplace_back(random_bytes(random, part));
    payload_bytes -= part;
  }
  return flatten(make_frame(FrameType::kProduce, random.chance(1, 2),
                            static_cast<uint16_t>(random.below(4)), random.next(), table.view(),
                            std::move(payload)));
}

// Feeds in pieces of at most `piece` bytes (0: what prepare() offers).
Status feed(FrameParser& parser, ByteView bytes, size_t piece, std::vector<Frame>& out) {
  while (!bytes.empty()) {
    const MutableByteView room = parser.prepare();
    REQUIRE(!room.empty());
    const size_t n = std::min({room.size(), bytes.size(), piece == 0 ? bytes.size() : piece});
    std::memcpy(room.data(), bytes.data(), n);
    bytes = bytes.subspan(n);
    RETURN_IF_ERROR(parser.commit(n, out));
  }
  return {};
}

std::vector<uint8_t> header_bytes(const FrameHeader& header) {
  std::vector<uint8_t> bytes(kFrameHeaderBytes);
  encode_frame_header(header, bytes);
  return bytes;
}

TEST_CASE("frame header: what is encoded is decoded") {
  const FrameHeader header{.frame_bytes = 80,
                           .version = 1,
                           .reply = true,
                           .type = 17,
                           .shard = 3,
                           .correlation = ~0ull - 4,
                           .table_bytes = 13};
  const auto decoded = decode_frame_header(header_bytes(header), 1000);
  REQUIRE(decoded.ok());
  CHECK(decoded->frame_bytes == 80);
  CHECK(decoded->version == 1);
  CHECK(decoded->reply);
  CHECK(decoded->type == 17);
  CHECK(decoded->shard == 3);
  CHECK(decoded->correlation == ~0ull - 4);
  CHECK(decoded->table_bytes == 13);
}

TEST_CASE("frame header: its bytes are as documented") {
  const std::vector<uint8_t> bytes = header_bytes({.frame_bytes = 0x01020304,
                                                   .version = 1,
                                                   .reply = true,
                                                   .type = 0x1011,
                                                   .shard = 0x2021,
                                                   .correlation = 0x3132333435363738,
                                                   .table_bytes = 0x41});
  const uint8_t expected[28] = {'T',  'D',  'M',  'K',  0x04, 0x03, 0x02, 0x01, 1,    1,
                                0x11, 0x10, 0x21, 0x20, 0,    0,    0x38, 0x37, 0x36, 0x35,
                                0x34, 0x33, 0x32, 0x31, 0x41, 0,    0,    0};
  CHECK(std::equal(std::begin(expected), std::end(expected), bytes.begin()));
  CHECK(load_le<uint32_t>(bytes.data() + 28) == static_cast<uint32_t>(xxh3({bytes.data(), 28})));
}

TEST_CASE("frame header: every flipped bit is refused") {
  const std::vector<uint8_t> good = header_bytes(
      {.frame_bytes = 64, .type = 16, .shard = 1, .correlation = 7, .table_bytes = 20});
  REQUIRE(decode_frame_header(good, 1000).ok());
  for (size_t bit = 0; bit < kFrameHeaderBytes * 8; ++bit) {
    std::vector<uint8_t> bad = good;
    bad[bit / 8] = static_cast<uint8_t>(bad[bit / 8] ^ (1u << (bit % 8)));
    CAPTURE(bit);
    const auto decoded = decode_frame_header(bad, 1000);
    REQUIRE(!decoded.ok());
    CHECK(decoded.error().code() == ErrorCode::kMalformed);
  }
}

TEST_CASE("frame header: sizes that cannot be are refused, with the limit named") {
  SUBCASE("2 GiB") {
    const auto decoded =
        decode_frame_header(header_bytes({.frame_bytes = 0x8000'0000u}), limits::kFrameBytesMax);
    REQUIRE(!decoded.ok());
    CHECK(decoded.error().code() == ErrorCode::kTooLarge);
    CHECK(decoded.error().to_string().find(std::to_string(limits::kFrameBytesMax)) !=
          std::string::npos);
  }
  SUBCASE("one over the limit") {
    CHECK(decode_frame_header(header_bytes({.frame_bytes = 1001}), 1001).ok());
    CHECK(decode_frame_header(header_bytes({.frame_bytes = 1001}), 1000).error().code() ==
          ErrorCode::kTooLarge);
  }
  SUBCASE("smaller than its header") {
    CHECK(decode_frame_header(header_bytes({.frame_bytes = 31}), 1000).error().code() ==
          ErrorCode::kMalformed);
  }
  SUBCASE("table does not fit, also with its padding") {
    CHECK(decode_frame_header(header_bytes({.frame_bytes = 40, .table_bytes = 8}), 1000).ok());
    CHECK(decode_frame_header(header_bytes({.frame_bytes = 40, .table_bytes = 9}), 1000)
              .error()
              .code() == ErrorCode::kMalformed);
    CHECK(decode_frame_header(header_bytes({.frame_bytes = 36, .table_bytes = 4}), 1000)
              .error()
              .code() == ErrorCode::kMalformed);
    CHECK(decode_frame_header(header_bytes({.frame_bytes = 40, .table_bytes = 0xFFFF'FFFF}), 1000)
              .error()
              .code() == ErrorCode::kMalformed);
  }
  SUBCASE("cut") {
    const std::vector<uint8_t> whole = header_bytes({.frame_bytes = 32});
    CHECK(decode_frame_header(ByteView(whole).first(31), 1000).error().code() ==
          ErrorCode::kMalformed);
  }
}

TEST_CASE(
    "frame header: another version passes, with bits that version may use; ours must not have "
    "them") {
  std::vector<uint8_t> bytes = header_bytes({.frame_bytes = 32, .version = 9, .type = 999});
  bytes[9] = 0x82;
  store_le<uint32_t>(bytes.data() + 28, static_cast<uint32_t>(xxh3({bytes.data(), 28})));
  const auto decoded = decode_frame_header(bytes, 1000);
  REQUIRE(decoded.ok());
  CHECK(decoded->version == 9);
  bytes[8] = kProtocolVersion;
  store_le<uint32_t>(bytes.data() + 28, static_cast<uint32_t>(xxh3({bytes.data(), 28})));
  CHECK(decode_frame_header(bytes, 1000).error().code() == ErrorCode::kMalformed);
}

TEST_CASE("frame parser: any cut of the stream gives the same frames") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    std::vector<std::vector<uint8_t>> sent;
    std::vector<uint8_t> stream;
    for (int i = 0; i < 20; ++i) {
      // Around the sizes where a frame stays in the staging block, fills it, or gets its own block.
      const size_t sizes[] = {0, random.below(300), random.below(20'000),
                              65'000 + random.below(1'500), random.below(400'000)};
      sent.push_back(random_frame(random, sizes[random.below(5)]));
      stream.insert(stream.end(), sent.back().begin(), sent.back().end());
    }
    // Whole pieces, small pieces, and one odd size; single bytes only for the first part of the
    // stream.
    for (const size_t piece : {size_t{0}, size_t{1} + random.below(5'000), size_t{65'536}}) {
      CAPTURE(piece);
      FrameParser parser(limits::kFrameBytesMax);
      std::vector<Frame> frames;
      REQUIRE(feed(parser, stream, piece, frames).ok());
      CHECK(!parser.mid_frame());
      REQUIRE(frames.size() == sent.size());
      for (size_t i = 0; i < frames.size(); ++i) {
        CHECK(std::equal(frames[i].bytes.view().begin(), frames[i].bytes.view().end(),
                         sent[i].begin(), sent[i].end()));
        // Tables are judged by address: one that begins elsewhere would be refused.
        CHECK(reinterpret_cast<uintptr_t>(frames[i].bytes.data()) % 8 == 0);
        const size_t table = (frames[i].header.table_bytes + 7u) & ~7u;
        CHECK(frames[i].payload().size() == sent[i].size() - kFrameHeaderBytes - table);
      }
    }
  }
}

TEST_CASE("frame parser: byte by byte") {
  Random random(3);
  std::vector<uint8_t> stream;
  for (const size_t payload : {0u, 40u, 17'000u, 3u}) {
    const std::vector<uint8_t> frame = random_frame(random, payload);
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  FrameParser parser(limits::kFrameBytesMax);
  std::vector<Frame> frames;
  REQUIRE(feed(parser, stream, 1, frames).ok());
  CHECK(frames.size() == 4);
  CHECK(!parser.mid_frame());
  REQUIRE(feed(parser, ByteView(stream).first(5), 1, frames).ok());
  CHECK(parser.mid_frame());
}

TEST_CASE("frame parser: damage after good frames gives the good ones and the error") {
  Random random(5);
  std::vector<uint8_t> stream = random_frame(random, 100);
  const std::vector<uint8_t> huge = header_bytes({.frame_bytes = 0x8000'0000u});
  stream.insert(stream.end(), huge.begin(), huge.end());
  FrameParser parser(limits::kFrameBytesMax);
  std::vector<Frame> frames;
  const Status status = feed(parser, stream, 0, frames);
  CHECK(status.code() == ErrorCode::kTooLarge);
  CHECK(frames.size() == 1);
  // Nothing was set aside for the frame that was claimed: the room offered is what is left of the
  // staging block.
  CHECK(parser.prepare().size() < 65'536);
}

TEST_CASE("frame parser: the limit can be raised after the handshake") {
  Random random(6);
  const std::vector<uint8_t> frame = random_frame(random, 10'000);
  std::vector<Frame> frames;
  FrameParser strict(limits::kFrameBytesMaxBeforeHello);
  CHECK(feed(strict, frame, 0, frames).code() == ErrorCode::kTooLarge);
  FrameParser raised(limits::kFrameBytesMaxBeforeHello);
  raised.set_frame_bytes_max(limits::kFrameBytesMax);
  CHECK(feed(raised, frame, 0, frames).ok());
  CHECK(frames.size() == 1);
}

TEST_CASE("make_frame: table is padded with zeros, payload follows") {
  const std::vector<uint8_t> table = {1, 2, 3};
  std::vector<SharedBytes> payload;
  payload.emplace_back(Buffer::copy_of(as_bytes("hello")));
  payload.emplace_back(Buffer::copy_of(as_bytes("world!")));
  const OutFrame frame = make_frame(FrameType::kFetch, true, kNoShard, 42, table, payload);
  const std::vector<uint8_t> bytes = flatten(frame);
  REQUIRE(bytes.size() == frame.bytes());
  REQUIRE(bytes.size() == 32 + 8 + 11);
  CHECK(std::vector<uint8_t>(bytes.begin() + 32, bytes.begin() + 40) ==
        std::vector<uint8_t>{1, 2, 3, 0, 0, 0, 0, 0});
  CHECK(as_text(ByteView(bytes).subspan(40)) == "helloworld!");
}

TEST_CASE("frame types: known requests have names, replies and strangers are no requests") {
  size_t known = 0;
  for (uint32_t type = 0; type <= 0xFFFF; ++type) {
    if (is_known_request(static_cast<uint16_t>(type))) {
      ++known;
      CHECK(frame_type_name(static_cast<FrameType>(type)) != "unknown");
    }
  }
  CHECK(known == 32);
  CHECK(!is_known_request(static_cast<uint16_t>(FrameType::kError)));
  CHECK(frame_type_name(static_cast<FrameType>(77)) == "unknown");
}

}  // namespace
}  // namespace tidemark::protocol
