// A transaction as the client keeps it, its parts, and what travels from the program's threads to
// the I/O thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "clients/cpp/src/batch.h"
#include "clients/cpp/src/channel.h"
#include "clients/cpp/src/cluster.h"
#include "log/base/clock.h"
#include "tidemark/message.h"
#include "tidemark/transaction.h"

namespace tidemark::client_core {

// One for each topic a producer of transactions sends to; lives as long as its TxnBuffer.
struct TxnTopic {
  std::string name;
  // Guarded by the buffer's mutex.
  uint32_t id = 0;
  std::vector<uint16_t> shards;  // by partition; empty: not known yet
  uint32_t turn = 0;             // the next partition for messages without a key
  // I/O thread.
  const TopicMeta* meta = nullptr;  // owned by the cluster, stays
  uint64_t need_version = 0;        // metadata older than this is known to be wrong
  uint64_t seen_version = 0;
  bool asked = false;  // somebody waits for its metadata
};

// One record batch or one schedule set of a transaction.
struct TxnPart {
  Batch batch;
  TxnTopic* topic = nullptr;
  uint32_t index = 0;  // counts over the whole transaction, in the order in which parts were begun
  bool in_turn = false;  // its partition was not asked for
  uint16_t shard = 0;    // where it was sent
};

using TxnParts = std::vector<std::unique_ptr<TxnPart>>;

// Who waits for an answer. `direct`: in a call, not with a callback of the program.
template <typename Outcome>
struct TxnWaiter {
  std::function<void(const Outcome&)> callback;
  MonotonicTime deadline = kNever;
  int64_t timeout_ms = 0;  // what the deadline came from
  bool direct = false;
};

using PrepareWaiter = TxnWaiter<client::Status>;
using EndWaiter = TxnWaiter<client::TransactionEnd>;

//            parts of it leave             commit or rollback asked
//   kOpen ------------------> kOpen --+--> kParts (commit: until every part is stored) --+
//                                     +--------------------------------------------------+--> kEnd
//
// kEnd: a TxnEnd is on its way or waits to be tried again. It leads back to kOpen; with an outcome,
// if the broker told one.
enum class TxnPhase { kOpen, kParts, kEnd };

struct Txn {
  // Fixed at begin. An empty id: it could not begin, `failure` says why.
  uint64_t producer = 0;
  uint64_t number = 0;
  std::string reference;
  uint32_t timeout_ms = 0;

  struct Held {
    TxnTopic* topic = nullptr;
    client::OwnedMessage message;
    size_t charge = 0;
  };

  // --- What the program adds; guarded by `mutex`.
  std::mutex mutex;
  TxnParts open;          // by index
  std::deque<Held> held;  // behind a message to a topic that is not known yet
  uint32_t next_index = 0;
  uint32_t given = 0;  // parts given to the I/O thread
  // Where the first part goes: that shard coordinates.
  TxnTopic* home_topic = nullptr;
  uint32_t home_partition = 0;
  uint16_t home_shard = 0;
  Status failure;  // why it can only be rolled back
  bool prepared = false;
  bool dropped = false;           // the program has let go of it
  std::optional<bool> asked;      // commit (or rollback) was asked last
  bool ending = false;            // and is under way
  std::optional<bool> committed;  // how it ended
  bool counted = false;           // as an open one; guarded by the buffer's mutex

  // --- I/O thread.
  TxnPhase phase = TxnPhase::kOpen;
  bool holding = false;           // waits for metadata
  TxnTopic* waits_for = nullptr;  // of this topic
  uint32_t unresolved = 0;        // parts taken and not stored
  bool parts_wanted = true;       // false: parts that are not stored need not be any more
  bool sent = false;              // the broker may know of it
  uint32_t home_halves = 0;       // stored on the coordinating shard
  std::vector<uint16_t> shards;   // others that have parts, or may have
  Status part_failure;
  Status last_error;  // of parts
  std::vector<PrepareWaiter> preparing;
  std::vector<EndWaiter> waiting;
  bool end_commit = false;
  uint64_t end_serial = 0;  // of the attempt to end it; answers to others do not count
  uint32_t end_attempts = 0;
  bool end_in_flight = false;
  bool end_maybe_applied = false;
  Status end_error;
  MonotonicTime background_until = kNever;  // nobody waits for its end; kNever: it has no such end
  MonotonicTime listed_at = kNever;         // its place in the engine's list of deadlines

  [[nodiscard]] client::TransactionId id() const {
    return home_topic != nullptr
               ? client::TransactionId{.producer = producer, .number = number, .shard = home_shard}
               : client::TransactionId{};
  }
};

// What a program's thread tells the engine, in order.
struct TxnNews {
  enum class Kind { kParts, kHeld, kPrepare, kCommit, kRollback, kDrop };
  Kind kind = Kind::kParts;
  std::shared_ptr<Txn> txn;
  TxnParts parts = {};  // come before what is asked
  PrepareWaiter prepare = {};
  EndWaiter end = {};
  bool unsealed = false;  // kPrepare, kCommit: messages were held, so open parts are not sealed
  Status failure = {};    // kCommit: of the program's side
};

// kConflict: it has ended the other way.
inline Status recorded_otherwise(const client::TransactionId& id, bool committed) {
  return {ErrorCode::kConflict, "transaction " + id.to_string() + " is recorded as " +
                                    (committed ? "committed" : "rolled back")};
}

}  // namespace tidemark::client_core
