#include "tools/log_dump_records.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

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

}  // namespace
}  // namespace tidemark::tools
