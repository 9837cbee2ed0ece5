// Parts of transactions in the log.
#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/limits.h"
#include "log/base/random.h"
#include "log/format/log_record.h"

namespace tidemark::format {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes copy(ByteView view) { return Bytes(view.begin(), view.end()); }

bool same(const HalfRecord& a, const HalfRecord& b) {
  return a.partition == b.partition && a.received_ms == b.received_ms && a.producer == b.producer &&
         a.number == b.number && a.coordinator == b.coordinator && a.schedule == b.schedule &&
         a.index == b.index && a.timeout_ms == b.timeout_ms && a.group == b.group &&
         a.reference == b.reference && as_text(a.payload) == as_text(b.payload);
}

HalfRecord example() {
  HalfRecord half;
  half.partition = {TopicId(0x01020304), PartitionIndex(5)};
  half.received_ms = 0x1122334455667788;
  half.producer = 0x8877665544332211;
  half.number = 0x00090000000000AA;
  half.coordinator = ShardId(0x0706);
  half.index = 0x0B;
  half.timeout_ms = 6000;
  half.group = "orders";
  half.reference = "no 17";
  half.payload = as_bytes("batch");
  return half;
}

Bytes body_of(const HalfRecord& half) {
  RecordListBuilder builder;
  builder.add_half(RecordKind::kHalf, half);
  const SharedBytes payload = builder.take();
  return copy(payload.view().subspan(
      kRecordHeaderBytes,
      half_body_bytes(half.group.size(), half.reference.size(), half.payload.size())));
}

Result<HalfRecord> decode(ByteView body, RecordKind kind = RecordKind::kHalf) {
  return decode_half({.kind = kind, .body = body, .body_offset = kRecordHeaderBytes});
}

TEST_CASE("half record: bytes as the format describes them") {
  RecordListBuilder builder;
  builder.add_half(RecordKind::kRelocateHalf, example());
  const Bytes expected = {69,   0,    0,    0,    5,    1,    0,    0,     // header
                          0x04, 0x03, 0x02, 0x01, 5,    0,    0,    0,     // topic, partition
                          0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,  // received at
                          0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,  // producer
                          0xAA, 0,    0,    0,    0,    0,    9,    0,     // number
                          0x06, 0x07, 0,    6,    0x0B, 0,    0,    0,     // shard .. index
                          0x70, 0x17, 0,    0,    5,    0,    0,    0,     // timeout, reference
                          'o',  'r',  'd',  'e',  'r',  's',  'n',  'o',
                          ' ',  '1',  '7',  0,    0,    0,    0,    0,   // texts, zeros
                          'b',  'a',  't',  'c',  'h',  0,    0,    0};  // batch, padding
  CHECK(copy(builder.take().view()) == expected);
}

TEST_CASE("half record: random ones come back, what they view lies in the payload") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const auto text = [&random](size_t size) {
      std::string out(size, '\0');
      std::generate(out.begin(), out.end(), [&] { return static_cast<char>(random.next()); });
      return out;
    };
    const std::string group = text(random.below(256));
    const std::string reference = text(random.below(256));
    const std::string batch = text(random.below(random.chance(1, 10) ? 50'000 : 100));
    HalfRecord half;
    half.partition = {TopicId(static_cast<uint32_t>(random.next())),
                      PartitionIndex(static_cast<uint32_t>(random.next()))};
    half.received_ms = static_cast<int64_t>(random.next());
    half.producer = random.next();
    half.number = random.next();
    half.coordinator = ShardId(static_cast<uint16_t>(random.next()));
    half.schedule = random.chance(1, 2);
    half.index = static_cast<uint32_t>(random.next());
    half.timeout_ms = static_cast<uint32_t>(random.next());
    half.group = group;
    half.reference = reference;
    half.payload = as_bytes(batch);
    const RecordKind kind = random.chance(1, 2) ? RecordKind::kHalf : RecordKind::kRelocateHalf;
    RecordListBuilder builder;
    builder.add(RecordKind::kTrim, as_bytes("before"));
    builder.add_half(kind, half);
    builder.add(RecordKind::kTrim, as_bytes("behind"));
    const SharedBytes payload = builder.take();
    RecordListReader reader(payload.view());
    LogRecord record;
    REQUIRE(reader.next(record));
    CHECK(decode_half(record).error().code() == ErrorCode::kMalformed);
    REQUIRE(reader.next(record));
    REQUIRE(record.kind == kind);
    const Result<HalfRecord> decoded = decode_half(record);
    REQUIRE(decoded.ok());
    CHECK(same(*decoded, half));
    CHECK(decoded->payload_offset % 8 == 0);
    CHECK(decoded->payload.data() == payload.data() + decoded->payload_offset);
    CHECK(decode_produce(record).error().code() == ErrorCode::kMalformed);
    CHECK(decode_relocate(record).error().code() == ErrorCode::kMalformed);
    REQUIRE(reader.next(record));
    CHECK(as_text(record.body) == "behind");
    CHECK(!reader.next(record));
    CHECK(reader.status().ok());
  }
}

TEST_CASE("half record: cut before its payload it is refused") {
  const Bytes body = body_of(example());
  const size_t head = body.size() - example().payload.size();
  for (size_t size = 0; size <= body.size(); ++size) {
    CAPTURE(size);
    const Result<HalfRecord> cut = decode(ByteView(body).first(size));
    CHECK(cut.ok() == (size >= head));
    if (!cut.ok()) {
      CHECK(cut.error().code() == ErrorCode::kMalformed);
    }
  }
}

TEST_CASE("half record: texts that reach beyond the body are refused") {
  HalfRecord bare = example();
  bare.group = bare.reference = {};
  bare.payload = {};
  const Bytes body = body_of(bare);
  REQUIRE(body.size() == kHalfHeaderBytes);
  CHECK(decode(body).ok());
  for (const size_t at : {35u, 44u}) {  // bytes of the group, of the reference
    for (unsigned size = 1; size < 256; ++size) {
      Bytes longer = body;
      longer[at] = static_cast<uint8_t>(size);
      CHECK(decode(longer).error().code() == ErrorCode::kMalformed);
      longer.resize(half_body_bytes(size, 0, 0));
      CHECK(decode(longer).ok());
      longer.pop_back();
      CHECK(decode(longer).error().code() == ErrorCode::kMalformed);
    }
  }
}

TEST_CASE("half record: bytes that must be zero, and payloads that this version does not know") {
  const Bytes good = body_of(example());
  REQUIRE(decode(good).ok());
  // Behind the sizes of the texts, and between the texts and the batch.
  for (const size_t at : {45u, 46u, 47u, 59u, 60u, 61u, 62u, 63u}) {
    CAPTURE(at);
    Bytes bad = good;
    bad[at] = 1;
    CHECK(decode(bad).error().code() == ErrorCode::kMalformed);
  }
  for (unsigned payload = 0; payload < 256; ++payload) {
    Bytes other = good;
    other[34] = static_cast<uint8_t>(payload);
    if (payload <= 1) {
      CHECK(decode(other)->schedule == (payload == 1));
    } else {
      CHECK(decode(other).error().code() == ErrorCode::kUnsupportedVersion);
    }
  }
  CHECK(decode(good, RecordKind::kRelocateHalf).ok());
  CHECK(decode(good, RecordKind::kProduce).error().code() == ErrorCode::kMalformed);
}

TEST_CASE("half record: the largest batch with the longest texts fits an entry") {
  const std::string text(limits::kTxnTextBytesMax, 't');
  const Bytes batch(limits::kBatchBytesMax, 0xAB);
  HalfRecord half = example();
  half.group = half.reference = text;
  half.payload = batch;
  RecordListBuilder builder;
  builder.add_half(RecordKind::kHalf, half);
  const SharedBytes payload = builder.take();
  RecordListReader reader(payload.view());
  LogRecord record;
  REQUIRE(reader.next(record));
  const Result<HalfRecord> decoded = decode_half(record);
  REQUIRE(decoded.ok());
  CHECK(same(*decoded, half));
}

}  // namespace
}  // namespace tidemark::format
