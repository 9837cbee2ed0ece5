// QueueTable and the checkpoint store.
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/partition/store_keys.h"
#include "broker/partition/stored_value.h"
#include "broker/queue/queue_table.h"
#include "log/base/coding.h"
#include "log/base/random.h"
#include "tests/unit/broker/queue/queue_fixture.h"

namespace tidemark::queue {
namespace {

using testing::checkpoint;
using testing::fail_checkpoint;
using testing::load;
using testing::load_pair;
using testing::pairs_of;

namespace keys = partition::keys;

TEST_CASE("groups and partitions are forgotten, with their failures and in the store") {
  QueueTable table;
  kv::MemoryStore store;
  for (const char* const group : {"g", "gg", "h"}) {
    for (const PartitionId partition : {kPartition, kOther}) {
      REQUIRE(table.open(group, partition, Offset{0}).ok());
      table.ack(group, partition, range_of(5));
      table.fail(group, partition, Offset{9000}, 5);
    }
  }
  checkpoint(table, store);
  CHECK(pairs_of(store).size() == 3 * 6);
  CHECK(table.drop_group("g") == 2);
  CHECK(table.find("g") == nullptr);
  CHECK(table.size() == 4);
  CHECK(table.failures() == 4);
  checkpoint(table, store);
  CHECK(pairs_of(store).size() == 3 * 4);
  check_loads_as(table, store);
  table.drop_partition(kOther);
  CHECK(table.find("h", kOther) == nullptr);
  CHECK(table.find("h", kPartition) != nullptr);
  CHECK(table.size() == 2);
  table.trim(kOther, Offset{9});
  checkpoint(table, store);
  check_loads_as(table, store);
  table.drop_partition(kPartition);
  CHECK(table.groups().empty());
  CHECK(table.failures() == 0);
  CHECK(table.hash() == 0);
  checkpoint(table, store);
  CHECK(pairs_of(store).empty());
}

TEST_CASE("a queue that is forgotten and opened again has nothing of the one before") {
  OneQueue queue;
  kv::MemoryStore store;
  queue.ack(5);
  queue.ack(8 * kChunk, kChunk);
  queue.fail(3 * kChunk);
  checkpoint(queue.table, store);
  REQUIRE(queue.table.drop_group("g") == 1);
  REQUIRE(queue.table.open("g", kPartition, Offset{0}).ok());
  queue.ack(3 * kChunk + 1);
  SUBCASE("before the checkpoint") {
    checkpoint(queue.table, store);
    check_loads_as(queue.table, store);
  }
  SUBCASE("when the checkpoint fails once") {
    fail_checkpoint(queue.table);
    queue.ack(4);
    checkpoint(queue.table, store);
    check_loads_as(queue.table, store);
  }
  SUBCASE("again, while a checkpoint is under way") {
    kv::WriteBatch batch;
    queue.table.freeze(batch);
    queue.table.drop_partition(kPartition);
    REQUIRE(queue.table.open("g", kPartition, Offset{7}).ok());
    SUBCASE("that is done") {
      REQUIRE(store.commit(batch).ok());
      queue.table.commit_done();
    }
    SUBCASE("that fails") { queue.table.commit_failed(); }
    queue.ack(9);
    checkpoint(queue.table, store);
    check_loads_as(queue.table, store);
  }
  SUBCASE("and forgotten while a checkpoint is under way that fails") {
    kv::WriteBatch batch;
    queue.table.freeze(batch);
    queue.table.drop_group("g");
    queue.table.commit_failed();
    checkpoint(queue.table, store);
    CHECK(pairs_of(store).empty());
  }
}

TEST_CASE("a checkpoint writes what changed only") {
  OneQueue queue;
  kv::MemoryStore store;
  REQUIRE(queue.table.open("h", kPartition, Offset{0}).ok());
  for (uint64_t chunk = 0; chunk < 20; ++chunk) {
    queue.ack(chunk * kChunk + 1);
  }
  checkpoint(queue.table, store);
  queue.ack(7 * kChunk + 2);
  queue.fail(30 * kChunk);
  queue.ack(7 * kChunk + 2);
  kv::WriteBatch batch;
  queue.table.freeze(batch);
  std::set<std::string> written;
  for (const auto& operation : batch.operations()) {
    CHECK(operation.kind == kv::WriteBatch::Kind::kPut);
    written.insert(operation.key);
  }
  CHECK(written == std::set<std::string>{keys::queue(kPartition, "g"),
                                         keys::queue_chunk(kPartition, "g", 7),
                                         keys::queue_chunk(kPartition, "g", 30)});
  REQUIRE(store.commit(batch).ok());
  queue.table.commit_done();
  check_loads_as(queue.table, store);
}

TEST_CASE("what is emptied below the floor leaves the store") {
  OneQueue queue;
  kv::MemoryStore store;
  for (uint64_t chunk = 0; chunk < 20; ++chunk) {
    queue.ack(chunk * kChunk + 1);
    queue.fail(chunk * kChunk + 2);
  }
  queue.ack(30 * kChunk, 3 * kChunk);
  checkpoint(queue.table, store);
  CHECK(pairs_of(store).size() == 1 + 20 + 1);
  queue.table.trim(kPartition, Offset{10 * kChunk + 2});
  checkpoint(queue.table, store);
  CHECK(pairs_of(store).size() == 1 + 10 + 1);
  check_loads_as(queue.table, store);
  queue.table.trim(kPartition, Offset{31 * kChunk + 5});
  fail_checkpoint(queue.table);
  queue.ack(40 * kChunk + 1);
  checkpoint(queue.table, store);
  CHECK(pairs_of(store).size() == 2);
  check_loads_as(queue.table, store);
}

TEST_CASE("chunks that become part of a run leave the store, also those with failures alone") {
  OneQueue queue;
  kv::MemoryStore store;
  queue.ack(kChunk, kChunk);
  queue.fail(2 * kChunk + 9);
  queue.ack(3 * kChunk + 9);
  queue.ack(5 * kChunk, kChunk);
  checkpoint(queue.table, store);
  CHECK(pairs_of(store).size() == 5);
  queue.ack(2 * kChunk, 3 * kChunk);
  CHECK(queue.state().acks.run_at(1) == 5);
  checkpoint(queue.table, store);
  CHECK(pairs_of(store).size() == 2);
  check_loads_as(queue.table, store);
}

TEST_CASE("a chunk whose only failure is settled, and a bitmap that becomes the floor") {
  OneQueue queue;
  kv::MemoryStore store;
  queue.fail(5);
  queue.ack(2);
  checkpoint(queue.table, store);
  queue.ack(0, 6);
  CHECK(queue.state().acks.floor() == Offset{6});
  checkpoint(queue.table, store);
  CHECK(pairs_of(store).size() == 1);
  check_loads_as(queue.table, store);
}

TEST_CASE("counts of failures do not wrap round") {
  const std::string key = keys::queue(kPartition, "g");
  const std::string chunk_key = keys::queue_chunk(kPartition, "g", 0);
  OneQueue queue;
  queue.fail(5, 70);
  kv::MemoryStore store;
  checkpoint(queue.table, store);
  std::vector<uint8_t> body;
  ByteWriter writer(body);
  writer.le<uint8_t>(1);
  writer.le<uint8_t>(0);
  writer.varint(1);
  writer.varint(5);
  writer.varint(UINT32_MAX - 1);
  writer.le<int64_t>(70);
  kv::WriteBatch batch;
  batch.put(chunk_key, partition::seal_value(body, chunk_key));
  REQUIRE(store.commit(batch).ok());
  QueueTable loaded;
  REQUIRE(load(loaded, store).ok());
  const auto& failures = loaded.find("g", kPartition)->failures;
  CHECK(failures.at(Offset{5}) == Failures{UINT32_MAX - 1, 70});
  CHECK(loaded.fail("g", kPartition, Offset{5}, 80));
  CHECK(loaded.fail("g", kPartition, Offset{5}, 90));
  CHECK(failures.at(Offset{5}) == Failures{UINT32_MAX, 90});
}

TEST_CASE("a million acks in random order with 100,000 holes survive a restart") {
  Random random(11);
  std::vector<uint64_t> offsets(1'100'000);
  for (size_t i = 0; i < offsets.size(); ++i) {
    offsets[i] = i;
    std::swap(offsets[i], offsets[random.below(i + 1)]);
  }
  const std::set<uint64_t> holes(offsets.begin() + 1'000'000, offsets.end());
  OneQueue queue;
  kv::MemoryStore store;
  for (size_t i = 0; i < 1'000'000; ++i) {
    queue.ack(offsets[i]);
    if (i % 300'000 == 0) {
      checkpoint(queue.table, store);
    }
  }
  checkpoint(queue.table, store);
  MESSAGE("memory: " << queue.table.memory_bytes()
                     << " bytes, in the store: " << store.size_bytes());
  CHECK(queue.table.memory_bytes() < 1024 * 1024);
  CHECK(store.size_bytes() < 1024 * 1024);
  QueueTable loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.hash() == queue.table.hash());
  const AckSet& acks = loaded.find("g", kPartition)->acks;
  std::set<uint64_t> unsettled;
  for (Offset at = acks.next_unsettled(Offset{0}); at < Offset{1'100'000};
       at = acks.next_unsettled(at + 1)) {
    unsettled.insert(at.value());
  }
  CHECK(unsettled == holes);
}

// --- Damage

// The store of a queue that has every kind of value, with one of them replaced.
class Damage {
 public:
  Damage() {
    OneQueue queue(100);
    queue.ack(102);
    queue.fail(103);
    queue.fail(2 * kChunk);
    queue.ack(4 * kChunk, 2 * kChunk);
    queue.ack(9 * kChunk);
    checkpoint(queue.table, store_);
    REQUIRE(loads());
  }

