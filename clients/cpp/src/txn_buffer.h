// The program's side of transactions: encodes messages into the open parts of their transaction,
// within a hard budget, and hands parts, commits and rollbacks to the engine.
//
// Thread: what is not marked "I/O" from any thread. Each transaction has a mutex of its own, held
// for the time of one record's (at a seal: one batch's) encoding; the buffer's mutex is taken
// inside it, for moments. Neither is held while callbacks run.
//
// A message to a topic whose partitions are not known is held, and so is all that follows it in its
// transaction, so that the order stays; the engine places them once it knows.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clients/cpp/src/message_input.h"
#include "clients/cpp/src/txn_state.h"
#include "log/base/clock.h"
#include "log/base/result.h"

namespace tidemark::client_core {

struct TxnBufferOptions {
  std::string group = {};
  Identity identity = {};
  int64_t timeout_ms = 6'000;
  size_t buffer_bytes_max = size_t{64} << 20;
  size_t open_max = 65'536;
  size_t batch_bytes = size_t{256} << 10;
  format::Codec codec = format::Codec::kNone;
  int zstd_level = 1;
  int64_t delivery_timeout_ms = 30'000;
};

// kInvalidArgument names what is wrong.
Status check_txn_text(std::string_view name, std::string_view value, size_t bytes_min);

class TxnBuffer : public std::enable_shared_from_this<TxnBuffer> {
 public:
  // `wake` makes the I/O thread look; `post` runs a task there, never inside the call. `dispatch`
  // empty: callbacks run on the I/O thread.
  struct Hooks {
    std::function<void()> wake;
    std::function<void(std::function<void()>)> post;
    Dispatcher dispatch;
  };

  TxnBuffer(TxnBufferOptions options, Clock& clock, Hooks hooks);
  TxnBuffer(const TxnBuffer&) = delete;
  TxnBuffer& operator=(const TxnBuffer&) = delete;

  [[nodiscard]] const TxnBufferOptions& options() const { return options_; }

  std::shared_ptr<Txn> begin(client::BeginOptions options);
  Status send(const std::shared_ptr<Txn>& txn, std::string_view topic,
              const client::Message& message);
  // Deadlines of waiters: -1 means delivery_timeout_ms.
  void prepare(const std::shared_ptr<Txn>& txn, PrepareWaiter waiter, int64_t deadline_ms);
  void end(const std::shared_ptr<Txn>& txn, bool commit, EndWaiter waiter, int64_t deadline_ms);
  // The program lets go of it: rolled back, without anybody waiting, unless an end was asked for.
  void drop(const std::shared_ptr<Txn>& txn);
  // Empty until it is prepared.
  [[nodiscard]] static client::TransactionId id(Txn& txn);

  // Everything but reports fails from now on.
  void close();
  // Waits until every end under way is reported; false when the time is over.
  bool wait_ends(int64_t timeout_ms);
  // Callbacks that have not begun to run will not.
  void silence();
  [[nodiscard]] client::TransactionStats stats() const;

  // --- I/O
  std::vector<TxnNews> take_news();
  // What is known of a topic: where its partitions are; none: not known (any more).
  void learn(TxnTopic& topic, uint32_t id, std::vector<uint16_t> shards);
  // Places what is held as far as topics are known; sealed parts go to `out`. Null: all is placed;
  // else the topic to be known next. An error fails the transaction.
  Result<TxnTopic*> place_held(Txn& txn, TxnParts& out);
  // Seals all open parts.
  Status seal_open(Txn& txn, TxnParts& out);
  // The part's share of the budget, once it is stored or given up.
  void release(TxnPart& part);
  // The transaction can only be rolled back now.
  void set_failure(Txn& txn, const Status& why);
  void set_prepared(Txn& txn);
  // An end that nobody asked for goes on in the background.
  void begin_background_end(Txn& txn);
  // An end is no longer under way; `committed`: how it ended, if that is known.
  void set_ended(Txn& txn, std::optional<bool> committed, bool forget);
  void end_done();
  void count_end(bool commit, bool ok);
  void count_check(bool unknown);
  // A newer producer has taken over.
  void fence(const Status& why);
  void report(PrepareWaiter waiter, const client::Status& status);
  void report(EndWaiter waiter, const client::TransactionEnd& end);

 private:
  using Lock = std::unique_lock<std::mutex>;

  // A message as the builders take it.
  struct Entry {
    RecordHeaders headers;
    format::RecordInput record;
    format::ScheduleItem item;
    bool delayed = false;
    size_t charge = 0;

    [[nodiscard]] const format::ScheduleItem* scheduled() const {
      return delayed ? &item : nullptr;
    }
  };

  // Ok, or why nothing more is taken: closed, fenced.
  [[nodiscard]] Status gate() const;
  Result<TxnTopic*> topic(std::string_view name);
  Status reserve(size_t bytes);
  Status fill(const client::Message& message, Entry& entry) const;
  // True: the message is the first one held.
  Result<bool> take(Txn& txn, std::string_view topic, const client::Message& message,
                    TxnParts& out);
  Status place(Txn& txn, TxnTopic& topic, const Entry& entry, std::optional<uint32_t> asked,
               TxnParts& out);
  Result<uint32_t> take_turn(Txn& txn, TxnTopic& topic, const Entry& entry, TxnParts& out);
  [[nodiscard]] bool suits(const TxnPart& part, const Entry& entry) const;
  Status begin_part(Txn& txn, TxnTopic& topic, uint32_t partition, const Entry& entry);
  Status seal_one(Txn& txn, size_t at, TxnParts& out);
  Status seal_all(Txn& txn, TxnParts& out);
  void discard(Txn& txn);
  void push(TxnNews news);
  void leave(Txn& txn);
  template <typename Waiter>
  void set_deadline(Waiter& waiter, int64_t deadline_ms) const;
  // Answers without the engine.
  template <typename Waiter, typename Outcome>
  void answer_here(Waiter waiter, Outcome outcome);
  // How an end that needs no broker is answered; nullopt: it needs one. With txn.mutex held.
  std::optional<client::TransactionEnd> end_here(Txn& txn, bool commit);
  void run(bool direct, std::function<void()> callback);
  [[nodiscard]] bool silent() const;

  TxnBufferOptions options_;
  Clock& clock_;
  Hooks hooks_;

  mutable std::mutex mutex_;
  std::condition_variable ended_;
  bool closed_ = false;
  bool silent_ = false;
  Status fenced_;
  uint64_t next_count_ = 1;
  size_t buffered_bytes_ = 0;
  uint64_t ends_under_way_ = 0;  // not reported yet
  std::map<std::string, std::unique_ptr<TxnTopic>, std::less<>> topics_;
  std::vector<TxnNews> news_;
  BuilderPool builders_;
  client::TransactionStats stats_;
};

}  // namespace tidemark::client_core
