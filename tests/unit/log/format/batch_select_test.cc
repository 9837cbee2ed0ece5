#include "log/format/batch_select.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/compression.h"
#include "log/format/batch_builder.h"
#include "tests/unit/log/format/model_record.h"
#include "tests/unit/log/format/raw_batch.h"

namespace tidemark::format {
namespace {

using Deltas = std::vector<uint32_t>;

// What a reader finds: offset deltas and records.
struct Read {
  Deltas deltas;
  std::vector<ModelRecord> records;
};

Read read_selected(ByteView batch) {
  REQUIRE(verify_batch(batch).ok());
  auto reader = BatchReader::open(batch);
  REQUIRE(reader.ok());
  Read read;
  RecordView view;
  while (reader->next(view)) {
    read.deltas.push_back(view.offset_delta);
    read.records.push_back(model_of(view));
  }
  REQUIRE_MESSAGE(reader->status().ok(), reader->status().to_string());
  return read;
}

auto keep_deltas(Deltas deltas) {
  return [deltas = std::move(deltas)](const RecordView& record) {
    return std::find(deltas.begin(), deltas.end(), record.offset_delta) != deltas.end();
  };
}

// Five records with times 1000, 1500, 900, 1200, 1100; stamped.
Buffer five(Codec codec) {
  BatchBuilder builder;
  const std::string value(200, 'v');
  for (const int64_t time : {1000, 1500, 900, 1200, 1100}) {
    REQUIRE(builder.append({.timestamp_ms = time, .value = as_bytes(value)}).ok());
  }
  auto batch = builder.finish(codec, 3, {.id = 7, .epoch = 2, .base_sequence = 40});
  REQUIRE(batch.ok());
  stamp_batch(batch->mutable_view(), 1'000, static_cast<uint32_t>(batch->size()), 3);
  return std::move(*batch);
}

TEST_CASE("select: all are kept, or none") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const Buffer batch = five(codec);
    const auto all = select_records(batch.view(), [](const RecordView&) { return true; });
    REQUIRE(all.ok());
    CHECK(all->kept == 5);
    CHECK(all->batch.size() == 0);
    const auto none = select_records(batch.view(), [](const RecordView&) { return false; });
    REQUIRE(none.ok());
    CHECK(none->kept == 0);
    CHECK(none->batch.size() == 0);
  }
}

TEST_CASE("select: each record is asked about once, in order") {
  const Buffer batch = five(Codec::kNone);
  Deltas asked;
  REQUIRE(select_records(batch.view(), [&](const RecordView& record) {
            asked.push_back(record.offset_delta);
            return false;
          }).ok());
  CHECK(asked == Deltas{0, 1, 2, 3, 4});
}

TEST_CASE("select: bytes as the format describes them") {
  const Bytes whole = RawBatch{.base_offset = 1'000,
                               .leader_epoch = 3,
                               .attributes = 0x10,
                               .count = 3,
                               .base_timestamp = 1'000,
                               .max_timestamp = 1'009,
                               .producer_id = 7,
                               .producer_epoch = 2,
                               .base_sequence = 40,
                               .block = RawWriter()
                                            .bytes(raw_record(raw_body(0, 0, "a")))
                                            .bytes(raw_record(raw_body(5, 1, "bb")))
                                            .bytes(raw_record(raw_body(9, 2, "c")))
                                            .out}
                          .encode();
  const auto selected = select_records(whole, keep_deltas({1}));
  REQUIRE(selected.ok());
  CHECK(selected->kept == 1);
  const Bytes expected = RawBatch{.base_offset = 1'000,
                                  .leader_epoch = 3,
                                  .attributes = 0x10,
                                  .count = 1,
                                  .last_offset_delta = 2,
                                  .base_timestamp = 1'000,
                                  .max_timestamp = 1'005,
                                  .producer_id = 7,
                                  .producer_epoch = 2,
                                  .base_sequence = 40,
                                  .block = raw_record(raw_body(5, 1, "bb"))}
                             .encode();
  CHECK(Bytes(selected->batch.view().begin(), selected->batch.view().end()) == expected);
}

TEST_CASE("select: every subset of five") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const Buffer batch = five(codec);
    REQUIRE(decode_batch_header(batch.view())->codec == codec);
    const Read whole = read_selected(batch.view());
    for (unsigned subset = 1; subset < 31; ++subset) {
      CAPTURE(subset);
      Deltas deltas;
      std::vector<ModelRecord> records;
      int64_t max_timestamp_ms = 0;
      for (uint32_t i = 0; i < 5; ++i) {
        if ((subset >> i & 1) != 0) {
          deltas.push_back(i);
          records.push_back(whole.records[i]);
          max_timestamp_ms = std::max(max_timestamp_ms, whole.records[i].timestamp_ms);
        }
      }
      const auto selected = select_records(batch.view(), keep_deltas(deltas));
      REQUIRE(selected.ok());
      CHECK(selected->kept == deltas.size());
      const Read read = read_selected(selected->batch.view());
      CHECK(read.deltas == deltas);
      CHECK(read.records == records);
      const auto header = verify_batch(selected->batch.view());
      CHECK(header->base_offset == 1'000);
      CHECK(header->codec == Codec::kNone);
      CHECK(header->record_count == deltas.size());
      CHECK(header->last_offset_delta == 4);
      CHECK(header->base_timestamp_ms == 1'000);
      CHECK(header->max_timestamp_ms == max_timestamp_ms);
      CHECK(header->producer_id == 7);
      CHECK(header->producer_epoch == 2);
      CHECK(header->base_sequence == 40);
      CHECK_FALSE(verify_whole_batch(selected->batch.view()).ok());
    }
  }
}

TEST_CASE("select: for one that is stored the codec stays") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const Buffer batch = five(codec);
    const auto kept = select_records(batch.view(), keep_deltas({1, 3}), SelectedCodec::kSame);
    REQUIRE(kept.ok());
    CHECK(decode_batch_header(kept->batch.view())->codec == codec);
    CHECK(kept->batch.size() < batch.size() + 200);
    CHECK(read_selected(kept->batch.view()).deltas == Deltas{1, 3});
    CHECK(select_records(batch.view(), keep_deltas({}), SelectedCodec::kSame)->batch.size() == 0);
  }
}

