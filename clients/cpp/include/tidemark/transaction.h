// Transactions: messages that become visible together with a local transaction of the program, or
// not at all.
//
//   auto producer = TransactionProducer::create(client, {.group = "orders", .check = look_up});
//   Transaction txn = producer->begin({.reference = "order 17"});
//   txn.send("orders", {.key = "17", .value = "created"});
//   if (txn.prepare().ok()) {          // the broker has the messages; nobody sees them
//     bool done = local_transaction(txn.id().to_string());   // e.g. a row with the id, in SQL
//     done ? txn.commit() : txn.rollback();
//   }
//
// Life of a transaction:
//
//   begun --send--> half messages --prepare ok--> prepared --commit--> committed: all visible
//                        \                           |  \--rollback--> rolled back: none ever
//                         \-- error: roll it back    |
//                                                    \-- program gone: the broker asks any producer
//                                                        of the group (check) until it is told
//
// Promises: messages of a transaction become visible all or none, on however many partitions, and
// only after commit; what commit() and rollback() answer holds for ever; a commit that comes twice
// makes them visible once; a commit after a rollback (or the reverse) is refused with kConflict and
// changes nothing. Messages of one transaction and partition are stored in the order of send().
// A delayed half message counts its delay from the commit.
//
// The program does its local transaction between prepare() and commit(), and writes down in it the
// id or its own reference, so that its check function can tell later whether it was done.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tidemark/client.h"
#include "tidemark/error.h"
#include "tidemark/message.h"
#include "tidemark/producer.h"

namespace tidemark::client {

// Names a transaction for ever.
struct TransactionId {
  uint64_t producer = 0;
  uint64_t number = 0;  // epoch of the producer in the high 16 bits, below it a count from 1
  uint16_t shard = 0;   // the one whose log decides

  // "<producer>-<epoch>-<count>-<shard>", e.g. "7-0-1234-1"; empty for an empty id.
  [[nodiscard]] std::string to_string() const;
  // kInvalidArgument for a text that is no id.
  static Result<TransactionId> parse(std::string_view text);

  [[nodiscard]] bool empty() const { return number == 0; }

  friend auto operator<=>(const TransactionId&, const TransactionId&) = default;
};

// What a check function says about a local transaction.
enum class CheckAnswer {
  kCommitted,     // it was done: the messages become visible
  kNotCommitted,  // it was not done and never will be: they are rolled back
  kUnknown,       // it may still be under way: ask again later
};

// An undecided transaction of the producer group; not necessarily begun by this process.
struct CheckRequest {
  TransactionId id;
  std::string reference;
  int64_t born_ms = 0;      // when the broker got its first message, ms since 1970
  uint32_t checks = 0;      // times it was asked about, this one included
  int64_t deadline_ms = 0;  // time for the answer; a later one counts as kUnknown
};

using CheckFunction = std::function<CheckAnswer(const CheckRequest&)>;

struct TransactionOptions {
  // Producers of one group answer for each other. Required; at most 255 bytes.
  std::string group;
  // Names this producer within its group, at most 255 bytes. Creating a second producer of the same
  // group and instance fences the first: whatever it still sends is refused with kFenced. Empty:
  // not fenced by anybody.
  std::string instance = {};
  // Asked about transactions of the group whose outcome the broker was not told. Runs on the
  // client's executor (ClientOptions::executor), else on a thread of the producer's own; one call
  // at a time. It may block. Empty: this producer is never asked.
  CheckFunction check = {};
  int64_t check_deadline_ms = 5'000;

  // Before the broker asks about a transaction for the first time (100 ms to 24 h), from its first
  // message on; then it asks in growing intervals, up to 5 minutes. See BeginOptions::timeout_ms.
  int64_t timeout_ms = 6'000;

  // Bounds of what is accepted and not yet resolved, over all open transactions.
  size_t buffer_bytes_max = size_t{64} << 20;
  // Transactions that have not ended; begin() beyond it gives one whose calls fail with
  // kOverloaded.
  size_t open_max = 65'536;
  // Messages of one transaction and partition travel in batches of about this size.
  size_t batch_bytes = size_t{256} << 10;
  Compression compression = Compression::kNone;
  int compression_level = 1;  // zstd, 1 to 19

