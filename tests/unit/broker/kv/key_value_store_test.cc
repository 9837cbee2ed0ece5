// What every KeyValueStore keeps: run over LMDB and over memory.
#include "broker/kv/key_value_store.h"

#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/unit/broker/kv/store_fixtures.h"

namespace tidemark::kv {
namespace {

using Model = std::map<std::string, std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs contents(ReadView& view) {
  Pairs pairs;
  auto at = view.seek("");
  while (at.ok() && *at) {
    pairs.emplace_back((*at)->key, (*at)->value);
    at = view.next();
  }
  REQUIRE(at.ok());
  return pairs;
}

Pairs contents(KeyValueStore& store) {
  auto view = store.read();
  REQUIRE(view.ok());
  return contents(**view);
}

Pairs contents(const Model& model) { return {model.begin(), model.end()}; }

std::string random_key(Random& random) {
  std::string key;
  const uint64_t size = random.between(1, random.chance(1, 20) ? kKeyBytesMax : 3);
  for (uint64_t i = 0; i < size; ++i) {
    key.push_back(static_cast<char>(random.chance(1, 4) ? 0xFF : random.below(4)));
  }
  return key;
}

WriteBatch random_batch(Random& random, Model& model) {
  WriteBatch batch;
  for (uint64_t i = random.between(1, 30); i > 0; --i) {
    std::string key = random_key(random);
    switch (random.below(8)) {
      case 0: {
        std::string last = random_key(random);
        if (random.chance(1, 8)) {
          key.clear();
        }
        if (key < last) {
          model.erase(model.lower_bound(key), model.lower_bound(last));
        }
        batch.remove_range(key, last);
        break;
      }
      case 1:
      case 2:
        model.erase(key);
        batch.remove(key);
        break;
      default: {
        // Also values longer than a page.
        std::string value(random.chance(1, 30) ? 20'000 : random.below(100),
                          static_cast<char>('a' + random.below(26)));
        model[key] = value;
        batch.put(key, value);
        break;
      }
    }
  }
  return batch;
}

// What seek, seek_back and next say from `key` on, against the model.
void check_seeks(ReadView& view, const Model& model, const std::string& key) {
  const auto expect = [&](const Result<std::optional<ReadView::Pair>>& got,
                          Model::const_iterator expected) {
    REQUIRE(got.ok());
    REQUIRE(got->has_value() == (expected != model.end()));
    if (*got) {
      CHECK((*got)->key == expected->first);
      CHECK((*got)->value == expected->second);
    }
  };
  auto at = model.lower_bound(key);
  expect(view.seek(key), at);
  if (at != model.end()) {
    expect(view.next(), ++at);
  }
  at = model.upper_bound(key);
  at = at == model.begin() ? model.end() : std::prev(at);
  expect(view.seek_back(key), at);
  expect(view.next(), at == model.end() ? at : std::next(at));
  const auto value = view.get(key);
  REQUIRE(value.ok());
  const auto found = model.find(key);
  REQUIRE(value->has_value() == (found != model.end()));
  if (*value) {
    CHECK(**value == found->second);
  }
}

TEST_CASE_TEMPLATE("a store agrees with a map", Fixture, LmdbFixture, MemoryFixture) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Fixture fixture;
    Model model;
    for (int round = 0; round < 40; ++round) {
      const WriteBatch batch = random_batch(random, model);
      REQUIRE(fixture.store().commit(batch).ok());
      if (random.chance(1, 5)) {
        fixture.reopen();
      }
      REQUIRE(contents(fixture.store()) == contents(model));
      auto view = fixture.store().read();
      REQUIRE(view.ok());
      for (int i = 0; i < 20; ++i) {
        check_seeks(**view, model, random.chance(1, 10) ? std::string() : random_key(random));
      }
    }
  }
}

TEST_CASE_TEMPLATE("an empty store has nothing", Fixture, LmdbFixture, MemoryFixture) {
  Fixture fixture;
  auto view = fixture.store().read();
  REQUIRE(view.ok());
  CHECK_FALSE((*view)->next().value());
  CHECK_FALSE((*view)->get("a").value());
  CHECK_FALSE((*view)->seek("").value());
  CHECK_FALSE((*view)->seek_back("a").value());
  CHECK_FALSE((*view)->next().value());
  CHECK(fixture.store().commit(WriteBatch()).ok());
}

TEST_CASE_TEMPLATE("a view sees what was committed when it was opened", Fixture, LmdbFixture,
                   MemoryFixture) {
  Fixture fixture;
  WriteBatch first;
  first.put("a", "1");
  first.put("b", "2");
  REQUIRE(fixture.store().commit(first).ok());
  auto old_view = fixture.store().read();
  REQUIRE(old_view.ok());
  WriteBatch second;
  second.put("a", "3");
  second.remove("b");
  second.put("c", "4");
  REQUIRE(fixture.store().commit(second).ok());
  CHECK(contents(**old_view) == Pairs{{"a", "1"}, {"b", "2"}});
  CHECK(contents(fixture.store()) == Pairs{{"a", "3"}, {"c", "4"}});
}

TEST_CASE_TEMPLATE("operations of a batch apply in order", Fixture, LmdbFixture, MemoryFixture) {
  Fixture fixture;
  WriteBatch batch;
  batch.put("k1", "old");
  batch.put("k2", "old");
  batch.remove_range("k", "l");
  batch.put("k2", "new");
  batch.remove("absent");
  batch.remove_range("z", "a");  // an empty range
  REQUIRE(fixture.store().commit(batch).ok());
  CHECK(contents(fixture.store()) == Pairs{{"k2", "new"}});
}

TEST_CASE_TEMPLATE("keys of a length that is not allowed change nothing", Fixture, LmdbFixture,
                   MemoryFixture) {
  Fixture fixture;
  WriteBatch empty_key;
  empty_key.put("a", "1");
  empty_key.put("", "2");
  const Status refused = fixture.store().commit(empty_key);
  CHECK(refused.code() == ErrorCode::kInvalidArgument);
  CHECK(refused.context() == "key of 0 bytes; allowed are 1 to 511");
  WriteBatch long_key;
  long_key.put(std::string(kKeyBytesMax + 1, 'x'), "3");
  CHECK(fixture.store().commit(long_key).code() == ErrorCode::kInvalidArgument);
  CHECK(contents(fixture.store()).empty());
  auto view = fixture.store().read();
  REQUIRE(view.ok());
  CHECK((*view)->seek(std::string(600, 'x')).status().code() == ErrorCode::kInvalidArgument);
  CHECK((*view)->get(std::string(600, 'x')).status().code() == ErrorCode::kInvalidArgument);
  WriteBatch longest;
  longest.put(std::string(kKeyBytesMax, 'x'), "4");
  CHECK(fixture.store().commit(longest).ok());
  CHECK(fixture.store().size_bytes() >= kKeyBytesMax + 1);
}

}  // namespace
}  // namespace tidemark::kv
