// The simplest model of a record: owns its bytes, is made from a seed, compared field by field.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "log/format/batch_builder.h"
#include "log/format/record_batch.h"

namespace tidemark::format {

struct ModelHeader {
  std::string key = {};
  bool has_value = true;
  std::string value = {};

  friend bool operator==(const ModelHeader&, const ModelHeader&) = default;
};

struct ModelRecord {
  int64_t timestamp_ms = 0;
  bool has_key = false;
  std::string key = {};
  bool has_value = true;
  std::string value = {};
  std::vector<ModelHeader> headers = {};

  friend bool operator==(const ModelRecord&, const ModelRecord&) = default;
};

// A RecordInput that views `model`; valid as long as both live.
class ModelInput {
 public:
  explicit ModelInput(const ModelRecord& model) {
    for (const ModelHeader& header : model.headers) {
      headers_.push_back({header.key, as_bytes(header.value), header.has_value});
    }
    input_ = {.timestamp_ms = model.timestamp_ms,
              .has_key = model.has_key,
              .key = as_bytes(model.key),
              .has_value = model.has_value,
              .value = as_bytes(model.value),
              .headers = headers_};
  }

  ModelInput(const ModelInput&) = delete;
  ModelInput& operator=(const ModelInput&) = delete;

  [[nodiscard]] const RecordInput& get() const { return input_; }

 private:
  std::vector<HeaderInput> headers_;
  RecordInput input_;
};

inline std::string random_text(Random& random, size_t bytes_max) {
  std::string text(random.below(bytes_max + 1), ' ');
  for (char& c : text) {
    c = static_cast<char>(random.chance(3, 4) ? 'a' + random.below(4) : random.below(256));
  }
  return text;
}

inline ModelRecord random_record(Random& random, int64_t base_timestamp_ms) {
  ModelRecord record;
  const auto distance = static_cast<int64_t>(random.below(uint64_t{1} << random.below(40)));
  record.timestamp_ms = base_timestamp_ms + (random.chance(1, 4) ? -distance : distance);
  record.has_key = random.chance(1, 2);
  record.key = record.has_key ? random_text(random, 70) : "";
  record.has_value = random.chance(9, 10);
  record.value = record.has_value ? random_text(random, random.chance(1, 20) ? 20'000 : 150) : "";
  const size_t headers = random.chance(1, 3) ? random.below(random.chance(1, 5) ? 65 : 4) : 0;
  for (size_t i = 0; i < headers; ++i) {
    ModelHeader header{
        .key = random_text(random, 20), .has_value = random.chance(4, 5), .value = {}};
    header.value = header.has_value ? random_text(random, 90) : "";
    record.headers.push_back(std::move(header));
  }
  return record;
}

// What a reader shows, as a model. Fails the test if the header region is damaged.
inline ModelRecord model_of(const RecordView& view) {
  ModelRecord record{.timestamp_ms = view.timestamp_ms,
                     .has_key = view.has_key,
                     .key = std::string(as_text(view.key)),
                     .has_value = view.has_value,
                     .value = std::string(as_text(view.value)),
                     .headers = {}};
  HeaderCursor cursor(view.headers, view.header_count);
  HeaderView header;
  while (cursor.next(header)) {
    record.headers.push_back(
        {std::string(header.key), header.has_value, std::string(as_text(header.value))});
  }
  REQUIRE_FALSE(cursor.failed());
  REQUIRE(record.headers.size() == view.header_count);
  return record;
}

// All records of a batch that must be sound.
inline std::vector<ModelRecord> read_all(ByteView batch) {
  auto reader = BatchReader::open(batch);
  REQUIRE_MESSAGE(reader.ok(), reader.error().to_string());
  std::vector<ModelRecord> records;
  RecordView view;
  while (reader->next(view)) {
    REQUIRE(view.offset_delta == records.size());
    records.push_back(model_of(view));
  }
  REQUIRE_MESSAGE(reader->status().ok(), reader->status().to_string());
  REQUIRE(records.size() == reader->header().record_count);
  return records;
}

}  // namespace tidemark::format
