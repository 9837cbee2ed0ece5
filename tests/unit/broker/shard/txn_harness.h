// Shards with transactions, as producers, consumers, operators and the clocks see them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/txn_requests.h"
#include "tests/unit/broker/shard/delay_harness.h"

namespace tidemark::shard {

using protocol::fbs::TxnEndBy;
using protocol::fbs::TxnId;
using TxnWireState = protocol::fbs::TxnState;
using testing::EndInput;
using testing::HalfInput;
using testing::TxnCheck;
using testing::TxnResult;

// The `count`th transaction of producer 7, coordinated by `shard`.
inline TxnId txn_id(uint64_t count = 1, uint16_t shard = 0, uint16_t epoch = 0,
                    uint64_t producer = 7) {
  return {producer, (uint64_t{epoch} << 48) | count, shard};
}

inline txn::TxnKey key_of(const TxnId& id) { return {id.producer(), id.number()}; }

class TxnHarness : public DelayHarness {
 public:
  static constexpr uint32_t kTimeoutMs = limits::kTxnTimeoutMsDefault;

  explicit TxnHarness(uint16_t shard = 0, uint16_t shard_count = 1)
      : DelayHarness({}, shard, shard_count) {}

  // --- half messages

  static HalfInput half(const TxnId& txn, uint32_t index, const Values& values,
                        PartitionId partition = kPartition) {
    return {txn, partition, index, testing::build_batch(values)};
  }

  static HalfInput delayed_half(const TxnId& txn, uint32_t index,
                                const std::vector<DelayInput>& items,
                                PartitionId partition = kPartition) {
    return {txn, partition, index, testing::build_schedule(partition, items), true};
  }

  std::vector<testing::ProducePartResult> send_halves(const std::vector<HalfInput>& parts) {
    return testing::read_produce_reply(ask(testing::half_request(parts)));
  }

  testing::ProducePartResult send_half(const HalfInput& part) { return send_halves({part}).at(0); }

  // A part that has to be taken.
  void put(const HalfInput& part) {
    const auto result = send_half(part);
    REQUIRE_MESSAGE(result.status.ok(), result.status.to_string());
    REQUIRE_FALSE(result.duplicate);
  }

  void put(const TxnId& txn, uint32_t index, const Values& values,
           PartitionId partition = kPartition) {
    put(half(txn, index, values, partition));
  }

  void produce_values(const Values& values, PartitionId partition = kPartition) {
    REQUIRE(produce(partition, testing::build_batch(values)).status.ok());
  }

  // --- ends

  TxnResult end(const EndInput& item, TxnEndBy by = TxnEndBy::kProducer) {
    return testing::read_txn_results(ask(testing::txn_end_request({&item, 1}, by))).at(0);
  }

  TxnResult commit(const TxnId& txn = txn_id(), TxnEndBy by = TxnEndBy::kProducer) {
    return end({txn, true}, by);
  }

  TxnResult rollback(const TxnId& txn = txn_id(), TxnEndBy by = TxnEndBy::kProducer) {
    return end({txn, false}, by);
  }

  TxnResult recheck(const TxnId& txn = txn_id()) {
    return testing::read_txn_results(ask(testing::txn_recheck_request({&txn, 1}))).at(0);
  }

  // --- check-backs

  void poll(const std::string& group = "orders", uint32_t wait_ms = 60'000,
            uint32_t checks_max = 64, uint64_t connection = 1) {
    receive(testing::txn_poll_request(group, wait_ms, checks_max), connection);
  }

  [[nodiscard]] bool answered() const { return !outbox.replies.empty(); }

  // The answer to the oldest poll that has one.
  std::vector<TxnCheck> take_checks() { return testing::read_txn_checks(outbox.take()); }

  // Time passes all at once, then the shard looks at it.
  void wait_ms(int64_t ms) {
    advance_ms(ms);
    tick();
  }

  // A loop that ticks.
  void tick_for_ms(int64_t ms, int64_t step_ms = 20) {
    for (int64_t passed = 0; passed < ms; passed += step_ms) {
      wait_ms(std::min(step_ms, ms - passed));
      while (source.run_one()) {
        settle();
      }
    }
  }

  // --- looking

  template <typename Reply>
  const Reply& look(const protocol::Frame& request) {
    looked_at_ = ask(request);
    return testing::read_reply<Reply>(looked_at_);
  }

  TxnWireState state(const TxnId& txn = txn_id()) const {
    return static_cast<TxnWireState>(core->views().txns().state(key_of(txn)));
  }

  [[nodiscard]] int64_t log_ms() const { return core->views().log_time_ms(); }

 private:
  protocol::Frame looked_at_;
};

// Shards 0 to count - 1 of one broker, and the mail between them.
class TxnCluster {
 public:
  explicit TxnCluster(uint16_t count) {
    for (uint16_t i = 0; i < count; ++i) {
      shards_.push_back(std::make_unique<TxnHarness>(i, count));
    }
  }

  TxnHarness& operator[](size_t shard) { return *shards_[shard]; }

  [[nodiscard]] size_t size() const { return shards_.size(); }

  // Letters that this is true of get lost.
  std::function<bool(const ShardMail&)> lost = [](const ShardMail&) { return false; };
  // So often each letter comes.
  int copies = 1;
  // Called after every letter and every entry.
  std::function<void()> each_step = [] {};

  // Collects and delivers until nobody has anything to say.
  void settle() {
    for (bool moved = true; moved;) {
      moved = false;
      for (const auto& shard : shards_) {
        shard->core->flush(shard->now);
        while (shard->consensus.commit_one()) {
          moved = true;
          collect(*shard);
          each_step();
          shard->core->flush(shard->now);
        }
        collect(*shard);
        while (shard->source.run_one()) {
          moved = true;
        }
      }
      while (!letters_.empty()) {
        moved = true;
        const ShardMail letter = std::move(letters_.front());
        letters_.pop_front();
        TxnHarness& to = *shards_[letter.to.value()];
        for (int i = 0; i < copies; ++i) {
          to.core->receive_mail(letter, to.now);
        }
        collect(to);
        each_step();
      }
    }
  }

  void tick_for_ms(int64_t ms, int64_t step_ms = 20) {
    for (int64_t passed = 0; passed < ms; passed += step_ms) {
      for (const auto& shard : shards_) {
        shard->advance_ms(step_ms);
        shard->core->tick(shard->now);
      }
      settle();
    }
  }

  // All that is decided is followed, and nobody waits for anybody.
  [[nodiscard]] bool quiet() const {
    for (const auto& shard : shards_) {
      if (!shard->core->views().txns().unconfirmed().empty() ||
          !shard->core->views().txns().all().empty()) {
        return false;
      }
    }
    return true;
  }

  size_t letters_sent = 0;

 private:
  void collect(TxnHarness& shard) {
    for (ShardMail& letter : shard.outbox.take_mail()) {
      if (!lost(letter)) {
        ++letters_sent;
        letters_.push_back(std::move(letter));
      }
    }
  }

  std::vector<std::unique_ptr<TxnHarness>> shards_;
  std::deque<ShardMail> letters_;
};

}  // namespace tidemark::shard
