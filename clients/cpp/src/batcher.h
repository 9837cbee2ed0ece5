// The write buffer of a producer: encodes messages into the open batch of their partition, within a
// hard budget.
//
// Thread: append(), flush points and waiting come from application threads; what is marked "I/O"
// from the I/O thread. One mutex guards all of it; it is held for the time of one record's
// encoding, never while callbacks or system calls run (except waking).
//
// A partition's batches leave in order: first the sealed ones, then the open one. A batch is sealed
// when it is full, when a message of the other kind (plain, delayed) comes, when a flush point
// passes, or when its first message has waited for long. Taken batches still count against the
// budget until free_room().
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clients/cpp/src/batch.h"
#include "clients/cpp/src/channel.h"
#include "clients/cpp/src/message_input.h"
#include "log/base/clock.h"
#include "log/base/result.h"
#include "tidemark/producer.h"

namespace tidemark::client_core {

struct TopicQueue;

// The batches of one partition that the engine has not taken. Guarded by the batcher.
struct PartitionQueue {
  TopicQueue* topic = nullptr;
  uint32_t partition = 0;
  std::unique_ptr<Batch> open;
  std::deque<std::unique_ptr<Batch>> sealed;
  bool announced = false;  // the engine knows that there is something
};

struct TopicQueue {
  std::string name;
  // Empty until the topic is resolved; then never shrinks, and elements never move.
  std::deque<PartitionQueue> partitions;
  // What was sent before the topic was resolved, in order, and the batch that still grows.
  std::deque<std::unique_ptr<Batch>> unresolved;
  std::unique_ptr<Batch> unresolved_open;
  bool announced = false;
  // Where messages without a key go at the moment: plain ones, delayed ones.
  std::array<uint32_t, 2> sticky = {};
};

// A batch that was given up before it was ever taken, and why.
struct FailedBatch {
  std::string topic;
  uint32_t partition = 0;
  std::unique_ptr<Batch> batch;
  Status why;
};

struct BatcherOptions {
  size_t buffer_bytes_max = size_t{64} << 20;
  size_t buffer_messages_max = 1'000'000;
  client::Overflow overflow = client::Overflow::block_for(60'000);
  size_t batch_bytes = size_t{256} << 10;
  int64_t linger_ns = 5'000'000;
  int64_t batch_age_ns_max =
      2'000'000'000;  // an open batch that cannot leave is sealed at this age
};

class Batcher {
 public:
  // `wake` makes the I/O thread look; called from any thread, cheap, never calls back.
  Batcher(const BatcherOptions& options, Clock& clock, std::function<void()> wake);
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  // --- application threads ---
  // Lives as long as the batcher.
  Result<TopicQueue*> topic(std::string_view name);
  // `callback` is moved from when the message is accepted; may be null. `may_block`: false on the
  // I/O thread.
  Status append(TopicQueue& topic, const client::Message& message, uint64_t opaque,
                client::DeliveryCallback* callback, bool may_block);
  // Seals what is open; the generation up to which everything accepted so far belongs.
  uint64_t flush_point();
  // Waits until every batch of generations up to this one is released; false when the time is over.
  bool wait_released(uint64_t generation, int64_t timeout_ms);
  // append() fails from now on; blocked callers wake.
  void close();
  [[nodiscard]] client::ProducerStats stats() const;

  struct Failures {
    uint64_t count = 0;
    Status first;
  };

  // Since the last call.
  Failures take_failures();

  // --- I/O ---
  // Topics that wait for metadata and partitions that have something new, since the last call.
  void take_news(std::vector<TopicQueue*>& unresolved, std::vector<PartitionQueue*>& ready);
  // Gives an unresolved topic its partitions and moves what waits into them; a resolved one may
  // grow. Messages for a partition that does not exist go to the failed ones.
  void resolve(TopicQueue& topic, uint32_t partitions);
  // Gives up everything of a topic that waits for metadata, or what of it is older.
  void fail_unresolved(TopicQueue& topic, const Status& why, MonotonicTime created_until);