  using Write = std::function<void(ByteWriter&)>;

  // With a body of the version, if not said otherwise.
  [[nodiscard]] bool loads_with(const std::string& key, const Write& write, uint8_t version = 1) {
    std::vector<uint8_t> body;
    ByteWriter writer(body);
    writer.le(version);
    write(writer);
    kv::WriteBatch batch;
    batch.put(key, partition::seal_value(body, key));
    REQUIRE(store_.commit(batch).ok());
    return loads();
  }

  [[nodiscard]] bool loads_chunk(uint64_t chunk, const Write& write) {
    return loads_with(keys::queue_chunk(kPartition, "g", chunk), write);
  }

  [[nodiscard]] bool loads() {
    QueueTable table;
    const Status status = load(table, store_);
    CHECK((status.ok() || status.code() == ErrorCode::kCorrupted));
    if (!status.ok()) {
      CHECK(status.context() == "queue of a consumer group in the checkpoint store");
    }
    return status.ok();
  }

  kv::MemoryStore& store() { return store_; }

 private:
  kv::MemoryStore store_;
};

void put_numbers(ByteWriter& writer, uint64_t floor, int numbers) {
  writer.le(floor);
  for (int i = 0; i < numbers; ++i) {
    writer.varint(uint64_t{3});
  }
}

void put_bitmap(ByteWriter& writer, uint64_t word0, uint64_t others = 0) {
  writer.le<uint8_t>(1);
  writer.le(word0);
  for (int i = 1; i < 64; ++i) {
    writer.le(others);
  }
}

void put_failure(ByteWriter& writer, uint64_t within, uint64_t count) {
  writer.varint(within);
  writer.varint(count);
  writer.le<int64_t>(9);
}

TEST_CASE("every flipped bit and every cut of every value is noticed") {
  Damage damage;
  const auto pairs = pairs_of(damage.store());
  REQUIRE(pairs.size() == 5);
  for (const auto& [key, good] : pairs) {
    const auto check_bad = [&, &key = key](const std::string& bad) {
      kv::WriteBatch batch;
      batch.put(key, bad);
      REQUIRE(damage.store().commit(batch).ok());
      CHECK(!damage.loads());
    };
    for (size_t i = 0; i < good.size(); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1);
      check_bad(bad);
      check_bad(good.substr(0, i));
    }
    check_bad(good + '\0');
    kv::WriteBatch batch;
    batch.put(key, good);
    REQUIRE(damage.store().commit(batch).ok());
    REQUIRE(damage.loads());
  }
}

