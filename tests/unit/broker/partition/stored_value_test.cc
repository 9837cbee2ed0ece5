#include "broker/partition/stored_value.h"

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"

namespace tidemark::partition {
namespace {

TEST_CASE("a value opens under its own key only") {
  std::vector<uint8_t> bytes{1, 2, 3};
  const std::string value = seal_value(bytes, "Fa");
  CHECK(value.size() == 3 + 8);
  const auto body = open_value("Fa", value);
  REQUIRE(body.has_value());
  CHECK(as_text(*body) == "\x01\x02\x03");
  CHECK(!open_value("Fb", value));
  CHECK(!open_value("Fa", value.substr(0, 10)));
  CHECK(!open_value("Fa", ""));
}

TEST_CASE("a walk sees the keys of its letter only, and ends with the first error") {
  kv::MemoryStore store;
  kv::WriteBatch batch;
  for (const char* key : {"E", "F1", "F2", "F3", "G"}) {
    batch.put(key, "v");
  }
  REQUIRE(store.commit(batch).ok());
  const auto view = std::move(store.read()).value();
  std::string seen;
  const auto look = [&seen](std::string_view key, std::string_view) {
    seen += key;
    return seen == "F1F2F3F1" ? damaged_value("x") : Status();
  };
  CHECK(for_each_of(*view, "F", look).ok());
  CHECK(seen == "F1F2F3");
  CHECK(for_each_of(*view, "F", look).code() == ErrorCode::kCorrupted);
  CHECK(for_each_of(*view, "H", look).ok());
}

}  // namespace
}  // namespace tidemark::partition
