// TxnModel: what clients did with transactions and were told, and the rules that must hold over it.
// Knows nothing of the broker.
//
//   I16  no message of a transaction is seen before its commit was invoked
//   I17  what was rolled back is never seen; what was committed is there, once; of what nobody
//        knows, all or nothing is there, on however many partitions
//   I18  whoever is asked about a transaction is of its group, not too early, not after its end;
//        none is lost: it ends, or is parked when it is old enough
//   I19  see txn_fence_model.h
//
// Invoked is what has reached the broker. An end whose answer is lost may have been done or not;
// the outcome is known once any answer tells it.
//
// The broker forgets how transactions ended once that is old enough. Whatever reaches it about one
// of them later, a request or the question of a shard with a part of it, may find a transaction
// that never was: such a transaction is `forgotten`, and only I16 is promised of it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "log/base/ids.h"
#include "tests/simulation/delay_model.h"
#include "tests/simulation/txn_fence_model.h"

namespace tidemark::sim {

// As on the wire.
struct TxnName {
  uint64_t producer = 0;
  uint64_t number = 0;
  ShardId shard;

  [[nodiscard]] uint16_t epoch() const { return static_cast<uint16_t>(number >> 48); }

  friend auto operator<=>(const TxnName&, const TxnName&) = default;
};

// "transaction 7-0-1234-1": producer, epoch, count, shard.
std::string text_of(const TxnName& name);

class TxnModel {
 public:
  static constexpr uint32_t kAnyHalves = UINT32_MAX;

  // Of the broker.
  struct Ages {
    int64_t pending_ms = int64_t{24} * 3'600'000;
    int64_t outcome_ms = int64_t{24} * 3'600'000;
  };

  // Values as on the wire.
  enum class State : uint8_t { kNone, kOpen, kParked, kCommitted, kRolledBack };
  enum class By : uint8_t { kProducer, kCheck, kOperator };
  // What an answer says; kUnsure: it may have been done or not.
  enum class Answer : uint8_t { kOk, kConflict, kNotFound, kFenced, kUnknownPartition, kUnsure };
  // The local database.
  enum class Local : uint8_t { kUndecided, kCommitted, kRolledBack };

  struct Part {
    PartitionId partition;
    ShardId shard;
    std::vector<uint64_t> uids;
    std::vector<int64_t> delays_ms = {};  // of a schedule set; of a batch none

    uint64_t arrivals = 0;
    int64_t stored_ns = INT64_MAX;  // acknowledged since then
    bool gone = false;              // its topic was deleted
    bool partly = false;            // retention may have taken some of it
    std::set<uint64_t> drained = {};

    [[nodiscard]] bool stored(int64_t ns = INT64_MAX - 1) const { return stored_ns <= ns; }
  };

  struct Txn {
    TxnName name;
    std::string group;
    std::string reference;
    uint32_t timeout_ms = 0;
    std::vector<Part> parts;

    Local local = Local::kUndecided;
    bool in_hands = true;             // a process works on it
    int64_t born_low_ms = INT64_MAX;  // least log time at which a part arrived
    int64_t commit_ns = INT64_MAX;    // first arrivals
    int64_t rollback_ns = INT64_MAX;
    uint32_t commits = 0;  // arrivals
    // Log time of its shards when an end arrived; the least that it can have been done at.
    std::map<ShardId, int64_t> ended_low_ms;
    State outcome = State::kNone;    // kCommitted, kRolledBack once known
    int64_t outcome_ns = INT64_MAX;  // since when
    bool forgotten = false;
    bool rechecked = false;

    [[nodiscard]] bool ended() const { return outcome != State::kNone; }

    [[nodiscard]] bool end_arrived() const {
      return commit_ns != INT64_MAX || rollback_ns != INT64_MAX;
    }

    [[nodiscard]] bool any_gone() const;
    // Parts of its coordinating shard that are stored, at this time; and that may be.
    [[nodiscard]] uint32_t stored_here(int64_t ns = INT64_MAX - 1) const;
    [[nodiscard]] uint32_t arrived_here() const;
    [[nodiscard]] bool any_stored() const;
    // All of it on its coordinating shard.
    [[nodiscard]] bool one_shard() const;
  };

  TxnModel(DelayModel& delays, Ages ages) : delays_(delays), ages_(ages) {}

  TxnFenceModel& fences() { return fences_; }

  // --- transactions, by a number from 1 on
  uint64_t begin(const TxnName& name, const std::string& group, const std::string& reference,
                 uint32_t timeout_ms);
  void add_part(uint64_t txn, Part part);

  [[nodiscard]] const Txn& at(uint64_t txn) const { return txns_.at(txn - 1); }

  [[nodiscard]] uint64_t count() const { return txns_.size(); }

  // 0: nobody began it.
  [[nodiscard]] uint64_t find(const TxnName& name) const;

  // The local database: the first decision holds; gives it.
  bool decide(uint64_t txn, bool commit);

  // Nobody works on it any more.
  void let_go(uint64_t txn) { txns_.at(txn - 1).in_hands = false; }

  // --- parts
  void part_arrived(uint64_t txn, uint32_t index, int64_t ns);

  struct PartAnswer {
    Answer answer = Answer::kOk;
    bool duplicate = false;
    int64_t arrived_ns = 0;  // the request
    int64_t left_ns = 0;
  };

  void part_answered(uint64_t txn, uint32_t index, const PartAnswer& answer);

