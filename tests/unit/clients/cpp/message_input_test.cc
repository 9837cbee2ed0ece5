// What a message asks of the queue, from send() to the headers that the broker gets.
#include "clients/cpp/src/message_input.h"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/clients/cpp/producer_rig.h"
#include "tests/unit/clients/cpp/txn_rig.h"

namespace tidemark::client_core {
namespace {

using client::Delay;
using client::Message;
using testing::Rig;
using testing::TxnRig;
using Headers = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view kTags[] = {"red", "blue"};

Headers headers_of(ByteView batch) {
  Headers out;
  auto reader = format::BatchReader::open(batch);
  REQUIRE(reader.ok());
  format::RecordView record;
  while (reader->next(record)) {
    format::HeaderCursor cursor(record.headers, record.header_count);
    format::HeaderView header;
    while (cursor.next(header)) {
      out.emplace_back(std::string(header.key), std::string(as_text(header.value)));
    }
  }
  return out;
}

const Headers kAll = {{"own", "1"},         {"tm-tag", "red"},   {"tm-tag", "blue"},
                      {"tm-id", "order-7"}, {"tm-ttl", "60000"}, {"tm-priority", "7"}};

Message with_all(std::span<const client::Header> own) {
  return {.value = "v",
          .headers = own,
          .partition = 0,
          .tags = kTags,
          .id = "order-7",
          .ttl_ms = 60'000,
          .priority = 7};
}

std::string refusal(const Message& message) {
  RecordHeaders headers;
  const auto record = to_record(message, 0, headers);
  return record.ok() ? "taken" : record.error().to_string();
}

TEST_CASE("properties become headers behind the message's own, numbers as decimal text") {
  const std::vector<client::Header> own = {{.key = "own", .value = "1"}};
  RecordHeaders headers;
  const auto record = to_record(with_all(own), 5, headers);
  REQUIRE(record.ok());
  REQUIRE(record->headers.size() == kAll.size());
  for (size_t i = 0; i < kAll.size(); ++i) {
    CHECK(record->headers[i].key == kAll[i].first);
    CHECK(as_text(record->headers[i].value) == kAll[i].second);
  }
  // What is asked for by default asks for nothing.
  const auto plain = to_record({.value = "v"}, 5, headers);
  REQUIRE(plain.ok());
  CHECK(plain->headers.empty());
  const auto extremes =
      to_record({.value = "v", .ttl_ms = limits::kDelayMsMax, .priority = 0}, 5, headers);
  REQUIRE(extremes.ok());
  CHECK(as_text(extremes->headers[0].value) == std::to_string(limits::kDelayMsMax));
  CHECK(as_text(extremes->headers[1].value) == "0");
}

TEST_CASE("a property out of range is named with what is allowed") {
  const std::string long_text(256, 'x');
  const std::string most(255, 'x');
  const std::vector<std::string_view> empty_tag = {"a", ""};
  const std::vector<std::string_view> long_tag = {long_text};
  const std::vector<std::string_view> good_tag = {most};
  CHECK(refusal({.tags = empty_tag}) ==
        "invalid argument: a tag has 0 bytes; allowed are 1 to 255");
  CHECK(refusal({.tags = long_tag}) ==
        "invalid argument: a tag has 256 bytes; allowed are 1 to 255");
  CHECK(refusal({.id = ""}) == "invalid argument: id has 0 bytes; allowed are 1 to 255");
  CHECK(refusal({.id = long_text}) == "invalid argument: id has 256 bytes; allowed are 1 to 255");
  CHECK(refusal({.ttl_ms = 0}) ==
        "invalid argument: ttl_ms is 0; allowed are 1 to " + std::to_string(limits::kDelayMsMax));
  CHECK(refusal({.ttl_ms = limits::kDelayMsMax + 1}) ==
        "invalid argument: ttl_ms is " + std::to_string(limits::kDelayMsMax + 1) +
            "; allowed are 1 to " + std::to_string(limits::kDelayMsMax));
  CHECK(refusal({.priority = -1}) == "invalid argument: priority is -1; allowed are 0 to 7");
  CHECK(refusal({.priority = 8}) == "invalid argument: priority is 8; allowed are 0 to 7");
  CHECK(refusal({.tags = good_tag, .id = most, .ttl_ms = 1, .priority = 7}) == "taken");
}

TEST_CASE("properties count among the 64 headers of a message") {
  const std::vector<client::Header> own(60, client::Header{.key = "h"});
  const std::vector<std::string_view> one = {"a"};
  const std::vector<std::string_view> two = {"a", "b"};
  Message message{.headers = own, .tags = one, .id = "i", .ttl_ms = 1, .priority = 1};
  CHECK(refusal(message) == "taken");
  message.tags = two;
  CHECK(refusal(message) == "limit exceeded: a message with 65 headers; the limit is 64");
  // Their bytes count as well.
  const std::string value(limits::kMessageBytesMax - 7, 'x');
  CHECK(refusal({.value = value, .id = "ab"}) == "taken");
  CHECK(refusal({.value = value, .id = "abc"}) ==
        "too large: message of 1048577 bytes; the limit is 1048576");
}

TEST_CASE("a copy of a message has its properties as headers, and gives them again") {
  const std::vector<client::Header> own = {{.key = "own", .value = "1"}};
  const client::OwnedMessage copy = client_core::own_message(with_all(own), 9);
  REQUIRE(copy.headers.size() == kAll.size());
  std::vector<client::Header> views;
  RecordHeaders headers;
  const auto record = to_record(view_of(copy, views), 9, headers);
  REQUIRE(record.ok());
  REQUIRE(record->headers.size() == kAll.size());
  for (size_t i = 0; i < kAll.size(); ++i) {
    CHECK(copy.headers[i] == std::pair(kAll[i].first, std::optional(kAll[i].second)));
    CHECK(as_text(record->headers[i].value) == kAll[i].second);
  }
}

// The scripted broker objects to a part whose `ttl` is not what its messages are.
TEST_CASE(
    "a producer's batches and sets carry properties and tell whether a time to live is there") {
  const std::vector<client::Header> own = {{.key = "own", .value = "1"}};
  for (const bool known : {false, true}) {
    Rig rig(1);
    rig.network.add_topic("t", 1);
    if (known) {
      REQUIRE(rig.send("t", 0, "first", 100).ok());
      REQUIRE(rig.drain());
    }
    const size_t before = rig.network.topic("t").partitions[0].batches().size();
    REQUIRE(rig.send("t", with_all(own), 1).ok());
    REQUIRE(rig.drain());
    const auto& batches = rig.network.topic("t").partitions[0].batches();
    REQUIRE(batches.size() == before + 1);
    CHECK(headers_of(batches.back().bytes.view()) == kAll);

    Message delayed = with_all(own);
    delayed.delay = Delay::after(1'000);
    REQUIRE(rig.send("t", delayed, 2).ok());
    REQUIRE(rig.drain());
    REQUIRE(rig.network.topic("t").partitions[0].pending.size() == 1);
    CHECK(headers_of(rig.network.topic("t").partitions[0].pending[0].batch.view()) == kAll);

    // The next ones have none, whatever was sent before through the same buffers.
    REQUIRE(rig.send("t", 0, "plain", 3).ok());
    REQUIRE(rig.drain());
    CHECK(headers_of(batches.back().bytes.view()).empty());
    // A header of the program counts as well.
    const std::vector<client::Header> by_hand = {{.key = "tm-ttl", .value = "5"}};
    REQUIRE(rig.send("t", {.value = "v", .headers = by_hand}, 4).ok());
    REQUIRE(rig.drain());
    CHECK(rig.network.violations.empty());
    CHECK(rig.send("t", {.priority = 9}, 5).code() == ErrorCode::kInvalidArgument);
    CHECK(rig.reports.size() == (known ? 5 : 4));
  }
}

TEST_CASE("parts of a transaction carry properties, also when the topic was not known at first") {
  const std::vector<client::Header> own = {{.key = "own", .value = "1"}};
  TxnRig rig(1);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.buffer->send(txn, "t", with_all(own)).ok());  // held
  CHECK(rig.buffer->send(rig.begin(), "t", {.ttl_ms = -5}).code() == ErrorCode::kInvalidArgument);
  REQUIRE(rig.prepared(txn).ok());
  Message delayed = with_all(own);
  delayed.delay = Delay::after(1'000);
  const auto second = rig.begin();
  REQUIRE(rig.buffer->send(second, "t", delayed).ok());
  REQUIRE(rig.prepared(second).ok());
  REQUIRE(rig.ended(txn, true).status.ok());
  REQUIRE(rig.ended(second, true).status.ok());
  const testing::FakePartition& partition = rig.network.topic("t").partitions[0];
  REQUIRE(partition.batches().size() == 1);
  CHECK(headers_of(partition.batches()[0].bytes.view()) == kAll);
  REQUIRE(partition.pending.size() == 1);
  CHECK(headers_of(partition.pending[0].batch.view()) == kAll);
  CHECK(rig.network.violations.empty());
}

}  // namespace
}  // namespace tidemark::client_core
