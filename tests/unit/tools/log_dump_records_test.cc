#include "tools/log_dump_records.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/format/batch_builder.h"
#include "log/format/batch_select.h"
#include "log/format/log_record.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::tools {
namespace {

ByteView finished(const flatbuffers::FlatBufferBuilder& builder) {
  return {builder.GetBufferPointer(), builder.GetSize()};
}

TEST_CASE("log dump: message ids of a batch, and of one that was not stored") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<uint8_t> ids(3 * 16, 7);
  auto packed = builder.CreateVector(ids);
  format::fbs::MessageIdsBuilder plain(builder);
  plain.add_topic(4);
  plain.add_partition(2);
  plain.add_ids(packed);
  builder.Finish(plain.Finish());
  nlohmann::ordered_json object;
  std::string text = "message_ids";
  describe_message_ids(finished(builder), object, text);
  CHECK(text == "message_ids topic 4 partition 2 3 ids");
  CHECK(object.dump() == R"({"topic_id":4,"partition":2,"ids":3,"known":false})");

  builder.Clear();
  packed = builder.CreateVector(ids.data(), 16);
  format::fbs::MessageIdsBuilder known(builder);
  known.add_topic(4);
  known.add_ids(packed);
  known.add_known(true);
  known.add_producer_id(9);
  known.add_producer_epoch(1);
  known.add_base_sequence(70);
  builder.Finish(known.Finish());
  object = {};
  text.clear();
  describe_message_ids(finished(builder), object, text);
  CHECK(text ==
        " topic 4 partition 0 1 ids, known: a batch that is not stored producer 9:1 sequence 70");
  CHECK(object.dump() == R"({"topic_id":4,"partition":0,"ids":1,"known":true,"producer_id":9,)"
                         R"("producer_epoch":1,"base_sequence":70})");
}

TEST_CASE("log dump: a record about message ids that cannot be read says so") {
  nlohmann::ordered_json object;
  std::string text;
  describe_message_ids({}, object, text);
  CHECK(object["error"] == "malformed: the record does not verify");
  CHECK(text == " malformed: the record does not verify");
}

// The record as a log has it.
void describe_one(format::RecordListBuilder& list, nlohmann::ordered_json& object,
                  std::string& text) {
  const SharedBytes payload = list.take();
  format::RecordListReader reader(payload.view());
  format::LogRecord record;
  REQUIRE(reader.next(record));
  CHECK(is_compaction_record(record.kind));
  object = {};
  text.clear();
  describe_compaction(record, object, text);
}

TEST_CASE("log dump: what compaction wrote") {
  format::BatchBuilder builder;
  for (const std::string_view value : {"a", "b", "c"}) {
    REQUIRE(builder.append({.value = as_bytes(value)}).ok());
  }
  const Buffer batch = std::move(builder.finish(format::Codec::kNone, 1, {})).value();
  const auto left = format::select_records(
      batch.view(), [](const format::RecordView& record) { return record.offset_delta != 1; });
  format::RecordListBuilder list;
  format::CompactRecord compact;
  compact.partition = {TopicId{4}, PartitionIndex{2}};
  compact.base = Offset{70};
  compact.replaced = LogPosition{900};
  compact.replaced_bytes = 100;
  compact.batch = left->batch.view();
  list.add_compact(compact);
  nlohmann::ordered_json object;
  std::string text;
  describe_one(list, object, text);
  CHECK(text == " topic 4 partition 2 offset 70 in place of 100 bytes at 900, 2 of 3 messages");
  CHECK(object.dump() == R"({"topic_id":4,"partition":2,"base_offset":70,"replaced_position":900,)"
                         R"("replaced_bytes":100,"messages":2,"offsets":3})");

  Buffer damaged = Buffer::copy_of(batch.view());
  damaged.data()[70] ^= 1;
  compact.batch = damaged.view();
  list.add_compact(compact);
  describe_one(list, object, text);
  CHECK(object["error"].get<std::string>().substr(0, 9) == "corrupted");
}

TEST_CASE("log dump: steps of a compaction, and one that cannot be read") {
  const auto record_of = [](uint8_t step) {
    flatbuffers::FlatBufferBuilder builder;
    const std::vector<format::fbs::DeadBatch> dead(3);
    const auto batches = builder.CreateVectorOfStructs(dead);
    format::fbs::CompactedBuilder record(builder);
    record.add_topic(4);
    record.add_partition(2);
    record.add_step(step);
    record.add_dead(batches);
    record.add_low_position(800);
    record.add_scan_from(90);
    record.add_dirty_bytes(7);
    builder.Finish(record.Finish());
    format::RecordListBuilder list;
    list.add(format::RecordKind::kCompacted, finished(builder));
    return list;
  };
  nlohmann::ordered_json object;
  std::string text;
  auto list = record_of(0);
  describe_one(list, object, text);
  CHECK(text == " topic 4 partition 2 begin");
  list = record_of(1);
  describe_one(list, object, text);
  CHECK(text == " topic 4 partition 2 dead, 3 batches");
  CHECK(object.dump() == R"({"topic_id":4,"partition":2,"step":"dead","batches":3})");
  list = record_of(2);
  describe_one(list, object, text);
  CHECK(text == " topic 4 partition 2 end, the next run looks from offset 90 on");
  CHECK(object.dump() ==
        R"({"topic_id":4,"partition":2,"step":"end","low_position":800,"scan_from":90,)"
        R"("dirty_bytes":7})");
  list = record_of(3);
  describe_one(list, object, text);
  CHECK(text == " malformed: the record does not verify");
  CHECK(object["error"] == "malformed: the record does not verify");
}

}  // namespace
}  // namespace tidemark::tools