  // --- ends; end_sent() gives a number for the next calls.
  uint64_t end_sent(uint64_t txn, bool commit, By by, uint32_t halves);
  // Messages that may be seen from now on.
  std::vector<uint64_t> end_arrived(uint64_t end, int64_t ns);
  void end_answered(uint64_t end, Answer answer, State state, int64_t left_ns);

  // --- check-backs
  struct Check {
    TxnName name;
    std::string reference;
    int64_t born_ms = 0;
    uint32_t checks = 0;
  };

  // Of a poll of this group and shard that was sent at `sent_ns` and answered at `left_ns`. Gives
  // the transaction.
  uint64_t asked(const std::string& group, ShardId shard, const Check& check, int64_t sent_ns,
                 int64_t left_ns);
  void recheck_arrived(uint64_t txn, int64_t ns);
  void recheck_answered(uint64_t txn, Answer answer, State state, int64_t sent_ns, int64_t left_ns);

  // --- what the broker shows
  struct ShownHalf {
    PartitionId partition;
    uint32_t index = 0;
    uint32_t messages = 0;
    bool delayed = false;
  };

  struct Shown {
    TxnName name;
    State state = State::kNone;
    std::string group;
    std::string reference;
    int64_t born_ms = 0;
    uint32_t timeout_ms = 0;
    uint32_t checks = 0;
    int64_t next_check_ms = 0;
    std::vector<ShownHalf> halves;
    std::vector<ShardId> shards;
  };

  // `shown` is what `shard` said at `left_ns`, asked at `sent_ns`.
  void shown(ShardId shard, const Shown& shown, int64_t sent_ns, int64_t left_ns);
  // It said that it knows nothing of it.
  void not_known(ShardId shard, uint64_t txn, int64_t sent_ns, int64_t left_ns);

  // A process began: log time may be less than when the last one ended, and an end that came then
  // may be done only now.
  void broker_started(ShardId shard, int64_t ns);

  // Of the broker's state right after recovery.
  struct Recovered {
    std::function<State(const TxnName&)> state;
    std::function<bool(const TxnName&, uint32_t index)> has_part;
  };

  void check_states(ShardId shard, int64_t ns, const Recovered& recovered) const;

  struct Range {
    uint64_t low = 0;
    uint64_t high = 0;
  };

  // How many `shard` coordinates that have not ended, in an answer to a request sent at `sent_ns`.
  [[nodiscard]] Range open(ShardId shard, int64_t sent_ns, int64_t left_ns) const;

  // --- messages
  // A reader got it in a reply. Messages of no transaction are not looked at.
  void seen(uint64_t uid, Offset offset, int64_t left_ns);
  // All that is in a partition at the end.
  void drained(PartitionId partition, bool retention, const std::vector<uint64_t>& uids);
  // The topic was deleted: nothing is promised of it any more.
  void forget(TopicId topic);

  // --- the end of a run: what was promised, over the drain of all partitions. `parked`: known to
  // be so.
  void check_end(const std::set<TxnName>& parked) const;
  // Something is known to be stored, and nobody knows what became of it; the broker must know.
  [[nodiscard]] std::vector<uint64_t> unknown(int64_t ns) const;
  // Parts of these transactions.
  [[nodiscard]] Range parts_of(const std::set<TxnName>& names) const;

  struct Counters {
    uint64_t parts_stored = 0;
    uint64_t committed = 0;
    uint64_t rolled_back = 0;
    uint64_t conflicts = 0;
    uint64_t fenced = 0;
    uint64_t checks = 0;
    uint64_t rechecks = 0;
    uint64_t forgotten = 0;
    uint64_t by_check = 0;
    uint64_t by_operator = 0;
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

  // Between checks, once `checks` were made.
  [[nodiscard]] static int64_t pause_ms(uint32_t timeout_ms, uint32_t checks);

 private:
  struct End {
    uint64_t txn = 0;
    bool commit = false;
    By by = By::kProducer;
    uint32_t halves = kAnyHalves;
    uint32_t stored = 0;     // on the coordinating shard, when it was sent
    bool was_ended = false;  // known when it was sent
    int64_t arrived_ns = INT64_MAX;
  };

  [[nodiscard]] static std::string describe(const Txn& txn);
  [[nodiscard]] std::string describe(const End& end) const;
  // How it ended may be forgotten by now.
  [[nodiscard]] bool is_old(const Txn& txn, int64_t ns) const;
  // Something about it has reached the broker, or it is there again.
  void note_arrival(Txn& txn, int64_t ns);
  void note_end(Txn& txn, ShardId shard, int64_t ns);
  // Delayed messages may count from now on.
  void count_delays(const Part& part, int64_t ns);
  // An answer tells how it ended.
  void learn(Txn& txn, State state, int64_t left_ns, const std::string& what);
  void end_done(const End& end, Txn& txn, State state, int64_t left_ns, const std::string& what);
  void end_refused(const End& end, Txn& txn, State state, int64_t left_ns, const std::string& what);
  static void check_halves(ShardId shard, const Txn& txn, const Shown& shown, int64_t sent_ns,
                           const std::string& what);
  void check_state(ShardId shard, const Txn& txn, int64_t ns, const Recovered& recovered) const;
  void check_agrees(const Txn& txn, bool parked) const;

  DelayModel& delays_;
  const Ages ages_;
  TxnFenceModel fences_;
  std::vector<Txn> txns_;
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> by_name_;  // by producer and number

  struct Place {
    uint64_t txn = 0;
    uint32_t part = 0;
  };

  std::map<uint64_t, Place> by_uid_;
  std::vector<End> ends_;
  Counters counters_;
};

}  // namespace tidemark::sim