TEST_CASE("select: of a selection") {
  const Buffer batch = five(Codec::kNone);
  const auto first = select_records(batch.view(), keep_deltas({0, 2, 3}));
  REQUIRE(first.ok());
  const auto second = select_records(first->batch.view(), keep_deltas({2}));
  REQUIRE(second.ok());
  const auto direct = select_records(batch.view(), keep_deltas({2}));
  REQUIRE(direct.ok());
  CHECK(std::ranges::equal(second->batch.view(), direct->batch.view()));
  const auto same = select_records(first->batch.view(), keep_deltas({0, 1, 2, 3}));
  REQUIRE(same.ok());
  CHECK(same->kept == 3);
  CHECK(same->batch.size() == 0);
}

TEST_CASE("select: with log append time the time stays that of the batch") {
  const Bytes whole = RawBatch{.attributes = 0x08,
                               .count = 2,
                               .base_timestamp = 10,
                               .max_timestamp = 77,
                               .block = RawWriter()
                                            .bytes(raw_record(raw_body(0, 0, "a")))
                                            .bytes(raw_record(raw_body(5, 1, "b")))
                                            .out}
                          .encode();
  const auto selected = select_records(whole, keep_deltas({0}));
  REQUIRE(selected.ok());
  const auto header = verify_batch(selected->batch.view());
  REQUIRE(header.ok());
  CHECK(header->log_append_time);
  CHECK(header->max_timestamp_ms == 77);
  CHECK(read_selected(selected->batch.view()).records.front().timestamp_ms == 77);
}

