// TxnTable: the transactions of a shard that have not ended; a view over the log.
//
//                  half, join                  park (too old)
//   (not known) ---------------> open ------------------------> parked
//                                 | \ <------------------------- / |
//                                 |        recheck (operator)      |
//                                 +---- commit --> committed <-----+
//                                 +-- roll back -> rolled back <---+
//
// Ended ones leave the table; how they ended stays in OutcomeTable for a while. A rollback of what
// is not known is an end, too: a half message that comes later finds it ended. A commit of what is
// not known is refused.
//
// One shard coordinates a transaction: its end is the commit point, it does the check-backs, and it
// remembers in `unconfirmed` which other shards have yet to follow. Another shard that has half
// messages (a participant) only keeps them until it is told.
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the shard's loop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "broker/txn/outcome_table.h"
#include "broker/txn/txn_key.h"
#include "log/base/coding.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::txn {

// A delayed message of a stored part. Its delay counts from the commit.
struct HalfItem {
  bool at = false;  // `due_ms` is wall time, not a delay
  int64_t due_ms = 0;
  uint32_t offset = 0;  // of its batch within the set
  uint32_t bytes = 0;   // of its batch
  std::string key = {};

  friend bool operator==(const HalfItem&, const HalfItem&) = default;
};

// A stored part of a transaction.
struct Half {
  uint32_t index = 0;
  PartitionId partition;
  LogPosition position;  // of the batch or the schedule set
  uint32_t bytes = 0;
  uint32_t messages = 0;
  std::vector<HalfItem> items = {};  // of a schedule set

  friend bool operator==(const Half&, const Half&) = default;
};

// Transactions of one producer group that may be checked, in order of their time.
struct Group {
  std::string name;
  size_t users = 0;   // transactions, those that another shard coordinates included
  uint64_t open = 0;  // that this shard coordinates
  uint64_t parked = 0;
  // Open ones by (next check, key): equal times have an order, too.
  std::set<std::pair<int64_t, TxnKey>> checks;
  std::set<std::pair<int64_t, TxnKey>> by_birth;  // open and parked
};

struct Transaction {
  TxnKey key;
  ShardId coordinator;
  TxnState state = TxnState::kOpen;  // or kParked
  Group* group = nullptr;
  std::string reference;
  int64_t born_ms = 0;
  int64_t pending_since_ms = 0;  // born, or rechecked by an operator: what parking goes by
  uint32_t timeout_ms = 0;
  uint32_t checks = 0;
  int64_t next_check_ms = 0;
  std::vector<Half> halves;           // by index
  std::vector<ShardId> participants;  // others, by number; on the coordinator

  // nullptr: none of this index.
  [[nodiscard]] const Half* find_half(uint32_t index) const;
};

// How transactions are named when they begin on a shard.
struct Birth {
  TxnKey key;
  ShardId coordinator;
  std::string_view group;
  std::string_view reference;
  int64_t born_ms = 0;
  uint32_t timeout_ms = 0;
};

struct HalfOutcome {
  // kConflict: the transaction has ended (`state`), or has another coordinator; nothing changed.
  ErrorCode error = ErrorCode::kOk;
  bool duplicate = false;  // a part with this index was stored before
  bool first = false;      // of this transaction on this shard
  TxnState state = TxnState::kOpen;
};

struct EndOutcome {
  // kConflict: ended the other way before, or the parts are not those that were named, or another
  // shard coordinates; kNotFound: commit of what is not known; kUnavailable: more delayed messages
  // came than ids are at hand for, another try has them.
  ErrorCode error = ErrorCode::kOk;
  bool done = false;  // it ended now; else it had ended in this way before
  TxnState state = TxnState::kNone;
  uint32_t halves_stored = 0;         // for the sentence of the error
  std::vector<Half> halves;           // done: its parts, by index
  std::vector<ShardId> participants;  // done: who has to follow
};

class TxnTable {
 public:
  explicit TxnTable(ShardId shard) : shard_(shard) {}

  TxnTable(const TxnTable&) = delete;
  TxnTable& operator=(const TxnTable&) = delete;

  // --- applying
  HalfOutcome add_half(const Birth& birth, Half half);
  // Another shard has parts. kConflict: ended, see `state`.
  HalfOutcome join(const Birth& birth, ShardId participant);

  struct End {
    TxnKey key;
    bool commit = false;
    bool coordinator = false;  // this shard's word decides
    uint32_t halves = UINT32_MAX;
    uint32_t delayed = UINT32_MAX;           // delayed messages that ids are at hand for
    std::vector<ShardId> participants = {};  // besides those that joined
    int64_t now_ms = 0;
  };

