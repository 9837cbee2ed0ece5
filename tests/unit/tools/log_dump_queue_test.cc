#include "tools/log_dump_queue.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/queue/ack_ranges.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::tools {
namespace {

using format::RecordKind;
namespace fbs = format::fbs;

struct Described {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  std::string text;
};

Described describe(RecordKind kind, const flatbuffers::FlatBufferBuilder& builder,
                   QueueTotals& totals) {
  format::LogRecord record;
  record.kind = kind;
  record.body = ByteView(builder.GetBufferPointer(), builder.GetSize());
  Described out;
  describe_queue_record(record, out.object, out.text, totals);
  return out;
}

TEST_CASE("acks, failures and letters of a queue_settle record") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<uint8_t> packed = queue::pack_ranges({{Offset{5}, 3}, {Offset{20}, 1}});
  const std::vector<fbs::QueueFailure> failures = {fbs::QueueFailure(9, 1'000)};
  const std::vector<uint8_t> batch(70);
  const auto letter = fbs::CreateQueueLetter(builder, 11, 7, 2, 4'096, builder.CreateVector(batch));
  const auto group = builder.CreateString("mailer");
  const auto acks = builder.CreateVector(packed);
  const auto failed = builder.CreateVectorOfStructs(failures);
  const auto letters = builder.CreateVector(&letter, 1);
  builder.Finish(
      fbs::CreateQueueSettle(builder, group, 3, 1, acks, failed, letters, 1, 2, 1'772'368'205'250));
  QueueTotals totals;
  const Described seen = describe(RecordKind::kQueueSettle, builder, totals);
  CHECK(seen.object.dump() ==
        R"({"group":"mailer","topic_id":3,"partition":1,"time_ms":1772368205250,"acks":4,)"
        R"("ack_ranges":[{"first":5,"count":3},{"first":20,"count":1}],"expired":1,"filtered":2,)"
        R"("failures":[{"offset":9,"retry_ms":1000}],"letters":[{"offset":11,"to_topic_id":7,)"
        R"("to_partition":2,"body_position":4096,"batch_bytes":70}]})");
  CHECK(seen.text ==
        " group 'mailer' topic 3 partition 1 at 2026-03-01T12:30:05.250Z, 4 acks in 2 ranges from "
        "5, 1 failures, 1 letters");
  CHECK(totals.records == 1);
  CHECK(totals.acks == 4);
  CHECK(totals.failures == 1);
  CHECK(totals.letters == 1);
  CHECK(totals.record_bytes == format::record_bytes(builder.GetSize()));
  CHECK(totals.bytes_per_ack() ==
        doctest::Approx(static_cast<double>(format::record_bytes(builder.GetSize())) / 4));
}

TEST_CASE("a record without acks costs no ack anything") {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fbs::CreateQueueSettle(builder));
  QueueTotals totals;
  const Described seen = describe(RecordKind::kQueueSettle, builder, totals);
  CHECK_FALSE(seen.object.contains("error"));
  CHECK_FALSE(seen.object.contains("acks"));
  CHECK(totals.records == 1);
  CHECK(totals.bytes_per_ack() == 0);
}

TEST_CASE("message ids are counted") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<uint8_t> ids(48);
  builder.Finish(fbs::CreateMessageIds(builder, 3, 1, builder.CreateVector(ids), 5));
  QueueTotals totals;
  const Described seen = describe(RecordKind::kMessageIds, builder, totals);
  CHECK(seen.object.dump() == R"({"topic_id":3,"partition":1,"time_ms":5,"message_ids":3})");
  CHECK(totals.message_ids == 3);
  CHECK(totals.records == 0);
}

TEST_CASE("damaged records say so") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<uint8_t> nonsense = {0xFF, 0xFF};
  const auto acks = builder.CreateVector(nonsense);
  builder.Finish(fbs::CreateQueueSettle(builder, 0, 3, 1, acks));
  QueueTotals totals;
  CHECK(describe(RecordKind::kQueueSettle, builder, totals).object.contains("error"));
  CHECK(totals.acks == 0);

  flatbuffers::FlatBufferBuilder odd;
  const std::vector<uint8_t> half(17);
  odd.Finish(fbs::CreateMessageIds(odd, 3, 1, odd.CreateVector(half), 5));
  CHECK(describe(RecordKind::kMessageIds, odd, totals).object.contains("error"));

  format::LogRecord record;
  record.kind = RecordKind::kQueueSettle;
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  std::string text;
  describe_queue_record(record, object, text, totals);
  CHECK(object.contains("error"));
}

}  // namespace
}  // namespace tidemark::tools