  struct Next {
    std::unique_ptr<Batch> batch;  // null: nothing is to be sent now
    MonotonicTime ready_at;        // with no batch: when there will be one (kNever: nothing there)
  };

  // The next batch to send, if it is sealed or its linger is over. A queue that turns out empty is
  // no longer announced.
  Next take(PartitionQueue& queue, MonotonicTime now);
  // Takes batches that were created at or before this time, whether they are due or not.
  void take_older(PartitionQueue& queue, MonotonicTime created_until,
                  std::vector<std::unique_ptr<Batch>>& out);
  // Seals an open batch that is older than batch_age_ns_max; when to look again.
  MonotonicTime seal_aged(PartitionQueue& queue, MonotonicTime now);
  // Batches dropped by the overflow policy or failed by resolve().
  std::vector<FailedBatch> take_failed();
  // Returns a batch's share of the budget: before its report, so that a callback finds room to
  // send.
  void free_room(Batch& batch);
  // After its report: the outcome is counted (refused delayed messages of a stored batch as failed)
  // and flush() need not wait for it any more. Once per batch.
  void release(const Batch& batch, const Status& outcome);
  // The builder of an encoded batch goes back to be used again.
  void recycle(Batch& batch);
  void count_sent(bool again);
  void count_duplicate();

  // Calls `visit` with every waiting batch (sealed first), with the lock held.
  void for_each_waiting(
      const std::function<void(const std::string& topic, std::optional<uint32_t> partition,
                               Batch&)>& visit);

 private:
  using Lock = std::unique_lock<std::mutex>;

  // Where a record's batch belongs: to which flush, and since when its oldest record waits.
  struct Origin {
    uint64_t generation = 0;
    MonotonicTime created;
  };

  // A message to be put into a batch.
  struct Entry {
    const format::RecordInput& record;
    const format::ScheduleItem* item = nullptr;  // null: plain
    size_t charge = 0;
  };

  Result<Batch*> place(TopicQueue& topic, const Entry& entry, uint32_t asked_partition, bool& news);
  Status make_room(Lock& lock, size_t bytes, bool may_block);
  bool drop_oldest();
  // Whether the batch can take this message, as far as kind and size go.
  [[nodiscard]] bool suits(const Batch& batch, const Entry& entry) const;
  Result<PartitionQueue*> choose(TopicQueue& topic, uint32_t asked_partition, const Entry& entry);
  uint32_t choose_sticky(TopicQueue& topic, const Entry& entry);
  // Appends to `open`, sealing it first when it does not suit. True: a batch was begun or sealed,
  // so the engine should look.
  Result<bool> encode(std::unique_ptr<Batch>& open, std::deque<std::unique_ptr<Batch>>& sealed,
                      const Entry& entry, Origin origin);
  std::unique_ptr<Batch> new_batch(Origin origin, bool delayed);
  void discard(std::unique_ptr<Batch> batch);
  void announce(PartitionQueue& queue);
  void move_batch(TopicQueue& topic, std::unique_ptr<Batch> from);
  void fail_entry(TopicQueue& topic, uint32_t partition, const Entry& entry, Batch& from,
                  size_t index, Status why);
  void leave_generation(uint64_t generation);

  BatcherOptions options_;
  Clock& clock_;
  std::function<void()> wake_;

  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable released_;
  size_t waiting_for_room_ = 0;
  bool closed_ = false;
  std::map<std::string, std::unique_ptr<TopicQueue>, std::less<>> topics_;
  std::vector<TopicQueue*> news_unresolved_;
  std::vector<PartitionQueue*> news_ready_;
  std::vector<FailedBatch> failed_;
  BuilderPool builders_;
  RecordHeaders headers_;  // of the record being encoded
  // Batches alive per generation; flush() waits until the old ones are gone.
  std::map<uint64_t, uint64_t> generations_;
  uint64_t generation_ = 0;
  client::ProducerStats stats_;
  Failures failures_;
};

}  // namespace tidemark::client_core
