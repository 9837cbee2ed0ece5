#include "clients/cpp/src/chunk_reader.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/format/batch_builder.h"
#include "log/format/batch_select.h"

namespace tidemark::client_core {
namespace {

using Offsets = std::vector<uint64_t>;

// A batch of `count` messages from offset `base` on, each with its offset as the value.
Buffer build_batch(uint64_t base, uint64_t count) {
  format::BatchBuilder builder;
  for (uint64_t offset = base; offset < base + count; ++offset) {
    REQUIRE(builder.append({.value = as_bytes(std::to_string(offset))}).ok());
  }
  auto batch = builder.finish(format::Codec::kNone, 1, {});
  REQUIRE(batch.ok());
  format::stamp_batch(batch->mutable_view(), base, static_cast<uint32_t>(batch->size()), 0);
  return std::move(*batch);
}

// The same, of which the broker kept only these.
Buffer build_selected(uint64_t base, uint64_t count, const Offsets& kept) {
  const Buffer whole = build_batch(base, count);
  auto selected = format::select_records(whole.view(), [&](const format::RecordView& record) {
    return std::find(kept.begin(), kept.end(), base + record.offset_delta) != kept.end();
  });
  REQUIRE(selected.ok());
  REQUIRE(selected->batch.size() != 0);
  return std::move(selected->batch);
}

SharedBytes join(const std::vector<Buffer>& batches) {
  std::vector<uint8_t> bytes;
  for (const Buffer& batch : batches) {
    bytes.insert(bytes.end(), batch.view().begin(), batch.view().end());
  }
  return SharedBytes(Buffer::copy_of(bytes));
}

std::vector<Buffer> list(Buffer first) {
  std::vector<Buffer> batches;
  batches.push_back(std::move(first));
  return batches;
}

std::vector<Buffer> list(Buffer first, Buffer second) {
  std::vector<Buffer> batches = list(std::move(first));
  batches.push_back(std::move(second));
  return batches;
}

// Offsets of the messages; each has its offset as the value.
Offsets offsets_of(const ChunkReader& reader) {
  Offsets offsets;
  for (const client::ReceivedMessage& message : reader.messages()) {
    CHECK(message.value == std::to_string(message.offset));
    offsets.push_back(message.offset);
  }
  return offsets;
}

TEST_CASE("chunk reader: whole batches, from the middle of one on") {
  ChunkReader reader;
  reader.open(join(list(build_batch(10, 3), build_batch(13, 2))), 11);
  CHECK(reader.next_offset() == 11);
  REQUIRE(reader.read(100).ok());
  CHECK(offsets_of(reader) == Offsets{11, 12, 13, 14});
  CHECK(reader.next_offset() == 15);
  CHECK(reader.done());
}

TEST_CASE("chunk reader: goes on behind what was left out of a batch") {
  ChunkReader reader;
  reader.open(join(list(build_selected(100, 10, {101, 104, 105}), build_batch(110, 1))), 100);
  REQUIRE(reader.read(1).ok());
  CHECK(offsets_of(reader) == Offsets{101, 104, 105});
  CHECK(reader.next_offset() == 110);
  CHECK_FALSE(reader.done());
  REQUIRE(reader.read(1).ok());
  CHECK(offsets_of(reader) == Offsets{110});
  CHECK(reader.next_offset() == 111);
}

TEST_CASE("chunk reader: a batch whose last messages were left out, and are all that is wanted") {
  const auto batches = [] { return join(list(build_selected(100, 10, {101, 104}))); };
  ChunkReader reader;
  for (const uint64_t from : {uint64_t{105}, uint64_t{109}}) {
    reader.open(batches(), from);
    REQUIRE(reader.read(1).ok());
    CHECK(reader.messages().empty());
    CHECK(reader.next_offset() == 110);
  }
  reader.open(batches(), 102);
  REQUIRE(reader.read(1).ok());
  CHECK(offsets_of(reader) == Offsets{104});
  CHECK(reader.next_offset() == 110);
  // Behind it all: the batch does not count.
  for (const uint64_t from : {uint64_t{110}, uint64_t{200}}) {
    reader.open(batches(), from);
    REQUIRE(reader.read(1).ok());
    CHECK(reader.messages().empty());
    CHECK(reader.next_offset() == from);
  }
}

TEST_CASE("chunk reader: damage stops behind the good messages") {
  std::vector<Buffer> batches = list(build_selected(100, 10, {101, 104}), build_batch(110, 2));
  batches[1].data()[batches[1].size() - 1] ^= 1;
  ChunkReader reader;
  reader.open(join(batches), 100);
  CHECK(reader.read(100).code() == ErrorCode::kCorrupted);
  CHECK(offsets_of(reader) == Offsets{101, 104});
  CHECK(reader.next_offset() == 110);
  CHECK(reader.done());
}

}  // namespace
}  // namespace tidemark::client_core
