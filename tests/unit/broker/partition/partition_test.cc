#include "broker/partition/partition.h"

#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/chunk_reader.h"
#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/random.h"

namespace tidemark::partition {
namespace {

constexpr PartitionId kId{TopicId{1}, PartitionIndex{0}};

format::BatchHeader plain_batch(uint32_t count, uint32_t bytes = 100) {
  format::BatchHeader header;
  header.record_count = count;
  header.batch_bytes = bytes;
  return header;
}

Partition reload(kv::MemoryStore& store) {
  const auto view = std::move(store.read()).value();
  Partition partition = Partition::load(kId, *view->get(keys::partition(kId)).value()).value();
  auto pair = view->seek("D").value();
  while (pair.has_value() && pair->key[0] == 'D') {
    const ProducerId id{load_be<uint64_t>(as_bytes(pair->key).data() + 9)};
    REQUIRE(partition.load_producer(id, pair->value).ok());
    pair = view->next().value();
  }
  partition.finish_load();
  if (auto refs = last_stored_chunk(*view, kId).value(); !refs.empty()) {
    partition.load_last_chunk(std::move(refs));
  }
  return partition;
}

void checkpoint(Partition& partition, kv::MemoryStore& store, LogPosition keep_from) {
  kv::WriteBatch batch;
  partition.freeze(batch);
  REQUIRE(store.commit(batch).ok());
  partition.commit_done();
  partition.evict_before(keep_from);
}

TEST_CASE("offsets are dense, log time does not go back, a duplicate changes nothing") {
  Partition partition(kId, {});
  CHECK(partition.append(plain_batch(3), LogPosition{80}, 1000, 1).base == Offset{0});
  CHECK(partition.append(plain_batch(2), LogPosition{400}, 900, 2).received_ms == 1000);
  format::BatchHeader header = plain_batch(4);
  header.producer_id = 7;
  header.producer_epoch = 0;
  header.base_sequence = 0;
  CHECK(partition.append(header, LogPosition{800}, 1100, 3).base == Offset{5});
  const uint64_t hash = partition.hash();
  const AppendOutcome again = partition.append(header, LogPosition{1200}, 1200, 4);
  CHECK(again.duplicate);
  CHECK(again.error == ErrorCode::kOk);
  CHECK(again.base == Offset{5});
  header.base_sequence = 9;
  const AppendOutcome gap = partition.append(header, LogPosition{1600}, 1300, 5);
  CHECK(gap.error == ErrorCode::kOutOfOrderSequence);
  CHECK(gap.expected_sequence == 4);
  CHECK(partition.hash() == hash);
  CHECK(partition.end() == Offset{9});
  CHECK(partition.batches() == 3);
  CHECK(partition.bytes() == 300);
}

TEST_CASE("a trim takes away what it names and nothing twice") {
  Partition partition(kId, {});
  CHECK(partition.low_position() == LogPosition{std::numeric_limits<uint64_t>::max()});
  for (uint64_t i = 0; i < 4; ++i) {
    partition.append(plain_batch(10), LogPosition{80 + 200 * i}, 1000, i + 1);
  }
  CHECK(partition.low_position() == LogPosition{80});
  CHECK_FALSE(partition.trim({Offset{0}, LogPosition{80}, 0, 0}));
  CHECK_FALSE(partition.trim({Offset{41}, LogPosition{1000}, 400, 4}));
  CHECK_FALSE(partition.trim({Offset{20}, LogPosition{480}, 401, 2}));
  CHECK(partition.trim({Offset{20}, LogPosition{480}, 200, 2}));
  CHECK_FALSE(partition.trim({Offset{20}, LogPosition{480}, 200, 2}));
  CHECK(partition.start() == Offset{20});
  CHECK(partition.low_position() == LogPosition{480});
  CHECK(partition.bytes() == 200);
  CHECK(partition.trim({Offset{40}, LogPosition{880}, 200, 2}));
  CHECK(partition.low_position() == LogPosition{std::numeric_limits<uint64_t>::max()});
  partition.append(plain_batch(1), LogPosition{4000}, 1000, 9);
  CHECK(partition.low_position() == LogPosition{4000});
}

TEST_CASE("hash and behaviour are the same after a checkpoint and reload at any point") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Partition straight(kId, {1, 1000, -1});
    Partition restarted(kId, {1, 1000, -1});
    kv::MemoryStore store;
    LogPosition position;
    for (uint64_t use = 1; use < 1500; ++use) {
      position = position + 8 * random.between(20, 200);
      format::BatchHeader header = plain_batch(static_cast<uint32_t>(random.between(1, 5)));
      if (random.chance(1, 2)) {
        header.producer_id = static_cast<int64_t>(random.between(1, 3));
        header.producer_epoch = 0;
        header.base_sequence = static_cast<int32_t>(random.below(6));
      }
      const auto received = static_cast<int64_t>(use * 10 + random.below(30));
      const AppendOutcome expected = straight.append(header, position, received, use);
      const AppendOutcome outcome = restarted.append(header, position, received, use);
      REQUIRE(outcome.error == expected.error);
      REQUIRE(outcome.duplicate == expected.duplicate);
      REQUIRE(outcome.base == expected.base);
      if (random.chance(1, 5)) {
        const LogPosition earlier{8 * random.between(1, position.value() / 8)};
        REQUIRE(straight.append_reference(earlier, 1, 100, received) ==
                restarted.append_reference(earlier, 1, 100, received));
      }
      if (random.chance(1, 100) && straight.batches() > 3) {
        const auto& refs = straight.index().refs();
        const auto& stays = refs[refs.size() - 2];
        const uint64_t gone = straight.batches() - 2;
        const Partition::TrimTo to{stays.base, stays.position, gone * 100, gone};
        REQUIRE(straight.trim(to));
        REQUIRE(restarted.trim(to));
      }
      if (random.chance(1, 150)) {
        kv::WriteBatch lost;
        restarted.freeze(lost);
        restarted.commit_failed();
      }
      if (random.chance(1, 100)) {
        checkpoint(restarted, store, LogPosition{random.below(position.value())});
        restarted = reload(store);
      }
      REQUIRE(restarted.hash() == straight.hash());
      REQUIRE(restarted.low_position() == straight.low_position());
    }
  }
}

