#include "log/format/batch_builder.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/compression.h"
#include "log/base/random.h"
#include "tests/unit/log/format/model_record.h"
#include "tests/unit/log/format/raw_batch.h"

namespace tidemark::format {
namespace {

constexpr BatchBuilder::Producer kNoProducer{};

Buffer finish_plain(BatchBuilder& builder) {
  auto batch = builder.finish(Codec::kNone, 1, kNoProducer);
  REQUIRE(batch.ok());
  return std::move(*batch);
}

void check_refused(const Status& status, ErrorCode code, const std::vector<std::string>& words) {
  REQUIRE_FALSE(status.ok());
  CAPTURE(status.to_string());
  CHECK(status.code() == code);
  for (const std::string& word : words) {
    CAPTURE(word);
    CHECK(status.to_string().find(word) != std::string::npos);
  }
}

TEST_CASE("builder: random batches come back record by record") {
  BatchBuilder builder;  // reused: nothing of one batch may show in the next
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const auto base = static_cast<int64_t>(random.below(4'000'000'000'000)) - 1'000'000'000'000;
    std::vector<ModelRecord> model;
    for (uint64_t left = random.between(1, random.chance(1, 5) ? 300 : 12); left > 0; --left) {
      ModelRecord record = random_record(random, base);
      const ModelInput input(record);
      const size_t promised =
          builder.record_bytes(input.get()) + (model.empty() ? kBatchHeaderBytes : 0);
      const size_t before = builder.bytes();
      const Status status = builder.append(input.get());
      REQUIRE_MESSAGE(status.ok(), status.to_string());
      REQUIRE(builder.bytes() == before + promised);
      model.push_back(std::move(record));
      REQUIRE(builder.record_count() == model.size());
    }
    const size_t plain_bytes = builder.bytes();
    const Codec codec = random.chance(1, 2) ? Codec::kZstd : Codec::kNone;
    const BatchBuilder::Producer producer{static_cast<int64_t>(random.below(1'000'000)),
                                          static_cast<int16_t>(random.below(100)),
                                          static_cast<int32_t>(random.below(1'000'000))};
    const auto batch = builder.finish(codec, static_cast<int>(random.between(1, 6)), producer);
    REQUIRE(batch.ok());
    REQUIRE(builder.record_count() == 0);
    REQUIRE(builder.bytes() == 0);
    REQUIRE(batch->size() <= plain_bytes);
    const auto header = validate_produced_batch(batch->view());
    REQUIRE_MESSAGE(header.ok(), header.error().to_string());
    REQUIRE((header->codec == codec || (header->codec == Codec::kNone && codec == Codec::kZstd)));
    REQUIRE((header->codec == Codec::kZstd) == (batch->size() < plain_bytes));
    REQUIRE(header->base_offset == 0);
    REQUIRE(header->batch_bytes == batch->size());
    REQUIRE(header->record_count == model.size());
    REQUIRE(header->base_timestamp_ms == model.front().timestamp_ms);
    REQUIRE(header->max_timestamp_ms ==
            std::max_element(model.begin(), model.end(), [](const auto& a, const auto& b) {
              return a.timestamp_ms < b.timestamp_ms;
            })->timestamp_ms);
    REQUIRE(header->producer_id == producer.id);
    REQUIRE(header->producer_epoch == producer.epoch);
    REQUIRE(header->base_sequence == producer.base_sequence);
    REQUIRE(read_all(batch->view()) == model);
  }
}

TEST_CASE("builder: bytes as the format describes them") {
  BatchBuilder builder;
  const HeaderInput headers[] = {{"h", as_bytes("x"), true}, {"n", {}, false}};
  REQUIRE(builder.append({.timestamp_ms = 1000, .value = as_bytes("v")}).ok());
  REQUIRE(builder
              .append({.timestamp_ms = 900,
                       .has_key = true,
                       .key = as_bytes("k"),
                       .has_value = false,
                       .headers = headers})
              .ok());
  const Bytes second = RawWriter()
                           .be<uint8_t>(0)
                           .varint(-100)
                           .varint(1)
                           .field("k")
                           .varint(-1)
                           .varint(2)
                           .field("h")
                           .field("x")
                           .field("n")
                           .varint(-1)
                           .out;
  const RawBatch expected{
      .count = 2,
      .base_timestamp = 1000,
      .max_timestamp = 1000,
      .block = RawWriter().bytes(raw_record(raw_body(0, 0, "v"))).bytes(raw_record(second)).out};
  const Buffer batch = finish_plain(builder);
  CHECK(Bytes(batch.view().begin(), batch.view().end()) == expected.encode());
}

TEST_CASE("builder: zstd is used when it helps, and only then") {
  BatchBuilder builder;
  const std::string repeated(4000, 'r');
  REQUIRE(builder.append({.value = as_bytes(repeated)}).ok());
  const size_t plain_bytes = builder.bytes();
  const auto small = builder.finish(Codec::kZstd, 3, kNoProducer);
  REQUIRE(small.ok());
  CHECK(small->size() < plain_bytes / 10);
  CHECK(decode_batch_header(small->view())->codec == Codec::kZstd);

  Random random(5);
  std::string noise(4000, ' ');
  std::generate(noise.begin(), noise.end(), [&] { return static_cast<char>(random.next()); });
  for (const std::string& value : {noise, std::string("v"), std::string()}) {
    REQUIRE(builder.append({.value = as_bytes(value)}).ok());
    const size_t bytes = builder.bytes();
    const auto same = builder.finish(Codec::kZstd, 3, kNoProducer);
    REQUIRE(same.ok());
    CHECK(same->size() == bytes);
    CHECK(decode_batch_header(same->view())->codec == Codec::kNone);
    CHECK(read_all(same->view()).front().value == value);
  }
}

TEST_CASE("builder: a refused finish changes nothing") {
  BatchBuilder builder;
  REQUIRE(builder.append({.value = as_bytes("kept")}).ok());
  for (const Codec codec : {Codec::kGzip, Codec::kSnappy, Codec::kLz4}) {
    check_refused(builder.finish(codec, 1, kNoProducer).error(), ErrorCode::kUnsupportedType,
                  {"codec"});
  }
  check_refused(builder.finish(Codec::kZstd, 20, kNoProducer).error(), ErrorCode::kInvalidArgument,
                {"20", "1 to 19"});
  CHECK(builder.record_count() == 1);
  CHECK(read_all(finish_plain(builder).view()).front().value == "kept");
}

TEST_CASE("builder: a message of exactly the limit fits, one byte more does not") {
  constexpr size_t kLimit = limits::kMessageBytesMax;
  const std::string big(kLimit + 1, 'm');
  const ByteView all = as_bytes(big);
  // The same total as value alone, key and value, header key and value.
  const auto message = [&](int shape, size_t total, std::vector<HeaderInput>& headers) {
    RecordInput input;
    input.has_key = shape != 0;
    input.key = shape == 0 ? ByteView() : all.first(10);
    size_t rest = total - input.key.size();
    if (shape == 2) {
      headers = {{std::string_view(big).substr(0, 7), all.first(100), true},
                 {"", all.first(1), true}};
      input.headers = headers;
      rest -= 108;
    }
    input.value = all.first(rest);
    return input;
  };
  for (int shape = 0; shape < 3; ++shape) {
    CAPTURE(shape);
    BatchBuilder builder;
    std::vector<HeaderInput> headers;
    check_refused(builder.append(message(shape, kLimit + 1, headers)), ErrorCode::kTooLarge,
                  {std::to_string(kLimit), std::to_string(kLimit + 1)});
    REQUIRE(builder.bytes() == 0);
    REQUIRE(builder.append(message(shape, kLimit, headers)).ok());
    const Buffer batch = finish_plain(builder);
    CHECK(batch.size() <= limits::kBatchBytesMax);
    CHECK(validate_produced_batch(batch.view()).ok());
  }
}

TEST_CASE("builder: absent fields do not count and are not written") {
  const std::string big(limits::kMessageBytesMax + 1, 'x');
  BatchBuilder builder;
  const HeaderInput headers[] = {{"h", as_bytes(big), false}};
  REQUIRE(builder
              .append({.has_key = false,
                       .key = as_bytes(big),
                       .has_value = false,
                       .value = as_bytes(big),
                       .headers = headers})
              .ok());
  const std::vector<ModelRecord> records = read_all(finish_plain(builder).view());
  CHECK(records.front() == ModelRecord{.has_value = false, .headers = {{"h", false, ""}}});
}

TEST_CASE("builder: empty and absent are different") {
  BatchBuilder builder;
  REQUIRE(builder.append({.has_key = true, .key = {}, .has_value = true, .value = {}}).ok());
  REQUIRE(builder.append({.has_key = false, .has_value = false}).ok());
  const std::vector<ModelRecord> records = read_all(finish_plain(builder).view());
  CHECK(records[0].has_key);
  CHECK(records[0].has_value);
  CHECK_FALSE(records[1].has_key);
  CHECK_FALSE(records[1].has_value);
}

TEST_CASE("builder: the number of headers is limited") {
  std::vector<HeaderInput> headers(limits::kHeadersPerMessageMax,
                                   HeaderInput{"k", as_bytes("v"), true});
  BatchBuilder builder;
  REQUIRE(builder.append({.headers = headers}).ok());
  headers.push_back({"k", {}, true});
  check_refused(builder.append({.headers = headers}), ErrorCode::kLimitExceeded, {"65", "64"});
  CHECK(builder.record_count() == 1);
  CHECK(validate_produced_batch(finish_plain(builder).view()).ok());
}

TEST_CASE("builder: the number of records is limited") {
  BatchBuilder builder;
  for (uint32_t i = 0; i < limits::kRecordsPerBatchMax; ++i) {
    REQUIRE(builder.append({.timestamp_ms = i, .has_value = false}).ok());
  }
  check_refused(builder.append({.has_value = false}), ErrorCode::kLimitExceeded,
                {"65537", "65536"});
  const Buffer batch = finish_plain(builder);
  const auto header = validate_produced_batch(batch.view());
  REQUIRE(header.ok());
  CHECK(header->record_count == limits::kRecordsPerBatchMax);
}

TEST_CASE("builder: the batch is limited, and a refused record leaves it as it was") {
  BatchBuilder builder;
  const std::string value(1000, 'v');
  const RecordInput record{.value = as_bytes(value)};
  while (builder.bytes() + builder.record_bytes(record) <= limits::kBatchBytesMax) {
    REQUIRE(builder.append(record).ok());
  }
  const size_t bytes = builder.bytes();
  const uint32_t count = builder.record_count();
  check_refused(builder.append(record), ErrorCode::kLimitExceeded,
                {std::to_string(limits::kBatchBytesMax),
                 std::to_string(bytes + builder.record_bytes(record))});
  CHECK(builder.bytes() == bytes);
  CHECK(builder.record_count() == count);
  CHECK(validate_produced_batch(finish_plain(builder).view()).ok());
}

TEST_CASE("builder: a batch of exactly its limit") {
  BatchBuilder builder;
  const std::string value(limits::kMessageBytesMax, 'v');
  REQUIRE(builder.append({.value = as_bytes(value)}).ok());
  RecordInput last;
  size_t bytes = limits::kBatchBytesMax - builder.bytes() - 20;
  do {
    last.value = as_bytes(value).first(++bytes);
  } while (builder.bytes() + builder.record_bytes(last) <= limits::kBatchBytesMax);
  REQUIRE(builder.bytes() + builder.record_bytes(last) == limits::kBatchBytesMax + 1);
  check_refused(
      builder.append(last), ErrorCode::kLimitExceeded,
      {std::to_string(limits::kBatchBytesMax), std::to_string(limits::kBatchBytesMax + 1)});
  last.value = last.value.first(bytes - 1);
  REQUIRE(builder.append(last).ok());
  const Buffer batch = finish_plain(builder);
  CHECK(batch.size() == limits::kBatchBytesMax);
  CHECK(validate_produced_batch(batch.view()).ok());
}

TEST_CASE("builder: timestamps over the whole range of 64 bits") {
  BatchBuilder builder;
  REQUIRE(builder.append({.timestamp_ms = -1}).ok());
  REQUIRE(builder.append({.timestamp_ms = INT64_MAX - 1}).ok());
  REQUIRE(builder.append({.timestamp_ms = INT64_MIN}).ok());
  // INT64_MAX - -1 is one too many.
  check_refused(builder.append({.timestamp_ms = INT64_MAX}), ErrorCode::kInvalidArgument,
                {"timestamp"});
  const Buffer batch = finish_plain(builder);
  REQUIRE(validate_produced_batch(batch.view()).ok());
  const std::vector<ModelRecord> records = read_all(batch.view());
  CHECK(records.size() == 3);
  CHECK(records[1].timestamp_ms == INT64_MAX - 1);
  CHECK(records[2].timestamp_ms == INT64_MIN);
}

TEST_CASE("builder: reset forgets") {
  BatchBuilder builder;
  REQUIRE(builder.append({.timestamp_ms = 99, .value = as_bytes("gone")}).ok());
  builder.reset();
  CHECK(builder.record_count() == 0);
  CHECK(builder.bytes() == 0);
  REQUIRE(builder.append({.timestamp_ms = 5, .value = as_bytes("new")}).ok());
  const Buffer batch = finish_plain(builder);
  CHECK(decode_batch_header(batch.view())->max_timestamp_ms == 5);
  CHECK(read_all(batch.view()) == std::vector<ModelRecord>{{.timestamp_ms = 5, .value = "new"}});
}

TEST_CASE("set_producer: changes the three fields and the checksum, nothing else") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    BatchBuilder builder;
    const std::string value(500, 'v');
    REQUIRE(builder.append({.timestamp_ms = 5, .value = as_bytes(value)}).ok());
    Buffer late = std::move(*builder.finish(codec, 1, kNoProducer));
    set_producer(late.mutable_view(), {.id = 77, .epoch = 3, .base_sequence = 1234});
    REQUIRE(builder.append({.timestamp_ms = 5, .value = as_bytes(value)}).ok());
    const Buffer early = std::move(*builder.finish(codec, 1, {77, 3, 1234}));
    CHECK(std::equal(late.view().begin(), late.view().end(), early.view().begin(),
                     early.view().end()));
    const auto header = validate_produced_batch(late.view());
    REQUIRE(header.ok());
    CHECK(header->producer_id == 77);
    CHECK(header->producer_epoch == 3);
    CHECK(header->base_sequence == 1234);
  }
}

}  // namespace
}  // namespace tidemark::format
