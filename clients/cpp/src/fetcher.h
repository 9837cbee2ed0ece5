// Reads ahead: keeps Fetch requests under way for the assigned partitions and hands out what came,
// chunk by chunk.
//
// A partition:
//   kLocating --ListOffsets answered--> kReading --error that waits--> kReading (after a pause)
//       ^                                  |
//       +---- offset out of range (policy start, end), seek ----+      an error for the program -->
//       kStopped --seek--> ...
//
// Budget: each partition has an equal share of prefetch_bytes_max for what was fetched and not yet
// used up plus what is asked for. The broker may exceed what was asked by one batch. A partition is
// in at most one request at a time, so chunks come in order. Long polls are per (session, set of
// partitions that were free): a partition that becomes free does not wait for another's long poll.
//
// Thread: run() and answers on the I/O thread, the rest from any thread: one mutex guards
// everything, held only for bookkeeping.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clients/cpp/src/cluster.h"
#include "tidemark/consumer.h"

namespace tidemark::client_core {

struct FetcherOptions {
  size_t prefetch_bytes_max = size_t{32} << 20;
  size_t fetch_bytes_per_partition = size_t{1} << 20;
  int64_t fetch_wait_ms = 500;
  client::OutOfRange out_of_range = client::OutOfRange::kError;
  size_t requests_per_session_max = 16;
  // What the broker leaves out, see ConsumerOptions.
  std::vector<std::string> tags = {};
  std::string filter = {};
};

// Something for the program: bytes of a partition, or why it stopped.
struct Chunk {
  uint64_t assignment = 0;  // number of the partition in this fetcher
  uint64_t generation = 0;  // of the partition: seek makes older chunks void
  std::string topic;
  uint32_t partition = 0;
  SharedBytes bytes;
  size_t charged_bytes = 0;  // of the budget
  uint64_t from = 0;         // messages before are not wanted
  uint64_t next_offset = 0;
  uint64_t high_watermark = 0;
  Status error;
};

class Fetcher final : public Component, public std::enable_shared_from_this<Fetcher> {
 public:
  // `wake`: makes the I/O thread run this; `arrived`: a chunk is there (called on the I/O thread
  // without the lock).
  Fetcher(const FetcherOptions& options, Cluster& cluster, std::function<void()> wake,
          std::function<void()> arrived, uint64_t seed);

  // --- I/O ---
  MonotonicTime run(MonotonicTime now) override;

  // --- any thread ---
  Status assign(const std::vector<client::Assignment>& assignment);
  // Others than these are not touched.
  Status add(const std::vector<client::Assignment>& assignment);
  Status remove(std::string_view topic, uint32_t partition);
  Status seek(std::string_view topic, uint32_t partition, client::Position position);
  Status pause(std::string_view topic, uint32_t partition, bool paused);
  Result<uint64_t> position(std::string_view topic, uint32_t partition) const;
  [[nodiscard]] Status last_error() const;
  void close();

  // The next chunk of a partition that is not paused. nullopt: none came within the time.
  // kShuttingDown: closed. kInvalidArgument: nothing is assigned.
  Result<std::optional<Chunk>> next_chunk(int64_t timeout_ms);
  // Whether what was taken may be shown now.
  enum class Use { kShow, kHold, kDrop };
  // kHold: the partition is paused; kDrop: seek or assign made the chunk void.
  [[nodiscard]] Use use_of(const Chunk& chunk) const;
  // The program is shown everything before `offset`; false (and nothing happens) if the chunk
  // became void.
  bool advance(const Chunk& chunk, uint64_t offset);
  // The rest of a chunk whose partition was paused: next_chunk() gives it first when the partition
  // goes on.
  void put_back(Chunk rest);
  // A chunk is used up: its bytes leave the budget.
  void release(const Chunk& chunk);
  // The chunk could not be read: the partition stops until seek.
  void stop(const Chunk& chunk);

 private:
  enum class State { kLocating, kReading, kStopped };

  struct Partition {
    uint64_t number = 0;
    uint64_t generation = 0;
    std::string topic;
    uint32_t partition = 0;
    State state = State::kLocating;
    client::Position locate = client::Position::start();
    bool paused = false;
    bool busy = false;          // in a request
    uint64_t offset = 0;        // to be fetched next
    uint64_t shown = 0;         // to be shown next
    bool located = false;       // `shown` means something
    size_t buffered_bytes = 0;  // fetched, not released
    size_t asked_bytes = 0;
    MonotonicTime retry_at{};
    Backoff backoff{20 * kNsPerMs, 1'000 * kNsPerMs};
    uint64_t need_version = 0;  // metadata older than this is known to be wrong
    bool fresh = true;          // an old "no such topic" does not count
    uint32_t topic_id = 0;
  };

  using PartitionPtr = std::shared_ptr<Partition>;

  // What a request knows of a partition.
  struct Asked {
    PartitionPtr partition;
    uint64_t generation = 0;
    uint64_t offset = 0;
    size_t bytes = 0;
    client::Position locate = client::Position::start();
  };

  // A request to be.
  struct Group {
    Session* session = nullptr;
    bool locate = false;
    std::vector<Asked> parts;
    size_t bytes = 0;
  };

  // Requires: the lock.
  void add_partition(const client::Assignment& assignment);
  PartitionPtr find(std::string_view topic, uint32_t partition) const;
  void restart(Partition& partition, client::Position position);
  void drop_chunks(const Partition& partition);
  // The session to ask at; null while unknown, or when the partition was stopped.
  Session* route(Partition& partition);
  void plan(const PartitionPtr& partition, MonotonicTime now, size_t share,
            std::vector<Group>& groups);
  void send_fetch(Group& group);
  void send_locate(Group& group);
  void on_fetch(Session* session, const std::vector<Asked>& asked, Reply reply);
  void on_fetch_part(const Asked& asked, const protocol::fbs::FetchPartReply& part,
                     SharedBytes bytes);
  void on_locate(Session* session, const std::vector<Asked>& asked, Reply reply);
  void on_error(Partition& partition, const Status& status, uint32_t retry_after_ms);
  void on_out_of_range(Partition& partition, const Status& status);
  void stop_with(Partition& partition, Status error);
  Chunk new_chunk(const Partition& partition) const;
  size_t& requests_of(Session* session);
  // Unlocks and tells about chunks that came while the lock was held.
  void unlock_and_tell(std::unique_lock<std::mutex>& lock);

  FetcherOptions options_;
  Cluster& cluster_;
  std::function<void()> wake_;
  std::function<void()> arrived_;

  mutable std::mutex mutex_;
  std::condition_variable chunk_came_;
  Random random_;
  bool closed_ = false;
  uint64_t next_number_ = 1;
  std::vector<PartitionPtr> partitions_;
  std::deque<Chunk> chunks_;
  bool untold_ = false;
  std::vector<std::pair<Session*, size_t>> requests_;  // under way per session
  size_t turn_ = 0;                                    // which partition asks first
  Status last_error_;
};

}  // namespace tidemark::client_core
