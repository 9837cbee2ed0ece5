#include "broker/shard/views.h"

#include <doctest/doctest.h>

#include "broker/delay/kv_slot_store.h"
#include "broker/kv/memory_store.h"
#include "log/base/random.h"
#include "log/format/schema/control_generated.h"
#include "log/log.h"
#include "tests/support/request_builder.h"

namespace tidemark::shard {
namespace {

namespace fbs = format::fbs;
using format::RecordKind;

struct Entry {
  LogIndex index;
  LogPosition position;
  SharedBytes payload;
};

// Random entries as a metadata shard could write them that also has partitions, sensible and not so
// sensible ones.
class RecordStream {
 public:
  explicit RecordStream(uint64_t seed) : random_(seed) {}

  // `views` is what the records are made for: a trim must name what is there.
  Entry next(const Views& views) {
    const uint64_t records = random_.between(1, 6);
    for (uint64_t i = 0; i < records; ++i) {
      add_record(views);
    }
    Entry entry{++index_, position_, builder_.take()};
    index_ = index_ + (random_.chance(1, 10) ? 1 : 0);  // raft's own entries lie between
    position_ = position_ + log::entry_bytes(entry.payload.size());
    return entry;
  }

 private:
  template <typename Table>
  void add(RecordKind kind, flatbuffers::FlatBufferBuilder& body, flatbuffers::Offset<Table> root) {
    body.Finish(root);
    builder_.add(kind, protocol::finished(body));
  }

  void add_record(const Views& views) {
    time_ms_ += static_cast<int64_t>(random_.below(100)) - 20;
    flatbuffers::FlatBufferBuilder body;
    // Dropped topics stay away, so new ones come in all the time.
    const auto topic = static_cast<uint32_t>(random_.between(1, 8) + index_.value() / 20);
    const uint64_t version = random_.between(1, 4);
    switch (random_.below(20)) {
      case 0: {
        const auto name = body.CreateString("topic-" + std::to_string(topic));
        const auto shards = body.CreateVector(std::vector<uint16_t>{0, 1});
        return add(RecordKind::kTopicCreate, body,
                   fbs::CreateTopicCreate(body, name, shards, -1, -1, time_ms_));
      }
      case 1: {
        const auto shards = body.CreateVector(std::vector<uint16_t>{0, 1, 0});
        return add(RecordKind::kTopicAlter, body,
                   fbs::CreateTopicAlter(body, topic, shards, 5, 6, time_ms_));
      }
      case 2:
        return random_.chance(1, 3)
                   ? add(RecordKind::kTopicDelete, body,
                         fbs::CreateTopicDelete(body, topic, time_ms_))
                   : add(RecordKind::kProducerIds, body, fbs::CreateProducerIds(body, 3));
      case 3:
        return add(RecordKind::kTopicProgress, body,
                   fbs::CreateTopicProgress(body, topic, version,
                                            static_cast<uint16_t>(random_.below(2))));
      case 4:
      case 5: {
        const auto numbers =
            body.CreateVector(std::vector<uint32_t>{0, static_cast<uint32_t>(random_.below(3))});
        return add(RecordKind::kPartitionOpen, body,
                   fbs::CreatePartitionOpen(body, topic, version, numbers, 100, -1, time_ms_));
      }
      case 6:
        if (random_.chance(1, 4)) {
          return add(RecordKind::kPartitionDrop, body,
                     fbs::CreatePartitionDrop(body, topic, version, time_ms_));
        }
        return add_trim(views);
      case 7:
        return add_trim(views);
      default:
        return add_produce(
            {TopicId{topic}, PartitionIndex{static_cast<uint32_t>(random_.below(3))}});
    }
  }

  void add_produce(PartitionId partition) {
    format::BatchBuilder::Producer producer;
    if (random_.chance(2, 3)) {
      producer.id = static_cast<int64_t>(random_.between(1, 3));
      producer.epoch = static_cast<int16_t>(random_.below(2));
      producer.base_sequence = static_cast<int32_t>(random_.below(5));
    }
    const SharedBytes batch =
        testing::build_batch_of(random_.between(1, 3), random_.below(40), producer);
    builder_.add_produce(partition, time_ms_, batch.view());
  }

