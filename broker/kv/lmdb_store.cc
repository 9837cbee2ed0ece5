#include "broker/kv/lmdb_store.h"

#include <cerrno>
#include <utility>

#include <lmdb.h>

namespace tidemark::kv {

namespace {

constexpr mdb_mode_t kFileMode = 0600;
constexpr std::string_view kDataFile = "/data.mdb";
constexpr std::string_view kNewDataFile = "/data.mdb.new";
// An EIO with less space left than this is a short write for lack of space (see commit_error).
constexpr uint64_t kLowSpaceBytes = uint64_t{16} << 20;

MDB_val to_val(std::string_view text) {
  // LMDB takes pointers to non-const and does not write through them.
  return {text.size(), const_cast<char*>(text.data())};
}

std::string_view to_text(const MDB_val& val) {
  return {static_cast<const char*>(val.mv_data), val.mv_size};
}

Status lmdb_error(int code, std::string context) {
  if (code > 0) {
    return Status::from_errno(code, context);
  }
  context += ": ";
  context += mdb_strerror(code);
  switch (code) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
      return {ErrorCode::kCorrupted, std::move(context)};
    case MDB_MAP_FULL:
      return {ErrorCode::kLimitExceeded, std::move(context)};
    case MDB_READERS_FULL:
      return {ErrorCode::kOverloaded, std::move(context)};
    default:
      return {ErrorCode::kIoError, std::move(context)};
  }
}

// Aborts the transaction unless it was committed.
class Transaction {
 public:
  explicit Transaction(MDB_txn* txn) : txn_(txn) {}

  ~Transaction() {
    if (txn_ != nullptr) {
      mdb_txn_abort(txn_);
    }
  }

  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  [[nodiscard]] MDB_txn* get() const { return txn_; }

  int commit() { return mdb_txn_commit(std::exchange(txn_, nullptr)); }

 private:
  MDB_txn* txn_;
};

int remove_range(MDB_txn* txn, MDB_dbi dbi, const std::string& first, const std::string& last) {
  MDB_cursor* cursor = nullptr;
  int code = mdb_cursor_open(txn, dbi, &cursor);
  if (code != 0) {
    return code;
  }
  for (;;) {
    // Seeking anew after each removal costs a descent and does not rely on where a removal leaves a
    // cursor.
    MDB_val key = to_val(first);
    MDB_val value;
    code = mdb_cursor_get(cursor, &key, &value, first.empty() ? MDB_FIRST : MDB_SET_RANGE);
    if (code != 0 || to_text(key) >= last) {
      break;
    }
    code = mdb_cursor_del(cursor, 0);
    if (code != 0) {
      break;
    }
  }
  mdb_cursor_close(cursor);
  return code == MDB_NOTFOUND ? 0 : code;
}

int execute(MDB_txn* txn, MDB_dbi dbi, const WriteBatch::Operation& operation) {
  MDB_val key = to_val(operation.key);
  switch (operation.kind) {
    case WriteBatch::Kind::kPut: {
      MDB_val value = to_val(operation.value);
      return mdb_put(txn, dbi, &key, &value, 0);
    }
    case WriteBatch::Kind::kRemove: {
      const int code = mdb_del(txn, dbi, &key, nullptr);
      return code == MDB_NOTFOUND ? 0 : code;
    }
    case WriteBatch::Kind::kRemoveRange:
      return remove_range(txn, dbi, operation.key, operation.value);
  }
  return EINVAL;
}

// An empty environment at `path`, a file. It is in the page cache, no more.
Status write_empty(const std::string& path) {
  MDB_env* env = nullptr;
  int code = mdb_env_create(&env);
  if (code == 0) {
    code = mdb_env_open(env, path.c_str(), MDB_NOSUBDIR | MDB_NOLOCK, kFileMode);
    mdb_env_close(env);
  }
  return code == 0 ? Status() : lmdb_error(code, "checkpoint " + path + ": create");
}

// LMDB does not sync what it creates before the first commit that changes something. A loss of
// power until then may leave a file with a size and without content, which LMDB takes for broken:
// so it gets its name when it is on disk.
Status create_if_absent(FileSystem& file_system, const std::string& directory) {
  const std::string data = directory + std::string(kDataFile);
  const std::string fresh = directory + std::string(kNewDataFile);
  ASSIGN_OR_RETURN(const bool there, file_system.exists(data));
  if (there) {
    return {};
  }
  ASSIGN_OR_RETURN(const bool left_behind, file_system.exists(fresh));
  if (left_behind) {
    RETURN_IF_ERROR(file_system.remove(fresh));
  }
  RETURN_IF_ERROR(write_empty(fresh));
  ASSIGN_OR_RETURN(const auto file, file_system.open(fresh, OpenMode::kReadWrite));
  RETURN_IF_ERROR(file->sync());
  return file_system.rename(fresh, data);
}

}  // namespace

