// A QueueTable against a model, through crashes and failed checkpoints.
#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "broker/queue/queue_table.h"
#include "log/base/random.h"
#include "tests/unit/broker/queue/queue_fixture.h"

namespace tidemark::queue {
namespace {

using testing::load;

class Model {
 public:
  struct Queue {
    std::set<uint64_t> settled;  // from the floor on
    uint64_t floor = 0;
    std::map<uint64_t, Failures> failures;
    uint64_t acked = 0;
    uint64_t failed = 0;
    uint64_t dead_lettered = 0;
    uint64_t expired = 0;

    [[nodiscard]] bool contains(uint64_t offset) const {
      return offset < floor || settled.contains(offset);
    }

    uint64_t settle(uint64_t offset) {
      failures.erase(offset);
      const bool is_new = offset >= floor && settled.insert(offset).second;
      advance();
      return is_new ? 1 : 0;
    }

    void advance() {
      while (settled.erase(floor) > 0) {
        ++floor;
      }
    }
  };

  using Name = std::pair<std::string, PartitionId>;

  [[nodiscard]] size_t failures() const {
    size_t count = 0;
    for (const auto& [name, queue] : queues) {
      count += queue.failures.size();
    }
    return count;
  }

  std::map<Name, Queue> queues;
};

constexpr size_t kModelQueuesMax = 5;
constexpr size_t kModelFailuresMax = 40;

void check_same(const QueueTable& table, const Model& model) {
  REQUIRE(table.size() == model.queues.size());
  REQUIRE(table.failures() == model.failures());
  for (const auto& [name, queue] : model.queues) {
    const QueueState* const state = table.find(name.first, name.second);
    REQUIRE(state != nullptr);
    REQUIRE(state->acked == queue.acked);
    REQUIRE(state->failed == queue.failed);
    REQUIRE(state->dead_lettered == queue.dead_lettered);
    REQUIRE(state->expired == queue.expired);
    REQUIRE(state->acks.floor() == Offset{queue.floor});
    REQUIRE(state->acks.above_floor() == queue.settled.size());
    REQUIRE(std::all_of(queue.settled.begin(), queue.settled.end(),
                        [state](uint64_t offset) { return state->acks.contains(Offset{offset}); }));
    REQUIRE(state->failures.size() == queue.failures.size());
    for (const auto& [offset, failures] : queue.failures) {
      REQUIRE(state->failures.at(Offset{offset}) == failures);
    }
  }
}

// A table that lives through crashes and failed checkpoints, and what it should be now and at its
// last checkpoint.
class Run {
 public:
  explicit Run(uint64_t seed) : random_(seed), span_(random_.between(1, 4) * kChunk) { fresh(); }

  void step() {
    const uint64_t kind = random_.below(100);
    if (kind < 90) {
      change(kind);
    } else if (kind < 94) {
      freeze();
    } else if (kind < 98) {
      end_checkpoint();
    } else if (kind == 98) {
      restart();
    } else {
      check_same(*table_, model_);
    }
  }

  // Everything reaches the store, and comes back.
  void finish() {
    end_checkpoint();
    freeze();
    REQUIRE(store_.commit(*frozen_).ok());
    table_->commit_done();
    frozen_.reset();
    const uint64_t hash = table_->hash();
    fresh();
    check_same(*table_, model_);
    CHECK(table_->hash() == hash);
  }

 private:
  void fresh() {
    table_ = std::make_unique<QueueTable>(kModelQueuesMax, kModelFailuresMax);
    REQUIRE(load(*table_, store_).ok());
  }

  void freeze() {
    if (!frozen_) {
      frozen_ = std::make_unique<kv::WriteBatch>();
      table_->freeze(*frozen_);
      frozen_model_ = model_;
    }
  }

  void end_checkpoint() {
    if (!frozen_) {
      return;
    }
    if (random_.chance(1, 3)) {
      table_->commit_failed();
    } else {
      REQUIRE(store_.commit(*frozen_).ok());
      table_->commit_done();
      stored_model_ = frozen_model_;
    }
    frozen_.reset();
  }

  // A crash: what was stored last is what there is.
  void restart() {
    frozen_.reset();
    fresh();
    model_ = stored_model_;
    check_same(*table_, model_);
  }

