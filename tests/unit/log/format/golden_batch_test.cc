// The files tests/golden/batch_v2_*.bin, written once from the published format by an encoder that
// shares no code with ours (and by the zstd command line tool: a frame without content size, with
// checksum). They never change: a batch that is stored today must be read by every later version.
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/format/batch_builder.h"
#include "log/format/record_batch.h"
#include "tests/unit/log/format/model_record.h"

namespace tidemark::format {
namespace {

constexpr int64_t kBaseMs = 1'700'000'000'000;
constexpr int64_t kDayMs = 86'400'000;

std::vector<uint8_t> golden(const std::string& name) {
  const std::string path = "tests/golden/" + name;  // tests run in the root of the tree
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.is_open(), path);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return {text.begin(), text.end()};
}

std::vector<ModelRecord> golden_records() {
  std::string digits;
  for (int i = 0; i < 30; ++i) {
    digits += "0123456789";
  }
  return {
      {.timestamp_ms = kBaseMs, .has_key = true, .key = "key-0", .value = "value with key"},
      {.timestamp_ms = kBaseMs + 15, .value = "value without key"},
      {.timestamp_ms = kBaseMs - 20, .has_key = true, .key = "deleted", .has_value = false},
      {.timestamp_ms = kBaseMs + 15,
       .has_value = false,
       .headers = {{"trace", true, std::string("\x00\x01\xFE\xFF", 4)},
                   {"empty", true, ""},
                   {"absent", false, ""}}},
      {.timestamp_ms = kBaseMs + 300, .has_key = true, .key = "", .headers = {{"h", true, "v"}}},
      {.timestamp_ms = kBaseMs + kDayMs, .has_key = true, .key = "k", .value = digits},
  };
}

void check_golden(const std::string& name, Codec codec) {
  const std::vector<uint8_t> batch = golden(name);
  const auto header = validate_produced_batch(batch);
  REQUIRE_MESSAGE(header.ok(), header.error().to_string());
  CHECK(header->codec == codec);
  CHECK(header->base_offset == 0);
  CHECK(header->batch_bytes == batch.size());
  CHECK(header->record_count == 6);
  CHECK(header->base_timestamp_ms == kBaseMs);
  CHECK(header->max_timestamp_ms == kBaseMs + kDayMs);
  CHECK(header->producer_id == 4242);
  CHECK(header->producer_epoch == 7);
  CHECK(header->base_sequence == 1000);
  CHECK(read_all(batch) == golden_records());
}

TEST_CASE("golden: the plain batch is read") { check_golden("batch_v2_plain.bin", Codec::kNone); }

TEST_CASE("golden: the zstd batch is read") { check_golden("batch_v2_zstd.bin", Codec::kZstd); }

TEST_CASE("golden: the builder writes the plain batch byte for byte") {
  BatchBuilder builder;
  for (const ModelRecord& record : golden_records()) {
    REQUIRE(builder.append(ModelInput(record).get()).ok());
  }
  const auto batch =
      builder.finish(Codec::kNone, 1, {.id = 4242, .epoch = 7, .base_sequence = 1000});
  REQUIRE(batch.ok());
  CHECK(std::vector<uint8_t>(batch->view().begin(), batch->view().end()) ==
        golden("batch_v2_plain.bin"));
}

}  // namespace
}  // namespace tidemark::format