  EndOutcome end(const End& end);
  void confirm(const TxnKey& key, ShardId participant);
  // A producer was asked at this time: the next check is further away.
  void checked(const TxnKey& key, int64_t now_ms);
  // False: it is not open (any more).
  bool park(const TxnKey& key);
  // Open, and due for a check at once. kConflict: ended; kNotFound.
  ErrorCode recheck(const TxnKey& key, int64_t now_ms);
  void relocate(const TxnKey& key, uint32_t index, LogPosition position);

  void forget_outcomes(int64_t before_ms) { outcomes_.forget_before(before_ms); }

  // --- looking
  [[nodiscard]] const Transaction* find(const TxnKey& key) const;
  // kNone: not known.
  [[nodiscard]] TxnState state(const TxnKey& key) const;

  [[nodiscard]] const std::map<TxnKey, Transaction>& all() const { return open_; }

  [[nodiscard]] const std::map<std::string, std::unique_ptr<Group>, std::less<>>& groups() const {
    return groups_;
  }

  [[nodiscard]] const Group* find_group(std::string_view name) const;

  [[nodiscard]] const OutcomeTable& outcomes() const { return outcomes_; }

  // Open ones that this shard coordinates, pending longest first.
  [[nodiscard]] const std::set<std::pair<int64_t, TxnKey>>& by_age() const { return by_age_; }

  // Ended ones with shards that have not followed.
  struct Unconfirmed {
    bool commit = false;
    std::vector<ShardId> shards;
  };

  [[nodiscard]] const std::map<TxnKey, Unconfirmed>& unconfirmed() const { return unconfirmed_; }

  // Transactions coordinated elsewhere.
  [[nodiscard]] const std::set<TxnKey>& foreign() const { return foreign_; }

  struct Place {
    TxnKey key;
    uint32_t index = 0;
  };

  // Where parts lie.
  [[nodiscard]] const std::map<LogPosition, Place>& by_position() const { return by_position_; }

  // Open and parked ones, whoever coordinates them.
  [[nodiscard]] size_t size() const { return open_.size(); }

  [[nodiscard]] uint64_t parked() const { return parked_; }

  [[nodiscard]] uint64_t half_bytes() const { return half_bytes_; }

  // Delayed messages in all parts.
  [[nodiscard]] uint64_t delayed() const { return delayed_; }

  // First position that a part lies at; the largest one if there is none.
  [[nodiscard]] LogPosition low_position() const;

  [[nodiscard]] uint64_t hash() const;

  // Pause between checks: the timeout times 1.5 for each check made, up to five minutes (or the
  // timeout, if that is longer).
  static int64_t check_pause_ms(uint32_t timeout_ms, uint32_t checks);

  // --- checkpoint: keys "H" transaction, "U" unconfirmed end; and those of OutcomeTable
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // Requires: empty.
  Status load(kv::ReadView& view);

 private:
  Transaction& begin(const Birth& birth);
  Transaction* open_or_begin(const Birth& birth, HalfOutcome& outcome);
  Group& use_group(std::string_view name);
  void enlist(Transaction& txn);
  void delist(Transaction& txn);

  void touch(const TxnKey& key) { dirty_.insert(key); }

  void remove(std::map<TxnKey, Transaction>::iterator it);
  // One that this shard coordinates; nullptr: none.
  Transaction* find_own(const TxnKey& key);
  [[nodiscard]] TxnState ended_state(const TxnKey& key) const;
  static std::vector<uint8_t> encode(const Transaction& txn);
  // False: in no state that is stored.
  bool load_transaction(const TxnKey& key, ByteReader& reader);

  ShardId shard_;
  std::map<TxnKey, Transaction> open_;
  std::map<std::string, std::unique_ptr<Group>, std::less<>> groups_;
  std::set<std::pair<int64_t, TxnKey>> by_age_;
  std::set<TxnKey> foreign_;
  std::map<LogPosition, Place> by_position_;
  uint64_t half_bytes_ = 0;
  uint64_t delayed_ = 0;
  uint64_t parked_ = 0;
  OutcomeTable outcomes_;
  std::map<TxnKey, Unconfirmed> unconfirmed_;
  // What changed since the last checkpoint, and what the store has.
  std::set<TxnKey> dirty_;
  std::set<TxnKey> frozen_;
  std::unordered_set<TxnKey> stored_;
  std::set<TxnKey> dirty_unconfirmed_;
  std::set<TxnKey> frozen_unconfirmed_;
  std::unordered_set<TxnKey> stored_unconfirmed_;
};

}  // namespace tidemark::txn
