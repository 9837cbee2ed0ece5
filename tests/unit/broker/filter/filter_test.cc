#include "broker/filter/filter.h"

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/filter/decimal.h"
#include "log/base/limits.h"
#include "log/base/random.h"
#include "log/format/varint.h"

namespace tidemark::filter {
namespace {

// A message with headers, which a RecordView shows.
class Message {
 public:
  Message() = default;

  Message(std::initializer_list<std::pair<std::string_view, std::optional<std::string_view>>> all) {
    for (const auto& [key, value] : all) {
      add(key, value);
    }
  }

  void add(std::string_view key, std::optional<std::string_view> value) {
    put(static_cast<int64_t>(key.size()));
    bytes_.insert(bytes_.end(), key.begin(), key.end());
    put(value ? static_cast<int64_t>(value->size()) : -1);
    if (value) {
      bytes_.insert(bytes_.end(), value->begin(), value->end());
    }
    ++count_;
  }

  // A header whose length lies.
  void damage() {
    put(1000);
    ++count_;
  }

  [[nodiscard]] format::RecordView view() const {
    format::RecordView record;
    record.headers = bytes_;
    record.header_count = count_;
    return record;
  }

 private:
  void put(int64_t number) {
    uint8_t room[format::kVarint64BytesMax];
    bytes_.insert(bytes_.end(), room, format::put_varint(room, number));
  }

