// Topics with a window in which a second message with an id is a duplicate.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/format/batch_builder.h"
#include "log/format/schedule_set.h"
#include "tests/support/delay_requests.h"
#include "tests/support/txn_requests.h"
#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {
namespace {

constexpr int64_t kWindowMs = 60'000;

using Producer = format::BatchBuilder::Producer;

// A message of its id: "a", or "a=text"; without an id: "=text".
SharedBytes batch_of(const std::vector<std::string>& messages, Producer producer = {},
                     format::Codec codec = format::Codec::kNone) {
  std::vector<testing::MessageInput> inputs;
  for (const std::string& message : messages) {
    const size_t at = message.find('=');
    const std::string id = message.substr(0, at);
    testing::MessageInput input{at == std::string::npos ? id : message.substr(at + 1)};
    input.headers.emplace_back("other", "x");
    if (!id.empty()) {
      input.headers.emplace_back("tm-id", id);
    }
    inputs.push_back(std::move(input));
  }
  const SharedBytes built = testing::build_messages(inputs, codec);
  Buffer copy(built.size());
  std::copy(built.view().begin(), built.view().end(), copy.data());
  format::set_producer(copy.mutable_view(), producer);
  return SharedBytes(std::move(copy));
}

partition::QueueConfig window(int64_t ms) {
  partition::QueueConfig config;
  config.dedupe_window_ms = ms;
  return config;
}

struct DedupeHarness : ShardHarness {
  explicit DedupeHarness(int64_t window_ms = kWindowMs) {
    open_partitions_of(TopicId{1}, 2, {}, -1, -1, window(window_ms));
  }

  testing::ProducePartResult send(const std::vector<std::string>& messages, Producer producer = {},
                                  format::Codec codec = format::Codec::kNone) {
    return produce(kPartition, batch_of(messages, producer, codec));
  }

  // A request that is not committed yet.
  void start(const std::vector<std::string>& messages, Producer producer = {}) {
    const testing::ProduceInput part{kPartition, batch_of(messages, producer)};
    receive(testing::produce_request({&part, 1}));
    core->flush(now);
  }

  testing::ProducePartResult take() { return testing::read_produce_reply(outbox.take()).at(0); }

  void set_window(int64_t ms, uint64_t version) {
    ShardMail mail;
    mail.to = options.shard;
    mail.topic = TopicId{1};
    mail.version = version;
    mail.partitions = {0, 1};
    mail.queue = window(ms);
    core->receive_mail(mail, now);
    settle();
    outbox.letters.clear();
  }

  std::vector<std::string> stored() {
    std::vector<std::string> values;
    for (const testing::Message& message : fetch(kPartition, 0).messages) {
      REQUIRE(message.offset == Offset{values.size()});  // dense
      values.push_back(message.value);
    }
    return values;
  }

  uint64_t duplicates() const {
    ShardStats stats;
    core->add_stats(stats);
    return stats.duplicate_messages;
  }