TEST_CASE("a value of a queue that we did not write is noticed") {
  const std::string key = keys::queue(kPartition, "g");
  Damage damage;
  CHECK(damage.loads_with(key, [](ByteWriter& w) { put_numbers(w, 100, 5); }));
  CHECK(!damage.loads_with(
      key, [](ByteWriter& w) { put_numbers(w, 100, 5); }, 2));
  CHECK(!damage.loads_with(key, [](ByteWriter& w) { put_numbers(w, 100, 4); }));
  CHECK(!damage.loads_with(key, [](ByteWriter& w) { put_numbers(w, 100, 6); }));
  CHECK(!damage.loads_with(key, [](ByteWriter& w) { put_numbers(w, 102, 5); }));  // is settled
  CHECK(!damage.loads_with(key, [](ByteWriter& w) { put_numbers(w, kChunk, 5); }));
}

TEST_CASE("a bitmap that we did not write is noticed") {
  Damage damage;
  const auto none = [](ByteWriter& w) {
    put_bitmap(w, 6);
    w.varint(0);
  };
  CHECK(damage.loads_chunk(9, none));
  CHECK(!Damage().loads_chunk(0, none));  // below the floor
  CHECK(!Damage().loads_chunk(5, none));  // within the run
  CHECK(!Damage().loads_chunk(AckSet::kChunks, none));
  CHECK(!Damage().loads_chunk(9, [](ByteWriter& w) { put_bitmap(w, 6); }));
  CHECK(!Damage().loads_chunk(9, [](ByteWriter& w) {
    put_bitmap(w, 0);
    w.varint(0);
  }));
  CHECK(!Damage().loads_chunk(9, [](ByteWriter& w) {
    put_bitmap(w, UINT64_MAX, UINT64_MAX);
    w.varint(0);
  }));
  CHECK(!Damage().loads_chunk(9, [](ByteWriter& w) {
    put_bitmap(w, 6);
    w.varint(0);
    w.varint(0);
  }));
  CHECK(!damage.loads_with(keys::queue_chunk(kPartition, "g", 9), none, 2));
}

