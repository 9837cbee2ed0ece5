#include "log/format/reference_batch.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/coding.h"
#include "log/format/batch_builder.h"
#include "tests/unit/log/format/model_record.h"
#include "tests/unit/log/format/raw_batch.h"

namespace tidemark::format {
namespace {

constexpr int64_t kTime = 1'700'000'000'000;

template <typename T>
void check_refused(const Result<T>& result, ErrorCode code, std::string_view text) {
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().code() == code);
  CHECK(std::string(result.error().context()) == std::string(text));
}

BatchReference sample() {
  return {.position = LogPosition{0x0102030405060708},
          .bytes = 0x00010203,
          .record = 0x0000A0B0,
          .headers = {{"tm-dead-topic", "orders"}, {"tm-dead-topic", ""}, {"", "x"}}};
}

Buffer build_body(const std::vector<ModelRecord>& records, Codec codec) {
  BatchBuilder builder;
  for (const ModelRecord& record : records) {
    REQUIRE(builder.append(ModelInput(record).get()).ok());
  }
  auto batch = builder.finish(codec, 3, {.id = 7, .epoch = 1, .base_sequence = 40});
  REQUIRE(batch.ok());
  return std::move(*batch);
}

BatchReference refer(ByteView body, uint32_t record) {
  return {.position = LogPosition{4096},
          .bytes = static_cast<uint32_t>(body.size()),
          .record = record,
          .headers = {}};
}

std::vector<ModelRecord> three_records() {
  const std::string text(500, 't');
  return {{.timestamp_ms = kTime, .value = "first"},
          {.timestamp_ms = kTime - 5,
           .has_key = true,
           .key = "k",
           .value = text,
           .headers = {{"region", true, "eu"}, {"none", false, ""}}},
          {.timestamp_ms = kTime + 9, .has_value = false}};
}

TEST_CASE("reference: bytes as the format describes them") {
  const BatchReference reference = sample();
  const auto batch = build_reference(reference, kTime);
  REQUIRE(batch.ok());
  const Bytes value{0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x03, 0x02, 0x01, 0x00,
                    0xB0, 0xA0, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0};
  const Bytes body = RawWriter()
                         .be<uint8_t>(0)
                         .varint(0)
                         .varint(0)
                         .field("tm-ref")
                         .field(as_text(value))
                         .varint(3)
                         .field("tm-dead-topic")
                         .field("orders")
                         .field("tm-dead-topic")
                         .field("")
                         .field("")
                         .field("x")
                         .out;
  const Bytes expected = RawBatch{.attributes = 0x20,
                                  .base_timestamp = kTime,
                                  .max_timestamp = kTime,
                                  .block = raw_record(body)}
                             .encode();
  CHECK(Bytes(batch->view().begin(), batch->view().end()) == expected);
  CHECK(verify_whole_batch(batch->view()).ok());
  // A producer cannot send one.
  CHECK(validate_produced_batch(batch->view()).error().code() == ErrorCode::kNotAllowed);
}

TEST_CASE("reference: comes back as it was, also when stamped") {
  BatchReference reference = sample();
  for (const bool with_headers : {true, false}) {
    if (!with_headers) {
      reference.headers.clear();
    }
    auto batch = build_reference(reference, -3);
    REQUIRE(batch.ok());
    stamp_batch(batch->mutable_view(), 99, static_cast<uint32_t>(batch->size()), 5);
    const auto read = read_reference(batch->view());
    REQUIRE_MESSAGE(read.ok(), read.error().to_string());
    CHECK(read->position == reference.position);
    CHECK(read->bytes == reference.bytes);
    CHECK(read->record == reference.record);
    CHECK(read->headers == reference.headers);
  }
}

TEST_CASE("reference: what is one is seen in its header") {
  const auto reference = build_reference(sample(), kTime);
  REQUIRE(reference.ok());
  CHECK(is_reference(reference->view()));
  CHECK(is_reference(reference->view().first(kBatchHeaderBytes)));
  CHECK_FALSE(is_reference(reference->view().first(kBatchHeaderBytes - 1)));
  CHECK_FALSE(is_reference({}));
  CHECK_FALSE(is_reference(RawBatch{.attributes = 0x1F}.encode()));
  CHECK_FALSE(is_reference(RawBatch{.magic = 1, .attributes = 0x20}.encode()));
}

TEST_CASE("reference: no more headers than a message may have") {
  BatchReference reference = sample();
  reference.headers.assign(limits::kHeadersPerMessageMax, {"k", "v"});
  CHECK(build_reference(reference, kTime).ok());
  reference.headers.emplace_back("k", "v");
  check_refused(build_reference(reference, kTime), ErrorCode::kLimitExceeded,
                "reference batch: a message with 65 headers; the limit is 64");
  // The key has 6 bytes, the value 24.
  reference.headers = {{"k", std::string(limits::kMessageBytesMax - 31, 'v')}};
  CHECK(build_reference(reference, kTime).ok());
  reference.headers.front().second += 'v';
  check_refused(build_reference(reference, kTime), ErrorCode::kLimitExceeded,
                "reference batch: append: a message of 1048577 bytes (key, value and headers); the "
                "limit is 1048576");
}

TEST_CASE("reference: what is not one byte for byte is refused") {
  const auto check_malformed = [](const Bytes& batch, std::string_view text) {
    check_refused(read_reference(batch), ErrorCode::kMalformed,
                  "reference batch: " + std::string(text));
  };
  const auto batch_of = [](std::string_view key, ByteView value, uint8_t record_attributes = 0) {
    return RawBatch{.attributes = 0x20,
                    .block = raw_record(RawWriter()
                                            .be(record_attributes)
                                            .varint(0)
                                            .varint(0)
                                            .field(key)
                                            .field(as_text(value))
                                            .varint(0)
                                            .out)};
  };
  const auto value_of = [](uint64_t position, uint32_t bytes, uint32_t record, uint64_t reserved) {
    Bytes value;
    ByteWriter out(value);
    out.le(position);
    out.le(bytes);
    out.le(record);
    out.le(reserved);
    return value;
  };
  const Bytes good = value_of(8, 61, 65'535, 0);
  REQUIRE(read_reference(batch_of("tm-ref", good).encode()).ok());

  const std::string_view other = "a key or a value that references do not have";
  check_malformed(batch_of("tm-reF", good).encode(), other);
  check_malformed(batch_of("", good).encode(), other);
  check_malformed(batch_of("tm-ref", ByteView(good).first(23)).encode(), other);
  check_malformed(batch_of("tm-ref", {}).encode(), other);
  check_malformed(batch_of("tm-ref", value_of(8, 60, 0, 0)).encode(),
                  "it refers to message 0 of a batch of 60 bytes");
  check_malformed(batch_of("tm-ref", value_of(8, limits::kBatchBytesMax + 1, 0, 0)).encode(),
                  "it refers to message 0 of a batch of 1114113 bytes");
  check_malformed(batch_of("tm-ref", value_of(8, 61, 65'536, 0)).encode(),
                  "it refers to message 65536 of a batch of 61 bytes");

  const std::string_view fields = "fields that references do not have";
  check_malformed(batch_of("tm-ref", value_of(8, 61, 0, 1)).encode(), fields);
  check_malformed(batch_of("tm-ref", good, 1).encode(), fields);
  RawBatch batch = batch_of("tm-ref", good);
  batch.producer_id = 4;
  check_malformed(batch.encode(), fields);
  batch = batch_of("tm-ref", good);
  batch.max_timestamp = 1;
  check_malformed(batch.encode(), fields);
  batch = batch_of("tm-ref", good);
  batch.attributes = 0x30;
  check_malformed(batch.encode(), fields);
  batch = batch_of("tm-ref", good);
  batch.last_offset_delta = 1;
  check_malformed(batch.encode(), fields);
  batch.count = 2;
  batch.block = RawWriter().bytes(batch.block).bytes(raw_record(raw_body(0, 1, ""))).out;
  check_malformed(batch.encode(), fields);

  batch = batch_of("tm-ref", good);
  batch.attributes = 0;
  check_malformed(batch.encode(), "not a control batch");
  batch.attributes = 0x21;
  check_malformed(batch.encode(), "batch with codec 1; readable are 0 (none) and 4 (zstd)");
  batch.attributes = 0x20;
  batch.block.front() = 0x7E;
  check_malformed(batch.encode(), "record 0: its length exceeds the batch");
  check_malformed({}, "batch of 0 bytes; its header alone has 61");
}

TEST_CASE("resolve: the message and the added headers, from plain and compressed bodies") {
  const std::vector<ModelRecord> records = three_records();
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const Buffer body = build_body(records, codec);
    REQUIRE(decode_batch_header(body.view())->codec == codec);
    for (uint32_t i = 0; i < records.size(); ++i) {
      BatchReference reference = refer(body.view(), i);
      reference.headers = {{"tm-dead-topic", "orders"}, {"region", ""}};
      const auto batch = resolve_reference(reference, body.view());
      REQUIRE_MESSAGE(batch.ok(), batch.error().to_string());
      const auto header = validate_produced_batch(batch->view());
      REQUIRE(header.ok());
      CHECK(header->base_offset == 0);
      CHECK(header->codec == Codec::kNone);
      CHECK(header->producer_id == -1);
      CHECK(header->producer_epoch == -1);
      CHECK(header->base_sequence == -1);
      CHECK(header->base_timestamp_ms == records[i].timestamp_ms);
      ModelRecord expected = records[i];
      expected.headers.push_back({"tm-dead-topic", true, "orders"});
      expected.headers.push_back({"region", true, ""});
      CHECK(read_all(batch->view()) == std::vector<ModelRecord>{expected});
      // Nothing to add: the message alone.
      reference.headers.clear();
      const auto alone = resolve_reference(reference, body.view());
      REQUIRE(alone.ok());
      CHECK(read_all(alone->view()) == std::vector<ModelRecord>{records[i]});
    }
  }
}

TEST_CASE("resolve: random messages come back") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    std::vector<ModelRecord> records;
    for (uint64_t left = random.between(1, 20); left > 0; --left) {
      records.push_back(random_record(random, kTime));
    }
    const Buffer body = build_body(records, random.chance(1, 2) ? Codec::kZstd : Codec::kNone);
    const auto record = static_cast<uint32_t>(random.below(records.size()));
    const auto batch = resolve_reference(refer(body.view(), record), body.view());
    REQUIRE(batch.ok());
    CHECK(read_all(batch->view()) == std::vector<ModelRecord>{records[record]});
  }
}

TEST_CASE("resolve: with log append time the message has the time that readers see") {
  const Bytes body = RawBatch{.attributes = 0x08,
                              .base_timestamp = 10,
                              .max_timestamp = 77,
                              .block = raw_record(raw_body(3, 0, "v"))}
                         .encode();
  const auto batch = resolve_reference(refer(body, 0), body);
  REQUIRE(batch.ok());
  CHECK(read_all(batch->view()).front().timestamp_ms == 77);
  CHECK_FALSE(decode_batch_header(batch->view())->log_append_time);
}

TEST_CASE("resolve: the oldest added headers give way when there are too many") {
  std::vector<ModelRecord> records(1);
  records[0].headers.assign(62, {"own", true, "v"});
  const Buffer body = build_body(records, Codec::kNone);
  BatchReference reference = refer(body.view(), 0);
  reference.headers = {{"a", "1"}, {"b", "2"}, {"c", "3"}};
  auto batch = resolve_reference(reference, body.view());
  REQUIRE(batch.ok());
  std::vector<ModelHeader> headers = read_all(batch->view()).front().headers;
  REQUIRE(headers.size() == 64);
  CHECK(headers[61] == ModelHeader{"own", true, "v"});
  CHECK(headers[62] == ModelHeader{"b", true, "2"});
  CHECK(headers[63] == ModelHeader{"c", true, "3"});

  records[0].headers.assign(64, {"own", true, "v"});
  const Buffer full = build_body(records, Codec::kNone);
  batch = resolve_reference(refer(full.view(), 0), full.view());
  REQUIRE(batch.ok());
  reference.bytes = static_cast<uint32_t>(full.size());
  batch = resolve_reference(reference, full.view());
  REQUIRE(batch.ok());
  CHECK(read_all(batch->view()) == records);
}

TEST_CASE("resolve: the oldest added headers give way when they are too large") {
  std::vector<ModelRecord> records(1);
  records[0].value = std::string(limits::kMessageBytesMax - 10, 'v');
  const Buffer body = build_body(records, Codec::kNone);
  BatchReference reference = refer(body.view(), 0);
  reference.headers = {{"a", "1"}, {"large", "12345"}, {"b", "123456789"}};
  auto batch = resolve_reference(reference, body.view());  // "b" alone fits: 10 bytes
  REQUIRE(batch.ok());
  CHECK(read_all(batch->view()).front().headers ==
        std::vector<ModelHeader>{{"b", true, "123456789"}});
  reference.headers.back().second += "0";  // nothing fits, though "a" would
  batch = resolve_reference(reference, body.view());
  REQUIRE(batch.ok());
  CHECK(read_all(batch->view()).front().headers.empty());
}

TEST_CASE("resolve: bodies that do not have the message") {
  const Buffer body = build_body(three_records(), Codec::kNone);
  check_refused(resolve_reference(refer(body.view(), 3), body.view()), ErrorCode::kCorrupted,
                "message 3 of the batch at log position 4096: the batch has 3 messages");
  const auto check_corrupted = [](ByteView bytes, std::string_view text) {
    check_refused(
        resolve_reference({.position = LogPosition{4096}, .bytes = 61, .headers = {}}, bytes),
        ErrorCode::kCorrupted, "message 0 of the batch at log position 4096: " + std::string(text));
  };
  check_corrupted({}, "batch of 0 bytes; its header alone has 61");
  Bytes flipped(body.view().begin(), body.view().end());
  flipped.back() ^= 1;
  check_corrupted(flipped, "batch of " + std::to_string(flipped.size()) + " bytes: wrong checksum");
  check_corrupted(RawBatch{.attributes = 1, .block = Bytes(9)}.encode(),
                  "batch with codec 1; readable are 0 (none) and 4 (zstd)");
  check_corrupted(RawBatch{.block = Bytes(9)}.encode(), "record 0: bad varint before the key");
  check_corrupted(
      RawBatch{.last_offset_delta = 3, .block = raw_record(raw_body(0, 0, "v"))}.encode(),
      "batch of 1 records with last offset delta 3");
  const auto reference = build_reference(sample(), kTime);
  REQUIRE(reference.ok());
  check_corrupted(reference->view(), "it is a reference itself");
  Bytes bad_headers = raw_body(0, 0, "v");
  bad_headers.back() = 2;  // one header
  bad_headers.insert(bad_headers.end(), {0x7E, 0x00});
  check_corrupted(RawBatch{.block = raw_record(bad_headers)}.encode(), "bad headers");
  RawWriter many = RawWriter().be<uint8_t>(0).varint(0).varint(0).varint(-1).field("v").varint(65);
  for (int i = 0; i < 65; ++i) {
    many.field("h").field("");
  }
  check_corrupted(RawBatch{.block = raw_record(many.out)}.encode(),
                  "a message with 65 headers; the limit is 64");
}

}  // namespace
}  // namespace tidemark::format