  std::vector<uint8_t> bytes_;
  uint32_t count_ = 0;
};

std::shared_ptr<const Filter> parse(std::string_view expression) {
  CAPTURE(expression);
  auto filter = Filter::parse({}, expression);
  REQUIRE_MESSAGE(filter.ok(), filter.error().to_string());
  REQUIRE(*filter != nullptr);
  return *filter;
}

void check_refused(const Result<std::shared_ptr<const Filter>>& filter, ErrorCode code,
                   const std::string& text) {
  REQUIRE_FALSE(filter.ok());
  CHECK(filter.error().code() == code);
  CHECK(std::string(filter.error().context()) == text);
}

struct Expected {
  const char* expression;
  bool matches;
};

void check_all(const Message& message, std::initializer_list<Expected> table) {
  for (const Expected& row : table) {
    CAPTURE(row.expression);
    CHECK(parse(row.expression)->matches(message.view()) == row.matches);
  }
}

TEST_CASE("filter: nothing asked, everything is wanted") {
  const auto filter = Filter::parse({}, "");
  REQUIRE(filter.ok());
  CHECK(*filter == nullptr);
}

TEST_CASE("filter: texts, byte by byte") {
  const Message message{{"region", "eu"}, {"empty", ""}, {"quote", "it's"}, {"wide", "\xC3\xA9"}};
  check_all(message, {
                         {"region = 'eu'", true},
                         {"region='eu'", true},
                         {"region = 'EU'", false},
                         {"Region = 'eu'", false},
                         {"region = 'e'", false},
                         {"region = 'eus'", false},
                         {"region != 'us'", true},
                         {"region <> 'us'", true},
                         {"region != 'eu'", false},
                         {"region < 'ev'", true},
                         {"region < 'eu'", false},
                         {"region <= 'eu'", true},
                         {"region < 'eua'", true},
                         {"region > 'e'", true},
                         {"region > 'eu'", false},
                         {"region >= 'eu'", true},
                         {"region > 'Z'", true},
                         {"region in ('us', 'eu')", true},
                         {"region in ('us')", false},
                         {"region not in ('us', 'ap')", true},
                         {"region not in ('us', 'eu')", false},
                         {"region IN('eu')", true},
                         {"region Not In ('eu')", false},
                         {"empty = ''", true},
                         {"empty < 'a'", true},
                         {"empty != ''", false},
                         {"region > ''", true},
                         {"quote = 'it''s'", true},
                         {"quote = 'its'", false},
                         {"wide > 'z'", true},  // bytes are not signed
                         {"wide = '\xC3\xA9'", true},
                     });
}

TEST_CASE("filter: numbers, exactly") {
  const Message message{
      {"amount", "100"}, {"price", "-2.50"}, {"zeros", "00100.000"}, {"large", "9007199254740993"},
      {"zero", "-0.0"},  {"text", "ten"},    {"empty", ""},          {"point", ".5"},
      {"dot", "5."},     {"plus", "+5"},     {"blank", " 5"},        {"behind", "5 "},
      {"power", "1e3"},  {"hex", "0x10"},    {"inf", "inf"},         {"minus", "-"},
      {"nan", "nan"},    {"comma", "1,5"}};
  check_all(message, {
                         {"amount = 100", true},
                         {"amount = 100.0", true},
                         {"amount = 0100", true},
                         {"amount != 100", false},
                         {"amount != 101", true},
                         {"amount > 99.99", true},
                         {"amount > 100", false},
                         {"amount >= 100", true},
                         {"amount < 100.001", true},
                         {"amount < 1000", true},  // as texts it would be, too
                         {"amount > 20", true},    // as texts it would not
                         {"amount > -1000", true},
                         {"amount <= 99", false},
                         {"amount in (1, 100.0)", true},
                         {"amount in (1, 2)", false},
                         {"amount not in (1, 2)", true},
                         {"amount not in (1, 100)", false},
                         {"price = -2.5", true},
                         {"price < -2.4", true},
                         {"price > -2.6", true},
                         {"price > -10", true},
                         {"price < 0", true},
                         {"price<-2", true},
                         {"zeros = 100", true},
                         {"large > 9007199254740992", true},
                         {"large = 9007199254740993", true},
                         {"large < 9007199254740993.0000000000000000000000001", true},
                         {"zero = 0", true},
                         {"zero = -0", true},
                         {"zero < 0", false},
                     });
  for (const char* const name : {"text", "empty", "point", "dot", "plus", "blank", "behind",
                                 "power", "hex", "inf", "minus", "nan", "comma"}) {
    const std::string header(name);
    CAPTURE(header);
    for (const char* const rest :
         {" = 5", " != 5", " < 5", " <= 5", " > 5", " >= 5", " in (5)", " not in (5)"}) {
      CAPTURE(rest);
      CHECK_FALSE(parse(header + rest)->matches(message.view()));
      CHECK(parse("not " + header + rest)->matches(message.view()));
    }
    CHECK(parse("exists " + header)->matches(message.view()));
  }
  CHECK(parse("amount = '100'")->matches(message.view()));
  CHECK_FALSE(parse("zeros = '100'")->matches(message.view()));
}

TEST_CASE("filter: true and false") {
  const Message message{{"yes", "true"}, {"no", "false"}, {"loud", "TRUE"}, {"one", "1"}};
  check_all(message, {
                         {"yes = true", true},
                         {"yes = TRUE", true},
                         {"yes = 'true'", true},
                         {"yes = false", false},
                         {"yes != false", true},
                         {"no = false", true},
                         {"no != false", false},
                         {"no in (true, false)", true},
                         {"no not in (true)", true},
                         {"loud = true", false},
                         {"loud != true", false},
                         {"one = true", false},
                         {"one not in (false)", false},
                     });
}

TEST_CASE("filter: a header that is absent or has no value") {
  const Message message{{"null", std::nullopt}, {"here", "x"}};
  for (const char* const name : {"absent", "null"}) {
    for (const char* const rest :
         {"= 'x'", "!= 'x'", "<> 'x'", "< 'x'", "<= 'x'", "> 'x'", ">= 'x'", "= ''", "!= ''", "= 0",
          "!= 0", "< 0", "= true", "!= true", "in ('x', '')", "not in ('x')", "not in (1)"}) {
      const std::string expression = std::string(name) + " " + rest;
      CAPTURE(expression);
      CHECK_FALSE(parse(expression)->matches(message.view()));
      CHECK(parse("not " + expression)->matches(message.view()));
      CHECK_FALSE(parse("not not " + expression)->matches(message.view()));
    }
  }
  check_all(message, {
                         {"exists null", true},
                         {"exists absent", false},
                         {"not exists absent", true},
                         {"EXISTS here", true},
                         {"exists Here", false},
                     });
  check_all(Message(), {{"exists a", false}, {"a != 'x'", false}, {"not a = 'x'", true}});
}

TEST_CASE("filter: several headers of one name") {
  const Message message{{"a", "x"},   {"b", "1"}, {"a", "y"},         {"n", "5"},
                        {"n", "ten"}, {"v", "x"}, {"v", std::nullopt}};
  check_all(message, {
                         {"a = 'x'", true},
                         {"a = 'y'", true},
                         {"a = 'z'", false},
                         {"a != 'x'", false},
                         {"a != 'y'", false},
                         {"a != 'z'", true},
                         {"a > 'x'", true},
                         {"a < 'y'", true},
                         {"a > 'y'", false},
                         {"a in ('y', 'z')", true},
                         {"a not in ('y', 'z')", false},
                         {"a not in ('p', 'q')", true},
                         {"a = 'x' and a = 'y'", true},
                         {"n > 4", true},
                         {"n != 4", false},  // "ten" cannot be compared
                         {"n not in (4)", false},
                         {"v = 'x'", true},
                         {"v != 'y'", false},
                     });
}

TEST_CASE("filter: and, or, not, parentheses") {
  const Message message{{"t", "1"}, {"f", "0"}};
  check_all(message, {
                         {"t = 1 and t = 1", true},
                         {"t = 1 and f = 1", false},
                         {"f = 1 or t = 1", true},
                         {"f = 1 or f = 1", false},
                         {"t = 1 or f = 1 and f = 1", true},
                         {"(t = 1 or f = 1) and f = 1", false},
                         {"f = 1 and f = 1 or t = 1", true},
                         {"f = 1 and (f = 1 or t = 1)", false},
                         {"not f = 1 and t = 1", true},
                         {"not t = 1 or t = 1", true},
                         {"not (t = 1 or t = 1)", false},
                         {"not t = 1 and f = 1", false},
                         {"not (t = 1 and f = 1)", true},
                         {"not not t = 1", true},
                         {"NOT f=1 AND(t=1)OR f=1", true},
                         {"t = 1 and t = 1 and t = 1 and f = 1", false},
                         {"f = 1 or f = 1 or f = 1 or t = 1", true},
                         {"((t = 1))", true},
                         {"\t t\n=\r\n1 ", true},
                         {"not exists x and exists t", true},
                     });
}

TEST_CASE("filter: names") {
  const Message message{{"a.b-c_9", "1"},
                        {"_x", "1"},
                        {"5", "1"},
                        {"say \"hi\"", "1"},
                        {"and", "1"},
                        {"", "1"},
                        {"Gr\xC3\xB6\xC3\x9F"
                         "e",
                         "1"},
                        {"exists", "1"},
                        {"a-5", "1"}};
  check_all(message, {
                         {"a.b-c_9 = 1", true},
                         {"_x = 1", true},
                         {"\"_x\" = 1", true},
                         {"\"5\" = 1", true},
                         {"\"say \"\"hi\"\"\" = 1", true},
                         {"\"and\" = 1 and \"and\" = 1", true},
                         {"\"\" = 1", true},
                         {"\"Gr\xC3\xB6\xC3\x9F"
                          "e\" = 1",
                          true},
                         {"exists \"exists\"", true},
                         {"exists \"AND\"", false},
                         {"a-5 = 1", true},
                         {"notable = 1", false},  // no keyword
                         {"inn in (1)", false},
                     });
}

TEST_CASE("filter: expressions that are refused, and how") {
  struct Bad {
    const char* expression;
    const char* text;
  };

  const Bad table[] = {
      {" ", "column 2: expected the name of a header, 'not', 'exists' or '(', found the end"},
      {"and", "column 1: expected the name of a header, 'not', 'exists' or '(', found 'and'"},
      {"5 = a", "column 1: expected the name of a header, 'not', 'exists' or '(', found '5'"},
      {"'a' = 'b'",
       "column 1: expected the name of a header, 'not', 'exists' or '(', found the text 'a'"},
      {"a", "column 2: expected a comparison after 'a', found the end"},
      {"a b", "column 3: expected a comparison after 'a', found 'b'"},
      {"\"a b\" 'c'", "column 7: expected a comparison after the name \"a b\", found the text 'c'"},
      {"a == 1", "column 4: expected a value after '=', found '='"},
      {"a ! = 1", "column 3: expected a comparison after 'a', found '!'"},
      {"a between 1 and 2", "column 3: expected a comparison after 'a', found 'between'"},
      {"region = 'eu' and amount =", "column 27: expected a value after '=', found the end"},
      {"region     = and b = 1", "column 14: expected a value after '=', found 'and'"},
      {"region = eu",
       "column 10: expected a value after '=', found 'eu'; a text is written in single quotes"},
      {"region <> \"eu\"",
       "column 11: expected a value after '<>', found the name \"eu\"; a text is written in single "
       "quotes"},
      {"a >= exists", "column 6: expected a value after '>=', found 'exists'"},
      {"a < true", "column 5: expected a text or a number after '<', found 'true'"},
      {"a >= FALSE", "column 6: expected a text or a number after '>=', found 'FALSE'"},
      {"a = 1 b = 2", "column 7: expected 'and', 'or' or the end, found 'b'"},
      {"a = 1)", "column 6: expected 'and', 'or' or the end, found ')'"},
      {"a = 1 and",
       "column 10: expected the name of a header, 'not', 'exists' or '(', found the end"},
      {"a = 1 and or b = 1",
       "column 11: expected the name of a header, 'not', 'exists' or '(', found 'or'"},
      {"(a = 1", "column 7: expected 'and', 'or' or ')', found the end"},
      {"()", "column 2: expected the name of a header, 'not', 'exists' or '(', found ')'"},
      {"not", "column 4: expected the name of a header, 'not', 'exists' or '(', found the end"},
      {"exists", "column 7: expected the name of a header after 'exists', found the end"},
      {"exists 'a'", "column 8: expected the name of a header after 'exists', found the text 'a'"},
      {"exists (a)", "column 8: expected the name of a header after 'exists', found '('"},
      {"a not 5", "column 7: expected 'in' after 'not', found '5'"},
      {"a in 5", "column 6: expected '(' after 'in', found '5'"},
      {"a in ()", "column 7: expected a value after '(', found ')'"},
      {"a in (1,)", "column 9: expected a value after ',', found ')'"},
      {"a in (1 2)", "column 9: expected ',' or ')', found '2'"},
      {"a in (1", "column 8: expected ',' or ')', found the end"},
      {"a in (1, 'b')",
       "column 10: expected a value of the same kind as the first one, found the text 'b'"},
      {"a in (true, 1)",
       "column 13: expected a value of the same kind as the first one, found '1'"},
      {"a in (b)",
       "column 7: expected a value after '(', found 'b'; a text is written in single quotes"},
      {"a = 'x", "column 5: expected another ' at the end of the text, found the end"},
      {"a = 'x''", "column 5: expected another ' at the end of the text, found the end"},
      {"a = '", "column 5: expected another ' at the end of the text, found the end"},
      {"b = 1 or \"a", "column 10: expected another \" at the end of the name, found the end"},
      {"a = 5x", "column 5: expected a number such as 5 or -2.5, found '5x'"},
      {"a = 1.", "column 5: expected a number such as 5 or -2.5, found '1.'"},
      {"a = 1.2.3", "column 5: expected a number such as 5 or -2.5, found '1.2.3'"},
      {"a = 1e3", "column 5: expected a number such as 5 or -2.5, found '1e3'"},
      {"a = -", "column 5: expected a value after '=', found '-'"},
      {"a = +5", "column 5: expected a value after '=', found '+'"},
      {"a = .5", "column 5: expected a value after '=', found '.'"},
      {"a = 1; b = 2", "column 6: expected 'and', 'or' or the end, found ';'"},
      {"a\xC3\xB6 = 1", "column 2: expected a comparison after 'a', found '\\xc3'"},
      {"a \x01", "column 3: expected a comparison after 'a', found '\\x01'"},
      {"a 'line\n'", "column 3: expected a comparison after 'a', found the text 'line\\x0a'"},
      {"a bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
       "column 3: expected a comparison after 'a', found "
       "'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb...'"},
  };
  for (const Bad& bad : table) {
    CAPTURE(bad.expression);
    check_refused(Filter::parse({}, bad.expression), ErrorCode::kInvalidArgument,
                  std::string("filter: ") + bad.text);
  }
  check_refused(Filter::parse({}, std::string_view("a\0", 2)), ErrorCode::kInvalidArgument,
                "filter: column 2: expected a comparison after 'a', found '\\x00'");
}

std::string repeated(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    out += text;
  }
  return out;
}

TEST_CASE("filter: limits of an expression") {
  const std::string longest = "a='" + std::string(limits::kFilterBytesMax - 4, 'x') + "'";
  CHECK(Filter::parse({}, longest).ok());
  check_refused(Filter::parse({}, longest + " "), ErrorCode::kLimitExceeded,
                "filter: an expression of 4097 bytes; the limit is 4096");

  for (const auto& [opening, closing] : {std::pair("(", ")"), std::pair("not ", "")}) {
    const std::string open = opening;
    const std::string close = closing;
    const auto nested = [&](size_t depth) {
      return repeated(open, depth) + "a=1" + repeated(close, depth);
    };
    CHECK(Filter::parse({}, nested(32)).ok());
    check_refused(Filter::parse({}, nested(33)), ErrorCode::kLimitExceeded,
                  "filter: column " + std::to_string(32 * open.size() + 1) +
                      ": 'not' and '(' nested 33 deep; the limit is 32");
  }
  // Side by side is not nested.
  CHECK(Filter::parse({}, "(a=1)" + repeated("or(a=1)", 100)).ok());

  // One for the chain, one for each comparison.
  CHECK(Filter::parse({}, "a=1" + repeated(" or a=1", 254)).ok());
  check_refused(Filter::parse({}, "a=1" + repeated(" or a=1", 255)), ErrorCode::kLimitExceeded,
                "filter: column 1786: too many conditions and values; the limit is 256");
  CHECK(Filter::parse({}, "a in (1" + repeated(",1", 255) + ")").ok());
  check_refused(Filter::parse({}, "a in (1" + repeated(",1", 256) + ")"), ErrorCode::kLimitExceeded,
                "filter: column 518: too many conditions and values; the limit is 256");
  CHECK(Filter::parse({}, "exists a" + repeated(" or not exists a", 127)).ok());
  CHECK(Filter::parse({}, "exists a" + repeated(" or not exists a", 128)).error().code() ==
        ErrorCode::kLimitExceeded);
}

TEST_CASE("filter: tags") {
  const Message message{
      {"tm-tag", "new"}, {"tag", "other"}, {"tm-tag", std::nullopt}, {"tm-tag", "paid"}};
  const auto matches = [&](const std::vector<std::string_view>& tags,
                           std::string_view expression = "") {
    const auto filter = Filter::parse(tags, expression);
    REQUIRE(filter.ok());
    return (*filter)->matches(message.view());
  };
  CHECK(matches({"new"}));
  CHECK(matches({"paid"}));
  CHECK(matches({"x", "paid", "y"}));
  CHECK_FALSE(matches({"other"}));
  CHECK_FALSE(matches({"New"}));
  CHECK_FALSE(matches({"ne", "paid2"}));
  CHECK(matches({"new"}, "tag = 'other'"));
  CHECK_FALSE(matches({"new"}, "tag = 'x'"));
  CHECK_FALSE(matches({"x"}, "tag = 'other'"));
  const auto filter = Filter::parse({"new"}, "");
  CHECK_FALSE((*filter)->matches(Message().view()));
}

TEST_CASE("filter: limits of tags") {
  std::vector<std::string_view> tags(limits::kFilterTagsMax, "t");
  CHECK(Filter::parse(tags, "").ok());
  tags.emplace_back("t");
  check_refused(Filter::parse(tags, ""), ErrorCode::kLimitExceeded,
                "filter: 65 tags; the limit is 64");
  check_refused(Filter::parse({"a", ""}, "a = 1"), ErrorCode::kInvalidArgument,
                "filter: tag 2 is empty");
  const std::string large(limits::kFilterBytesMax - 1, 't');
  CHECK(Filter::parse({large, "t"}, "").ok());
  check_refused(Filter::parse({large, "tt"}, ""), ErrorCode::kLimitExceeded,
                "filter: tags of 4097 bytes; the limit is 4096");
}

TEST_CASE("filter: the same filter") {
  const auto make = [](const std::vector<std::string_view>& tags, std::string_view expression) {
    const auto filter = Filter::parse(tags, expression);
    REQUIRE(filter.ok());
    return *filter;
  };
  const auto filter = make({"a", "b"}, "x = 1");
  CHECK(filter->same_as(*filter));
  CHECK(filter->same_as(*make({"b", "a", "b"}, "x = 1")));
  CHECK_FALSE(filter->same_as(*make({"a"}, "x = 1")));
  CHECK_FALSE(filter->same_as(*make({"a", "b", "c"}, "x = 1")));
  CHECK_FALSE(filter->same_as(*make({"a", "b"}, "x = 2")));
  CHECK_FALSE(filter->same_as(*make({"a", "b"}, "")));
}

TEST_CASE("filter: outlives the text that it was made from") {
  auto text = std::make_unique<std::string>("amount > 100 and region = 'eu'");
  const auto filter = parse(*text);
  text->assign(text->size(), '#');
  text.reset();
  CHECK(filter->matches(Message{{"amount", "101"}, {"region", "eu"}}.view()));
  CHECK_FALSE(filter->matches(Message{{"amount", "100"}, {"region", "eu"}}.view()));
}

TEST_CASE("filter: headers behind a damaged one are not there") {
  Message message{{"a", "1"}};
  message.damage();
  message.add("b", "1");
  CHECK(parse("a = 1")->matches(message.view()));
  CHECK(parse("a != 2")->matches(message.view()));
  CHECK_FALSE(parse("b = 1")->matches(message.view()));
  CHECK_FALSE(parse("b != 2")->matches(message.view()));
  CHECK_FALSE(parse("exists b")->matches(message.view()));
}

TEST_CASE("decimal: order of numbers as texts") {
  // Ascending; those in one row are equal.
  const std::vector<std::vector<const char*>> rows = {
      {"-123456789012345678901234567890", "-0123456789012345678901234567890.0"},
      {"-10", "-10.00"},
      {"-9.91"},
      {"-9.9"},
      {"-0.001", "-00.0010"},
      {"0", "-0", "0.0", "-00.00"},
      {"0.001"},
      {"0.01"},
      {"0.5", "0.50"},
      {"9.9", "09.900"},
      {"9.91"},
      {"10", "010"},
      {"10.000000000000000000000000000001"},
      {"100"},
      {"123456789012345678901234567890"},
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < rows.size(); ++j) {
      for (const char* const a : rows[i]) {
        for (const char* const b : rows[j]) {
          CAPTURE(a);
          CAPTURE(b);
          CHECK(compare(parse_decimal(a).value(), parse_decimal(b).value()) == (i <=> j));
        }
      }
    }
  }
}

