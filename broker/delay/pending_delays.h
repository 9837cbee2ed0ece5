// PendingDelays: every delayed message of a shard that is not delivered yet; a view over the log.
//
//   Schedule --add--> pending --take_due (Advance)--> delivered, by reference
//                        |  \--recurring--> pending again at its next time, same id
//                        +--cancel--> cancelled
//                        +--reschedule--> cancelled, and pending under a new id
//
// The entries are in a timing wheel ordered by (due, id); what an id's state is, is in DelayStates:
// a cancelled entry stays in the wheel until its time and is then passed over. An entry whose due
// time has passed when it arrives is due at once.
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the shard's loop, but
// what Delta and loads do on a worker (see timerwheel/tiered_wheel.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/delay/count_table.h"
#include "broker/delay/delay_states.h"
#include "broker/delay/delay_tag.h"
#include "broker/delay/recurrence.h"
#include "broker/kv/key_value_store.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "timerwheel/tiered_wheel.h"

namespace tidemark::delay {

// A message to be delivered later, as an applied record says.
struct NewDelay {
  uint64_t id = 0;
  int64_t due_ms = 0;
  LogPosition position;  // of its record batch
  DelayTag tag;
  std::string_view key = {};
  bool replace = false;
  std::optional<Recurrence> recurrence = {};
  int64_t next_due_ms = 0;  // recurring: the occurrence after due
  // False: the log has the message without its id (it came with a transaction), and whoever walks
  // over it asks rescheduled_at().
  bool named_in_log = true;
};

struct AddOutcome {
  bool key_taken = false;  // and nothing changed
  int64_t due_ms = 0;      // the effective one
};

// kMoved: it is pending, but no longer lies where the record says (relocation was faster); nothing
// changed, and who looks again finds it.
enum class ChangeOutcome : uint8_t { kNotFound, kDone, kAlreadyDelivered, kMoved };

// A pending message as a handle names it.
struct DelayName {
  uint64_t id = 0;
  int64_t due_ms = 0;
  TopicId topic;
  uint32_t tag = 0;
};

// A message whose time has come.
struct DueDelay {
  uint64_t id = 0;
  int64_t due_ms = 0;
  LogPosition position;
  DelayTag tag;
  bool recurring = false;
};

// A message that comes again and again.
struct Series {
  timerwheel::Entry entry;  // its pending occurrence
  Recurrence recurrence;
  int64_t next_due_ms = 0;  // the one after that; 0: not known yet
};

class PendingDelays {
 public:
  explicit PendingDelays(timerwheel::TieredOptions options = {});

  // --- applying
  AddOutcome add(const NewDelay& delay);
  ChangeOutcome cancel(const DelayName& name);
  // `position`: of its batch. `due_ms` becomes the effective one. Recurring ones: kNotFound.
  ChangeOutcome reschedule(const DelayName& name, LogPosition position, uint64_t new_id,
                           int64_t& due_ms);
  // Everything pending up to (now, until_id), at most `limit` entries of the wheel (cancelled ones
  // count), in order; they are delivered from now on. Requires: the wheel's horizon is beyond.
  void take_due(int64_t now_ms, uint64_t until_id, uint32_t limit, std::vector<DueDelay>& out);

  // What take_due() gave was not delivered after all. Requires: not recurring.
  void skipped(uint64_t id) { states_.set(id, DelayState::kCancelled); }

  // The occurrence behind the pending one; 0: the last one is pending. Nothing if it is known.
  void set_next(uint64_t id, int64_t next_due_ms);
  // The message lies at `position` from now on. Its entry in the wheel, which may be in the store,
  // stays as it is: the new position is kept beside it, see moved().
  void relocate(uint64_t id, int64_t due_ms, LogPosition position);
  // All that was pending below `position` was relocated; but for what was rescheduled under way,
  // under an id that no Relocate record names: the log is kept from there on, and relocated once
  // more.
  void relocated_below(LogPosition position);
  void drop_partition(PartitionId id);

  // --- looking
  [[nodiscard]] DelayState state(uint64_t id) const { return states_.get(id); }

  [[nodiscard]] uint64_t next_id() const { return next_id_; }

  // The pending message of a key, as its entry in the wheel.
  [[nodiscard]] const timerwheel::Entry* find_key(PartitionId partition,
                                                  std::string_view key) const;
  // nullptr: none.
  [[nodiscard]] const std::string* key_of(uint64_t id) const;
  [[nodiscard]] const Series* series_of(uint64_t id) const;

  // Recurring messages whose next occurrence but one is not known, in order of id.
  [[nodiscard]] const std::set<uint64_t>& want_next() const { return want_next_; }

  [[nodiscard]] timerwheel::TieredWheel& wheel() { return *wheel_; }

  [[nodiscard]] const timerwheel::TieredWheel& wheel() const { return *wheel_; }

  [[nodiscard]] uint64_t pending(PartitionId id) const { return partition_counts_.get(id); }

  [[nodiscard]] uint64_t pending_bytes(PartitionId id) const { return partition_bytes_.get(id); }

  [[nodiscard]] const std::map<PartitionId, uint64_t>& pending_counts() const {
    return partition_counts_.counts();
  }

  static constexpr int64_t kBucketMs = 65'536;

