#include "broker/shard/message_reader.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "log/format/reference_batch.h"
#include "tests/support/fake_batch_source.h"
#include "tests/support/fake_consensus.h"
#include "tests/support/request_builder.h"

namespace tidemark::shard {
namespace {

using partition::BatchRef;
using testing::build_batch;
using testing::build_messages;
using testing::MessageInput;

// Batches in a log, one an entry, and a reader of them.
class Rig {
 public:
  BatchRef add(const SharedBytes& batch) {
    replica::CommittedEntry entry;
    entry.position = next_;
    entry.payload = batch;
    next_ = next_ + log::entry_bytes(batch.size());
    log_.log.push_back(entry);
    const format::BatchHeader header = format::decode_batch_header(batch.view()).value();
    const BatchRef ref{offset_, header.record_count, header.batch_bytes,
                       entry.position + log::kEntryHeaderBytes, 1000};
    offset_ = ref.end();
    return ref;
  }

  BatchRef add_reference(const BatchRef& body, uint32_t record,
                         std::vector<std::pair<std::string, std::string>> headers = {}) {
    Result<Buffer> batch =
        format::build_reference({body.position, body.bytes, record, std::move(headers)}, 1000);
    REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
    return add(SharedBytes(std::move(*batch)));
  }

  // Nothing written so far is in memory any more.
  void forget() { source.cached_from = next_; }

  void start(std::vector<BatchRef> refs, size_t bytes_max = SIZE_MAX) {
    reader.read(std::move(refs), bytes_max,
                [this](std::vector<Result<SharedBytes>> read) { results = std::move(read); });
  }

  std::vector<Result<SharedBytes>> read(std::vector<BatchRef> refs, size_t bytes_max = SIZE_MAX) {
    start(std::move(refs), bytes_max);
    source.run_all();
    REQUIRE(results.has_value());
    return std::move(*std::exchange(results, std::nullopt));
  }

 private:
  testing::FakeConsensus log_;
  kv::MemoryStore store_;
  LogPosition next_{4096};
  Offset offset_;

