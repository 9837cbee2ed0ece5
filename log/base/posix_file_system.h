// The FileSystem of the operating system.
//
// Thread: stateless; may be used from any thread. Interrupted and short calls are dealt with
// inside. Errors: Status::from_errno with the path and the operation. Files are opened
// close-on-exec and never through a symbolic link as the last component of the path.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "log/base/file_system.h"

namespace tidemark {

class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<bool> exists(const std::string& path) override;
  // Also syncs the parents of what it created.
  Status create_directories(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  // The lock is an OFD lock on `path`/LOCK, which also holds the owner's pid as text. The file
  // stays.
  Result<std::unique_ptr<DirectoryLock>> lock_directory(const std::string& path) override;
  // Bytes that an unprivileged process may still take.
  Result<uint64_t> free_bytes(const std::string& path) override;
};

}  // namespace tidemark
