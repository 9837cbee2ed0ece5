#include "broker/kv/lmdb_store.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include <doctest/doctest.h>

#include "tests/unit/broker/kv/store_fixtures.h"

namespace tidemark::kv {
namespace {

WriteBatch put(std::string key, size_t value_bytes = 1) {
  WriteBatch batch;
  batch.put(std::move(key), std::string(value_bytes, 'v'));
  return batch;
}

bool has(KeyValueStore& store, std::string_view key) {
  return store.read().value()->get(key).value().has_value();
}

// The real one, except that the disk has as much space left as the test says.
class FreeSpaceFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    return real_.open(path, mode);
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    return real_.list(directory);
  }

  Result<bool> exists(const std::string& path) override { return real_.exists(path); }

  Status create_directories(const std::string& path) override {
    return real_.create_directories(path);
  }

  Status rename(const std::string& from, const std::string& to) override {
    return real_.rename(from, to);
  }

  Status remove(const std::string& path) override { return real_.remove(path); }

  Status sync_directory(const std::string& path) override { return real_.sync_directory(path); }

  Result<std::unique_ptr<DirectoryLock>> lock_directory(const std::string& path) override {
    return real_.lock_directory(path);
  }

  Result<uint64_t> free_bytes(const std::string&) override { return free; }

  uint64_t free = uint64_t{1} << 40;

 private:
  PosixFileSystem real_;
};

// While it lives, writes beyond `bytes` of a file are cut short, as a full disk does it.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit_) == 0);
    const rlimit limit{bytes, old_limit_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }

  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, old_handler_);
  }

  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_limit_{};
  void (*old_handler_)(int) = SIG_DFL;
};

// The real one, which writes down what is done to files.
class WatchedFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    auto opened = real_.open(path, mode);
    if (!opened.ok()) {
      return opened.status();
    }
    return std::unique_ptr<File>(new WatchedFile(std::move(*opened), name_of(path), calls));
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    return real_.list(directory);
  }

  Result<bool> exists(const std::string& path) override { return real_.exists(path); }

  Status create_directories(const std::string& path) override {
    return real_.create_directories(path);
  }

  Status rename(const std::string& from, const std::string& to) override {
    calls.push_back("rename " + name_of(from) + " " + name_of(to));
    return real_.rename(from, to);
  }

  Status remove(const std::string& path) override {
    calls.push_back("remove " + name_of(path));
    return real_.remove(path);
  }

  Status sync_directory(const std::string& path) override {
    calls.emplace_back("sync directory");
    return real_.sync_directory(path);
  }

  Result<std::unique_ptr<DirectoryLock>> lock_directory(const std::string& path) override {
    return real_.lock_directory(path);
  }

  Result<uint64_t> free_bytes(const std::string& path) override { return real_.free_bytes(path); }

  std::vector<std::string> calls;

 private:
  class WatchedFile final : public File {
   public:
    WatchedFile(std::unique_ptr<File> real, std::string name, std::vector<std::string>& calls)
        : real_(std::move(real)), name_(std::move(name)), calls_(calls) {}

    Status read(uint64_t offset, MutableByteView out) override { return real_->read(offset, out); }

    Status write(uint64_t offset, std::span<const ByteView> parts) override {
      return real_->write(offset, parts);
    }

    Status sync() override {
      calls_.push_back("sync " + name_);
      return real_->sync();
    }

    Status allocate(uint64_t size) override { return real_->allocate(size); }

    Status truncate(uint64_t size) override { return real_->truncate(size); }

    Result<uint64_t> size() override { return real_->size(); }

   private:
    std::unique_ptr<File> real_;
    std::string name_;
    std::vector<std::string>& calls_;
  };

  static std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

  PosixFileSystem real_;
};

TEST_CASE("a new store has its name only when it is on disk: a loss of power leaves none or all") {
  TemporaryDirectory directory;
  WatchedFileSystem file_system;
  const LmdbOptions options = {.directory = directory.path() + "/views", .map_bytes = 64 << 20};
  auto store = LmdbStore::open(file_system, options).value();
  CHECK(file_system.calls == std::vector<std::string>{"sync data.mdb.new",
                                                      "rename data.mdb.new data.mdb",
                                                      "sync directory"});
  CHECK(store->commit(put("k")).ok());
  store.reset();
  // One that is there stays, as it is.
  file_system.calls.clear();
  store = LmdbStore::open(file_system, options).value();
  CHECK(file_system.calls == std::vector<std::string>{"sync directory"});
  CHECK(has(*store, "k"));
}

TEST_CASE("what a loss of power left of an attempt to make a store is thrown away") {
  TemporaryDirectory directory;
  std::ofstream(directory.path() + "/data.mdb.new") << std::string(8192, '\0');
  WatchedFileSystem file_system;
  auto store =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 64 << 20}).value();
  CHECK(file_system.calls == std::vector<std::string>{"remove data.mdb.new", "sync data.mdb.new",
                                                      "rename data.mdb.new data.mdb",
                                                      "sync directory"});
  CHECK(store->commit(put("k")).ok());
}