TEST_CASE("a run that we did not write is noticed") {
  const auto run = [](uint64_t chunks, uint8_t kind = 2) {
    return [chunks, kind](ByteWriter& w) {
      w.le(kind);
      w.varint(chunks);
    };
  };
  CHECK(Damage().loads_chunk(4, run(1)));
  CHECK(Damage().loads_chunk(4, run(5)));
  CHECK(!Damage().loads_chunk(4, run(6)));  // over the bitmap of chunk 9
  CHECK(!Damage().loads_chunk(4, run(0)));
  CHECK(!Damage().loads_chunk(4, run(UINT64_MAX)));
  CHECK(!Damage().loads_chunk(6, run(1)));  // goes on where one ends
  CHECK(!Damage().loads_chunk(0, run(1)));
  CHECK(!Damage().loads_chunk(1, run(2)));  // over the failure in chunk 2
  CHECK(!Damage().loads_chunk(7, run(1, 3)));
  CHECK(!Damage().loads_chunk(7, [](ByteWriter&) {}));
  CHECK(!Damage().loads_chunk(7, [](ByteWriter& w) {
    w.le<uint8_t>(2);
    w.varint(1);
    w.varint(1);
  }));
}

TEST_CASE("failures that we did not write are noticed") {
  const auto failures = [](const std::vector<std::pair<uint64_t, uint64_t>>& of, int more = 0) {
    return [of, more](ByteWriter& w) {
      w.le<uint8_t>(0);
      w.varint(of.size() + static_cast<uint64_t>(more));
      for (const auto& [within, count] : of) {
        put_failure(w, within, count);
      }
    };
  };
  CHECK(Damage().loads_chunk(2, failures({{0, 1}, {4095, UINT32_MAX}})));
  CHECK(!Damage().loads_chunk(2, failures({})));
  CHECK(!Damage().loads_chunk(2, failures({{0, 1}}, 1)));
  CHECK(!Damage().loads_chunk(2, failures({{4096, 1}})));
  CHECK(!Damage().loads_chunk(2, failures({{5, 0}})));
  CHECK(!Damage().loads_chunk(2, failures({{5, uint64_t{UINT32_MAX} + 1}})));
  CHECK(!Damage().loads_chunk(2, failures({{5, 1}, {5, 1}})));
  CHECK(!Damage().loads_chunk(2, failures({{6, 1}, {5, 1}})));
  CHECK(!Damage().loads_chunk(5, failures({{5, 1}})));   // settled
  CHECK(!Damage().loads_chunk(0, failures({{99, 1}})));  // below the floor
  CHECK(Damage().loads_chunk(0, failures({{100, 1}})));
  CHECK(Damage().loads_chunk(AckSet::kChunks - 1, failures({{4094, 1}})));
  CHECK(!Damage().loads_chunk(AckSet::kChunks - 1, failures({{4095, 1}})));
  CHECK(!Damage().loads_chunk(AckSet::kChunks, failures({{0, 1}})));
  CHECK(!Damage().loads_chunk(9, [](ByteWriter& w) {  // settled in the same value
    put_bitmap(w, 6);
    w.varint(1);
    put_failure(w, 1, 1);
  }));
  CHECK(Damage().loads_chunk(9, [](ByteWriter& w) {
    put_bitmap(w, 6);
    w.varint(1);
    put_failure(w, 3, 1);
  }));
}

