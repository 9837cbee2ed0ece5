#include "broker/protocol/messages.h"

#include <vector>

#include <doctest/doctest.h>

#include "log/base/limits.h"
#include "log/base/random.h"

namespace tidemark::protocol {
namespace {

Frame to_frame(const OutFrame& out) {
  std::vector<Frame> frames;
  FrameParser parser(limits::kFrameBytesMax);
  const MutableByteView room = parser.prepare();
  REQUIRE(room.size() >= out.head.size());
  std::copy(out.head.view().begin(), out.head.view().end(), room.begin());
  REQUIRE(parser.commit(out.head.size(), frames).ok());
  REQUIRE(frames.size() == 1);
  return frames.front();
}

TEST_CASE("errors: an ok status is left out, others arrive as they are") {
  flatbuffers::FlatBufferBuilder builder;
  CHECK(build_error(builder, Status()).IsNull());
  CHECK(to_status(nullptr).ok());
  CHECK(retry_after_ms(nullptr) == 0);

  const Frame frame = to_frame(make_error_frame(9, Status(ErrorCode::kOverloaded, "full"), 50));
  CHECK(frame.header.reply);
  CHECK(frame.header.correlation == 9);
  CHECK(frame.header.type == static_cast<uint16_t>(FrameType::kError));
  const auto table = read_table<fbs::ErrorReply>(frame.table(), "Error");
  REQUIRE(table.ok());
  CHECK(to_status((*table)->error()).code() == ErrorCode::kOverloaded);
  CHECK(to_status((*table)->error()).context() == "full");
  CHECK(retry_after_ms((*table)->error()) == 50);
}

TEST_CASE("errors: a number of a newer peer becomes internal") {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fbs::CreateErrorReply(
      builder, fbs::CreateError(builder, 60'000, builder.CreateString("new"))));
  const auto table = read_table<fbs::ErrorReply>(finished(builder), "Error");
  REQUIRE(table.ok());
  CHECK(to_status((*table)->error()).code() == ErrorCode::kInternal);
  CHECK(to_status((*table)->error()).context() == "new");
}

TEST_CASE("read_table: cut and damaged tables are refused by name or read within bounds") {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::FetchPart>> parts;
  for (uint32_t i = 0; i < 10; ++i) {
    parts.push_back(fbs::CreateFetchPart(builder, i, i + 1, 100u + i, 1000));
  }
  builder.Finish(fbs::CreateFetch(builder, builder.CreateVector(parts), 500, 1, 4096));
  const Buffer good = Buffer::copy_of(finished(builder));
  REQUIRE(read_table<fbs::Fetch>(good.view(), "Fetch").ok());

  for (size_t size = 0; size < good.size(); ++size) {
    const Buffer cut = Buffer::copy_of(good.view().first(size));
    const auto table = read_table<fbs::Fetch>(cut.view(), "Fetch");
    CAPTURE(size);
    if (!table.ok()) {
      CHECK(table.error().code() == ErrorCode::kMalformed);
      CHECK(table.error().context().find("Fetch") != std::string_view::npos);
    }
  }
  // Whatever verifies can be read to the end (a sanitizer build sees a stray read).
  Random random(1);
  uint64_t sum = 0;
  for (int i = 0; i < 20'000; ++i) {
    Buffer bad = Buffer::copy_of(good.view());
    for (uint64_t flips = 1 + random.below(3); flips > 0; --flips) {
      bad.data()[random.below(bad.size())] ^= static_cast<uint8_t>(1u << random.below(8));
    }
    const auto table = read_table<fbs::Fetch>(bad.view(), "Fetch");
    if (table.ok() && (*table)->parts() != nullptr) {
      for (const auto* part : *(*table)->parts()) {
        sum += part->offset() + part->topic();
      }
    }
  }
  CHECK(sum > 0);
}

TEST_CASE("read_table: very many tables are refused") {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::ProducePart>> parts;
  for (uint32_t i = 0; i < limits::kTablesPerFrameMax + 1; ++i) {
    parts.push_back(fbs::CreateProducePart(builder, i, 0, 1));
  }
  builder.Finish(fbs::CreateProduce(builder, builder.CreateVector(parts)));
  CHECK(read_table<fbs::Produce>(finished(builder), "Produce").error().code() ==
        ErrorCode::kMalformed);
}

}  // namespace
}  // namespace tidemark::protocol
