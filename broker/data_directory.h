// The data directory of a broker:
//
//   LOCK              held while a broker runs on it; a second one is refused
//   cluster.toml      who this is: written once, atomically, when the directory is created
//   shard-<n>/log/    the log of a shard: the truth
//   shard-<n>/views/  its checkpoint (LMDB): can be deleted while the broker is down, start-up then
//                     replays the log
//
// Thread: opened by one, read by all. Owner: the server.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "log/base/file_system.h"
#include "log/base/ids.h"
#include "log/base/random.h"
#include "log/base/result.h"

namespace tidemark::broker {

// What never changes in the life of a data directory.
struct Identity {
  uint64_t cluster_id = 0;  // random, not 0
  NodeId node{1};
  uint16_t shards = 0;

  friend bool operator==(const Identity&, const Identity&) = default;
};

std::string identity_to_text(const Identity& identity);
// kCorrupted or kUnsupportedVersion, naming `path` and the line.
Result<Identity> identity_from_text(std::string_view text, std::string_view path);

class DataDirectory {
 public:
  // Takes the lock; creates the directory and its identity if there is none. `shards` 0: as stored,
  // and `shards_default` for a new one. Errors: kLocked; kConflict if another number of shards is
  // stored; kCorrupted if shards are there without an identity; what the file system says.
  static Result<std::unique_ptr<DataDirectory>> open(FileSystem& fs, Random& random,
                                                     std::string path, uint16_t shards,
                                                     uint16_t shards_default);

  [[nodiscard]] const Identity& identity() const { return identity_; }

  [[nodiscard]] const std::string& path() const { return path_; }

  // The directories of a shard; created if absent.
  Result<std::string> log_directory(ShardId shard);
  Result<std::string> views_directory(ShardId shard);

 private:
  DataDirectory(FileSystem& fs, std::string path) : fs_(fs), path_(std::move(path)) {}

  Status load_identity(Random& random, uint16_t shards, uint16_t shards_default);
  Status store_identity();
  Result<std::string> shard_directory(ShardId shard, std::string_view part);

  FileSystem& fs_;
  const std::string path_;
  std::unique_ptr<DirectoryLock> lock_;
  Identity identity_;
};

}  // namespace tidemark::broker
