// A KeyValueStore in memory, for the simulator and tests: the same meaning of commit as
// lmdb_store.h (atomic, and durable when it returns ok), the same order of keys, the same bounds.
//
// The object stands for the disk as much as for the process: it outlives what a test calls the
// process, and crash() is what its death does.
//
// Thread: one.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "broker/kv/key_value_store.h"

namespace tidemark::kv {

class MemoryStore final : public KeyValueStore {
 public:
  // After a commit failed with kIoError every later one does, until crash().
  Status commit(const WriteBatch& batch) override;
  Result<std::unique_ptr<ReadView>> read() override;
  // Bytes of all keys and values.
  uint64_t size_bytes() override;

  // The next commit changes nothing and returns `status` (an error).
  void fail_next_commit(Status status);
  // The process dies and the store is opened again: what was committed stays, exactly; failures are
  // forgotten. Views opened before keep what they see.
  void crash();
  // Somebody deleted the checkpoint.
  void erase();

  [[nodiscard]] uint64_t commits() const { return commits_; }

 private:
  using Contents = std::map<std::string, std::string, std::less<>>;
  class View;

  // Shared with open views; a commit copies it if there are any, so that they keep what they see.
  std::shared_ptr<Contents> contents_ = std::make_shared<Contents>();
  Status next_failure_;
  Status commit_failure_;
  uint64_t commits_ = 0;
};

}  // namespace tidemark::kv