  void add_trim(const Views& views) {
    for (const auto& [id, partition] : views.partitions()) {
      if (partition.batches() < 2 || random_.chance(1, 2)) {
        continue;
      }
      // The first batch that memory still has goes, and all before it; a bound that is wrong is
      // refused when applied.
      const auto& refs = partition.index().refs();
      if (refs.size() < 2 || refs[1].base <= partition.start()) {
        continue;
      }
      flatbuffers::FlatBufferBuilder body;
      return add(RecordKind::kTrim, body,
                 fbs::CreateTrim(body, id.topic.value(), id.index.value(), refs[1].base.value(),
                                 refs[1].position.value(), refs[0].bytes, 1, time_ms_));
    }
    add_produce({TopicId{1}, PartitionIndex{0}});
  }

  Random random_;
  format::RecordListBuilder builder_;
  LogIndex index_;
  LogPosition position_;
  int64_t time_ms_ = 1'000'000;
};

void commit(Views& views, Views::Delta& delta, kv::MemoryStore& store, LogPosition keep_from) {
  {
    const auto view = std::move(store.read()).value();
    delay::KvSlotStore slots(*view, &delta.batch);
    REQUIRE_FALSE(delta.spill.write(slots).has_value());
  }
  REQUIRE(store.commit(delta.batch).ok());
  views.commit_done(delta, keep_from);
}

// Views that are checkpointed, sometimes in vain, and crash.
class Restarted {
 public:
  explicit Restarted(uint64_t seed) : random_(seed), views_(std::make_unique<Views>(ShardId{0})) {}

  std::vector<RecordOutcome> apply(const Entry& entry) {
    log_.push_back(entry);
    return apply_to_views(entry);
  }

  void disturb() {
    switch (random_.below(8)) {
      case 0:
        if (!delta_.has_value()) {
          delta_ = views_->freeze();
        }
        return;
      case 1:
        return end_commit(random_.chance(3, 4));
      case 2:
        if (random_.chance(1, 4)) {
          crash();
        }
        return;
      default:
        return;
    }
  }

  [[nodiscard]] const Views& views() const { return *views_; }

 private:
  std::vector<RecordOutcome> apply_to_views(const Entry& entry) {
    std::vector<RecordOutcome> outcomes;
    views_->apply(entry.index, Term{1}, entry.position + log::kEntryHeaderBytes,
                  entry.payload.view(), outcomes);
    return outcomes;
  }

  void end_commit(bool ok) {
    if (!delta_.has_value()) {
      return;
    }
    if (ok) {
      commit(*views_, *delta_, store_,
             LogPosition{random_.below(log_.back().position.value() + 1)});
    } else {
      views_->commit_failed(*delta_);
    }
    delta_.reset();
  }

  void crash() {
    delta_.reset();
    views_ = std::make_unique<Views>(ShardId{0});
    REQUIRE(views_->load(*store_.read().value()).ok());
    const LogIndex covered = views_->applied().index;
    for (const Entry& entry : log_) {
      if (entry.index > covered) {
        (void)apply_to_views(entry);
      }
    }
  }

  Random random_;
  std::unique_ptr<Views> views_;
  kv::MemoryStore store_;
  std::optional<Views::Delta> delta_;
  std::vector<Entry> log_;
};

TEST_CASE(
    "views that were checkpointed and restarted anywhere equal those that never were, record for "
    "record") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    RecordStream stream(seed);
    Views straight(ShardId{0});
    Restarted restarted(seed + 1'000'000);
    for (int i = 0; i < 250; ++i) {
      CAPTURE(i);
      const Entry entry = stream.next(straight);
      std::vector<RecordOutcome> expected;
      straight.apply(entry.index, Term{1}, entry.position + log::kEntryHeaderBytes,
                     entry.payload.view(), expected);
      const std::vector<RecordOutcome> outcomes = restarted.apply(entry);
      REQUIRE(outcomes.size() == expected.size());
      for (size_t k = 0; k < outcomes.size(); ++k) {
        REQUIRE(outcomes[k].error == expected[k].error);
        REQUIRE(outcomes[k].append.base == expected[k].append.base);
        REQUIRE(outcomes[k].append.duplicate == expected[k].append.duplicate);
        REQUIRE(outcomes[k].topic == expected[k].topic);
        REQUIRE(outcomes[k].version == expected[k].version);
        REQUIRE(outcomes[k].first_producer_id == expected[k].first_producer_id);
      }
      REQUIRE(restarted.views().hash() == straight.hash());
      REQUIRE(restarted.views().low_position() == straight.low_position());
      restarted.disturb();
    }
    REQUIRE(straight.partitions().size() > 1);
  }
}