  struct Bucket {
    TopicId topic;
    int64_t number = 0;  // due / kBucketMs

    friend constexpr auto operator<=>(const Bucket&, const Bucket&) = default;
  };

  // Pending messages by topic and due time.
  [[nodiscard]] const std::map<Bucket, uint64_t>& buckets() const { return buckets_.counts(); }

  // The pending entry of a rescheduled message whose batch lies at `position`: the log has it there
  // under another id. nullptr: none.
  [[nodiscard]] const timerwheel::Entry* rescheduled_at(LogPosition position) const;

  [[nodiscard]] size_t rescheduled() const { return rescheduled_.size(); }

  // Some message was relocated, so that a position from elsewhere has to be asked about.
  [[nodiscard]] bool has_moved() const { return relocated_; }

  // Where the message of this key was relocated to, if memory knows; else patch() does.
  [[nodiscard]] std::optional<LogPosition> moved(timerwheel::Key key) const;

  // On a worker: gives entries (in key order) that were read from the store, or come from a handle,
  // the positions that the store has for them.
  static Status patch(kv::ReadView& view, std::span<timerwheel::Entry> entries);

  [[nodiscard]] size_t keyed() const { return keyed_.size(); }

  [[nodiscard]] size_t series() const { return series_.size(); }

  // First log position that a pending message may lie at; the largest one if there is none.
  [[nodiscard]] LogPosition low_position() const;

  // Wheel entries of messages that lie in the log before `position`.
  [[nodiscard]] uint64_t entries_below(LogPosition position) const;

  // About how many bytes of record batches are pending in the log before `position`: as many as the
  // wheel has entries there, of average size, but no more than are pending at all (entries of
  // cancelled messages stay in the wheel until their time).
  [[nodiscard]] uint64_t bytes_below(LogPosition position) const;

  [[nodiscard]] uint64_t hash() const;

  // --- checkpoint
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // At start. Requires: nothing added yet.
  Status load(kv::ReadView& view);

 private:
  using KeyedMap = std::map<std::pair<PartitionId, std::string>, timerwheel::Entry>;

  [[nodiscard]] int64_t effective_due(int64_t due_ms, uint64_t id) const;
  void insert(const timerwheel::Entry& entry);
  void count(const timerwheel::Entry& entry, bool add);
  void forget_special(uint64_t id);
  void forget_rescheduled(uint64_t id);
  void put_rescheduled(LogPosition position, const timerwheel::Entry& entry);
  void take(const timerwheel::Entry& entry, int64_t now_ms, std::vector<DueDelay>& out);
  void repeat(Series& series, int64_t now_ms);
  void end(const timerwheel::Entry& entry, DelayState state);
  [[nodiscard]] timerwheel::Entry entry_of(const DelayName& name) const;
  void put_key(KeyedMap::const_iterator it);
  // The key of `id`, if it has one, knows its entry from now on.
  void move_key(uint64_t id, const timerwheel::Entry& entry);
  [[nodiscard]] std::string encode_meta() const;
  void freeze_moved(kv::WriteBatch& batch);
  Status load_tables(kv::ReadView& view);
  Status load_keyed(std::string_view key, std::string_view value);
  Status load_rescheduled(std::string_view key, std::string_view value);
  Status load_series(std::string_view key, std::string_view value);

  static std::string partition_count_key(const PartitionId& id);
  static std::string partition_bytes_key(const PartitionId& id);
  static std::string bucket_key(const Bucket& bucket);
  static std::string extent_key(const uint64_t& extent);

  timerwheel::TieredOptions options_;
  std::unique_ptr<timerwheel::TieredWheel> wheel_;
  DelayStates states_;
  uint64_t next_id_ = 1;
  uint64_t pending_hash_ = 0;
  KeyedMap keyed_;
  std::unordered_map<uint64_t, KeyedMap::const_iterator> key_of_;
  std::map<uint64_t, Series> series_;
  std::set<uint64_t> want_next_;
  CountTable<PartitionId, partition_count_key> partition_counts_;
  CountTable<PartitionId, partition_bytes_key> partition_bytes_;
  CountTable<Bucket, bucket_key> buckets_;
  // Wheel entries by the part of the log where their messages lie.
  CountTable<uint64_t, extent_key> extents_;
  // By the position of their batches, and where that is.
  std::map<LogPosition, timerwheel::Entry> rescheduled_;
  std::unordered_map<uint64_t, LogPosition> rescheduled_at_;
  std::set<LogPosition> dirty_rescheduled_;
  std::set<LogPosition> frozen_rescheduled_;
  bool relocated_ = false;
  LogPosition relocated_below_;
  // New positions: of entries before the horizon, and those that no store has yet.
  std::map<timerwheel::Key, LogPosition> moved_;
  std::set<timerwheel::Key> dirty_moved_;
  std::set<timerwheel::Key> frozen_moved_;
  std::set<std::pair<PartitionId, std::string>> dirty_keys_;
  std::set<std::pair<PartitionId, std::string>> frozen_keys_;
  std::set<uint64_t> dirty_series_;
  std::set<uint64_t> frozen_series_;
  std::vector<timerwheel::Entry> popped_;
};

}  // namespace tidemark::delay