class LmdbStore::Environment {
 public:
  static Result<std::shared_ptr<Environment>> open(LmdbOptions options) {
    auto environment = std::make_shared<Environment>(std::move(options));
    RETURN_IF_ERROR(environment->open_files());
    return environment;
  }

  explicit Environment(LmdbOptions options) : options_(std::move(options)) {}

  ~Environment() {
    if (env_ != nullptr) {
      mdb_env_close(env_);
    }
  }

  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  [[nodiscard]] MDB_env* get() const { return env_; }

  [[nodiscard]] MDB_dbi dbi() const { return dbi_; }

  [[nodiscard]] const LmdbOptions& options() const { return options_; }

  [[nodiscard]] std::string context(std::string_view what) const {
    return "checkpoint " + options_.directory + ": " + std::string(what);
  }

 private:
  Status open_files() {
    const auto step = [this](int code, std::string_view what) {
      return code == 0 ? Status() : lmdb_error(code, context(what));
    };
    RETURN_IF_ERROR(step(mdb_env_create(&env_), "create environment"));
    RETURN_IF_ERROR(step(mdb_env_set_mapsize(env_, options_.map_bytes), "set map size"));
    RETURN_IF_ERROR(step(mdb_env_set_maxreaders(env_, options_.views_max), "set views"));
    // NOTLS ties a read transaction to its object instead of its thread.
    RETURN_IF_ERROR(
        step(mdb_env_open(env_, options_.directory.c_str(), MDB_NOTLS, kFileMode), "open"));
    int dead = 0;
    RETURN_IF_ERROR(step(mdb_reader_check(env_, &dead), "check readers"));
    MDB_txn* txn = nullptr;
    RETURN_IF_ERROR(step(mdb_txn_begin(env_, nullptr, 0, &txn), "begin"));
    Transaction transaction(txn);
    RETURN_IF_ERROR(step(mdb_dbi_open(transaction.get(), nullptr, 0, &dbi_), "open database"));
    return step(transaction.commit(), "commit");
  }

  LmdbOptions options_;
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
};

class LmdbStore::View final : public ReadView {
 public:
  View(std::shared_ptr<Environment> environment, MDB_txn* txn, MDB_cursor* cursor)
      : environment_(std::move(environment)), txn_(txn), cursor_(cursor) {}

  ~View() override {
    mdb_cursor_close(cursor_);
    mdb_txn_abort(txn_);
  }

  View(const View&) = delete;
  View& operator=(const View&) = delete;

  Result<std::optional<std::string>> get(std::string_view key) override {
    RETURN_IF_ERROR(check_bound(key));
    if (key.empty()) {
      return std::optional<std::string>();
    }
    MDB_val wanted = to_val(key);
    MDB_val value;
    const int code = mdb_get(txn_, environment_->dbi(), &wanted, &value);
    if (code == MDB_NOTFOUND) {
      return std::optional<std::string>();
    }
    if (code != 0) {
      return lmdb_error(code, environment_->context("get"));
    }
    return std::optional<std::string>(std::in_place, to_text(value));
  }

  Result<std::optional<Pair>> seek(std::string_view key) override {
    RETURN_IF_ERROR(check_bound(key));
    MDB_val wanted = to_val(key);
    return move(key.empty() ? MDB_FIRST : MDB_SET_RANGE, wanted);
  }

  Result<std::optional<Pair>> seek_back(std::string_view key) override {
    RETURN_IF_ERROR(check_bound(key));
    if (key.empty()) {  // no key is empty, so none is at or before it
      positioned_ = false;
      return std::optional<Pair>();
    }
    ASSIGN_OR_RETURN(auto at_or_after, seek(key));
    if (at_or_after && at_or_after->key == key) {
      return at_or_after;
    }
    MDB_val none{};
    return move(at_or_after ? MDB_PREV : MDB_LAST, none);
  }

  Result<std::optional<Pair>> next() override {
    if (!positioned_) {
      return std::optional<Pair>();
    }
    MDB_val none{};
    return move(MDB_NEXT, none);
  }