TEST_CASE("a message delivered by reference is the next one, wherever in the log it lies") {
  Partition partition(kId, {});
  partition.append(plain_batch(3), LogPosition{8000}, 1000, 1);
  const uint64_t hash = partition.hash();
  CHECK(partition.append_reference(LogPosition{400}, 1, 120, 1100) == Offset{3});
  CHECK(partition.hash() != hash);
  CHECK(partition.append_reference(LogPosition{9000}, 1, 130, 900) == Offset{4});
  CHECK(partition.last_received_ms() == 1100);
  partition.append(plain_batch(1), LogPosition{9600}, 1200, 2);
  CHECK(partition.end() == Offset{6});
  CHECK(partition.bytes() == 450);
  CHECK(partition.batches() == 4);
  const auto& refs = partition.index().refs();
  REQUIRE(refs.size() == 4);
  CHECK(refs[1].position == LogPosition{400});
  CHECK(refs[1].bytes == 120);
  CHECK(refs[1].count == 1);
  CHECK(partition.low_position() == LogPosition{400});
}

TEST_CASE("the low position follows references until the offsets around them are trimmed") {
  Partition partition(kId, {});
  LogPosition position{1'000'000};
  const auto fill = [&](uint64_t until) {
    while (partition.end().value() < until) {
      partition.append(plain_batch(1), position, 1000, 1);
      position = position + 200;
    }
  };
  fill(5000);
  partition.append_reference(LogPosition{600}, 1, 100, 1000);  // offset 5000
  fill(5001);
  partition.append_reference(LogPosition{500}, 1, 100, 1000);
  fill(10'000);
  CHECK(partition.low_position() == LogPosition{500});
  const auto trim_to = [&](uint64_t start) {
    const uint64_t gone = start - partition.start().value();
    return partition.trim({Offset{start}, LogPosition{1'000'000 + 200 * start}, gone * 100, gone});
  };
  REQUIRE(trim_to(5010));
  CHECK(partition.low_position() == LogPosition{500});  // their block is not gone yet: safe
  REQUIRE(trim_to(8192));
  CHECK(partition.low_position() == LogPosition{1'000'000 + 200 * 8192});
}

TEST_CASE("sequences of messages for later are judged with those of batches") {
  Partition partition(kId, {});
  format::BatchHeader header = plain_batch(4);
  header.producer_id = 7;
  header.producer_epoch = 0;
  header.base_sequence = 0;
  const AppendOutcome taken = partition.accept_sequence(header, Offset{4711}, 1000, 1);
  CHECK(taken.error == ErrorCode::kOk);
  CHECK_FALSE(taken.duplicate);
  CHECK(partition.end() == Offset{0});  // nothing is appended
  CHECK(partition.dirty());
  const AppendOutcome again = partition.accept_sequence(header, Offset{9000}, 1100, 2);
  CHECK(again.duplicate);
  CHECK(again.base == Offset{4711});
  header.base_sequence = 5;
  const AppendOutcome gap = partition.accept_sequence(header, Offset{9000}, 1100, 3);
  CHECK(gap.error == ErrorCode::kOutOfOrderSequence);
  CHECK(gap.expected_sequence == 4);
  header.base_sequence = 4;
  CHECK(partition.append(header, LogPosition{80}, 1200, 4).base == Offset{0});
  header.producer_id = -1;
  CHECK(partition.accept_sequence(header, Offset{1}, 1300, 5).error == ErrorCode::kOk);
}

PartitionConfig delay_config() {
  PartitionConfig config{3, 1000, 2000};
  config.delays = {50, 6000, LatePolicy::kDeadLetter, 700, TopicId{8}};
  config.late_partition = {TopicId{8}, PartitionIndex{2}};
  return config;
}

TEST_CASE("what a topic asks of delayed messages and references survive a checkpoint") {
  Partition partition(kId, delay_config());
  partition.append(plain_batch(1), LogPosition{8000}, 1000, 1);
  partition.append_reference(LogPosition{400}, 1, 100, 1100);
  kv::MemoryStore store;
  checkpoint(partition, store, LogPosition{0});
  const Partition loaded = reload(store);
  CHECK(loaded.config().delays == delay_config().delays);
  CHECK(loaded.config().late_partition == delay_config().late_partition);
  CHECK(loaded.low_position() == LogPosition{400});
  CHECK(loaded.hash() == partition.hash());
}

TEST_CASE("what a topic asks of queue mode survives a checkpoint") {
  PartitionConfig config{3, 1000, 2000};
  config.queue = {{1, 2, 3}, 3, 150, 70'000, 9, TopicId{4}, 80'000, 90'000};
  config.dead_letter_partition = {TopicId{4}, PartitionIndex{7}};
  config.topic_name = "orders";
  Partition partition(kId, config);
  partition.append(plain_batch(1), LogPosition{8000}, 1000, 1);
  kv::MemoryStore store;
  checkpoint(partition, store, LogPosition{0});
  const Partition loaded = reload(store);
  CHECK(loaded.config().queue == config.queue);
  CHECK(loaded.config().dead_letter_partition == config.dead_letter_partition);
  CHECK(loaded.config().topic_name == "orders");
  CHECK(loaded.end() == Offset{1});
  CHECK(loaded.hash() == partition.hash());
}

TEST_CASE("a run of compaction changes what it comes to, in order, and nothing twice") {
  Partition partition(kId, {});
  for (uint64_t i = 0; i < 4; ++i) {
    partition.append(plain_batch(10), LogPosition{1'000 + 200 * i}, 1000, i + 1);
  }
  const auto dead = [&](uint64_t base) {
    return partition.compact({Offset{base}, LogPosition{0}, 0}, 10, 100);
  };
  CHECK_FALSE(dead(0));  // no run has begun
  CHECK_FALSE(partition.end_compaction({}));
  partition.begin_compaction();
  partition.append(plain_batch(10), LogPosition{5'000}, 1000, 9);
  CHECK(dead(0));
  CHECK_FALSE(dead(0));
  CHECK(partition.compact({Offset{10}, LogPosition{6'000}, 60}, 10, 100));
  CHECK(partition.bytes() == 360);
  CHECK(partition.batches() == 4);
  CHECK_FALSE(partition.compact({Offset{20}, LogPosition{0}, 0}, 10, 361));
  CHECK_FALSE(partition.compact({Offset{20}, LogPosition{0}, 0}, 0, 100));
  CHECK_FALSE(partition.compact({Offset{20}, LogPosition{0}, 0}, 10, 0));
  CHECK(dead(30));
  CHECK_FALSE(dead(20));  // it lies before what the run has come to
  CHECK_FALSE(dead(40));  // it came after the run began
  CHECK(partition.low_position() == LogPosition{1'000});
  CHECK_FALSE(partition.end_compaction({LogPosition{1'400}, Offset{41}, 0, 0, false}));
  CHECK(partition.end_compaction({LogPosition{1'400}, Offset{30}, 7, 77, true}));
  CHECK(partition.low_position() == LogPosition{1'400});
  CHECK(partition.compaction().scan_from == Offset{30});
  CHECK(partition.compaction().dirty_bytes == 107);  // and what came meanwhile
  CHECK(partition.compaction().next_run_ms == 77);
  CHECK(partition.compaction().keeps_dead);
  CHECK_FALSE(partition.end_compaction({}));
  kv::MemoryStore store;
  checkpoint(partition, store, LogPosition{0});
  const Partition loaded = reload(store);
  CHECK(loaded.compaction() == partition.compaction());
  CHECK(loaded.low_position() == partition.low_position());
  CHECK(loaded.hash() == partition.hash());
  CHECK(loaded.index().refs() == partition.index().refs());
}

TEST_CASE("after a run the low position is what the run found, then what came behind it") {
  Partition partition(kId, {});
  partition.append_reference(LogPosition{400}, 1, 100, 1000);
  partition.append_reference(LogPosition{900}, 1, 100, 1000, LogPosition{300});
  CHECK(partition.low_position() == LogPosition{300});
  CHECK(partition.compaction().has_references);
  partition.begin_compaction();
  CHECK(partition.low_position() == LogPosition{300});
  REQUIRE(partition.compact({Offset{0}, LogPosition{5'000}, 90}, 1, 100));
  REQUIRE(partition.compact({Offset{1}, LogPosition{0}, 0}, 1, 100));
  CHECK(partition.low_position() == LogPosition{300});  // not before the run has ended
  REQUIRE(partition.end_compaction({LogPosition{5'000}, Offset{2}, 0, 0, false}));
  CHECK(partition.low_position() == LogPosition{5'000});
  partition.append_reference(LogPosition{4'000}, 1, 100, 1000);
  CHECK(partition.low_position() == LogPosition{4'000});
  // Trimmed into what the run went over: where the rest of that lies is not known any better.
  REQUIRE(partition.trim({Offset{1}, LogPosition{9'999}, 90, 1, partition.compaction().changes}));
  CHECK(partition.low_position() == LogPosition{4'000});
  REQUIRE(partition.trim({Offset{2}, LogPosition{4'000}, 0, 0, partition.compaction().changes}));
  CHECK(partition.low_position() == LogPosition{4'000});
  REQUIRE(partition.trim({Offset{3}, LogPosition{0}, 100, 1, partition.compaction().changes}));
  CHECK(partition.low_position() == LogPosition{std::numeric_limits<uint64_t>::max()});
  partition.append(plain_batch(1), LogPosition{9'000}, 1000, 9);
  CHECK(partition.low_position() == LogPosition{9'000});
}

TEST_CASE("another setting of compaction makes the next run due") {
  PartitionConfig config;
  config.compaction = {.after_ms = 1'000};
  Partition partition(kId, config);
  partition.append(plain_batch(1), LogPosition{400}, 1000, 1);
  partition.begin_compaction();
  REQUIRE(partition.end_compaction({LogPosition{400}, Offset{0}, 100, 5'000, false}));
  config.version = 2;
  partition.set_config(config);
  CHECK(partition.compaction().next_run_ms == 5'000);
  config.compaction.after_ms = 0;
  partition.set_config(config);
  CHECK(partition.compaction().next_run_ms == 0);
}

// The value of a partition as releases before delayed messages wrote it, `version` 1; or, with
// `delays`, before queue mode, `version` 2.
std::string old_value(uint8_t version, bool delays = false) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(version);
  writer.le(uint64_t{3});    // of the configuration
  writer.le(int64_t{1000});  // retention ms, bytes
  writer.le(int64_t{-1});
  if (delays) {
    writer.le(int64_t{50});  // pending, bytes
    writer.le(int64_t{6000});
    writer.le(uint8_t{2});  // late policy, ms, topic and its partition
    writer.le(int64_t{700});
    writer.le(uint32_t{8});
    writer.le(uint32_t{8});
    writer.le(uint32_t{2});
  }
  writer.le(uint64_t{10});      // start
  writer.le(uint64_t{25});      // end
  writer.le(uint64_t{480});     // first position
  writer.le(uint64_t{1500});    // bytes
  writer.le(uint64_t{15});      // batches
  writer.le(int64_t{1'234});    // last received
  writer.le(uint64_t{0x5EED});  // hash of the index
  if (delays) {
    writer.varint(1);  // blocks that have messages delivered by reference
    writer.varint(0);
    writer.varint(400);
  }
  writer.le(xxh3(out));
  return std::string(as_text(out));
}

TEST_CASE("a partition stored before there were delayed messages is read") {
  const Result<Partition> loaded = Partition::load(kId, old_value(1));
  REQUIRE(loaded.ok());
  CHECK(loaded->config().version == 3);
  CHECK(loaded->config().retention_ms == 1000);
  CHECK(loaded->config().retention_bytes == -1);
  CHECK(loaded->config().delays == DelayConfig());
  CHECK(loaded->config().late_partition == PartitionId{});
  CHECK(loaded->start() == Offset{10});
  CHECK(loaded->end() == Offset{25});
  CHECK(loaded->low_position() == LogPosition{480});
  CHECK(loaded->bytes() == 1500);
  CHECK(loaded->batches() == 15);
  CHECK(loaded->last_received_ms() == 1'234);
  CHECK_FALSE(loaded->dirty());
  for (const uint8_t version : {uint8_t{0}, uint8_t{2}, uint8_t{3}, uint8_t{255}}) {
    CAPTURE(version);
    CHECK(Partition::load(kId, old_value(version)).status().code() == ErrorCode::kCorrupted);
  }
}

TEST_CASE("a partition stored before there was queue mode is read") {
  const Result<Partition> loaded = Partition::load(kId, old_value(2, true));
  REQUIRE(loaded.ok());
  CHECK(loaded->config().delays == delay_config().delays);
  CHECK(loaded->config().late_partition == delay_config().late_partition);
  CHECK(loaded->config().queue == QueueConfig());
  CHECK(loaded->config().dead_letter_partition == PartitionId{});
  CHECK(loaded->ttl_end() == Offset{0});
  CHECK(loaded->start() == Offset{10});
  CHECK(loaded->end() == Offset{25});
  CHECK(loaded->low_position() == LogPosition{400});
  CHECK(loaded->last_received_ms() == 1'234);
  for (const uint8_t version : {uint8_t{1}, uint8_t{3}, uint8_t{4}}) {
    CAPTURE(version);
    CHECK(Partition::load(kId, old_value(version, true)).status().code() == ErrorCode::kCorrupted);
  }
}

TEST_CASE("up to where messages may have a time to live of their own survives a checkpoint") {
  Partition partition(kId, {});
  partition.append(plain_batch(3), LogPosition{80}, 1000, 1);
  CHECK(partition.ttl_end() == Offset{0});
  partition.mark_ttl();
  CHECK(partition.ttl_end() == Offset{3});
  partition.append(plain_batch(2), LogPosition{400}, 1000, 2);
  partition.append_reference(LogPosition{8}, 1, 100, 1000);  // the topic has none: not looked at
  CHECK(partition.ttl_end() == Offset{3});
  const uint64_t before = partition.hash();
  PartitionConfig config;
  config.queue.ttl_ms = 5000;
  partition.set_config(config);
  CHECK(partition.hash() != before);
  kv::MemoryStore store;
  checkpoint(partition, store, LogPosition{0});
  Partition loaded = reload(store);
  CHECK(loaded.ttl_end() == Offset{3});
  CHECK(loaded.config().queue == config.queue);
  CHECK(loaded.hash() == partition.hash());
  loaded.append_reference(LogPosition{16}, 1, 100, 1000);
  CHECK(loaded.ttl_end() == Offset{7});
}

TEST_CASE("a damaged partition state is refused") {
  Partition partition(kId, {});
  partition.append(plain_batch(1), LogPosition{80}, 1000, 1);
  kv::WriteBatch batch;
  partition.freeze(batch);
  const std::string good = batch.operations().back().value;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    CHECK(Partition::load(kId, bad).status().code() == ErrorCode::kCorrupted);
    CHECK(Partition::load(kId, good.substr(0, i)).status().code() == ErrorCode::kCorrupted);
  }
  CHECK(Partition::load(kId, good).ok());
}

}  // namespace
}  // namespace tidemark::partition