  // How long stored and answered is tried for: prepare, commit and rollback without a deadline of
  // their own.
  int64_t delivery_timeout_ms = 30'000;
  int64_t retry_backoff_min_ms = 20;
  int64_t retry_backoff_max_ms = 1'000;
  // What the destructor waits for ends that are under way.
  int64_t close_timeout_ms = 5'000;
};

struct BeginOptions {
  // What the program knows the transaction by, e.g. the number of an order: comes back in
  // CheckRequest, shown by `tidemark txn list`. At most 255 bytes.
  std::string reference = {};
  std::optional<int64_t> timeout_ms = {};  // instead of TransactionOptions::timeout_ms
};

// How a transaction ended, or why that is not known.
struct TransactionEnd {
  // Ok: it has ended as asked. kConflict: it had ended the other way before. kNotFound: the broker
  // does not know it (any more). kFenced: a newer producer took over; check-backs decide.
  // outcome_unknown(): it may have taken effect; the same call may be repeated, and check-backs
  // decide if it is not.
  Status status;
  TransactionId id;
};

using EndCallback = std::function<void(const TransactionEnd&)>;

class TransactionProducerImpl;
struct TransactionState;

// One transaction. Moves, does not copy. Thread: one at a time.
// The destructor rolls back what was neither committed nor rolled back, without waiting for it.
class Transaction {
 public:
  ~Transaction();
  Transaction(Transaction&&) noexcept;
  Transaction& operator=(Transaction&&) noexcept;

  // Adds a message. Ok: it is on its way. Errors as Producer::send(), but kOverloaded comes at once
  // when the buffer is full; kConflict after commit() or rollback(). Recurring delays are not
  // allowed, and a delay with a key must replace (Delay::OnPending::kReplace): what happens at the
  // commit must not depend on others. After an error the transaction can only be rolled back.
  Status send(std::string_view topic, const Message& message);

  // Waits until the broker has every message, as durably as its fsync policy says: from now on the
  // transaction survives any crash, and somebody is asked about it. An error: some message is not
  // stored or may not be; roll back. Not from the I/O thread. -1: delivery_timeout_ms.
  Status prepare(int64_t deadline_ms = -1);
  // The same without waiting; the callback comes on the client's executor or I/O thread, once.
  void prepare(std::function<void(const Status&)> callback);

  // Makes all messages visible. Prepares first if that was not done. Not from the I/O thread.
  TransactionEnd commit(int64_t deadline_ms = -1);
  void commit(EndCallback callback);
  TransactionEnd rollback(int64_t deadline_ms = -1);
  void rollback(EndCallback callback);

  // Empty until prepare() was ok: the first message's partition decides where it is coordinated.
  [[nodiscard]] TransactionId id() const;

 private:
  friend class TransactionProducer;
  explicit Transaction(std::shared_ptr<TransactionState> state);