 public:
  testing::FakeBatchSource source{log_, store_};
  MessageReader reader{source};
  std::optional<std::vector<Result<SharedBytes>>> results;
};

std::string value_of(const Result<SharedBytes>& batch) {
  REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
  REQUIRE(format::verify_batch(batch->view()).ok());
  Result<format::BatchReader> reader = format::BatchReader::open(batch->view());
  REQUIRE(reader.ok());
  format::RecordView record;
  REQUIRE(reader->next(record));
  return std::string(as_text(record.value));
}

SharedBytes batch_of(const std::vector<std::string>& values) { return build_batch(values); }

TEST_CASE("what is in memory is given inside the call, as it is stored") {
  Rig rig;
  const BatchRef first = rig.add(batch_of({"a", "b"}));
  const BatchRef second = rig.add(batch_of({"c"}));
  rig.start({first, second});
  REQUIRE(rig.results.has_value());
  REQUIRE(rig.results->size() == 2);
  CHECK(value_of(rig.results->at(0)) == "a");
  CHECK(value_of(rig.results->at(1)) == "c");
  CHECK(rig.reader.cold_reads() == 0);
  rig.start({});
  CHECK(rig.results->empty());
}

TEST_CASE("cold batches come with one read, in the order that was asked for") {
  Rig rig;
  const BatchRef first = rig.add(batch_of({"a"}));
  const BatchRef second = rig.add(batch_of({"b"}));
  rig.forget();
  const BatchRef third = rig.add(batch_of({"c"}));
  rig.start({first, third, second});
  CHECK_FALSE(rig.results.has_value());
  CHECK(rig.source.pending() == 1);
  rig.source.run_all();
  REQUIRE(rig.results->size() == 3);
  CHECK(value_of(rig.results->at(0)) == "a");
  CHECK(value_of(rig.results->at(1)) == "c");
  CHECK(value_of(rig.results->at(2)) == "b");
  CHECK(rig.reader.cold_reads() == 1);
}

TEST_CASE("a reference gives the message that it stands for, with its headers behind") {
  Rig rig;
  const std::vector<MessageInput> messages = {
      {"zero"}, {"one", {{"own", "1"}}}, {"two", {{"own", "2"}}}};
  for (const auto codec : {format::Codec::kNone, format::Codec::kZstd}) {
    const BatchRef body = rig.add(build_messages(messages, codec));
    const BatchRef letter = rig.add_reference(body, 2, {{"added", "x"}});
    const BatchRef plain = rig.add(batch_of({"plain"}));
    for (const bool cold : {false, true}) {
      CAPTURE(cold);
      if (cold) {
        rig.forget();
      }
      const uint64_t before = rig.reader.cold_reads();
      const auto results = rig.read({letter, plain});
      REQUIRE(results.size() == 2);
      CHECK(value_of(results[0]) == "two");
      CHECK(value_of(results[1]) == "plain");
      // The batches and the bodies: one read each.
      CHECK(rig.reader.cold_reads() - before == (cold ? 2 : 0));
      Result<format::BatchReader> reader = format::BatchReader::open(results[0]->view());
      format::RecordView record;
      REQUIRE(reader->next(record));
      format::HeaderCursor headers(record.headers, record.header_count);
      format::HeaderView header;
      REQUIRE(headers.next(header));
      CHECK(header.key == "own");
      CHECK(as_text(header.value) == "2");
      REQUIRE(headers.next(header));
      CHECK(header.key == "added");
      CHECK_FALSE(headers.next(header));
      CHECK_FALSE(reader->next(record));
    }
  }
}

TEST_CASE("messages are never taken out of their bodies inside the call") {
  Rig rig;
  const BatchRef body = rig.add(batch_of({"a"}));
  const BatchRef letter = rig.add_reference(body, 0);
  rig.start({letter});
  CHECK_FALSE(rig.results.has_value());
  rig.source.run_all();
  CHECK(value_of(rig.results->at(0)) == "a");
  CHECK(rig.reader.cold_reads() == 0);
}

TEST_CASE("a body that many references stand for is read once") {
  Rig rig;
  const BatchRef body = rig.add(batch_of({"a", "b", "c"}));
  rig.forget();
  std::vector<BatchRef> letters;
  for (const uint32_t record : {2u, 0u, 1u}) {
    letters.push_back(rig.add_reference(body, record));
  }
  rig.start(letters);
  CHECK(rig.source.pending() == 1);
  rig.source.run_all();
  CHECK(value_of(rig.results->at(0)) == "c");
  CHECK(value_of(rig.results->at(1)) == "a");
  CHECK(value_of(rig.results->at(2)) == "b");
  CHECK(rig.reader.cold_reads() == 1);
}

TEST_CASE("bodies are read in steps that are bounded, and all messages come") {
  Rig rig;
  std::vector<BatchRef> bodies;
  const size_t count = 3 * MessageReader::kBodyBytesPerStep / limits::kMessageBytesMax;
  for (size_t i = 0; i < count; ++i) {
    bodies.push_back(rig.add(testing::build_batch_of(1, limits::kMessageBytesMax)));
  }
  rig.forget();
  std::vector<BatchRef> refs;
  for (const BatchRef& body : bodies) {
    refs.push_back(rig.add_reference(body, 0));
    refs.push_back(rig.add(batch_of({"between"})));
  }
  const auto results = rig.read(refs);
  REQUIRE(results.size() == refs.size());
  for (size_t i = 0; i < results.size(); i += 2) {
    CHECK(value_of(results[i]).size() == limits::kMessageBytesMax);
    CHECK(value_of(results[i + 1]) == "between");
  }
  CHECK(rig.reader.cold_reads() == 4);  // three bodies of a little more than 1 MiB a step
}

TEST_CASE("what is beyond the wanted bytes is left out, but one always comes") {
  Rig rig;
  const BatchRef body = rig.add(testing::build_batch_of(1, 1000));
  std::vector<BatchRef> refs;
  for (int i = 0; i < 5; ++i) {
    refs.push_back(rig.add_reference(body, 0));
  }
  CHECK(rig.read(refs, 1).size() == 1);
  CHECK(rig.read(refs, 1500).size() == 2);
  CHECK(rig.read(refs, 100'000).size() == 5);
  CHECK(rig.read({}, 0).empty());
}

TEST_CASE("damage: of a batch, of a body, and of what is said about it") {
  Rig rig;
  const BatchRef good = rig.add(batch_of({"good"}));
  const BatchRef bad = rig.add(batch_of({"bad"}));
  const BatchRef batch = rig.add(batch_of({"batch"}));
  rig.forget();
  rig.source.damaged = {bad.position, batch.position};
  const BatchRef letter = rig.add_reference(good, 0);
  const BatchRef of_bad = rig.add_reference(bad, 0);
  const BatchRef no_record = rig.add_reference(good, 7);
  const auto results = rig.read({letter, of_bad, batch, no_record});
  REQUIRE(results.size() == 4);
  CHECK(value_of(results[0]) == "good");
  CHECK(results[1].status().code() == ErrorCode::kCorrupted);
  CHECK(results[1].status().context() == "message 0 of the batch at log position " +
                                             std::to_string(bad.position.value()) + ": test");
  CHECK(results[2].status().code() == ErrorCode::kCorrupted);
  CHECK(results[3].status().code() == ErrorCode::kCorrupted);
  CHECK(results[3].status().context().find(std::to_string(good.position.value())) !=
        std::string_view::npos);
}

}  // namespace
}  // namespace tidemark::shard
