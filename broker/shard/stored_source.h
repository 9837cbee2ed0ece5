// BatchSource over the shard's log and checkpoint store: memory at once, disk through the executor
// for reads.
//
// Thread: the shard's loop; jobs run on workers with their own read views and read plans.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "broker/shard/batch_source.h"
#include "log/base/executor.h"
#include "log/base/file_system.h"
#include "log/log.h"

namespace tidemark::shard {

// Appends the delayed messages of an entry with this payload, and adds their bytes. One that a
// transaction brought has id 0: its id and due time are known by its position.
Status find_delays(ByteView payload, LogPosition payload_position, std::vector<StoredDelay>& found,
                   size_t& bytes);

class StoredSource final : public BatchSource {
 public:
  StoredSource(log::Log& log, FileSystem& file_system, std::string log_directory,
               kv::KeyValueStore& store, Executor& reads)
      : log_(log),
        file_system_(file_system),
        log_directory_(std::move(log_directory)),
        store_(store),
        reads_(reads) {}

  [[nodiscard]] std::optional<SharedBytes> cached(const partition::BatchRef& ref) const override;
  void read(std::vector<partition::BatchRef> refs, BatchesRead done) override;
  void read_log(LogPosition position, size_t size, LogRead done) override;
  void with_store(StoreWork work, StoreDone done) override;
  void run(Work work, Work done) override;
  [[nodiscard]] std::optional<LogPosition> oldest_segment_end() const override;
  void read_delays(DelayCursor from, size_t bytes_max, DelaysRead done) override;
  void find(PartitionId id, Offset from, size_t bytes_max, RefsFound done) override;
  void find_time(PartitionId id, Offset start, Offset end, int64_t time_ms, RefFound done) override;
  void plan_trim(PartitionId id, Offset start, Offset until, TrimGoal goal,
                 TrimPlanned done) override;

 private:
  log::Log& log_;
  FileSystem& file_system_;
  const std::string log_directory_;
  kv::KeyValueStore& store_;
  Executor& reads_;
};

}  // namespace tidemark::shard