  std::shared_ptr<TransactionState> state_;
};

struct TransactionStats {
  uint64_t open = 0;  // begun here and not ended
  uint64_t begun = 0;
  uint64_t committed = 0;
  uint64_t rolled_back = 0;
  uint64_t failed = 0;  // ends whose answer was an error
  uint64_t checks = 0;  // asked of this producer
  uint64_t checks_unknown = 0;
};

// Thread: every member may be called from any thread.
class TransactionProducer {
 public:
  // Waits for its identity from the broker, at most `deadline_ms`: with an instance, older
  // producers of its name are fenced when it returns. kInvalidArgument names the option that is
  // wrong.
  static Result<TransactionProducer> create(const Client& client, TransactionOptions options,
                                            int64_t deadline_ms = 10'000);
  // close(close_timeout_ms).
  ~TransactionProducer();
  TransactionProducer(TransactionProducer&&) noexcept;
  TransactionProducer& operator=(TransactionProducer&&) noexcept;

  Transaction begin(BeginOptions options = {});

  // Waits until every commit and rollback under way is answered, at most `deadline_ms` (kTimedOut),
  // and answers no more check-backs. Transactions that are open stay so: check-backs decide.
  Status close(int64_t deadline_ms);

  [[nodiscard]] TransactionStats stats() const;

 private:
  explicit TransactionProducer(std::shared_ptr<TransactionProducerImpl> impl);

  std::shared_ptr<TransactionProducerImpl> impl_;
};

// --- for operators ---

// kNone: the broker does not know it.
enum class TransactionStateKind { kNone, kOpen, kParked, kCommitted, kRolledBack };

// "none", "open", "parked", "committed", "rolled_back".
std::string_view transaction_state_text(TransactionStateKind state);

struct TransactionPart {
  std::string topic;  // "#7" for the id of a topic that is gone
  uint32_t partition = 0;
  uint16_t shard = 0;
  uint32_t index = 0;
  uint32_t messages = 0;
  uint32_t bytes = 0;
  bool delayed = false;
};

struct TransactionInfo {
  TransactionId id;
  TransactionStateKind state = TransactionStateKind::kNone;
  std::string group;
  std::string reference;
  int64_t born_ms = 0;
  int64_t timeout_ms = 0;
  uint32_t checks = 0;
  std::optional<int64_t> next_check_ms;
  // list(): parts on the coordinating shard; show(): on every shard.
  std::vector<TransactionPart> parts;
  std::vector<uint16_t> shards;  // others that have parts, as far as known
};

struct TransactionQuery {
  std::string group = {};
  TransactionStateKind state = TransactionStateKind::kNone;  // kOpen, kParked; kNone: both
  std::string topic = {};
  int64_t born_before_ms = INT64_MAX;
  uint32_t limit = 100;  // 1 to 10,000
};

struct TransactionGroupStats {
  std::string group;
  uint64_t open = 0;
  uint64_t parked = 0;
  uint32_t producers = 0;  // that can be asked
  std::optional<int64_t> oldest_born_ms;
};

struct TransactionTotals {
  int64_t now_ms = 0;                         // of the brokers
  std::vector<TransactionGroupStats> groups;  // by name
  uint64_t open = 0;
  uint64_t parked = 0;
  uint64_t halves = 0;  // stored batches that wait for an outcome
  uint64_t half_bytes = 0;
  uint64_t unconfirmed = 0;  // ended ones that some shard has not followed yet
  // Since the brokers started:
  uint64_t begun = 0;
  uint64_t committed = 0;
  uint64_t rolled_back = 0;
  uint64_t checks = 0;
  uint64_t parkings = 0;
  uint64_t refused = 0;
};

// What became of one transaction that an operator touched.
struct TransactionChange {
  Status status;                                             // as TransactionEnd::status
  TransactionStateKind state = TransactionStateKind::kNone;  // as recorded
};

// Thread: any, except the client's I/O thread (kInvalidArgument). Every call waits for its answer,
// at most deadline_ms; passing failures are tried again until then (ends are idempotent).
class Transactions {
 public:
  static Result<Transactions> create(const Client& client);

  // Transactions that have not ended, oldest first as far as one page goes.
  Result<std::vector<TransactionInfo>> list(const TransactionQuery& query = {},
                                            int64_t deadline_ms = 10'000);
  // kNotFound. Of an ended one only id and state are known.
  Result<TransactionInfo> show(const TransactionId& id, int64_t deadline_ms = 10'000);
  // One answer per id, in order. At most 1,024 travel in one request; more are sent in several.
  Result<std::vector<TransactionChange>> commit(const std::vector<TransactionId>& ids,
                                                int64_t deadline_ms = 10'000);
  Result<std::vector<TransactionChange>> rollback(const std::vector<TransactionId>& ids,
                                                  int64_t deadline_ms = 10'000);
  // Parked ones are open again; a producer is asked at once.
  Result<std::vector<TransactionChange>> recheck(const std::vector<TransactionId>& ids,
                                                 int64_t deadline_ms = 10'000);
  Result<TransactionTotals> stats(int64_t deadline_ms = 10'000);

 private:
  explicit Transactions(Client client) : client_(std::move(client)) {}

  Client client_;
};

}  // namespace tidemark::client
