#include "log/format/log_record.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/coding.h"
#include "log/base/limits.h"
#include "log/base/random.h"

namespace tidemark::format {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes copy(ByteView view) { return Bytes(view.begin(), view.end()); }

// Reads to the end; gives the status.
Status walk(ByteView payload, std::vector<LogRecord>* out = nullptr) {
  RecordListReader reader(payload);
  LogRecord record;
  while (reader.next(record)) {
    if (out != nullptr) {
      out->push_back(record);
    }
  }
  LogRecord again;
  REQUIRE_FALSE(reader.next(again));
  return reader.status();
}

// One record with a body of five bytes: 16 bytes with its padding.
Bytes small_payload() {
  RecordListBuilder builder;
  builder.add(RecordKind::kTrim, as_bytes("trim!"));
  return copy(builder.take().view());
}

TEST_CASE("records: bytes as the format describes them") {
  RecordListBuilder builder;
  builder.add(RecordKind::kTrim, as_bytes("trim!"));
  builder.add_produce({TopicId(0x01020304), PartitionIndex(5)}, 0x1122334455667788,
                      as_bytes("batch"));
  const Bytes expected = {5,    0,    0,    0,    34,   1,    0,    0,  // header
                          't',  'r',  'i',  'm',  '!',  0,    0,    0,  // body, padding
                          29,   0,    0,    0,    1,    1,    0,    0,  // header
                          0x04, 0x03, 0x02, 0x01, 5,    0,    0,    0,  // topic, partition
                          0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
                          0,    0,    0,    0,    0,    0,    0,    0,   // received, flags
                          'b',  'a',  't',  'c',  'h',  0,    0,    0};  // batch, padding
  CHECK(builder.bytes() == expected.size());
  CHECK(copy(builder.take().view()) == expected);
  CHECK(builder.empty());
  CHECK(builder.bytes() == 0);
}

TEST_CASE("records: random lists come back, offsets point into the payload") {
  const RecordKind kinds[] = {RecordKind::kTopicCreate,   RecordKind::kTopicDelete,
                              RecordKind::kProducerIds,   RecordKind::kPartitionOpen,
                              RecordKind::kPartitionDrop, RecordKind::kTrim};
  RecordListBuilder builder;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Random random(seed);

    struct Model {
      RecordKind kind;
      Bytes body;  // of a produce record: the batch
      PartitionId partition;
      int64_t received_ms;
    };

    std::vector<Model> model;
    size_t bytes = 0;
    for (uint64_t left = random.below(20); left > 0; --left) {
      Bytes body(random.below(random.chance(1, 10) ? 50'000 : 100));
      std::generate(body.begin(), body.end(), [&] { return static_cast<uint8_t>(random.next()); });
      Model record{kinds[random.below(6)], std::move(body), {}, 0};
      if (random.chance(1, 2)) {
        record.kind = RecordKind::kProduce;
        record.partition = {TopicId(static_cast<uint32_t>(random.next())),
                            PartitionIndex(static_cast<uint32_t>(random.next()))};
        record.received_ms = static_cast<int64_t>(random.next());
        builder.add_produce(record.partition, record.received_ms, record.body);
        bytes += record_bytes(kProduceHeaderBytes + record.body.size());
      } else {
        builder.add(record.kind, record.body);
        bytes += record_bytes(record.body.size());
      }
      REQUIRE(builder.bytes() == bytes);
      model.push_back(std::move(record));
    }
    REQUIRE(builder.empty() == model.empty());
    const SharedBytes payload = builder.take();
    REQUIRE(payload.size() == bytes);
    REQUIRE(payload.size() % 8 == 0);
    std::vector<LogRecord> records;
    REQUIRE(walk(payload.view(), &records).ok());
    REQUIRE(records.size() == model.size());
    for (size_t i = 0; i < model.size(); ++i) {
      REQUIRE(records[i].kind == model[i].kind);
      REQUIRE(records[i].body.data() == payload.data() + records[i].body_offset);
      if (model[i].kind == RecordKind::kProduce) {
        const auto produce = decode_produce(records[i]);
        REQUIRE(produce.ok());
        REQUIRE(produce->partition == model[i].partition);
        REQUIRE(produce->received_ms == model[i].received_ms);
        REQUIRE(produce->batch.data() == payload.data() + produce->batch_offset);
        REQUIRE(copy(produce->batch) == model[i].body);
      } else {
        REQUIRE(copy(records[i].body) == model[i].body);
        REQUIRE(decode_produce(records[i]).error().code() == ErrorCode::kMalformed);
      }
    }
  }
}

TEST_CASE("records: an earlier payload is not touched by later ones") {
  RecordListBuilder builder;
  builder.add(RecordKind::kTrim, as_bytes("first"));
  const SharedBytes first = builder.take();
  builder.add(RecordKind::kTrim, as_bytes("other"));
  const SharedBytes second = builder.take();
  std::vector<LogRecord> records;
  REQUIRE(walk(first.view(), &records).ok());
  REQUIRE(walk(second.view(), &records).ok());
  CHECK(as_text(records[0].body) == "first");
  CHECK(as_text(records[1].body) == "other");
}

TEST_CASE("records: the largest batch and the largest payload") {
  RecordListBuilder builder;
  const Bytes batch(limits::kBatchBytesMax, 0xAB);
  builder.add_produce({TopicId(1), PartitionIndex(0)}, 0, batch);
  builder.add(RecordKind::kTrim,
              Bytes(limits::kEntryPayloadBytesMax - builder.bytes() - kRecordHeaderBytes));
  const SharedBytes payload = builder.take();
  CHECK(payload.size() == limits::kEntryPayloadBytesMax);
  CHECK(walk(payload.view()).ok());
  Bytes longer = copy(payload.view());
  longer.resize(longer.size() + 8);
  CHECK(walk(longer).code() == ErrorCode::kMalformed);
}

TEST_CASE("records: truncation at every length that is not a border") {
  RecordListBuilder builder;
  builder.add(RecordKind::kTrim, as_bytes("one"));
  const size_t border = builder.bytes();
  builder.add_produce({TopicId(1), PartitionIndex(2)}, 3, as_bytes("some batch"));
  const SharedBytes payload = builder.take();
  for (size_t size = 0; size <= payload.size(); ++size) {
    CAPTURE(size);
    const bool whole = size == 0 || size == border || size == payload.size();
    CHECK(walk(payload.view().first(size)).code() ==
          (whole ? ErrorCode::kOk : ErrorCode::kMalformed));
  }
}

TEST_CASE("records: each field of the header is checked") {
  const Bytes good = small_payload();
  REQUIRE(walk(good).ok());
  const auto with = [&](size_t at, uint8_t value) {
    Bytes bad = good;
    bad[at] = value;
    return walk(bad);
  };
  // 1 to 8 bytes of body would all take 16 bytes: shorter is refused for what is then padding.
  CHECK(with(0, 4).code() == ErrorCode::kMalformed);
  CHECK(with(0, 6).ok());
  CHECK(with(0, 9).code() == ErrorCode::kMalformed);
  CHECK(with(0, 0).code() != ErrorCode::kOk);  // the body becomes a record
  CHECK(with(3, 0xFF).code() == ErrorCode::kMalformed);
  for (const uint8_t version : std::initializer_list<uint8_t>{0, 2, 255}) {
    const Status status = with(5, version);
    CHECK(status.code() == ErrorCode::kUnsupportedVersion);
    CHECK(status.to_string().find("version " + std::to_string(version)) != std::string::npos);
  }
  CHECK(with(6, 1).code() == ErrorCode::kMalformed);
  CHECK(with(7, 1).code() == ErrorCode::kMalformed);
  for (size_t at = 13; at < 16; ++at) {
    CHECK(with(at, 1).code() == ErrorCode::kMalformed);
  }
}

TEST_CASE("records: kinds that this version does not know are refused by number") {
  const Bytes good = small_payload();
  size_t known = 0;
  for (unsigned kind = 0; kind < 256; ++kind) {
    CAPTURE(kind);
    Bytes other = good;
    other[4] = static_cast<uint8_t>(kind);
    const Status status = walk(other);
    if (is_known_kind(static_cast<uint8_t>(kind))) {
      ++known;
      CHECK(status.ok());
    } else {
      CHECK(status.code() == ErrorCode::kUnsupportedType);
      CHECK(status.to_string().find("kind " + std::to_string(kind)) != std::string::npos);
    }
  }
  CHECK(known == 36);
}

TEST_CASE("records: a relocated message as the format describes it, and back") {
  RecordListBuilder builder;
  builder.add(RecordKind::kTrim, as_bytes("trim!"));
  RelocateRecord record;
  record.partition = {TopicId(0x01020304), PartitionIndex(5)};
  record.id = 0x8877665544332211;
  record.due_ms = 0x1122334455667788;
  record.batch = as_bytes("batch");
  builder.add_relocate(record);
  const SharedBytes payload = builder.take();
  const Bytes expected = {29,   0,    0,    0,    3,    1,    0,    0,  // header
                          0x04, 0x03, 0x02, 0x01, 5,    0,    0,    0,  // topic, partition
                          0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
                          0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
                          'b',  'a',  't',  'c',  'h',  0,    0,    0};  // batch, padding
  CHECK(copy(payload.view().subspan(16)) == expected);
  std::vector<LogRecord> records;
  REQUIRE(walk(payload.view(), &records).ok());
  REQUIRE(records.size() == 2);
  REQUIRE(records[1].kind == RecordKind::kRelocate);
  const Result<RelocateRecord> decoded = decode_relocate(records[1]);
  REQUIRE(decoded.ok());
  CHECK(decoded->partition == record.partition);
  CHECK(decoded->id == record.id);
  CHECK(decoded->due_ms == record.due_ms);
  CHECK(as_text(decoded->batch) == "batch");
  CHECK(decoded->batch.data() == payload.data() + decoded->batch_offset);
  CHECK(decode_relocate(records[0]).error().code() == ErrorCode::kMalformed);
  for (size_t size = 0; size < kRelocateHeaderBytes; ++size) {
    LogRecord cut = records[1];
    cut.body = cut.body.first(size);
    CHECK(decode_relocate(cut).error().code() == ErrorCode::kMalformed);
  }
}

TEST_CASE("records: what is left of a batch as the format describes it, and back") {
  RecordListBuilder builder;
  builder.add(RecordKind::kTrim, as_bytes("trim!"));
  CompactRecord record;
  record.partition = {TopicId(0x01020304), PartitionIndex(5)};
  record.base = Offset{0x8877665544332211};
  record.replaced = LogPosition{0x1122334455667788};
  record.replaced_bytes = 0x04050607;
  record.batch = as_bytes("batch");
  builder.add_compact(record);
  const SharedBytes payload = builder.take();
  const Bytes expected = {37,   0,    0,    0,    6,    1,    0,    0,  // header
                          0x04, 0x03, 0x02, 0x01, 5,    0,    0,    0,  // topic, partition
                          0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
                          0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
                          0x07, 0x06, 0x05, 0x04, 0,    0,    0,    0,   // its bytes, reserved
                          'b',  'a',  't',  'c',  'h',  0,    0,    0};  // batch, padding
  CHECK(copy(payload.view().subspan(16)) == expected);
  std::vector<LogRecord> records;
  REQUIRE(walk(payload.view(), &records).ok());
  REQUIRE(records.size() == 2);
  REQUIRE(records[1].kind == RecordKind::kCompact);
  const Result<CompactRecord> decoded = decode_compact(records[1]);
  REQUIRE(decoded.ok());
  CHECK(decoded->partition == record.partition);
  CHECK(decoded->base == record.base);
  CHECK(decoded->replaced == record.replaced);
  CHECK(decoded->replaced_bytes == record.replaced_bytes);
  CHECK(as_text(decoded->batch) == "batch");
  CHECK(decoded->batch.data() == payload.data() + decoded->batch_offset);
  CHECK(decode_compact(records[0]).error().code() == ErrorCode::kMalformed);
  for (size_t size = 0; size < kCompactHeaderBytes; ++size) {
    LogRecord cut = records[1];
    cut.body = cut.body.first(size);
    CHECK(decode_compact(cut).error().code() == ErrorCode::kMalformed);
  }
  Bytes bad = copy(records[1].body);
  bad[28] = 1;
  LogRecord reserved = records[1];
  reserved.body = bad;
  CHECK(decode_compact(reserved).error().context() ==
        "reserved bytes of a compact record are not zero");
}

TEST_CASE("records: a schedule set is copied and may be stamped in place") {
  RecordListBuilder builder;
  const Bytes set = {1, 2, 3, 4, 5};
  const MutableByteView stored = builder.add_schedule(set);
  REQUIRE(stored.size() == set.size());
  stored[4] = 6;
  const SharedBytes payload = builder.take();
  std::vector<LogRecord> records;
  REQUIRE(walk(payload.view(), &records).ok());
  REQUIRE(records.size() == 1);
  CHECK(records[0].kind == RecordKind::kSchedule);
  CHECK(copy(records[0].body) == Bytes{1, 2, 3, 4, 6});
}

TEST_CASE("decode_produce: a short body and unknown flags are refused") {
  const Bytes body(kProduceHeaderBytes);
  const auto decode = [](ByteView bytes) {
    return decode_produce({.kind = RecordKind::kProduce, .body = bytes, .body_offset = 8});
  };
  CHECK(decode(body).ok());
  CHECK(decode(body)->batch.empty());
  CHECK(decode(body)->batch_offset == 32);
  for (size_t size = 0; size < body.size(); ++size) {
    CHECK(decode(ByteView(body).first(size)).error().code() == ErrorCode::kMalformed);
  }
  for (size_t at = 16; at < 20; ++at) {
    Bytes flagged = body;
    flagged[at] = at == 16 ? 2 : 1;
    CHECK(decode(flagged).error().code() == ErrorCode::kUnsupportedVersion);
  }
}

TEST_CASE("decode_produce: how many sequences a batch stands for that lost its duplicates") {
  const Bytes batch = {1, 2, 3};
  for (const uint32_t sequences : {0u, 5u, 0xFFFFFFFFu}) {
    RecordListBuilder builder;
    builder.add_produce({TopicId(1), PartitionIndex(2)}, 3, batch, false, sequences);
    const SharedBytes payload = builder.take();
    CHECK(load_le<uint32_t>(payload.data() + kRecordHeaderBytes + 20) == sequences);
    RecordListReader reader(payload.view());
    LogRecord record;
    REQUIRE(reader.next(record));
    const auto produce = decode_produce(record);
    REQUIRE(produce.ok());
    CHECK(produce->sequences == sequences);
    CHECK_FALSE(produce->ttl);
    CHECK(copy(produce->batch) == batch);
  }
}

TEST_CASE("decode_produce: whether some message has a time to live of its own") {
  const Bytes batch = {1, 2, 3};
  for (const bool ttl : {false, true}) {
    RecordListBuilder builder;
    builder.add_produce({TopicId(1), PartitionIndex(2)}, 3, batch, ttl);
    const SharedBytes payload = builder.take();
    CHECK(payload.data()[kRecordHeaderBytes + 16] == (ttl ? 1 : 0));
    RecordListReader reader(payload.view());
    LogRecord record;
    REQUIRE(reader.next(record));
    const auto produce = decode_produce(record);
    REQUIRE(produce.ok());
    CHECK(produce->ttl == ttl);
    CHECK(copy(produce->batch) == batch);
  }
}

}  // namespace
}  // namespace tidemark::format
