// KeyValueStore: the checkpoint of a shard's views. Derived data: the log is the truth, losing the
// store costs a replay and nothing else.
//
// One commit is one atomic, durable transaction; it carries the log position it covers like any
// other key. Keys are ordered bytewise. Real: lmdb_store.h. Simulation and tests: memory_store.h
// with the same meaning of commit.
//
// Thread: commit() runs on the checkpoint worker, one at a time; read views may be opened on any
// thread, each is used by one thread and must not stay open across a turn of a loop (it would keep
// old pages alive).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/result.h"

namespace tidemark::kv {

// A key has 1 to this many bytes (LMDB's bound). The bounds of a seek or a range may also be empty:
// before every key.
inline constexpr size_t kKeyBytesMax = 511;

// Puts and removals, applied in order within one commit. Built on the loop, frozen, handed to a
// worker.
class WriteBatch {
 public:
  void put(std::string key, std::string value) {
    operations_.push_back({Kind::kPut, std::move(key), std::move(value)});
  }

  void remove(std::string key) { operations_.push_back({Kind::kRemove, std::move(key), {}}); }

  // Removes all keys in [first, last).
  void remove_range(std::string first, std::string last) {
    operations_.push_back({Kind::kRemoveRange, std::move(first), std::move(last)});
  }

  enum class Kind { kPut, kRemove, kRemoveRange };

  struct Operation {
    Kind kind;
    std::string key;
    std::string value;  // kRemoveRange: the end of the range
  };

  [[nodiscard]] const std::vector<Operation>& operations() const { return operations_; }

  [[nodiscard]] bool empty() const { return operations_.empty(); }

 private:
  std::vector<Operation> operations_;
};

// kInvalidArgument if a key or a bound of the batch has a length that is not allowed; says which.
Status check_batch(const WriteBatch& batch);
// The same for the bound of a seek.
Status check_bound(std::string_view key);

// A consistent snapshot. Views returned stay valid until the next call or destruction.
class ReadView {
 public:
  virtual ~ReadView() = default;
  virtual Result<std::optional<std::string>> get(std::string_view key) = 0;

  struct Pair {
    std::string_view key;
    std::string_view value;
  };

  // Positions at the first key >= `key` (seek) or the last key <= `key` (seek_back); next() moves
  // on. nullopt at the end, from where next() does not come back.
  virtual Result<std::optional<Pair>> seek(std::string_view key) = 0;
  virtual Result<std::optional<Pair>> seek_back(std::string_view key) = 0;
  virtual Result<std::optional<Pair>> next() = 0;
};

class KeyValueStore {
 public:
  virtual ~KeyValueStore() = default;
  // Blocking, synced. kDiskFull leaves the store as it was and may be tried again; after kIoError
  // the store is not to be committed to again until it is reopened.
  virtual Status commit(const WriteBatch& batch) = 0;
  virtual Result<std::unique_ptr<ReadView>> read() = 0;

  // Bytes on disk, for metrics.
  virtual uint64_t size_bytes() = 0;
};

}  // namespace tidemark::kv
