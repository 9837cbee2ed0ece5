// Queue mode without threads: leases messages ahead, hands them out, and sees to it that what is
// settled reaches the broker.
//
// A lease:
//   kAhead --next()--> kTaken --settle(), drop()--> kSettling --answered--> gone
//     |  its time is over: gone                         (an ack, nack or dead letter)
//     +------------- stop(): given back --------------> kSettling
//
// Budget: leases that are there plus messages that are asked for never exceed in_flight_max; bytes
// likewise, but for one message per request. A shard has one request at a time, with all of its
// partitions; one that had nothing lately asks for a small part of the budget, so that idle shards
// do not hold it.
//
// Time is counted from when a request was sent, so a lease is never believed to be longer than it
// is; for the same reason the broker holds a request for at most a quarter of the visibility time.
//
// Thread: run() and answers on the I/O thread, the rest from any thread: one mutex guards
// everything, held only for bookkeeping.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "clients/cpp/src/cluster.h"
#include "clients/cpp/src/queue_message.h"
#include "clients/cpp/src/queue_settler.h"

namespace tidemark::client_core {

struct QueueEngineOptions {
  std::string group = {};
  std::vector<std::string> topics = {};
  int64_t visibility_ms = 30'000;
  size_t in_flight_max = 256;
  size_t prefetch_bytes_max = size_t{8} << 20;
  int64_t auto_extend_ms = 0;
  std::vector<std::string> tags = {};
  std::string filter = {};
  bool ordered = false;
  bool from_end = false;
  int64_t receive_wait_ms = 500;
};

struct QueueEngineHooks {
  std::function<void()> wake;  // makes the I/O thread run the engine
  // Runs a callback of the program later, on the I/O thread or the executor.
  std::function<void(std::function<void()>)> post;
};

class QueueEngine final : public Component, public std::enable_shared_from_this<QueueEngine> {
 public:
  using State = std::unique_ptr<client::QueueMessageState>;

  QueueEngine(QueueEngineOptions options, QueueEngineHooks hooks, Cluster& cluster, uint64_t seed);

  // --- I/O ---
  MonotonicTime run(MonotonicTime now) override;

  // --- any thread ---

  // The next message; null: none came within the time. Errors: see QueueConsumer::receive().
  Result<State> next(int64_t timeout_ms);
  // Of the calls that end a lease the first one counts; a later one is told kConflict.
  void settle(uint64_t lease, protocol::fbs::QueueAction action, int64_t delay_ms,
              std::string reason, client::QueueMessage::Settled settled);
  // The program threw it away: a nack, unless it is settled.
  void drop(uint64_t lease);
  // 0: over, or settled.
  [[nodiscard]] int64_t lease_left_ms(uint64_t lease) const;

  void pause(bool paused);
  [[nodiscard]] size_t in_flight() const;
  [[nodiscard]] Status last_error() const;

  // Everything settled so far belongs to a generation; whether all of it is answered.
  uint64_t flush_point();
  [[nodiscard]] bool flushed(uint64_t point) const;
  // False: not within the time.
  bool wait_flushed(uint64_t point, int64_t timeout_ms);
  // The first failure since this was asked.
  Status take_failure();

  // Takes no more; what is leased ahead is given back. next() says kShuttingDown.
  void stop();
  // After stop(): no request for messages is under way, nor a settlement.
  [[nodiscard]] bool drained() const;
  bool wait_drained(int64_t timeout_ms);
  // After stop(): nothing more is sent.
  void close();

 private:
  enum class Stage { kAhead, kTaken, kSettling };

  struct Lease {
    QueuePlace place;
    uint64_t offset = 0;
    uint64_t token = 0;
    size_t bytes = 0;
    Stage stage = Stage::kAhead;
    MonotonicTime ends{};
    MonotonicTime came{};
    Session* from = nullptr;
    bool extending = false;  // by us
    bool lost = false;       // the broker said so
  };

  struct Partition {
    QueuePlace place;
    PartitionHome home;
    MonotonicTime retry_at{};
    Backoff backoff{20 * kNsPerMs, 1'000 * kNsPerMs};
  };