TEST_CASE("lack of space leaves the store as it was, and it works again when there is space") {
  TemporaryDirectory directory;
  FreeSpaceFileSystem file_system;
  auto store =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 64 << 20}).value();
  REQUIRE(store->commit(put("before")).ok());
  file_system.free = 0;
  {
    // A multiple of the page size plus a bit: the first write is cut short, a later one fails at
    // once.
    FileSizeLimit limit((1 << 20) + 100);
    const Status cut_short = store->commit(put("big", 4 << 20));
    CHECK(cut_short.code() == ErrorCode::kDiskFull);
    const Status again = store->commit(put("big", 4 << 20));
    CHECK(again.code() == ErrorCode::kDiskFull);
    CHECK(has(*store, "before"));
    CHECK_FALSE(has(*store, "big"));
    CHECK(store->commit(put("small")).ok());
  }
  CHECK(store->commit(put("big", 4 << 20)).ok());
  store.reset();
  store =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 64 << 20}).value();
  CHECK(has(*store, "before"));
  CHECK(has(*store, "small"));
  CHECK(has(*store, "big"));
}

TEST_CASE("a failed write on a disk that has space is final until the store is reopened") {
  TemporaryDirectory directory;
  FreeSpaceFileSystem file_system;
  auto store =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 64 << 20}).value();
  REQUIRE(store->commit(put("before")).ok());
  {
    FileSizeLimit limit((1 << 20) + 100);
    CHECK(store->commit(put("big", 4 << 20)).code() == ErrorCode::kIoError);
  }
  CHECK(store->commit(put("after")).code() == ErrorCode::kIoError);
  CHECK(has(*store, "before"));
  store.reset();
  store =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 64 << 20}).value();
  CHECK(store->commit(put("after")).ok());
  CHECK(has(*store, "before"));
}

TEST_CASE("a full map refuses the commit and names the bound") {
  TemporaryDirectory directory;
  PosixFileSystem file_system;
  auto store =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 1 << 20}).value();
  const Status full = store->commit(put("big", 4 << 20));
  CHECK(full.code() == ErrorCode::kLimitExceeded);
  CHECK(full.to_string().find("1048576 bytes") != std::string::npos);
  CHECK(store->commit(put("small")).ok());
}

TEST_CASE("too many views are refused, closed ones give their slot back") {
  TemporaryDirectory directory;
  PosixFileSystem file_system;
  auto store =
      LmdbStore::open(file_system,
                      {.directory = directory.path(), .map_bytes = 1 << 20, .views_max = 3})
          .value();
  std::vector<std::unique_ptr<ReadView>> views;
  for (int i = 0; i < 3; ++i) {
    views.push_back(store->read().value());
  }
  CHECK(store->read().status().code() == ErrorCode::kOverloaded);
  views.pop_back();
  CHECK(store->read().ok());
}

TEST_CASE("a view outlives its store") {
  TemporaryDirectory directory;
  PosixFileSystem file_system;
  auto store =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 1 << 20}).value();
  REQUIRE(store->commit(put("a")).ok());
  auto view = store->read().value();
  store.reset();
  CHECK(view->get("a").value() == "v");
}

TEST_CASE("a process that is killed leaves whole commits, also with views open") {
  TemporaryDirectory directory;
  PosixFileSystem file_system;
  const LmdbOptions options{.directory = directory.path(), .map_bytes = 16 << 20, .views_max = 4};
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto store = LmdbStore::open(file_system, options).value();
    auto view = store->read().value();
    for (int i = 0;; ++i) {
      WriteBatch batch;
      batch.put("first", std::to_string(i));
      batch.put("second", std::to_string(i));
      if (!store->commit(batch).ok()) {
        _exit(1);
      }
      if (i == 20) {
        raise(SIGKILL);
      }
    }
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  for (int reopened = 0; reopened < 6; ++reopened) {  // more often than there are slots for views
    auto store = LmdbStore::open(file_system, options).value();
    auto view = store->read().value();
    CHECK(view->get("first").value() == "20");
    CHECK(view->get("second").value() == "20");
  }
}

TEST_CASE("what is not a checkpoint is refused with its name") {
  TemporaryDirectory directory;
  PosixFileSystem file_system;
  std::ofstream(directory.path() + "/data.mdb") << std::string(8192, 'x');
  const auto opened =
      LmdbStore::open(file_system, {.directory = directory.path(), .map_bytes = 1 << 20});
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.status().code() == ErrorCode::kCorrupted);
  CHECK(opened.status().to_string().find(directory.path()) != std::string::npos);
}

TEST_CASE("the default reserves address space only, and the file belongs to its owner alone") {
  TemporaryDirectory directory;
  PosixFileSystem file_system;
  auto store = LmdbStore::open(file_system, {.directory = directory.path()}).value();
  REQUIRE(store->commit(put("a")).ok());

  struct stat data {};

  REQUIRE(stat((directory.path() + "/data.mdb").c_str(), &data) == 0);
  CHECK(data.st_size < 1 << 20);
  CHECK((data.st_mode & 0777) == 0600);
  CHECK(store->size_bytes() == static_cast<uint64_t>(data.st_size));
}

}  // namespace
}  // namespace tidemark::kv
