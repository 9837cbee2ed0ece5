// FileSystem: the only way to reach files. The real one is posix_file_system.h; tests/support has
// one with a crash model (each unsynced write kept, lost or torn; each unsynced name lost) and one
// that injects errors.
//
// Thread: a FileSystem may be used from several threads; a File may be read from several threads at
// once, and is written, allocated, truncated and synced by one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/result.h"
#include "log/base/status.h"

namespace tidemark {

class File {
 public:
  virtual ~File() = default;  // closes

  // Reads exactly out.size() bytes; kOutOfRange never happens silently: a short file gives
  // kCorrupted with the place. EINTR and short reads are dealt with inside.
  virtual Status read(uint64_t offset, MutableByteView out) = 0;
  // Writes all parts one after the other from `offset`. On error any prefix may have been written.
  virtual Status write(uint64_t offset, std::span<const ByteView> parts) = 0;
  // fdatasync. After an error the file must not be synced or trusted again (see DESIGN: a failed
  // sync is final).
  virtual Status sync() = 0;
  // Makes [0, size) backed by disk blocks, so that writes into it cannot fail for lack of space.
  // Extends the file size. Contents of new parts read as zeros. Durable after the next sync().
  virtual Status allocate(uint64_t size) = 0;
  // Cuts or extends to `size`.
  virtual Status truncate(uint64_t size) = 0;
  virtual Result<uint64_t> size() = 0;
};

enum class OpenMode { kReadOnly, kReadWrite, kCreateNew /* fails if it exists */ };

// Held by one process at a time; released on destruction or process death.
class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  // Names only, without "." and "..", sorted.
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  virtual Result<bool> exists(const std::string& path) = 0;
  virtual Status create_directories(const std::string& path) = 0;
  // Atomic replacement. Durable only after sync_directory() of the directory.
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status remove(const std::string& path) = 0;
  virtual Status sync_directory(const std::string& path) = 0;
  // kLocked if another process holds it; names the pid if known.
  virtual Result<std::unique_ptr<DirectoryLock>> lock_directory(const std::string& path) = 0;
  virtual Result<uint64_t> free_bytes(const std::string& path) = 0;
};

}  // namespace tidemark