// Opens partition 0 of topic 1 and appends one batch.
struct SmallViews {
  Views views{ShardId{0}};
  kv::MemoryStore store;
  LogIndex index;
  LogPosition position;
  std::vector<RecordOutcome> outcomes;
  format::RecordListBuilder records;

  void apply() {
    const SharedBytes payload = records.take();
    outcomes.clear();
    views.apply(++index, Term{1}, position + log::kEntryHeaderBytes, payload.view(), outcomes);
    position = position + log::entry_bytes(payload.size());
  }

  void open(uint32_t topic) {
    flatbuffers::FlatBufferBuilder body;
    const auto numbers = body.CreateVector(std::vector<uint32_t>{0});
    body.Finish(fbs::CreatePartitionOpen(body, topic, 1, numbers, -1, -1, 1000));
    records.add(RecordKind::kPartitionOpen, protocol::finished(body));
  }

  void drop(uint32_t topic) {
    flatbuffers::FlatBufferBuilder body;
    body.Finish(fbs::CreatePartitionDrop(body, topic, 2, 1000));
    records.add(RecordKind::kPartitionDrop, protocol::finished(body));
  }

  void produce(uint32_t topic) {
    records.add_produce({TopicId{topic}, PartitionIndex{0}}, 1000,
                        testing::build_batch_of(1, 10).view());
  }

  void checkpoint(LogPosition keep_from) {
    Views::Delta delta = views.freeze();
    commit(views, delta, store, keep_from);
  }
};

TEST_CASE(
    "a partition that went idle gives its references up too when the log's tail has moved on") {
  SmallViews small;
  small.open(1);
  for (int i = 0; i < 600; ++i) {
    small.produce(1);
    small.apply();
  }
  small.checkpoint(LogPosition{0});  // all of it is still in the tail
  const auto& refs = small.views.find({TopicId{1}, PartitionIndex{0}})->index().refs();
  CHECK(refs.size() == 600);
  small.open(2);
  small.apply();
  small.checkpoint(small.position);  // only topic 2 has changed
  CHECK(refs.size() < 100);
}

TEST_CASE("a dropped topic leaves nothing in the store and is not opened by late mail") {
  SmallViews small;
  small.open(1);
  small.produce(1);
  small.apply();
  small.checkpoint(LogPosition{0});
  small.drop(1);
  small.apply();
  small.checkpoint(LogPosition{0});
  CHECK(small.store.read().value()->seek("I").value()->key == "M");  // no index, no partition
  CHECK(small.store.read().value()->seek("P").value()->key == "V");  // no producer's either
  small.open(1);
  small.produce(1);
  small.apply();
  CHECK(small.views.partitions().empty());
  CHECK(small.outcomes[1].error == ErrorCode::kUnknownPartition);
  CHECK(small.views.was_dropped(TopicId{1}));
}

TEST_CASE("a store of another shard, and a damaged or missing head are refused") {
  SmallViews small;
  small.open(1);
  small.apply();
  small.checkpoint(LogPosition{0});
  Views other(ShardId{1});
  CHECK(other.load(*small.store.read().value()).code() == ErrorCode::kCorrupted);
  kv::WriteBatch damage;
  damage.put("M", "damaged head of the store");
  REQUIRE(small.store.commit(damage).ok());
  Views damaged(ShardId{0});
  CHECK(damaged.load(*small.store.read().value()).code() == ErrorCode::kCorrupted);
  damage.remove("M");
  REQUIRE(small.store.commit(damage).ok());
  Views headless(ShardId{0});
  const Status status = headless.load(*small.store.read().value());
  CHECK(status.code() == ErrorCode::kCorrupted);
  CHECK(status.context() == "the checkpoint store has no head");
}

}  // namespace
}  // namespace tidemark::shard
