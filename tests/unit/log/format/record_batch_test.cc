#include "log/format/record_batch.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/compression.h"
#include "log/base/random.h"
#include "log/format/batch_builder.h"
#include "tests/unit/log/format/model_record.h"
#include "tests/unit/log/format/raw_batch.h"

namespace tidemark::format {
namespace {

// Two small records, one with everything in it.
Bytes small_batch(Codec codec = Codec::kNone) {
  BatchBuilder builder;
  const std::string value(codec == Codec::kZstd ? 60 : 3, 'v');
  const HeaderInput headers[] = {{"h1", as_bytes("x"), true}, {"h2", {}, false}};
  REQUIRE(builder.append({.timestamp_ms = 1000, .value = as_bytes(value)}).ok());
  REQUIRE(builder
              .append({.timestamp_ms = 1007,
                       .has_key = true,
                       .key = as_bytes("key"),
                       .value = as_bytes(value),
                       .headers = headers})
              .ok());
  const auto batch = builder.finish(codec, 1, {.id = 9, .epoch = 1, .base_sequence = 40});
  REQUIRE(batch.ok());
  REQUIRE(decode_batch_header(batch->view())->codec == codec);
  return Bytes(batch->view().begin(), batch->view().end());
}

template <typename T>
void check_refused(const Result<T>& result, ErrorCode code, const std::string& word) {
  REQUIRE_FALSE(result.ok());
  CAPTURE(result.error().to_string());
  CHECK(result.error().code() == code);
  CHECK(result.error().to_string().find(word) != std::string::npos);
}

// The broker's check and a reader agree that the records are damaged.
void check_records_refused(const RawBatch& raw, const std::string& word) {
  const Bytes batch = raw.encode();
  REQUIRE(verify_batch(batch).ok());
  check_refused(validate_produced_batch(batch), ErrorCode::kMalformed, word);
}

TEST_CASE("decode_batch_header: every field") {
  const Bytes batch = RawBatch{.base_offset = 0x0102030405060708,
                               .leader_epoch = 77,
                               .attributes = 0x10,
                               .count = 3,
                               .base_timestamp = -5,
                               .max_timestamp = 1'700'000'000'000,
                               .producer_id = 0x1122334455667788,
                               .producer_epoch = 0x0203,
                               .base_sequence = 0x01020304,
                               .block = Bytes(10)}
                          .encode();
  const auto header = decode_batch_header(batch);
  REQUIRE(header.ok());
  CHECK(header->base_offset == 0x0102030405060708u);
  CHECK(header->batch_bytes == 71);
  CHECK(header->codec == Codec::kNone);
  CHECK(header->transactional);
  CHECK_FALSE(header->control);
  CHECK_FALSE(header->log_append_time);
  CHECK(header->record_count == 3);
  CHECK(header->base_timestamp_ms == -5);
  CHECK(header->max_timestamp_ms == 1'700'000'000'000);
  CHECK(header->producer_id == 0x1122334455667788);
  CHECK(header->producer_epoch == 0x0203);
  CHECK(header->base_sequence == 0x01020304);
  for (uint16_t codec = 0; codec <= 4; ++codec) {
    const Bytes coded = RawBatch{.attributes = static_cast<uint16_t>(0x28 | codec)}.encode();
    const auto decoded = decode_batch_header(coded);
    REQUIRE(decoded.ok());
    CHECK(decoded->codec == static_cast<Codec>(codec));
    CHECK(decoded->control);
    CHECK(decoded->log_append_time);
  }
}

TEST_CASE("decode_batch_header: what it refuses, and how it says so") {
  const Bytes good = RawBatch{.block = Bytes(7)}.encode();
  REQUIRE(decode_batch_header(good).ok());
  for (size_t size = 0; size < kBatchHeaderBytes; ++size) {
    check_refused(decode_batch_header(ByteView(good).first(size)), ErrorCode::kMalformed, "61");
  }
  check_refused(decode_batch_header(RawBatch{.length_error = 1}.encode()), ErrorCode::kMalformed,
                "62");
  check_refused(decode_batch_header(RawBatch{.length_error = -1}.encode()), ErrorCode::kMalformed,
                "60");
  check_refused(decode_batch_header(RawBatch{.length_error = INT32_MIN}.encode()),
                ErrorCode::kMalformed, "length");
  for (const uint8_t magic : std::initializer_list<uint8_t>{0, 1, 3, 255}) {
    check_refused(decode_batch_header(RawBatch{.magic = magic}.encode()),
                  ErrorCode::kUnsupportedVersion, std::to_string(magic));
  }
  for (const uint16_t codec : std::initializer_list<uint16_t>{5, 6, 7}) {
    check_refused(decode_batch_header(RawBatch{.attributes = codec}.encode()),
                  ErrorCode::kUnsupportedType, std::to_string(codec));
  }
  for (unsigned bit = 6; bit < 16; ++bit) {
    check_refused(
        decode_batch_header(RawBatch{.attributes = static_cast<uint16_t>(1u << bit)}.encode()),
        ErrorCode::kUnsupportedVersion, "attributes");
  }
  check_refused(decode_batch_header(RawBatch{.count = 0}.encode()), ErrorCode::kMalformed,
                "without records");
  for (const int32_t count : {65'537, INT32_MAX, -1, INT32_MIN}) {
    check_refused(decode_batch_header(RawBatch{.count = count, .last_offset_delta = 0}.encode()),
                  ErrorCode::kLimitExceeded, "65536");
  }
  CHECK(decode_batch_header(RawBatch{.count = 65'536}.encode()).ok());
  for (const int32_t last : {0, -1, 65'536, INT32_MAX, INT32_MIN}) {
    check_refused(
        decode_batch_header(RawBatch{.count = 2, .last_offset_delta = last}.encode()),
        ErrorCode::kMalformed,
        "batch of 2 records with last offset delta " + std::to_string(static_cast<uint32_t>(last)));
  }
  CHECK(decode_batch_header(RawBatch{.count = 2, .last_offset_delta = 65'535}.encode()).ok());
  const size_t room = limits::kBatchBytesMax - kBatchHeaderBytes;
  CHECK(decode_batch_header(RawBatch{.block = Bytes(room)}.encode()).ok());
  check_refused(decode_batch_header(RawBatch{.block = Bytes(room + 1)}.encode()),
                ErrorCode::kTooLarge, std::to_string(limits::kBatchBytesMax));
}

TEST_CASE("batch_bytes_from_prefix: finds borders, refuses what cannot be one") {
  const Bytes batch = small_batch();
  for (size_t size = 0; size < 12; ++size) {
    check_refused(batch_bytes_from_prefix(ByteView(batch).first(size)), ErrorCode::kMalformed,
                  "12");
  }
  CHECK(*batch_bytes_from_prefix(ByteView(batch).first(12)) == batch.size());
  const auto promised = [](int64_t total) {
    return batch_bytes_from_prefix(
        RawWriter().be<int64_t>(0).be(static_cast<int32_t>(total - 12)).out);
  };
  CHECK(*promised(61) == 61);
  CHECK(*promised(limits::kBatchBytesMax) == limits::kBatchBytesMax);
  for (const int64_t total : {int64_t{60}, int64_t{12}, int64_t{11},
                              int64_t{limits::kBatchBytesMax} + 1, int64_t{INT32_MAX}}) {
    check_refused(promised(total), ErrorCode::kMalformed, std::to_string(limits::kBatchBytesMax));
  }
}

TEST_CASE("verify_batch: every change of a byte outside the stamp is refused") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const Bytes good = small_batch(codec);
    const auto expected = verify_batch(good);
    REQUIRE(expected.ok());
    Bytes bad = good;
    for (size_t at = 0; at < good.size(); ++at) {
      const bool stamp = at < 8 || (at >= 12 && at < 16);
      for (unsigned change = 1; change < 256; ++change) {
        bad[at] = static_cast<uint8_t>(good[at] ^ change);
        const auto header = verify_batch(bad);
        if (header.ok() != stamp) {
          CAPTURE(at);
          CAPTURE(change);
          FAIL("accepted: " << header.ok());
        }
        REQUIRE((!stamp || (header->record_count == expected->record_count &&
                            header->base_sequence == expected->base_sequence)));
      }
      bad[at] = good[at];
    }
  }
}

TEST_CASE("verify_batch: truncation at every length is refused, and so is a longer one") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const Bytes good = small_batch(codec);
    for (size_t size = 0; size < good.size(); ++size) {
      CAPTURE(size);
      REQUIRE_FALSE(verify_batch(ByteView(good).first(size)).ok());
      REQUIRE_FALSE(BatchReader::open(ByteView(good).first(size)).ok());
    }
    Bytes longer = good;
    longer.push_back(0);
    CHECK_FALSE(verify_batch(longer).ok());
  }
}

TEST_CASE("validate: a cut block is refused also with right length and checksum") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const Bytes good = small_batch(codec);
    REQUIRE(validate_produced_batch(good).ok());
    for (size_t size = kBatchHeaderBytes; size < good.size(); ++size) {
      CAPTURE(size);
      Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
      repair(cut);
      REQUIRE(verify_batch(cut).ok());
      REQUIRE_FALSE(validate_produced_batch(cut).ok());
      auto reader = BatchReader::open(cut);
      if (codec == Codec::kZstd) {
        check_refused(reader, ErrorCode::kCorrupted, "zstd");
        continue;
      }
      RecordView view;
      while (reader->next(view)) {
      }
      REQUIRE(reader->status().code() == ErrorCode::kMalformed);
      REQUIRE_FALSE(reader->next(view));
    }
    Bytes longer = good;
    longer.push_back(0);
    repair(longer);
    CHECK_FALSE(validate_produced_batch(longer).ok());
  }
}

TEST_CASE("validate: lies about lengths") {
  const auto with_body = [](const Bytes& body) { return RawBatch{.block = raw_record(body)}; };
  const auto start = [] { return RawWriter().be<uint8_t>(0).varint(0).varint(0); };
  REQUIRE(validate_produced_batch(with_body(raw_body(0, 0, "value")).encode()).ok());

  const Bytes body = raw_body(0, 0, "value");
  for (const int64_t length : {int64_t{-1}, int64_t{0}, int64_t{1}, int64_t(body.size()) - 1,
                               int64_t(body.size()) + 1, int64_t{INT32_MAX}, int64_t{INT32_MIN}}) {
    CAPTURE(length);
    check_records_refused({.block = RawWriter().varint(length).bytes(body).out}, "record 0");
  }
  check_records_refused({.block = RawWriter().varint(int64_t{1} << 32).bytes(body).out}, "varint");
  for (const int64_t key : {-2, 100, INT32_MAX, INT32_MIN}) {
    CAPTURE(key);
    check_records_refused(with_body(start().varint(key).text("k").varint(-1).varint(0).out), "key");
  }
  for (const int64_t value : {-2, 100, INT32_MAX, INT32_MIN}) {
    CAPTURE(value);
    check_records_refused(with_body(start().varint(-1).varint(value).text("v").varint(0).out),
                          "value");
  }
  check_records_refused(with_body(start().varint(-1).varint(-1).varint(0).text("?").out),
                        "after its last field");
  check_records_refused(with_body({}), "varint");
  check_records_refused({.block = RawWriter().bytes(raw_record(body)).bytes(raw_record(body)).out},
                        "after the last");
  check_records_refused({.count = 2, .block = raw_record(body)}, "record 1");
}

TEST_CASE("validate: lies about headers") {
  const auto with_headers = [](int64_t count, const Bytes& headers) {
    return RawBatch{.block = raw_record(RawWriter()
                                            .be<uint8_t>(0)
                                            .varint(0)
                                            .varint(0)
                                            .varint(-1)
                                            .varint(-1)
                                            .varint(count)
                                            .bytes(headers)
                                            .out)};
  };
  const Bytes two = RawWriter().field("a").field("1").field("b").varint(-1).out;
  REQUIRE(validate_produced_batch(with_headers(2, two).encode()).ok());
  for (const int64_t count : {0, 1, 3, 4, 5, 1000, INT32_MAX, -1, INT32_MIN}) {
    CAPTURE(count);
    check_records_refused(with_headers(count, two), "record 0");
  }
  const std::vector<Bytes> bad = {
      RawWriter().varint(-1).field("v").out,                   // no key
      RawWriter().varint(-2).field("v").out,                   // nonsense
      RawWriter().varint(90).text("k").field("v").out,         // a key beyond the record
      RawWriter().field("k").varint(-2).text("v").out,         // nonsense
      RawWriter().field("k").varint(90).text("v").out,         // a value beyond the record
      RawWriter().field("k").field("v").text("x").out,         // bytes behind
      RawWriter().field("k").text("\x80\x80").out,             // a cut varint
      RawWriter().text(std::string_view("\x80\0k\0", 4)).out,  // an overlong one
  };
  for (const Bytes& headers : bad) {
    check_records_refused(with_headers(1, headers), "record 0: bad headers");
  }
}

TEST_CASE("validate: the number of headers is limited") {
  const auto with_headers = [](size_t count) {
    RawWriter body;
    body.be<uint8_t>(0).varint(0).varint(0).varint(-1).varint(-1).varint(
        static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) {
      body.field("").field("");
    }
    return RawBatch{.block = raw_record(body.out)}.encode();
  };
  CHECK(validate_produced_batch(with_headers(64)).ok());
  check_refused(validate_produced_batch(with_headers(65)), ErrorCode::kLimitExceeded,
                "65 headers; the limit is 64");
}

TEST_CASE("validate: offset deltas run from 0") {
  const auto with_deltas = [](int64_t first, int64_t second) {
    return RawBatch{.count = 2,
                    .block = RawWriter()
                                 .bytes(raw_record(raw_body(0, first, "a")))
                                 .bytes(raw_record(raw_body(0, second, "b")))
                                 .out};
  };
  REQUIRE(validate_produced_batch(with_deltas(0, 1).encode()).ok());
  check_records_refused(with_deltas(1, 2), "record 0: its offset delta");
  check_records_refused(with_deltas(-1, 0), "record 0: its offset delta");
  check_records_refused(with_deltas(0, 0), "record 1: its offset delta");
  check_records_refused(with_deltas(0, 2), "record 1: its offset delta");
}

// A reader gets such batches (batch_select.h); a producer must not send them, nor the log have
// them.
TEST_CASE("a batch with records left out is read, but not taken and not whole") {
  const auto with_deltas = [](int64_t first, int64_t second, int32_t last, uint16_t codec = 0) {
    return RawBatch{.attributes = codec,
                    .count = 2,
                    .last_offset_delta = last,
                    .block = RawWriter()
                                 .bytes(raw_record(raw_body(0, first, "a")))
                                 .bytes(raw_record(raw_body(0, second, "b")))
                                 .out}
        .encode();
  };
  const auto read = [](const Bytes& batch) -> Result<std::vector<uint32_t>> {
    auto reader = BatchReader::open(batch);
    REQUIRE(reader.ok());
    std::vector<uint32_t> deltas;
    RecordView record;
    while (reader->next(record)) {
      deltas.push_back(record.offset_delta);
    }
    if (!reader->status().ok()) {
      return reader->status();
    }
    return deltas;
  };
  for (const Bytes& batch : {with_deltas(0, 2, 2), with_deltas(0, 1, 65'535),
                             with_deltas(3, 9, 9, 1), with_deltas(1, 4, 7)}) {
    const auto header = verify_batch(batch);
    REQUIRE(header.ok());
    CHECK(header->record_count == 2);
    check_refused(
        verify_whole_batch(batch), ErrorCode::kMalformed,
        "batch of 2 records with last offset delta " + std::to_string(header->last_offset_delta));
    check_refused(validate_produced_batch(batch), ErrorCode::kMalformed, "last offset delta");
  }
  CHECK(verify_batch(with_deltas(1, 4, 7))->last_offset_delta == 7);
  CHECK(*read(with_deltas(0, 2, 2)) == std::vector<uint32_t>{0, 2});
  CHECK(*read(with_deltas(1, 4, 7)) == std::vector<uint32_t>{1, 4});
  CHECK(*read(with_deltas(0, 65'535, 65'535)) == std::vector<uint32_t>{0, 65'535});
  for (const Bytes& batch : {with_deltas(2, 2, 5), with_deltas(3, 2, 5), with_deltas(0, 6, 5),
                             with_deltas(0, -1, 5), with_deltas(0, INT32_MAX, 5)}) {
    check_refused(read(batch), ErrorCode::kMalformed, "record 1: its offset delta is out of order");
  }
  for (const Bytes& batch : {with_deltas(5, 6, 5), with_deltas(-1, 0, 5)}) {
    check_refused(read(batch), ErrorCode::kMalformed, "record 0: its offset delta is out of order");
  }
  CHECK(verify_whole_batch(with_deltas(0, 1, 1)).ok());
}

TEST_CASE("validate: the max timestamp is that of the records") {
  const auto with_times = [](int64_t base, int64_t delta, int64_t max) {
    return RawBatch{
        .base_timestamp = base, .max_timestamp = max, .block = raw_record(raw_body(delta, 0, "v"))};
  };
  CHECK(validate_produced_batch(with_times(1000, 0, 1000).encode()).ok());
  CHECK(validate_produced_batch(with_times(1000, -7, 993).encode()).ok());
  CHECK(validate_produced_batch(with_times(INT64_MIN, 0, INT64_MIN).encode()).ok());
  CHECK(validate_produced_batch(with_times(INT64_MIN, INT64_MAX, -1).encode()).ok());
  check_records_refused(with_times(1000, 0, 1001), "max timestamp 1001");
  check_records_refused(with_times(1000, 5, 1000), "1005");
  check_records_refused(with_times(INT64_MAX, 1, INT64_MIN), "64 bits");
  check_records_refused(with_times(INT64_MIN, -1, INT64_MAX), "64 bits");
}

TEST_CASE("validate: only brokers write control batches and log append time") {
  const Bytes block = raw_record(raw_body(0, 0, "v"));
  check_refused(validate_produced_batch(RawBatch{.attributes = 0x20, .block = block}.encode()),
                ErrorCode::kNotAllowed, "control");
  check_refused(validate_produced_batch(RawBatch{.attributes = 0x08, .block = block}.encode()),
                ErrorCode::kNotAllowed, "log append time");
  CHECK(validate_produced_batch(RawBatch{.attributes = 0x10, .block = block}.encode()).ok());
}

TEST_CASE("validate: producer fields fit together") {
  const auto with_producer = [](int64_t id, int16_t epoch, int32_t sequence) {
    return validate_produced_batch(RawBatch{.producer_id = id,
                                            .producer_epoch = epoch,
                                            .base_sequence = sequence,
                                            .block = raw_record(raw_body(0, 0, "v"))}
                                       .encode());
  };
  CHECK(with_producer(-1, -1, -1).ok());
  CHECK(with_producer(0, 0, 0).ok());
  CHECK(with_producer(INT64_MAX, INT16_MAX, INT32_MAX).ok());
  check_refused(with_producer(-2, 0, 0), ErrorCode::kMalformed, "-2");
  check_refused(with_producer(5, -1, 0), ErrorCode::kMalformed, "epoch -1");
  check_refused(with_producer(5, 0, -1), ErrorCode::kMalformed, "sequence -1");
}

TEST_CASE("validate: a message of exactly the limit passes, one byte more does not") {
  const auto with_value = [](size_t bytes) {
    return RawBatch{.block = raw_record(raw_body(0, 0, std::string(bytes, 'v')))}.encode();
  };
  CHECK(validate_produced_batch(with_value(limits::kMessageBytesMax)).ok());
  check_refused(
      validate_produced_batch(with_value(limits::kMessageBytesMax + 1)), ErrorCode::kTooLarge,
      "record 0: a message of 1048577 bytes (key, value and headers); the limit is 1048576");
  // Headers count, their framing does not.
  const auto with_header = [](size_t bytes) {
    const Bytes body = RawWriter()
                           .be<uint8_t>(0)
                           .varint(0)
                           .varint(0)
                           .field("key")
                           .field(std::string(bytes - 9, 'v'))
                           .varint(1)
                           .field("he")
                           .field("head")
                           .out;
    return RawBatch{.block = raw_record(body)}.encode();
  };
  CHECK(validate_produced_batch(with_header(limits::kMessageBytesMax)).ok());
  check_refused(validate_produced_batch(with_header(limits::kMessageBytesMax + 1)),
                ErrorCode::kTooLarge, "1048577");
}

TEST_CASE("validate: a zstd bomb is refused") {
  const Bytes zeros(64 * limits::kMiB);
  const Bytes bomb = RawBatch{.attributes = 4, .block = *zstd_compress(zeros, 1)}.encode();
  REQUIRE(bomb.size() < 10'000);
  REQUIRE(verify_batch(bomb).ok());
  check_refused(validate_produced_batch(bomb), ErrorCode::kTooLarge,
                std::to_string(limits::kInflatedBatchBytesMax));
  check_refused(BatchReader::open(bomb), ErrorCode::kTooLarge,
                std::to_string(limits::kInflatedBatchBytesMax));
}

TEST_CASE("validate: an inflated block may have exactly its limit") {
  // Records of 1 MiB messages, the last one sized so that the block has exactly `total` bytes.
  const auto with_block = [](size_t total) {
    RawWriter block;
    int32_t count = 0;
    while (block.out.size() + limits::kMiB < total) {
      block.bytes(raw_record(raw_body(0, count++, std::string(limits::kMiB - 100, 'v'))));
    }
    size_t value = total - block.out.size() - 40;
    while (block.out.size() + raw_record(raw_body(0, count, std::string(value, 'v'))).size() <
           total) {
      ++value;
    }
    block.bytes(raw_record(raw_body(0, count++, std::string(value, 'v'))));
    REQUIRE(block.out.size() == total);
    return RawBatch{.attributes = 4, .count = count, .block = *zstd_compress(block.out, 1)}
        .encode();
  };
  CHECK(validate_produced_batch(with_block(limits::kInflatedBatchBytesMax)).ok());
  check_refused(validate_produced_batch(with_block(limits::kInflatedBatchBytesMax + 1)),
                ErrorCode::kTooLarge, std::to_string(limits::kInflatedBatchBytesMax));
}

TEST_CASE("validate: foreign codecs pass unwalked, a reader refuses them") {
  for (const uint16_t codec : std::initializer_list<uint16_t>{1, 2, 3}) {
    const Bytes batch =
        RawBatch{.attributes = codec, .count = 5, .block = Bytes(20, 0xFF)}.encode();
    const auto header = validate_produced_batch(batch);
    REQUIRE(header.ok());
    CHECK(header->codec == static_cast<Codec>(codec));
    check_refused(BatchReader::open(batch), ErrorCode::kUnsupportedType, std::to_string(codec));
  }
}

TEST_CASE("validate: random damage is refused or harmless, and the reader agrees") {
  size_t accepted = 0;
  for (uint64_t seed = 1; seed <= 20'000; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Bytes batch = small_batch();
    for (uint64_t changes = random.between(1, 3); changes > 0; --changes) {
      const size_t at = kBatchHeaderBytes + random.below(batch.size() - kBatchHeaderBytes);
      batch[at] = static_cast<uint8_t>(random.chance(1, 2) ? random.next() : random.below(16));
    }
    repair(batch);
    if (!validate_produced_batch(batch).ok()) {
      continue;
    }
    ++accepted;
    REQUIRE(read_all(batch).size() == 2);
  }
  CHECK(accepted > 0);  // changes of keys and values
}

TEST_CASE("stamp_batch: offset, length and epoch, and the batch stays valid") {
  Bytes batch = small_batch();
  Bytes head(batch.begin(), batch.begin() + kBatchStampBytes);
  stamp_batch(head, 0x1122334455667788, static_cast<uint32_t>(batch.size()), 0xA1B2C3D4);
  const Bytes expected = RawWriter()
                             .be<uint64_t>(0x1122334455667788)
                             .be(static_cast<uint32_t>(batch.size() - 12))
                             .be<uint32_t>(0xA1B2C3D4)
                             .out;
  CHECK(head == expected);
  std::copy(head.begin(), head.end(), batch.begin());
  const auto header = validate_produced_batch(batch);
  REQUIRE(header.ok());
  CHECK(header->base_offset == 0x1122334455667788u);
}

TEST_CASE("BatchReader: log append time stands for the times of all records") {
  const Bytes batch = RawBatch{.attributes = 0x08,
                               .count = 2,
                               .base_timestamp = 10,
                               .max_timestamp = 5000,
                               .block = RawWriter()
                                            .bytes(raw_record(raw_body(0, 0, "a")))
                                            .bytes(raw_record(raw_body(3, 1, "b")))
                                            .out}
                          .encode();
  for (const ModelRecord& record : read_all(batch)) {
    CHECK(record.timestamp_ms == 5000);
  }
}

TEST_CASE("BatchReader: views outlive a move of the reader") {
  const Bytes batch = small_batch(Codec::kZstd);
  auto opened = BatchReader::open(batch);
  REQUIRE(opened.ok());
  BatchReader first = std::move(*opened);
  RecordView a;
  REQUIRE(first.next(a));
  BatchReader second = std::move(first);
  RecordView b;
  REQUIRE(second.next(b));
  CHECK(as_text(a.value) == std::string(60, 'v'));
  CHECK(as_text(b.key) == "key");
  CHECK_FALSE(second.next(b));
  CHECK(second.status().ok());
}

TEST_CASE("HeaderCursor: nothing to walk") {
  HeaderCursor none({}, 0);
  HeaderView header;
  CHECK_FALSE(none.next(header));
  CHECK_FALSE(none.failed());
  HeaderCursor lie({}, 1);
  CHECK_FALSE(lie.next(header));
  CHECK(lie.failed());
  CHECK_FALSE(lie.next(header));
}

}  // namespace
}  // namespace tidemark::format
