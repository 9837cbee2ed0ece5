// Both stores behind one face, so that one suite holds for both.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "broker/kv/lmdb_store.h"
#include "broker/kv/memory_store.h"
#include "log/base/check.h"
#include "log/base/posix_file_system.h"

namespace tidemark::kv {

// A directory that is gone with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "tidemark-kv-XXXXXX").string();
    TIDEMARK_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }

  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class LmdbFixture {
 public:
  LmdbFixture() { reopen(); }

  KeyValueStore& store() { return *store_; }

  // As if the process had ended after its last commit.
  void reopen() {
    store_.reset();
    auto opened = LmdbStore::open(file_system_, options());
    TIDEMARK_CHECK(opened.ok(), opened.status().to_string());
    store_ = std::move(opened).value();
  }

  [[nodiscard]] LmdbOptions options() const {
    return {.directory = directory_.path() + "/shard", .map_bytes = 256 << 20, .views_max = 16};
  }

 private:
  TemporaryDirectory directory_;
  PosixFileSystem file_system_;
  std::unique_ptr<LmdbStore> store_;
};

class MemoryFixture {
 public:
  KeyValueStore& store() { return store_; }

  void reopen() { store_.crash(); }

 private:
  MemoryStore store_;
};

}  // namespace tidemark::kv