  size_t id_records() const {
    size_t count = 0;
    for (const replica::CommittedEntry& entry : consensus.log) {
      format::RecordListReader reader(entry.payload.view());
      format::LogRecord record;
      while (reader.next(record)) {
        count += record.kind == format::RecordKind::kMessageIds ? 1 : 0;
      }
    }
    return count;
  }
};

using Values = std::vector<std::string>;
using Offsets = std::vector<uint64_t>;

TEST_CASE("a message with an id that is known is answered with its first offset, not stored") {
  DedupeHarness harness;
  const auto first = harness.send({"a", "b"});
  CHECK(first.status.ok());
  CHECK(first.base == Offset{0});
  CHECK_FALSE(first.duplicate);
  CHECK(first.offsets.empty());
  const size_t log = harness.consensus.log.size();
  const auto again = harness.send({"b=other text"});
  CHECK(again.status.ok());
  CHECK(again.duplicate);
  CHECK(again.base == Offset{1});
  CHECK(again.offsets == Offsets{1});
  CHECK(again.received_ms == first.received_ms);
  const auto both = harness.send({"b", "a"});
  CHECK(both.duplicate);
  CHECK(both.base == Offset{1});
  CHECK(both.offsets == Offsets{1, 0});
  CHECK(harness.consensus.log.size() == log);
  CHECK(harness.stored() == Values{"a", "b"});
  CHECK(harness.duplicates() == 3);
}

TEST_CASE("of a batch with messages that are known the others are stored, densely") {
  for (const format::Codec codec : {format::Codec::kNone, format::Codec::kZstd}) {
    CAPTURE(static_cast<int>(codec));
    DedupeHarness harness;
    const std::string text(300, 't');
    (void)harness.send({"a", "b", "=plain"}, {}, codec);
    const auto mixed =
        harness.send({"=" + text, "b", "c=" + text, "a", "=" + text, "d"}, {}, codec);
    CHECK(mixed.status.ok());
    CHECK_FALSE(mixed.duplicate);
    CHECK(mixed.base == Offset{3});
    CHECK(mixed.offsets == Offsets{3, 1, 4, 0, 5, 6});
    CHECK(harness.stored() == Values{"a", "b", "plain", text, text, text, "d"});
    CHECK(harness.send({"d", "c"}).offsets == Offsets{6, 4});
    CHECK(harness.duplicates() == 4);
    // The stored batch is what a producer could have sent, with all headers and the codec.
    const auto& refs = harness.core->views().find(ShardHarness::kPartition)->index().refs();
    const SharedBytes batch = harness.consensus.bytes_at(refs[1].position, refs[1].bytes);
    REQUIRE(format::validate_produced_batch(batch.view()).ok());
    auto reader = format::BatchReader::open(batch.view()).value();
    CHECK(reader.header().codec == codec);
    format::RecordView record;
    REQUIRE(reader.next(record));
    CHECK(record.header_count == 1);
    CHECK(record.timestamp_ms == 1000);
    REQUIRE(reader.next(record));
    CHECK(record.header_count == 2);
  }
}

TEST_CASE("of a batch with messages that are known those are left that have no id") {
  DedupeHarness harness;
  (void)harness.send({"a", "b"});
  const auto mixed = harness.send({"a", "=plain", "b"});
  CHECK(mixed.status.ok());
  CHECK_FALSE(mixed.duplicate);
  CHECK(mixed.base == Offset{2});
  CHECK(mixed.offsets == Offsets{0, 2, 1});
  CHECK(harness.stored() == Values{"a", "b", "plain"});
  CHECK(harness.id_records() == 1);
  // The producer goes on behind all of them.
  CHECK(harness.send({"b", "=more"}, {5, 0, 0}).offsets == Offsets{1, 3});
  CHECK(harness.send({"c"}, {5, 0, 2}).base == Offset{4});
}

TEST_CASE("an id that comes twice in a batch counts once") {
  DedupeHarness harness;
  const auto mixed = harness.send({"a=1", "a=2", "b=3", "a=4"});
  CHECK(mixed.status.ok());
  CHECK_FALSE(mixed.duplicate);
  CHECK(mixed.offsets == Offsets{0, 0, 1, 0});
  CHECK(harness.stored() == Values{"1", "3"});
}

TEST_CASE(
    "an empty id is none; of two the first counts; messages without ids are never duplicates") {
  DedupeHarness harness;
  const auto with = [&](const std::vector<std::pair<std::string, std::string>>& headers) {
    const testing::MessageInput input{"v", headers};
    return harness.produce(ShardHarness::kPartition, testing::build_messages({&input, 1}));
  };
  CHECK_FALSE(with({{"tm-id", ""}}).duplicate);
  CHECK_FALSE(with({{"tm-id", ""}}).duplicate);
  CHECK_FALSE(with({}).duplicate);
  CHECK_FALSE(with({{"tm-id", "x"}, {"tm-id", "y"}}).duplicate);
  CHECK_FALSE(with({{"tm-id", "y"}}).duplicate);
  CHECK(with({{"tm-id", "x"}}).duplicate);
  CHECK_FALSE(with({{"TM-ID", "x"}}).duplicate);
  CHECK_FALSE(with({{"tm-id", std::string(255, 'i')}}).duplicate);
  CHECK(with({{"tm-id", std::string(255, 'i')}}).duplicate);
  const Status status = with({{"tm-id", std::string(256, 'i')}}).status;
  CHECK(status.code() == ErrorCode::kInvalidArgument);
  CHECK(status.context() == "record 0 has a message id of 256 bytes; the limit is 255");
}

TEST_CASE("ids are of a partition") {
  DedupeHarness harness;
  CHECK_FALSE(harness.send({"a"}).duplicate);
  CHECK_FALSE(harness.produce(ShardHarness::kOther, batch_of({"a"})).duplicate);
  CHECK(harness.produce(ShardHarness::kOther, batch_of({"a"})).duplicate);
}

TEST_CASE("an id is free again when its window is over, and not a millisecond earlier") {
  DedupeHarness harness;
  CHECK(harness.send({"a"}).base == Offset{0});
  harness.advance_ms(kWindowMs - 1);
  CHECK(harness.send({"a"}).duplicate);  // which does not make it longer
  harness.advance_ms(1);
  const auto again = harness.send({"a=second"});
  CHECK_FALSE(again.duplicate);
  CHECK(again.base == Offset{1});
  harness.advance_ms(kWindowMs - 1);
  CHECK(harness.send({"a"}).base == Offset{1});
  CHECK(harness.stored() == Values{"a", "second"});
}

TEST_CASE("a restart keeps the window, from the log and from a checkpoint") {
  DedupeHarness harness;
  (void)harness.send({"a", "b"});
  harness.advance_ms(1'000);
  (void)harness.send({"c", "a"});
  SUBCASE("log") { harness.restart(); }
  SUBCASE("checkpoint") {
    harness.checkpoint();
    harness.restart_from_checkpoint();
  }
  SUBCASE("checkpoint and log") {
    harness.checkpoint();
    (void)harness.send({"d"});
    const uint64_t hash = harness.core->views().hash();
    harness.restart_from_checkpoint();
    CHECK(harness.core->views().hash() == hash);
    CHECK(harness.send({"d"}).base == Offset{3});
  }
  CHECK(harness.send({"b"}).offsets == Offsets{1});
  CHECK(harness.send({"c"}).offsets == Offsets{2});
  harness.advance_ms(kWindowMs - 1'000);
  CHECK_FALSE(harness.send({"b"}).duplicate);
  CHECK(harness.send({"c"}).duplicate);
}

TEST_CASE("two requests in one turn: the second is answered behind the first") {
  DedupeHarness harness;
  harness.start({"a"});
  harness.start({"a=second"});
  CHECK(harness.outbox.replies.empty());
  harness.settle();
  const auto first = harness.take();
  CHECK(first.status.ok());
  CHECK_FALSE(first.duplicate);
  const auto second = harness.take();
  CHECK(second.status.ok());
  CHECK(second.duplicate);
  CHECK(second.base == first.base);
  CHECK(second.offsets == Offsets{0});
  CHECK(second.received_ms == first.received_ms);
  CHECK(harness.stored() == Values{"a"});
  CHECK(harness.duplicates() == 1);
}

TEST_CASE("two parts of one request, too") {
  DedupeHarness harness;
  const std::vector<testing::ProduceInput> parts = {{ShardHarness::kPartition, batch_of({"a"})},
                                                    {ShardHarness::kPartition, batch_of({"a"})},
                                                    {ShardHarness::kOther, batch_of({"a"})}};
  const auto results = testing::read_produce_reply(harness.ask(testing::produce_request(parts)));
  CHECK_FALSE(results.at(0).duplicate);
  CHECK(results.at(1).duplicate);
  CHECK_FALSE(results.at(2).duplicate);
}

TEST_CASE("a first delivery that is lost takes its duplicates with it: they are sent again") {
  DedupeHarness harness;
  SUBCASE("refused when it is applied") {
    harness.start({"a"}, {.id = 7, .epoch = 0, .base_sequence = 5});  // of an unknown producer
    harness.start({"a=second"});
    harness.settle();
    CHECK(harness.take().status.code() == ErrorCode::kUnknownProducer);
    const auto second = harness.take();
    CHECK(second.status.code() == ErrorCode::kUnavailable);
    CHECK(second.status.context() ==
          "the first delivery of a message with one of these ids failed: try again");
    CHECK(second.retry_after_ms > 0);
  }
  SUBCASE("not written") {
    harness.consensus.refuse_with(Status(ErrorCode::kDiskFull, "full"));
    harness.start({"a"});
    harness.consensus.refuse_with(Status());
    CHECK(harness.take().status.code() == ErrorCode::kDiskFull);
  }
  SUBCASE("leadership is lost") {
    harness.start({"a"});
    harness.start({"a"});
    harness.consensus.set_role(replica::Role::kFollower);
    CHECK(harness.take().status.code() == ErrorCode::kOutcomeUnknown);
    CHECK(harness.take().status.code() == ErrorCode::kOutcomeUnknown);
    harness.consensus.lose_proposed();
    harness.consensus.set_role(replica::Role::kLeader);
  }
  const auto again = harness.send({"a=second"});
  CHECK(again.status.ok());
  CHECK_FALSE(again.duplicate);
  CHECK(harness.stored() == Values{"second"});
}

TEST_CASE("a batch that has others beside one that is under way is sent again") {
  DedupeHarness harness;
  harness.start({"a"});
  harness.start({"b", "a"});
  const auto second = harness.take();
  CHECK(second.status.code() == ErrorCode::kUnavailable);
  CHECK(second.status.context() ==
        "a message with the id of one in the batch is being stored: try again");
  CHECK(second.retry_after_ms > 0);
  harness.settle();
  CHECK(harness.take().status.ok());
  CHECK(harness.send({"b", "a"}).offsets == Offsets{1, 0});
  CHECK(harness.stored() == Values{"a", "b"});
}

TEST_CASE("an idempotent producer goes on behind duplicates as if they had been stored") {
  DedupeHarness harness;
  (void)harness.send({"a", "b", "c"});
  const auto at = [](int32_t sequence) {
    return Producer{.id = 7, .epoch = 0, .base_sequence = sequence};
  };
  SUBCASE("all of a batch, the first one of the producer") {
    const auto all = harness.send({"c", "a"}, at(0));
    CHECK(all.status.ok());
    CHECK(all.duplicate);
    CHECK(all.base == Offset{2});
    CHECK(all.offsets == Offsets{2, 0});
    CHECK(harness.send({"d", "e"}, at(2)).base == Offset{3});
    CHECK(harness.send({"=f"}, at(4)).base == Offset{5});
    // Sent again: the producer's own repetitions are known by their sequence.
    CHECK(harness.send({"d", "e"}, at(2)).base == Offset{3});
    CHECK(harness.send({"c", "a"}, at(0)).base == Offset{2});
    CHECK(harness.send({"c", "a"}, at(0)).duplicate);
    CHECK(harness.stored() == Values{"a", "b", "c", "d", "e", "f"});
  }
  SUBCASE("some of a batch") {
    const auto mixed = harness.send({"b", "d", "a", "e"}, at(0));
    CHECK(mixed.status.ok());
    CHECK_FALSE(mixed.duplicate);
    CHECK(mixed.base == Offset{3});
    CHECK(mixed.offsets == Offsets{1, 3, 0, 4});
    CHECK(harness.send({"f"}, at(3)).status.code() == ErrorCode::kOutOfOrderSequence);
    CHECK(harness.send({"f"}, at(4)).base == Offset{5});
    const auto again = harness.send({"b", "d", "a", "e"}, at(0));
    CHECK(again.duplicate);
    CHECK(again.base == Offset{3});
    CHECK(harness.stored() == Values{"a", "b", "c", "d", "e", "f"});
    harness.restart();
    CHECK(harness.send({"b", "d", "a", "e"}, at(0)).base == Offset{3});
    CHECK(harness.send({"=g"}, at(5)).base == Offset{6});
  }
  SUBCASE("one that is repeated while it is under way") {
    harness.start({"d", "e"}, at(0));
    harness.start({"d", "e"}, at(0));
    harness.start({"f"}, at(2));
    harness.settle();
    CHECK_FALSE(harness.take().duplicate);
    const auto again = harness.take();
    CHECK(again.status.ok());
    CHECK(again.duplicate);
    CHECK(again.base == Offset{3});
    CHECK(harness.take().base == Offset{5});
    CHECK(harness.stored() == Values{"a", "b", "c", "d", "e", "f"});
  }
  SUBCASE("behind a gap nothing is taken, duplicates neither") {
    CHECK(harness.send({"a"}, at(3)).status.code() == ErrorCode::kUnknownProducer);
    CHECK(harness.send({"a"}, at(0)).duplicate);
    const auto gap = harness.send({"b"}, at(3));
    CHECK(gap.status.code() == ErrorCode::kOutOfOrderSequence);
    CHECK(gap.status.context() == "expected sequence 1");
    // The ids of a batch that was refused are not remembered.
    CHECK(harness.send({"x"}, at(3)).status.code() == ErrorCode::kOutOfOrderSequence);
    CHECK_FALSE(harness.send({"x"}, at(1)).duplicate);
  }
}

TEST_CASE("several batches in one entry: each one's ids are those of its own messages") {
  DedupeHarness harness;
  harness.consensus.log.clear();
  const std::vector<testing::ProduceInput> parts = {
      {ShardHarness::kPartition, batch_of({"=0", "a", "b"})},
      {ShardHarness::kOther, batch_of({"a", "=1", "b"})},
      {ShardHarness::kPartition, batch_of({"c", "=2"})}};
  (void)harness.ask(testing::produce_request(parts));
  CHECK(harness.consensus.log.size() == 1);
  CHECK(harness.send({"a", "b", "c"}).offsets == Offsets{1, 2, 3});
  CHECK(harness.produce(ShardHarness::kOther, batch_of({"a", "b"})).offsets == Offsets{0, 2});
}

TEST_CASE("a batch and its ids are in one entry, however full that is") {
  DedupeHarness harness;
  std::vector<std::string> ids;
  for (int i = 0; i < 2'000; ++i) {
    ids.push_back("id-" + std::to_string(i));
  }
  for (int round = 0; round < 40; ++round) {
    std::vector<std::string> messages;
    for (const std::string& id : ids) {
      messages.push_back(std::to_string(round) + id);
    }
    harness.start(messages);
  }
  harness.settle();
  for (const replica::CommittedEntry& entry : harness.consensus.log) {
    format::RecordListReader reader(entry.payload.view());
    format::LogRecord record;
    bool batch = false;
    while (reader.next(record)) {
      CHECK(batch == (record.kind == format::RecordKind::kMessageIds));
      batch = record.kind == format::RecordKind::kProduce;
    }
    CHECK_FALSE(batch);
  }
  CHECK(harness.id_records() == 40);
  CHECK(harness.core->views().dedupe().size(ShardHarness::kPartition) == 80'000);
}

TEST_CASE("a batch whose ids do not fit an entry beside it is refused") {
  DedupeHarness harness;
  std::vector<testing::MessageInput> inputs(52'000);
  for (size_t i = 1; i < inputs.size(); ++i) {  // the first one has none: the ids have numbers
    inputs[i].headers.emplace_back("tm-id", std::to_string(10'000 + i));
  }
  const auto refused = harness.produce(ShardHarness::kPartition, testing::build_messages(inputs));
  CHECK(refused.status.code() == ErrorCode::kTooLarge);
  CHECK(refused.status.context() ==
        "a batch of 1083793 bytes with 51999 message ids does not fit an entry of the log; send "
        "fewer messages in one");
  CHECK(harness.core->views().find(ShardHarness::kPartition)->end() == Offset{0});
  const SharedBytes small = testing::build_messages(inputs, format::Codec::kZstd);
  CHECK(harness.produce(ShardHarness::kPartition, small).status.ok());
  CHECK(harness.core->views().dedupe().size(ShardHarness::kPartition) == 51'999);
}

TEST_CASE("ids of delayed messages and of parts of transactions are refused, not passed over") {
  DedupeHarness harness;
  const std::string error =
      "a message with an id (header tm-id) for a topic with dedupe_window_ms can be neither "
      "delayed nor part of a transaction";
  for (const bool id : {true, false}) {
    CAPTURE(id);
    const format::HeaderInput header{"tm-id", as_bytes("a")};
    format::RecordInput message{.timestamp_ms = 1000, .value = as_bytes("v")};
    if (id) {
      message.headers = {&header, 1};
    }
    format::ScheduleBuilder builder;
    REQUIRE(builder.append({.due_ms = 1'000}, message).ok());
    const SharedBytes set(builder.finish(ShardHarness::kPartition, {}));
    const protocol::fbs::TxnId txn(7, id ? 1 : 2, 0);
    const std::vector<testing::HalfInput> halves = {
        {txn, ShardHarness::kPartition, 0, batch_of({id ? "a" : "=a"})},
        {txn, ShardHarness::kPartition, 1, set, true}};
    std::vector<testing::ProducePartResult> results =
        testing::read_produce_reply(harness.ask(testing::half_request(halves)));
    results.push_back(testing::read_produce_reply(
                          harness.ask(testing::schedule_request(ShardHarness::kPartition, set)))
                          .at(0));
    for (const testing::ProducePartResult& result : results) {
      CHECK(result.status.code() == (id ? ErrorCode::kInvalidArgument : ErrorCode::kOk));
      CHECK(result.status.context() == (id ? error : ""));
    }
  }
  harness.set_window(-1, 2);
  const std::vector<testing::HalfInput> halves = {
      {protocol::fbs::TxnId(7, 3, 0), ShardHarness::kPartition, 0, batch_of({"a"})}};
  CHECK(testing::read_produce_reply(harness.ask(testing::half_request(halves))).at(0).status.ok());
}

TEST_CASE("without a window ids mean nothing and cost nothing") {
  ShardHarness harness;
  harness.open_partitions(1);
  for (int i = 0; i < 2; ++i) {
    const auto sent = harness.produce(ShardHarness::kPartition, batch_of({"a", "a"}));
    CHECK_FALSE(sent.duplicate);
    CHECK(sent.offsets.empty());
  }
  CHECK(harness.core->views().find(ShardHarness::kPartition)->end() == Offset{4});
  CHECK(harness.core->views().dedupe().size(ShardHarness::kPartition) == 0);
  CHECK(harness.consensus.log.size() == 3);
  for (const replica::CommittedEntry& entry : harness.consensus.log) {
    format::RecordListReader reader(entry.payload.view());
    format::LogRecord record;
    while (reader.next(record)) {
      CHECK(record.kind != format::RecordKind::kMessageIds);
    }
  }
}

TEST_CASE("with a window, messages without ids write no record about ids") {
  DedupeHarness harness;
  CHECK(harness.send({"=1", "=2"}).base == Offset{0});
  CHECK(harness.id_records() == 0);
}

TEST_CASE("a window that is switched off is forgotten; a longer one keeps what there is") {
  DedupeHarness harness;
  (void)harness.send({"a"});
  harness.set_window(2 * kWindowMs, 2);
  harness.advance_ms(kWindowMs);
  CHECK(harness.send({"a"}).duplicate);
  harness.set_window(1'000, 3);
  CHECK_FALSE(harness.send({"a=2"}).duplicate);
  harness.set_window(-1, 4);
  CHECK(harness.core->views().dedupe().size(ShardHarness::kPartition) == 0);
  CHECK_FALSE(harness.send({"a=3"}).duplicate);
  harness.set_window(kWindowMs, 5);
  CHECK_FALSE(harness.send({"a=4"}).duplicate);
  CHECK(harness.send({"a"}).base == Offset{3});
  harness.checkpoint();
  const uint64_t hash = harness.core->views().hash();
  harness.restart_from_checkpoint();
  CHECK(harness.core->views().hash() == hash);
}

TEST_CASE("a window that is switched off while a batch is under way takes none of its ids") {
  DedupeHarness harness;
  ShardMail mail;
  mail.topic = TopicId{1};
  mail.version = 2;
  mail.partitions = {0, 1};
  mail.queue = window(-1);
  harness.core->receive_mail(mail, harness.now);  // in the log before the batches that are judged
  harness.start({"b"});
  harness.start({"b"});
  harness.settle();
  CHECK_FALSE(harness.take().duplicate);
  CHECK(harness.take().status.code() == ErrorCode::kUnavailable);
  CHECK(harness.core->views().dedupe().size(ShardHarness::kPartition) == 0);
  CHECK_FALSE(harness.send({"b"}).duplicate);
}

TEST_CASE("ids are gone with their partition") {
  DedupeHarness harness;
  (void)harness.send({"a"});
  ShardMail mail;
  mail.topic = TopicId{1};
  mail.version = 2;
  mail.state = ShardMail::State::kDropped;
  harness.core->receive_mail(mail, harness.now);
  harness.settle();
  CHECK(harness.core->views().dedupe().size(ShardHarness::kPartition) == 0);
  CHECK(harness.send({"a"}).status.code() == ErrorCode::kUnknownPartition);
}

TEST_CASE("codecs that are not read are refused where ids have to be") {
  DedupeHarness harness;
  const SharedBytes plain = batch_of({"a"});
  Buffer lz4(plain.size());
  std::copy(plain.view().begin(), plain.view().end(), lz4.data());
  lz4.data()[22] = 3;
  format::set_producer(lz4.mutable_view(), {});  // the checksum
  const SharedBytes batch(std::move(lz4));
  const auto refused = harness.produce(ShardHarness::kPartition, batch);
  CHECK(refused.status.code() == ErrorCode::kInvalidArgument);
  CHECK(refused.status.context() ==
        "a topic with dedupe_window_ms takes batches that are not compressed, or with zstd: their "
        "message ids are read");
  harness.set_window(-1, 2);
  CHECK(harness.produce(ShardHarness::kPartition, batch).status.ok());
}

}  // namespace
}  // namespace tidemark::shard
