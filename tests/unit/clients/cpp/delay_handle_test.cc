#include <set>
#include <string>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tidemark/delay.h"

namespace tidemark::client {
namespace {

DelayHandle random_handle(Random& random) {
  DelayHandle handle;
  handle.shard = static_cast<uint16_t>(random.next());
  handle.topic = static_cast<uint32_t>(random.next());
  handle.tag = static_cast<uint32_t>(random.next());
  handle.due_ms = static_cast<int64_t>(random.next());
  handle.id = random.next() | 1;
  handle.position = random.next();
  return handle;
}

TEST_CASE("a handle survives as text of 52 plain characters") {
  Random random(1);
  for (int i = 0; i < 1'000; ++i) {
    const DelayHandle handle = random_handle(random);
    const std::string text = handle.to_string();
    REQUIRE(text.size() == 52);
    CHECK(text.find_first_not_of(
              "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
          std::string::npos);
    const auto parsed = DelayHandle::parse(text);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().to_string());
    CHECK(*parsed == handle);
  }
}

// What programs have stored must be read by every later version.
TEST_CASE("golden: the text of a handle") {
  DelayHandle handle;
  handle.shard = 3;
  handle.topic = 7;
  handle.tag = 0xABCD;
  handle.due_ms = 1'700'000'000'000;
  handle.id = 42;
  handle.position = 4096;
  CHECK(handle.to_string() == "AQMABwAAAM2rAAAAaOXPiwEAACoAAAAAAAAAABAAAAAAAAAbMMX0");
}

TEST_CASE("every wrong, missing or swapped character is noticed") {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  Random random(2);
  for (int round = 0; round < 20; ++round) {
    const std::string text = random_handle(random).to_string();
    for (size_t i = 0; i < text.size(); ++i) {
      for (const char c : kDigits) {
        std::string typo = text;
        typo[i] = c;
        CHECK(DelayHandle::parse(typo).ok() == (c == text[i]));
      }
      std::string shorter = text;
      shorter.erase(i, 1);
      CHECK(!DelayHandle::parse(shorter).ok());
      if (i > 0 && text[i] != text[i - 1]) {
        std::string swapped = text;
        std::swap(swapped[i], swapped[i - 1]);
        CHECK(!DelayHandle::parse(swapped).ok());
      }
    }
  }
}

TEST_CASE("what is not a handle is said to be none") {
  CHECK(DelayHandle().empty());
  CHECK(DelayHandle().to_string().empty());
  for (const std::string& text :
       {std::string(), std::string("x"), std::string(52, 'A'), std::string(52, '='),
        std::string(52, '\xFF'), std::string(10'000, 'A')}) {
    const auto parsed = DelayHandle::parse(text);
    REQUIRE(!parsed.ok());
    CHECK(parsed.status().code() == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("outcomes have the names that the header gives") {
  CHECK(delay_outcome_text(DelayOutcome::kNotFound) == "not_found");
  CHECK(delay_outcome_text(DelayOutcome::kCancelled) == "cancelled");
  CHECK(delay_outcome_text(DelayOutcome::kRescheduled) == "rescheduled");
  CHECK(delay_outcome_text(DelayOutcome::kAlreadyDelivered) == "already_delivered");
}

}  // namespace
}  // namespace tidemark::client
