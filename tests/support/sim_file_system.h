// A FileSystem in memory that can lose power, run out of space and fail.
//
// Crash model: what was not synced may be there or not. Each write since the last sync of its file
// is kept, lost or torn (each of its 512-byte sectors kept or lost for itself); each truncation or
// extension is kept or lost; each create, rename or remove since the last sync of its directory is
// kept or lost. The seed decides. Files that were open are dead afterwards: every call on them
// fails.
//
// Errors: fail_at() makes the n-th call of a kind fail with kIoError, once or from then on. A
// failed write leaves a prefix. A failed sync loses what it should have stored: it stays readable,
// a later sync "succeeds", and a crash takes it.
//
// Thread: safe from several threads; one lock around everything.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "log/base/file_system.h"
#include "log/base/random.h"

namespace tidemark {

enum class SimCall {
  kOpen,
  kRead,
  kWrite,
  kSync,
  kAllocate,
  kTruncate,
  kRename,
  kRemove,
  kSyncDirectory,
  kList,
  kExists,
  kSize,
};

class SimFileSystem final : public FileSystem {
 public:
  explicit SimFileSystem(uint64_t seed);
  ~SimFileSystem() override;

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<bool> exists(const std::string& path) override;
  Status create_directories(const std::string& path) override;  // durable at once
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::unique_ptr<DirectoryLock>> lock_directory(const std::string& path) override;
  Result<uint64_t> free_bytes(const std::string& path) override;

  // Power is cut and comes back.
  void crash();
  // Power is cut during the `nth` call from now on that changes something: it and all later calls
  // fail without any effect, until crash(). For crashes in the middle of a job.
  void cut_power_at(uint64_t nth);
  // What all files together may take; nothing by default limits it. Also below what is in use.
  void set_capacity(uint64_t bytes);
  [[nodiscard]] uint64_t used_bytes() const;

  // The `nth` call from now on (1: the next one) of this kind fails, and if `sticky` all later ones
  // of it.
  void fail_at(SimCall call, uint64_t nth, bool sticky);
  // The same over calls of several kinds together, with the error that the operating system gives:
  // EIO, ENOSPC.
  void fail_any_at(std::set<SimCall> kinds, uint64_t nth, int error, bool sticky);
  // From now on one of `one_in` reads brings one bit that is not what the file holds; 0: none does.
  void flip_reads(uint64_t one_in);
  // Ends failures and flips, and forgets those that were.
  void heal();
  // Calls that failed by fail_any_at() since then.
  [[nodiscard]] uint64_t failures() const;
  // Syncs, since then, of a file or directory whose sync had failed: each is one that lies.
  [[nodiscard]] uint64_t syncs_repeated() const;
  [[nodiscard]] uint64_t calls(SimCall call) const;

  // Behind the back of whoever has the file open; durable at once. Requires: the file exists.
  void flip_bit(const std::string& path, uint64_t offset, unsigned bit);
  void put(const std::string& path, ByteView content);
  [[nodiscard]] std::vector<uint8_t> content(const std::string& path) const;

 private:
  struct Inode;
  class SimFile;
  class SimLock;
  struct NameChange;

  struct Failure {
    uint64_t at = 0;  // call number; 0: none
    bool sticky = false;
  };

  struct AnyFailure {
    std::set<SimCall> kinds;
    uint64_t calls_until = 0;  // 0: none
    int error = 0;
    bool sticky = false;
  };

  Status enter(SimCall call, const std::string& what);
  Status count(SimCall call, const std::string& what);
  bool power_is_off(SimCall call);
  Status take_space(Inode& inode, uint64_t size);
  std::optional<std::shared_ptr<Inode>> find(const std::string& path) const;

  mutable std::mutex mutex_;
  Random random_;
  uint64_t capacity_ = UINT64_MAX;
  uint64_t generation_ = 0;
  uint64_t calls_until_dark_ = UINT64_MAX;
  std::map<std::string, std::shared_ptr<Inode>> names_;          // as processes see them
  std::map<std::string, std::shared_ptr<Inode>> durable_names_;  // as they are on disk
  std::vector<NameChange> changes_;                              // between the two
  std::set<std::string> directories_;
  std::set<std::string> locks_;
  std::map<SimCall, uint64_t> calls_;
  std::map<SimCall, Failure> failures_;
  AnyFailure any_failure_;
  uint64_t flip_one_in_ = 0;
  uint64_t failed_ = 0;
  uint64_t syncs_repeated_ = 0;
  std::set<std::string> unsynced_directories_;  // whose sync failed
};

}  // namespace tidemark