 private:
  Result<std::optional<Pair>> move(MDB_cursor_op op, MDB_val key) {
    MDB_val value;
    const int code = mdb_cursor_get(cursor_, &key, &value, op);
    positioned_ = code == 0;
    if (code == MDB_NOTFOUND) {
      return std::optional<Pair>();
    }
    if (code != 0) {
      return lmdb_error(code, environment_->context("seek"));
    }
    return std::optional<Pair>(Pair{to_text(key), to_text(value)});
  }

  std::shared_ptr<Environment> environment_;
  MDB_txn* txn_;
  MDB_cursor* cursor_;
  bool positioned_ = false;
};

Result<std::unique_ptr<LmdbStore>> LmdbStore::open(FileSystem& file_system, LmdbOptions options) {
  RETURN_IF_ERROR(file_system.create_directories(options.directory));
  const std::string directory = options.directory;
  RETURN_IF_ERROR(create_if_absent(file_system, directory));
  ASSIGN_OR_RETURN(auto environment, Environment::open(std::move(options)));
  // LMDB syncs the file but not its name; the log is dropped on the word of this store.
  RETURN_IF_ERROR(file_system.sync_directory(directory));
  return std::unique_ptr<LmdbStore>(new LmdbStore(file_system, std::move(environment)));
}

LmdbStore::LmdbStore(FileSystem& file_system, std::shared_ptr<Environment> environment)
    : file_system_(file_system), environment_(std::move(environment)) {}

LmdbStore::~LmdbStore() = default;

Status LmdbStore::commit(const WriteBatch& batch) {
  if (!commit_failure_.ok()) {
    return commit_failure_;
  }
  RETURN_IF_ERROR(check_batch(batch));
  MDB_txn* txn = nullptr;
  int code = mdb_txn_begin(environment_->get(), nullptr, 0, &txn);
  if (code == 0) {
    Transaction transaction(txn);
    for (const WriteBatch::Operation& operation : batch.operations()) {
      code = execute(transaction.get(), environment_->dbi(), operation);
      if (code != 0) {
        break;
      }
    }
    if (code == 0) {
      code = transaction.commit();
    }
  }
  return code == 0 ? Status() : commit_error(code);
}

// A failed commit leaves the last committed root in place and its pages untouched, so after a lack
// of space the same environment can be used again. LMDB reports a write that was cut short as EIO
// whatever the reason, and a full disk first cuts a write short: the space left tells the two
// apart. A file size limit counts as lack of space.
Status LmdbStore::commit_error(int code) {
  std::string context = environment_->context("commit");
  if (code == EIO) {
    const Result<uint64_t> free = file_system_.free_bytes(environment_->options().directory);
    if (free.ok() && *free < kLowSpaceBytes) {
      return {ErrorCode::kDiskFull, context + ": a write was cut short, " + std::to_string(*free) +
                                        " bytes are left on the disk"};
    }
  }
  if (code == EFBIG) {
    return {ErrorCode::kDiskFull, context + ": the process's limit on file sizes is reached"};
  }
  if (code == MDB_MAP_FULL) {
    context += " (the map has " + std::to_string(environment_->options().map_bytes) + " bytes)";
  }
  Status status = lmdb_error(code, std::move(context));
  if (status.code() == ErrorCode::kIoError || status.code() == ErrorCode::kCorrupted) {
    commit_failure_ = status;
  }
  return status;
}

Result<std::unique_ptr<ReadView>> LmdbStore::read() {
  MDB_txn* txn = nullptr;
  int code = mdb_txn_begin(environment_->get(), nullptr, MDB_RDONLY, &txn);
  if (code != 0) {
    return lmdb_error(code, environment_->context("open view"));
  }
  MDB_cursor* cursor = nullptr;
  code = mdb_cursor_open(txn, environment_->dbi(), &cursor);
  if (code != 0) {
    mdb_txn_abort(txn);
    return lmdb_error(code, environment_->context("open view"));
  }
  return std::unique_ptr<ReadView>(new View(environment_, txn, cursor));
}

uint64_t LmdbStore::size_bytes() {
  MDB_envinfo info{};
  MDB_stat stat{};
  if (mdb_env_info(environment_->get(), &info) != 0 ||
      mdb_env_stat(environment_->get(), &stat) != 0) {
    return 0;
  }
  return (uint64_t{info.me_last_pgno} + 1) * stat.ms_psize;
}

}  // namespace tidemark::kv
