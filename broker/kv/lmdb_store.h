// The checkpoint of one shard in an LMDB environment of its own.
//
// Files:   `directory`/data.mdb and lock.mdb; created if absent, the first one under its name when
//          it is on disk (data.mdb.new before that). One process at a time (the data
//          directory's lock sees to that) and once per process: LMDB does not bear the same
//          environment opened twice.
//
// Sync:    every commit is synced (never MDB_NOSYNC, never MDB_WRITEMAP: a stray write must not
//          reach the file).
//
// Size:    `map_bytes` of address space are reserved at open, so the map never has to grow under a
//          reader; the file takes only what is used.
//
// Thread:  as key_value_store.h says. Views may be read while a commit runs and see the state
//          before it. They keep the environment open: it is closed when the store and the last view
//          are gone.
//
// Errors:  no space: kDiskFull, nothing changed, may be tried again. The map is used up:
//          kLimitExceeded, nothing changed. A broken file: kCorrupted. Anything else from the
//          system: kIoError. After one of the last two every later commit fails in the same way
//          until the store is reopened. Too many views at once: kOverloaded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "broker/kv/key_value_store.h"
#include "log/base/file_system.h"

namespace tidemark::kv {

struct LmdbOptions {
  std::string directory;
  // Address space, not memory: 256 shards of this size fit in what a 64-bit process has.
  uint64_t map_bytes = uint64_t{64} * 1024 * 1024 * 1024;
  // Views open at the same time.
  unsigned views_max = 256;
};

class LmdbStore final : public KeyValueStore {
 public:
  // Blocking. `file_system` outlives the store; it creates the directory and tells how much space
  // is left, LMDB does the rest by itself. Slots of readers that died are given back.
  static Result<std::unique_ptr<LmdbStore>> open(FileSystem& file_system, LmdbOptions options);
  ~LmdbStore() override;
  LmdbStore(const LmdbStore&) = delete;
  LmdbStore& operator=(const LmdbStore&) = delete;

  Status commit(const WriteBatch& batch) override;
  Result<std::unique_ptr<ReadView>> read() override;
  uint64_t size_bytes() override;

 private:
  class Environment;
  class View;
  LmdbStore(FileSystem& file_system, std::shared_ptr<Environment> environment);
  Status commit_error(int code);

  FileSystem& file_system_;
  std::shared_ptr<Environment> environment_;
  Status commit_failure_;  // why no commit is possible until the store is reopened
};

}  // namespace tidemark::kv
