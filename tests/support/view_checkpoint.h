// A view with freeze(), commit_done(), commit_failed() and load(), and a store in memory.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"

namespace tidemark::testing {

template <typename View>
void checkpoint(View& view, kv::MemoryStore& store) {
  kv::WriteBatch batch;
  view.freeze(batch);
  REQUIRE(store.commit(batch).ok());
  view.commit_done();
}

template <typename View>
void fail_checkpoint(View& view) {
  kv::WriteBatch batch;
  view.freeze(batch);
  CHECK(!batch.empty());
  view.commit_failed();
}

template <typename View>
Status load(View& view, kv::MemoryStore& store) {
  const auto reader = std::move(store.read()).value();
  return view.load(*reader);
}

inline std::vector<std::pair<std::string, std::string>> pairs_of(kv::MemoryStore& store) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto reader = std::move(store.read()).value();
  auto pair = reader->seek("").value();
  while (pair.has_value()) {
    pairs.emplace_back(pair->key, pair->value);
    pair = reader->next().value();
  }
  return pairs;
}

// What a view says of a store with this pair alone.
template <typename View>
Status load_pair(const std::string& key, const std::string& value) {
  kv::MemoryStore store;
  kv::WriteBatch batch;
  batch.put(key, value);
  REQUIRE(store.commit(batch).ok());
  View view;
  return load(view, store);
}

// Every flipped bit of low weight, every cut and every other key of the first pair is noticed.
template <typename View>
void check_damage_is_noticed(View& view) {
  kv::MemoryStore store;
  checkpoint(view, store);
  const auto [key, good] = pairs_of(store).front();
  CHECK(load_pair<View>(key, good).ok());
  for (size_t i = 0; i < good.size(); ++i) {
    CAPTURE(i);
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    CHECK(load_pair<View>(key, bad).code() == ErrorCode::kCorrupted);
    CHECK(load_pair<View>(key, good.substr(0, i)).code() == ErrorCode::kCorrupted);
  }
  CHECK(load_pair<View>(key, good + '\0').code() == ErrorCode::kCorrupted);
  std::string other = key;
  other.back() = static_cast<char>(other.back() ^ 1);
  CHECK(load_pair<View>(other, good).code() == ErrorCode::kCorrupted);
  CHECK(load_pair<View>(key + '\0', good).code() == ErrorCode::kCorrupted);
}

}  // namespace tidemark::testing