TEST_CASE("a key that we did not write is noticed") {
  std::vector<uint8_t> body;
  ByteWriter writer(body);
  writer.le<uint8_t>(1);
  put_numbers(writer, 100, 5);
  const auto load_with = [&body](const std::string& key) {
    std::vector<uint8_t> bytes = body;
    return load_pair<QueueTable>(key, partition::seal_value(bytes, key)).code();
  };
  CHECK(load_with(keys::queue(kPartition, "g")) == ErrorCode::kOk);
  CHECK(load_with("Q") == ErrorCode::kCorrupted);
  CHECK(load_with(keys::of('Q', kPartition)) == ErrorCode::kCorrupted);
  CHECK(load_with(keys::queue(kPartition, "")) == ErrorCode::kCorrupted);
  CHECK(load_with(keys::queue(kPartition, "") + "12345678") == ErrorCode::kCorrupted);
  CHECK(load_with(keys::queue(kPartition, "group").substr(0, 12)) == ErrorCode::kCorrupted);
  CHECK(load_with(keys::queue(kPartition, "g") + 'x') == ErrorCode::kCorrupted);
  CHECK(load_with(keys::queue_chunk(kPartition, "g", 3) + 'x') == ErrorCode::kCorrupted);
  CHECK(load_with(keys::queue_chunk(kPartition, "g", 3)) == ErrorCode::kCorrupted);  // no queue
}

}  // namespace
}  // namespace tidemark::queue
