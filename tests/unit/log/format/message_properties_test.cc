#include "log/format/message_properties.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/limits.h"
#include "tests/unit/log/format/raw_batch.h"

namespace tidemark::format {
namespace {

// A record with headers, encoded.
class Headers {
 public:
  Headers& add(std::string_view key, std::string_view value) {
    bytes_.field(key).field(value);
    ++count_;
    return *this;
  }

  Headers& add_null(std::string_view key) {
    bytes_.field(key).varint(-1);
    ++count_;
    return *this;
  }

  Headers& damage() {
    bytes_.varint(1000);
    ++count_;
    return *this;
  }

  [[nodiscard]] MessageProperties read() const {
    RecordView record;
    record.headers = bytes_.out;
    record.header_count = count_;
    return read_properties(record);
  }

  [[nodiscard]] bool dead() const {
    RecordView record;
    record.headers = bytes_.out;
    record.header_count = count_;
    return is_dead_letter(record);
  }

 private:
  RawWriter bytes_;
  uint32_t count_ = 0;
};

TEST_CASE("properties: a message without any") {
  for (const Headers& headers :
       {Headers(), Headers().add("ttl", "5").add("priority", "7").add("id", "x"),
        Headers().add("tm-", "1").add("tm-ttl2", "5").add("TM-TTL", "5").add("tm-priorit", "3"),
        Headers().add_null("tm-ttl").add_null("tm-priority").add_null("tm-id")}) {
    const MessageProperties properties = headers.read();
    CHECK_FALSE(properties.ttl_ms.has_value());
    CHECK(properties.priority == 0);
    CHECK_FALSE(properties.id.has_value());
  }
}

TEST_CASE("properties: all of them, among other headers") {
  const Headers headers = Headers()
                              .add("region", "eu")
                              .add("tm-id", "order-17")
                              .add("tm-tag", "new")
                              .add("tm-ttl", "60000")
                              .add("tm-priority", "7");
  const MessageProperties properties = headers.read();
  CHECK(properties.ttl_ms == 60'000);
  CHECK(properties.priority == 7);
  CHECK(properties.id == "order-17");
}

TEST_CASE("properties: numbers in range, nothing else") {
  CHECK(Headers().add("tm-ttl", "1").read().ttl_ms == 1);
  CHECK(Headers().add("tm-ttl", "007").read().ttl_ms == 7);
  CHECK(Headers().add("tm-ttl", "9223372036854775807").read().ttl_ms == INT64_MAX);
  for (const char* const bad : {"", "0", "-1", "+1", " 1", "1 ", "1.5", "1e3", "0x10", "ten",
                                "9223372036854775808", "99999999999999999999999"}) {
    CAPTURE(bad);
    CHECK_FALSE(Headers().add("tm-ttl", bad).read().ttl_ms.has_value());
  }
  for (int priority = 0; priority <= kPriorityMax; ++priority) {
    CHECK(Headers().add("tm-priority", std::to_string(priority)).read().priority == priority);
  }
  for (const char* const bad : {"", "8", "-1", "256", "263", "7.0", "high"}) {
    CAPTURE(bad);
    CHECK(Headers().add("tm-priority", bad).read().priority == 0);
  }
}

TEST_CASE("properties: ids of 1 to 255 bytes, any of them") {
  const std::string longest(limits::kMessageIdBytesMax, 'i');
  CHECK(Headers().add("tm-id", longest).read().id == longest);
  CHECK_FALSE(Headers().add("tm-id", longest + "i").read().id.has_value());
  CHECK_FALSE(Headers().add("tm-id", "").read().id.has_value());
  CHECK(Headers().add("tm-id", std::string_view("\0\xff", 2)).read().id ==
        std::string_view("\0\xff", 2));
}

TEST_CASE("properties: of several values the first good one counts") {
  const Headers headers = Headers()
                              .add("tm-ttl", "soon")
                              .add("tm-ttl", "5")
                              .add("tm-ttl", "6")
                              .add("tm-priority", "9")
                              .add("tm-priority", "0")
                              .add("tm-priority", "4")
                              .add("tm-id", "")
                              .add("tm-id", "a")
                              .add("tm-id", "b");
  const MessageProperties properties = headers.read();
  CHECK(properties.ttl_ms == 5);
  CHECK(properties.priority == 0);
  CHECK(properties.id == "a");
}

TEST_CASE("properties: of damaged headers what came before") {
  const Headers headers = Headers().add("tm-ttl", "5").damage().add("tm-priority", "3");
  CHECK(headers.read().ttl_ms == 5);
  CHECK(headers.read().priority == 0);
}

TEST_CASE("a dead letter died, and was not sent back since") {
  CHECK_FALSE(Headers().dead());
  CHECK_FALSE(Headers().add("tm-redriven", "1").dead());
  Headers history;
  for (int death = 0; death < 2; ++death) {
    CHECK(history.add("tm-dead-topic", "t").add("tm-dead-reason", "r").dead());
    CHECK_FALSE(history.add("tm-redriven", "1").add("color", "red").dead());
  }
}

}  // namespace
}  // namespace tidemark::format