  void change(uint64_t kind) {
    const std::string group = random_.chance(1, 2) ? "g" : "gg";
    const PartitionId partition = partition_of(1, static_cast<uint32_t>(random_.below(3)));
    if (kind == 0) {
      drop_group(group);
    } else if (kind == 1) {
      drop_partition(partition);
    } else if (kind < 6) {
      trim(partition, random_.below(span_));
    } else {
      const uint64_t start = random_.chance(1, 2) ? 0 : random_.below(kChunk);
      const bool is_new = !model_.queues.contains({group, partition});
      const bool fits = !is_new || model_.queues.size() < kModelQueuesMax;
      REQUIRE(table_->open(group, partition, Offset{start}).ok() == fits);
      if (fits) {
        Model::Queue& queue = model_.queues[{group, partition}];
        queue.floor = is_new ? start : queue.floor;
        change_queue(group, partition, queue);
      }
    }
  }

  void change_queue(const std::string& group, PartitionId partition, Model::Queue& queue) {
    const uint64_t offset = random_.below(span_);
    const uint64_t kind = random_.below(10);
    if (kind < 4) {
      ack(group, partition, queue, offset);
    } else if (kind < 8) {
      fail(group, partition, queue, offset);
    } else if (kind < 9) {
      const uint64_t settled = queue.settle(offset);
      REQUIRE(table_->dead_letter(group, partition, Offset{offset}) == (settled == 1));
      queue.dead_lettered += settled;
    } else {
      table_->count(group, partition, 2, 0);
      queue.expired += 2;
    }
  }

  void ack(const std::string& group, PartitionId partition, Model::Queue& queue, uint64_t offset) {
    uint64_t count = random_.below(5);
    if (random_.chance(1, 5)) {
      offset -= offset % kChunk;
      count = kChunk * random_.below(3);
    }
    uint64_t added = 0;
    for (uint64_t i = 0; i < count; ++i) {
      added += queue.settle(offset + i);
    }
    queue.acked += added;
    REQUIRE(table_->ack(group, partition, range_of(offset, count)) == added);
  }

  void fail(const std::string& group, PartitionId partition, Model::Queue& queue, uint64_t offset) {
    if (!queue.failures.empty() && random_.chance(1, 2)) {
      offset = queue.failures.begin()->first;
    }
    const auto retry_ms = static_cast<int64_t>(random_.below(1000));
    const bool fits = queue.failures.contains(offset) || model_.failures() < kModelFailuresMax;
    const bool counts = fits && !queue.contains(offset);
    REQUIRE(table_->fail(group, partition, Offset{offset}, retry_ms) == counts);
    if (counts) {
      Failures& failures = queue.failures[offset];
      ++failures.count;
      failures.retry_ms = retry_ms;
      ++queue.failed;
    }
  }

  void trim(PartitionId partition, uint64_t start) {
    table_->trim(partition, Offset{start});
    for (auto& [name, queue] : model_.queues) {
      if (name.second == partition && start > queue.floor) {
        queue.floor = start;
        queue.settled.erase(queue.settled.begin(), queue.settled.lower_bound(start));
        queue.failures.erase(queue.failures.begin(), queue.failures.lower_bound(start));
        queue.advance();
      }
    }
  }

  void drop_group(const std::string& group) {
    const size_t dropped =
        std::erase_if(model_.queues, [&](const auto& queue) { return queue.first.first == group; });
    REQUIRE(table_->drop_group(group) == dropped);
  }

  void drop_partition(PartitionId partition) {
    std::erase_if(model_.queues,
                  [&](const auto& queue) { return queue.first.second == partition; });
    table_->drop_partition(partition);
  }

  Random random_;
  uint64_t span_;
  kv::MemoryStore store_;
  std::unique_ptr<QueueTable> table_;
  std::unique_ptr<kv::WriteBatch> frozen_;
  Model model_;
  Model frozen_model_;
  Model stored_model_;
};

TEST_CASE("a random table is as its model, through crashes and failed checkpoints") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    Run run(seed);
    for (int i = 0; i < 300; ++i) {
      run.step();
    }
    run.finish();
  }
}

}  // namespace
}  // namespace tidemark::queue
