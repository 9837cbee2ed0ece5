// SimBroker: one broker process and its disk. The process dies and comes back; the disk, and the
// checkpoint stores on it, stay.
//
// All shards share one simulated file system and clock; each has its own loop, workers and store.
// What the server does in a real broker (turns, ticks, mail between loops) is done here by events.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/kv/memory_store.h"
#include "broker/shard/shard_runtime.h"
#include "tests/simulation/model.h"
#include "tests/simulation/options.h"
#include "tests/simulation/sim_executor.h"
#include "tests/simulation/sim_network.h"
#include "tests/support/sim_file_system.h"

namespace tidemark::shard {
class Views;
}

namespace tidemark::sim {

class SimBroker final : public Service {
 public:
  SimBroker(Scheduler& scheduler, SimNetwork& network, Model& model, const Options& options);
  ~SimBroker() override;
  SimBroker(const SimBroker&) = delete;
  SimBroker& operator=(const SimBroker&) = delete;

  // Opens all shards and checks what came back against the model. A disk that is full or fails
  // stops the start: it is tried again a second later, for ever.
  void start();
  enum class Death { kKill, kPowerCut };
  // The process ends here and now. A kill leaves what was written, a power cut what was synced and
  // parts of the rest.
  void die(Death how);

  // A disk error was prepared: from now on every death takes the machine with it. After a failed
  // sync nobody knows what the system still holds in memory and takes for written.
  void distrust_disk() { disk_distrusted_ = true; }

  // So much of the mail about consumer groups is lost from now on.
  void set_mail_loss(uint32_t percent) { mail_loss_percent_ = percent; }

  // Writes, syncs and checkpoints take so many times as long from now on.
  void set_disk_slowness(int64_t times) { disk_slowness_ = times; }

  // Ends in order; then the process is gone.
  void stop();
  // The checkpoint stores are deleted, if the log still has everything. Requires: not running.
  void lose_checkpoints();

  enum class State { kDown, kRunning, kStopping };

  [[nodiscard]] State state() const { return state_; }

  [[nodiscard]] SimFileSystem& disk() { return disk_; }

  [[nodiscard]] kv::MemoryStore& store(size_t shard) { return *stores_[shard]; }

  [[nodiscard]] bool healthy() const;
  [[nodiscard]] std::string describe() const;

  struct Counters {
    uint64_t starts = 0;
    uint64_t failed_starts = 0;
    uint64_t replays_checked = 0;
    uint64_t hashes_compared = 0;  // with that of the process before
    uint64_t delays_fired = 0;
    uint64_t torn_bytes = 0;
    uint64_t checkpoints = 0;
    uint64_t cold_reads = 0;
    uint64_t duplicates = 0;
    uint64_t dropped_prefixes = 0;
    uint64_t compactions = 0;  // of a partition, to their end
    uint64_t compaction_freed_bytes = 0;
    uint64_t duplicate_messages = 0;  // by their ids
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

  // Service
  [[nodiscard]] bool accepts() const override {
    return state_ == State::kRunning || state_ == State::kStopping;
  }

  void on_request(ShardId shard, const shard::ReplyTo& from, const protocol::Frame& frame) override;
  void on_connection_closed(ShardId shard, uint64_t connection) override;

 private:
  class Loop;

  Status open_all();
  void check_recovered();
  void check_replay(size_t shard);
  void check_delays(size_t shard, const shard::Views& views);
  void check_transactions(size_t shard, const shard::Views& views);
  bool loses(const shard::ShardMail& mail);
  int64_t mail_takes_us(const shard::ShardMail& mail);
  void check_groups(const shard::Views& views);
  void count_process();
  void end_process();

  Scheduler& scheduler_;
  SimNetwork& network_;
  Model& model_;
  const Options& options_;
  Random random_;
  Random mail_random_;
  uint32_t mail_loss_percent_ = 0;
  int64_t disk_slowness_ = 1;
  const int64_t read_slowness_ = 1;  // what is read has to be there in time
  SimFileSystem disk_;
  std::vector<std::unique_ptr<kv::MemoryStore>> stores_;
  std::vector<std::unique_ptr<Loop>> loops_;
  State state_ = State::kDown;
  uint64_t generation_ = 0;  // of the process
  size_t stopping_ = 0;      // shards that have not stopped yet
  bool disk_distrusted_ = false;

  // Of the last process, when it ended.
  struct LastState {
    LogIndex index;
    uint64_t hash = 0;
  };

  std::vector<LastState> last_states_;  // by shard; of an index 0: not known
  Counters counters_;
};

}  // namespace tidemark::sim
