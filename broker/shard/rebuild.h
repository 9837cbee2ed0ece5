// Rebuilds the views of a shard offline, from its log alone or from a checkpoint and the log behind
// it: for `tidemark log verify` and tests.
//
// Blocking; read-only; any thread.
#pragma once

#include <string>

#include "broker/kv/key_value_store.h"
#include "broker/shard/views.h"
#include "log/base/file_system.h"
#include "log/base/result.h"

namespace tidemark::shard {

// Applies every command entry in `log_directory` that `views` does not cover yet. `views` is empty
// or was loaded from a checkpoint. Stops quietly at an unacknowledged tail; kCorrupted (with file
// and offset) at damage, kNotFound if the log begins after what the views cover. With one voter per
// shard everything that is stored is committed.
Status replay_log(FileSystem& fs, const std::string& log_directory, Views& views);

struct StateHash {
  uint64_t hash = 0;
  LogIndex index;  // of the last entry applied
};

// Hash of the views that the whole log gives. kNotFound if its beginning was dropped by retention.
Result<StateHash> hash_of_log(FileSystem& fs, const std::string& log_directory);

}  // namespace tidemark::shard