// The same as the expression below, by hand.
bool wanted(const std::vector<std::pair<std::string, std::string>>& headers) {
  bool region = false;
  bool amount = false;
  for (const auto& [key, value] : headers) {
    region = region || (key == "region" && (value == "eu" || value == "us"));
    if (key == "amount") {
      char* end = nullptr;
      const double number = std::strtod(value.c_str(), &end);
      amount = amount || (value.find_first_not_of("-0123456789.") == std::string::npos &&
                          end != value.c_str() && *end == '\0' && number > 100);
    }
  }
  return region && amount;
}

TEST_CASE("filter: 100,000 random messages against a predicate written by hand") {
  const auto filter = parse("region in ('eu','us') and amount > 100");
  const char* const names[] = {"region", "amount", "Region", "amounts", "other"};
  const char* const regions[] = {"eu", "us", "ap", "EU", "", "eus"};
  Random random(20'261'129);
  size_t matched = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::vector<std::pair<std::string, std::string>> headers;
    Message message;
    for (uint64_t left = random.below(6); left > 0; --left) {
      std::string value = regions[random.below(std::size(regions))];
      const std::string name = names[random.chance(3, 4) ? random.below(2) : random.below(5)];
      if (name != "region" || random.chance(1, 20)) {
        value = random.chance(1, 20) ? "many" : std::to_string(random.below(220));
        value.insert(0, random.chance(1, 8) ? "-" : "");
        value += random.chance(1, 8) ? "." + std::to_string(random.below(100)) : "";
      }
      message.add(name, value);
      headers.emplace_back(name, value);
    }
    const bool expected = wanted(headers);
    matched += expected ? 1 : 0;
    if (filter->matches(message.view()) != expected) {
      CAPTURE(i);
      REQUIRE(filter->matches(message.view()) == expected);
    }
  }
  // Both answers are met often.
  CHECK(matched > 5'000);
  CHECK(matched < 90'000);
}

}  // namespace
}  // namespace tidemark::filter
