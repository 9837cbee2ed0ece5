#include "broker/kv/memory_store.h"

#include <doctest/doctest.h>

namespace tidemark::kv {
namespace {

WriteBatch put(std::string key) {
  WriteBatch batch;
  batch.put(std::move(key), "v");
  return batch;
}

bool has(MemoryStore& store, std::string_view key) {
  return store.read().value()->get(key).value().has_value();
}

TEST_CASE("a commit that is told to fail changes nothing, the next one works after lack of space") {
  MemoryStore store;
  store.fail_next_commit({ErrorCode::kDiskFull, "test"});
  CHECK(store.commit(put("a")).code() == ErrorCode::kDiskFull);
  CHECK_FALSE(has(store, "a"));
  CHECK(store.commit(put("b")).ok());
  CHECK(has(store, "b"));
  CHECK(store.commits() == 1);
}

TEST_CASE("after an input/output error nothing is committed until the process is a new one") {
  MemoryStore store;
  REQUIRE(store.commit(put("a")).ok());
  store.fail_next_commit({ErrorCode::kIoError, "test"});
  CHECK(store.commit(put("b")).code() == ErrorCode::kIoError);
  CHECK(store.commit(put("b")).code() == ErrorCode::kIoError);
  store.crash();
  CHECK(has(store, "a"));
  CHECK_FALSE(has(store, "b"));
  CHECK(store.commit(put("b")).ok());
}

TEST_CASE("a deleted checkpoint is empty; views opened before keep what they saw") {
  MemoryStore store;
  REQUIRE(store.commit(put("a")).ok());
  auto view = store.read().value();
  store.erase();
  CHECK_FALSE(has(store, "a"));
  CHECK(view->get("a").value() == "v");
  CHECK(store.size_bytes() == 0);
}

}  // namespace
}  // namespace tidemark::kv
