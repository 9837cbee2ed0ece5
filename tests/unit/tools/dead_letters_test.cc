#include "tools/dead_letters.h"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

using client::Header;
using client::OffsetRange;

std::optional<DeadLetter> letter_of(const std::vector<Header>& headers) {
  client::ReceivedMessage message;
  message.headers = headers;
  return dead_letter_of(message);
}

std::vector<std::pair<uint64_t, uint64_t>> pairs_of(const std::vector<OffsetRange>& ranges) {
  std::vector<std::pair<uint64_t, uint64_t>> out;
  for (const OffsetRange& range : ranges) {
    out.emplace_back(range.first, range.count);
  }
  return out;
}

TEST_CASE("the last death of a letter counts") {
  CHECK_FALSE(letter_of({}).has_value());
  CHECK_FALSE(letter_of({{"tm-dead-reason", "boom"}, {"tm-tag", "a"}}).has_value());
  CHECK_FALSE(letter_of({{"tm-dead-topic", "t"}, {"tm-redriven", "5"}}).has_value());
  const auto letter = letter_of({{"tm-tag", "a"},
                                 {"tm-dead-topic", "old"},
                                 {"tm-dead-group", "first"},
                                 {"tm-dead-reason", "early"},
                                 {"tm-redriven", "5"},
                                 {"tm-dead-topic", "mails"},
                                 {"tm-dead-partition", "3"},
                                 {"tm-dead-offset", "17"},
                                 {"tm-dead-group", "mailer"},
                                 {"tm-dead-deliveries", "5"},
                                 {"tm-dead-time", "1000"}});
  REQUIRE(letter.has_value());
  CHECK(letter->topic == "mails");
  CHECK(letter->partition == 3);
  CHECK(letter->offset == 17);
  CHECK(letter->group == "mailer");
  CHECK(letter->reason.empty());  // not that of the death before
  CHECK(letter->deliveries == 5);
  CHECK(letter->time_ms == 1'000);
}

TEST_CASE("a header that is no number is as if it was not there") {
  const auto letter = letter_of({{"tm-dead-topic", "mails"},
                                 {"tm-dead-partition", "3x"},
                                 {"tm-dead-offset", ""},
                                 {"tm-dead-time", std::nullopt}});
  REQUIRE(letter.has_value());
  CHECK_FALSE(letter->partition.has_value());
  CHECK_FALSE(letter->offset.has_value());
  CHECK_FALSE(letter->time_ms.has_value());
}

LetterCounts::Kind kind(uint32_t partition, const std::string& reason) {
  return {.topic = "dead",
          .partition = partition,
          .source_topic = "mails",
          .group = "mailer",
          .reason = reason};
}

TEST_CASE("letters are counted by where they come from and why") {
  LetterCounts counts;
  CHECK(counts.json().dump() == R"({"letters":0,"dead_letters":[]})");
  counts.add(kind(0, "boom"), 2'000);
  counts.add(kind(0, "boom"), 1'000);
  counts.add(kind(1, ""), 3'000);
  CHECK(counts.letters() == 3);
  CHECK(counts.json().dump() ==
        R"({"letters":3,"dead_letters":[)"
        R"({"topic":"dead","partition":0,"source_topic":"mails","group":"mailer","reason":"boom",)"
        R"("letters":2,"oldest_ms":1000,"newest_ms":2000},)"
        R"({"topic":"dead","partition":1,"source_topic":"mails","group":"mailer","reason":"",)"
        R"("letters":1,"oldest_ms":3000,"newest_ms":3000}]})");
  const std::string table = counts.table();
  CHECK(table.starts_with("TOPIC  PARTITION  LETTERS  FROM   GROUP"));
  CHECK(table.find("boom") != std::string::npos);
  CHECK(table.find("total") != std::string::npos);
}

TEST_CASE("kinds of letters are bounded, letters are counted all the same") {
  LetterCounts counts(2);
  for (int i = 0; i < 10; ++i) {
    counts.add(kind(0, std::to_string(i)), i);
  }
  counts.add(kind(0, "1"), 100);
  CHECK(counts.letters() == 11);
  const auto json = counts.json();
  REQUIRE(json["dead_letters"].size() == 3);
  CHECK(json["dead_letters"][0]["source_topic"].is_null());  // the others sort first
  CHECK(json["dead_letters"][0]["letters"] == 8);
  CHECK(json["dead_letters"][2]["reason"] == "1");
  CHECK(json["dead_letters"][2]["letters"] == 2);
  CHECK(counts.table().find("(others)") != std::string::npos);
}

TEST_CASE("what is not settled is asked for page by page") {
  // 10 to 14, 20, 30 to 31, 100 to 199.
  const std::vector<OffsetRange> all = {{10, 5}, {20, 1}, {30, 2}, {100, 100}};
  size_t asked = 0;
  const auto ask = [&](uint64_t from, size_t max) {
    ++asked;
    std::vector<OffsetRange> page;
    for (const OffsetRange& range : all) {
      if (range.first + range.count > from && page.size() < max) {
        const uint64_t first = std::max(range.first, from);
        page.push_back({first, range.first + range.count - first});
      }
    }
    return page;
  };
  OpenOffsets open(ask, 2);
  CHECK(open.next(0) == 10);
  CHECK(asked == 1);
  CHECK(open.contains(10));
  CHECK(open.contains(14));
  CHECK_FALSE(open.contains(15));
  CHECK(open.next(15) == 20);
  CHECK(asked == 1);
  CHECK_FALSE(open.contains(21));
  CHECK(asked == 2);
  CHECK(open.next(32) == 100);
  CHECK(open.contains(199));
  CHECK(asked == 2);
  CHECK_FALSE(open.next(200).has_value());  // the page was full: there might have been more
  CHECK(asked == 3);
  CHECK_FALSE(open.contains(201));
  CHECK(asked == 3);
}

TEST_CASE("nothing is left") {
  size_t asked = 0;
  OpenOffsets open([&asked](uint64_t /*from*/, size_t /*max*/) {
    ++asked;
    return std::vector<OffsetRange>();
  });
  CHECK_FALSE(open.next(0).has_value());
  CHECK_FALSE(open.contains(7));
  CHECK(asked == 1);
}

TEST_CASE("offsets next to each other are one range") {
  CHECK(ranges_of({}).empty());
  CHECK(pairs_of(ranges_of({4})) == pairs_of({{4, 1}}));
  CHECK(pairs_of(ranges_of({4, 5, 6, 8, 9, 11})) == pairs_of({{4, 3}, {8, 2}, {11, 1}}));
}

TEST_CASE("a rate is a number per second") {
  CHECK(parse_rate("500").value() == 500);
  CHECK(parse_rate("0.5/s").value() == 0.5);
  for (const char* const wrong : {"", "/s", "0", "-1", "5/m", "5s", "nan", "inf", "1e10"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_rate(wrong).ok());
  }
}

}  // namespace
}  // namespace tidemark::tools