TEST_CASE("select: random batches and subsets") {
  for (uint64_t seed = 1; seed <= 80; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    BatchBuilder builder;
    std::vector<ModelRecord> model;
    for (uint64_t left = random.between(2, 60); left > 0; --left) {
      model.push_back(random_record(random, 1'700'000'000'000));
      REQUIRE(builder.append(ModelInput(model.back()).get()).ok());
    }
    const auto batch = builder.finish(random.chance(1, 2) ? Codec::kZstd : Codec::kNone, 1, {});
    REQUIRE(batch.ok());
    Deltas deltas;
    std::vector<ModelRecord> records;
    for (uint32_t i = 0; i < model.size(); ++i) {
      if (random.chance(1, 2)) {
        deltas.push_back(i);
        records.push_back(model[i]);
      }
    }
    const auto selected = select_records(batch->view(), keep_deltas(deltas));
    REQUIRE(selected.ok());
    REQUIRE(selected->kept == deltas.size());
    if (deltas.empty() || deltas.size() == model.size()) {
      REQUIRE(selected->batch.size() == 0);
      continue;
    }
    const Read read = read_selected(selected->batch.view());
    REQUIRE(read.deltas == deltas);
    REQUIRE(read.records == records);
  }
}

// A batch whose records are much larger than it is.
Bytes compressed(const Bytes& block, int32_t count, int level) {
  const auto packed = zstd_compress(block, level);
  REQUIRE(packed.ok());
  return RawBatch{.attributes = 4, .count = count, .block = *packed}.encode();
}

TEST_CASE("select: what would not fit a batch is compressed") {
  RawWriter block;
  for (int i = 0; i < 4; ++i) {
    block.bytes(raw_record(raw_body(0, i, std::string(1'000'000, static_cast<char>('a' + i)))));
  }
  const Bytes whole = compressed(block.out, 4, 1);
  const auto three = select_records(whole, keep_deltas({0, 2, 3}));
  REQUIRE_MESSAGE(three.ok(), three.error().to_string());
  CHECK(verify_batch(three->batch.view())->codec == Codec::kZstd);
  const Read read = read_selected(three->batch.view());
  CHECK(read.deltas == Deltas{0, 2, 3});
  CHECK(read.records[1].value == std::string(1'000'000, 'c'));
  const auto one = select_records(whole, keep_deltas({3}));
  REQUIRE(one.ok());
  CHECK(verify_batch(one->batch.view())->codec == Codec::kNone);
}

// The same noise twice, so far apart that only a high level finds it again.
TEST_CASE("select: what does not even fit compressed is refused") {
  Random random(3);
  std::string noise(1'000'000, ' ');
  std::generate(noise.begin(), noise.end(), [&] { return static_cast<char>(random.next()); });
  RawWriter block;
  block.bytes(raw_record(raw_body(0, 0, noise)));
  for (int i = 1; i < 5; ++i) {
    block.bytes(raw_record(raw_body(0, i, std::string(1'000'000, '-'))));
  }
  block.bytes(raw_record(raw_body(0, 5, noise)));
  const Bytes whole = compressed(block.out, 6, 19);
  REQUIRE(verify_batch(whole).ok());
  CHECK(select_records(whole, keep_deltas({0, 1, 2, 3, 4})).ok());
  const auto refused = select_records(whole, keep_deltas({0, 2, 3, 4, 5}));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code() == ErrorCode::kTooLarge);
  CHECK(refused.error().context().find("bytes with records left out") != std::string::npos);
}

TEST_CASE("select: batches that cannot be read") {
  const auto keep = [](const RecordView&) { return true; };
  CHECK(select_records({}, keep).error().code() == ErrorCode::kMalformed);
  const Bytes gzip = RawBatch{.attributes = 1, .block = Bytes(9)}.encode();
  CHECK(select_records(gzip, keep).error().code() == ErrorCode::kUnsupportedType);
  const Bytes bad_block = RawBatch{.attributes = 4, .block = Bytes(9)}.encode();
  CHECK(select_records(bad_block, keep).error().code() == ErrorCode::kCorrupted);
  const Bytes bomb = compressed(Bytes(limits::kInflatedBatchBytesMax + 1), 1, 1);
  CHECK(select_records(bomb, keep).error().code() == ErrorCode::kTooLarge);
  // Damage behind a record that is kept, and behind the last one.
  for (const Bytes& rest : {Bytes{0x7E}, Bytes(3)}) {
    const Bytes batch =
        RawBatch{.count = 1 + (rest.size() == 1),
                 .block = RawWriter().bytes(raw_record(raw_body(0, 0, "a"))).bytes(rest).out}
            .encode();
    CHECK(select_records(batch, keep).error().code() == ErrorCode::kMalformed);
  }
}

}  // namespace
}  // namespace tidemark::format