  struct TopicState {
    std::shared_ptr<const std::string> name;
    uint32_t id = 0;
    uint64_t version = 0;
    uint64_t need_version = 0;
    MonotonicTime retry_at{};
    Backoff backoff{100 * kNsPerMs, 5'000 * kNsPerMs};
    std::vector<std::shared_ptr<Partition>> partitions;
  };

  // A shard that is asked for messages.
  struct Source {
    bool busy = false;
    bool hot = true;      // the last answer had messages
    uint64_t losses = 0;  // of the session, when it was looked at
    MonotonicTime retry_at{};
    Backoff backoff{20 * kNsPerMs, 1'000 * kNsPerMs};
  };

  // A request under way.
  struct Asked {
    Session* session = nullptr;
    std::vector<std::shared_ptr<Partition>> partitions;
    size_t messages = 0;
    size_t bytes = 0;
    int64_t wait_ms = 0;
    MonotonicTime sent_at{};
  };

  using Lock = std::unique_lock<std::mutex>;

  // Requires: the lock.
  void look_up(MonotonicTime now);
  void look_up_topic(TopicState& topic, MonotonicTime now);
  void ask(MonotonicTime now);
  void ask_shares(std::vector<Asked>& groups, MonotonicTime now);
  void send_receive(Asked asked);
  void on_receive(const Asked& asked, Reply reply);
  void take_part(const Asked& asked, size_t index, const protocol::fbs::QueuePartReply& part,
                 ByteView batches);
  void take_message(const Asked& asked, Partition& partition, LeasedMessage message,
                    const std::string& damage);
  // A message came again whose ack is still on its way: it is not shown twice.
  bool renew_acked(const Asked& asked, const QueuePlace& place,
                   const protocol::fbs::QueueLease& lease);
  // An error of a request or of a part of it.
  void on_error(Partition& partition, const Status& status, uint32_t retry_after_ms);
  void note_error(const Status& status);
  void extend_taken(MonotonicTime now);
  void drop_ended(MonotonicTime now);
  void give_back_lost();
  void queue_settlement(uint64_t number, Lease& lease, Settlement settlement);
  void take_answers();
  // True: it is to be sent once more, for a newer lease.
  bool take_newer_lease(Settlement& settlement, const Status& status);
  void answer_lease(const Settlement& settlement, const Status& status);
  void forget(uint64_t number);
  void tell(client::QueueMessage::Settled settled, const Status& outcome);
  [[nodiscard]] MonotonicTime next_run(MonotonicTime now) const;
  [[nodiscard]] bool is_drained() const;
  State take_ready();
  void send_settle(Session& session, ByteView table, std::vector<Settlement> items);
  [[nodiscard]] size_t free_messages() const;
  [[nodiscard]] size_t free_bytes() const;
  // Unlocks, then posts callbacks.
  void unlock_and_tell(Lock& lock);

  QueueEngineOptions options_;
  QueueEngineHooks hooks_;
  Cluster& cluster_;
  Clock& clock_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Random random_;
  QueueSettler settler_;
  std::vector<TopicState> topics_;
  std::map<Session*, Source> sources_;
  size_t turn_ = 0;

  uint64_t next_lease_ = 1;
  std::unordered_map<uint64_t, Lease> leases_;
  std::deque<State> ready_;
  // Leases whose ack is not answered, by topic id, partition and offset.
  std::map<std::tuple<uint32_t, uint32_t, uint64_t>, uint64_t> acking_;
  size_t leased_bytes_ = 0;
  size_t asked_messages_ = 0;
  size_t asked_bytes_ = 0;
  MonotonicTime next_extend_ = kNever;

  uint64_t generation_ = 1;
  std::map<uint64_t, size_t> unanswered_;  // settlements by generation
  Status failure_;

  bool paused_ = false;
  bool stopped_ = false;
  bool closed_ = false;
  Status refusal_;   // for good: the options do not suit the broker
  Status conflict_;  // not yet told
  Status last_error_;
  std::vector<std::function<void()>> calls_;  // callbacks to be posted
};

}  // namespace tidemark::client_core
