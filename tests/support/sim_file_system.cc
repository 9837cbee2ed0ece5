#include "tests/support/sim_file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "log/base/check.h"

namespace tidemark {

namespace {

constexpr uint64_t kSectorBytes = 512;

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void write_at(std::vector<uint8_t>& image, uint64_t offset, ByteView bytes) {
  if (image.size() < offset + bytes.size()) {
    image.resize(offset + bytes.size());
  }
  if (!bytes.empty()) {
    std::memcpy(image.data() + offset, bytes.data(), bytes.size());
  }
}

}  // namespace

// A file apart from its names.
struct SimFileSystem::Inode {
  struct Change {
    enum class Kind { kWrite, kResize } kind = Kind::kWrite;
    uint64_t offset = 0;  // or the new size
    std::vector<uint8_t> bytes;
    bool doomed = false;  // a sync that should have stored it failed
  };

  void apply(std::vector<uint8_t>& image, const Change& change) const {
    if (change.kind == Change::Kind::kWrite) {
      write_at(image, change.offset, change.bytes);
    } else {
      image.resize(change.offset);
    }
  }

  // Whole or by sectors.
  void apply_torn(const Change& change, Random& random) {
    if (change.doomed || random.chance(1, 3)) {
      return;
    }
    if (change.kind == Change::Kind::kResize || random.chance(1, 2)) {
      apply(durable, change);
      return;
    }
    uint64_t at = 0;
    while (at < change.bytes.size()) {
      const uint64_t sector_end = (change.offset + at) / kSectorBytes * kSectorBytes + kSectorBytes;
      const uint64_t size =
          std::min<uint64_t>(sector_end - change.offset - at, change.bytes.size() - at);
      if (random.chance(1, 2)) {
        write_at(durable, change.offset + at, ByteView(change.bytes).subspan(at, size));
      }
      at += size;
    }
  }

  void change(Change change) {
    apply(current, change);
    pending.push_back(std::move(change));
  }

  void sync() {
    for (const Change& change : pending) {
      if (!change.doomed) {
        apply(durable, change);
      }
    }
    std::erase_if(pending, [](const Change& change) { return !change.doomed; });
  }

  std::vector<uint8_t> current;
  std::vector<uint8_t> durable;
  std::vector<Change> pending;
  bool sync_failed = false;
};

struct SimFileSystem::NameChange {
  std::string directory;
  std::string removed;  // empty: none
  std::string added;    // empty: none
  std::shared_ptr<Inode> inode;
};

class SimFileSystem::SimFile final : public File {
 public:
  SimFile(SimFileSystem& fs, std::shared_ptr<Inode> inode, std::string path, bool writable)
      : fs_(fs),
        inode_(std::move(inode)),
        path_(std::move(path)),
        writable_(writable),
        generation_(fs.generation_) {}

  Status read(uint64_t offset, MutableByteView out) override;
  Status write(uint64_t offset, std::span<const ByteView> parts) override;
  Status sync() override;
  Status allocate(uint64_t size) override;
  Status truncate(uint64_t size) override;
  Result<uint64_t> size() override;

 private:
  // Requires: the lock is held.
  Status enter(SimCall call) {
    if (generation_ != fs_.generation_) {
      return {ErrorCode::kIoError, path_ + ": was open when the power failed"};
    }
    if (call != SimCall::kRead && call != SimCall::kSync && !writable_) {
      return {ErrorCode::kIoError, path_ + ": is open for reading only"};
    }
    return fs_.enter(call, path_);
  }

  SimFileSystem& fs_;
  std::shared_ptr<Inode> inode_;
  std::string path_;
  bool writable_;
  uint64_t generation_;
};

Status SimFileSystem::SimFile::read(uint64_t offset, MutableByteView out) {
  const std::lock_guard<std::mutex> lock(fs_.mutex_);
  RETURN_IF_ERROR(enter(SimCall::kRead));
  const std::vector<uint8_t>& image = inode_->current;
  if (offset > image.size() || out.size() > image.size() - offset) {
    return {ErrorCode::kCorrupted, path_ + ": wanted " + std::to_string(out.size()) + " bytes at " +
                                       std::to_string(offset) + ", the file ends at " +
                                       std::to_string(image.size())};
  }
  if (!out.empty()) {
    std::memcpy(out.data(), image.data() + offset, out.size());
    if (fs_.flip_one_in_ != 0 && fs_.random_.chance(1, fs_.flip_one_in_)) {
      out[fs_.random_.below(out.size())] ^= static_cast<uint8_t>(1U << fs_.random_.below(8));
    }
  }
  return {};
}

Status SimFileSystem::SimFile::write(uint64_t offset, std::span<const ByteView> parts) {
  const std::lock_guard<std::mutex> lock(fs_.mutex_);
  Inode::Change change{.kind = Inode::Change::Kind::kWrite, .offset = offset, .bytes = {}};
  for (const ByteView part : parts) {
    change.bytes.insert(change.bytes.end(), part.begin(), part.end());
  }
  Status status = enter(SimCall::kWrite);
  if (status.ok()) {
    status = fs_.take_space(*inode_, offset + change.bytes.size());
  }
  if (!status.ok() && generation_ == fs_.generation_ && writable_) {
    // Any prefix that fits may have been written; if the power is off, a crash() takes its part.
    const uint64_t inside = offset < inode_->current.size() ? inode_->current.size() - offset : 0;
    change.bytes.resize(fs_.random_.below(std::min<uint64_t>(inside, change.bytes.size()) + 1));
  }
  if (generation_ == fs_.generation_ && writable_ && !change.bytes.empty()) {
    inode_->change(std::move(change));
  }
  return status;
}

Status SimFileSystem::SimFile::sync() {
  const std::lock_guard<std::mutex> lock(fs_.mutex_);
  fs_.syncs_repeated_ += inode_->sync_failed ? 1U : 0U;
  const Status status = enter(SimCall::kSync);
  inode_->sync_failed = inode_->sync_failed || !status.ok();
  if (status.ok()) {
    inode_->sync();
  } else if (generation_ == fs_.generation_ && fs_.calls_until_dark_ != 0) {
    for (Inode::Change& change : inode_->pending) {
      change.doomed = true;
    }
  }
  return status;
}

Status SimFileSystem::SimFile::allocate(uint64_t size) {
  const std::lock_guard<std::mutex> lock(fs_.mutex_);
  RETURN_IF_ERROR(enter(SimCall::kAllocate));
  RETURN_IF_ERROR(fs_.take_space(*inode_, size));
  if (size > inode_->current.size()) {
    inode_->change({.kind = Inode::Change::Kind::kResize, .offset = size, .bytes = {}});
  }
  return {};
}

Status SimFileSystem::SimFile::truncate(uint64_t size) {
  const std::lock_guard<std::mutex> lock(fs_.mutex_);
  RETURN_IF_ERROR(enter(SimCall::kTruncate));
  inode_->change({.kind = Inode::Change::Kind::kResize, .offset = size, .bytes = {}});
  return {};
}

Result<uint64_t> SimFileSystem::SimFile::size() {
  const std::lock_guard<std::mutex> lock(fs_.mutex_);
  RETURN_IF_ERROR(fs_.count(SimCall::kSize, path_));
  return uint64_t{inode_->current.size()};
}

class SimFileSystem::SimLock final : public DirectoryLock {
 public:
  SimLock(SimFileSystem& fs, std::string path)
      : fs_(fs), path_(std::move(path)), generation_(fs.generation_) {}

  ~SimLock() override {
    const std::lock_guard<std::mutex> lock(fs_.mutex_);
    if (generation_ == fs_.generation_) {
      fs_.locks_.erase(path_);
    }
  }

  SimLock(const SimLock&) = delete;
  SimLock& operator=(const SimLock&) = delete;

 private:
  SimFileSystem& fs_;
  std::string path_;
  uint64_t generation_;
};

SimFileSystem::SimFileSystem(uint64_t seed) : random_(seed) {}

SimFileSystem::~SimFileSystem() = default;

bool SimFileSystem::power_is_off(SimCall call) {
  if (calls_until_dark_ != UINT64_MAX && calls_until_dark_ > 0 && call != SimCall::kRead &&
      call != SimCall::kOpen) {
    --calls_until_dark_;
  }
  return calls_until_dark_ == 0;
}

Status SimFileSystem::enter(SimCall call, const std::string& what) {
  if (power_is_off(call)) {
    return Status::from_errno(EIO, what + ": no power");
  }
  return count(call, what);
}

Status SimFileSystem::count(SimCall call, const std::string& what) {
  if (any_failure_.calls_until > 0 && any_failure_.kinds.contains(call)) {
    if (--any_failure_.calls_until == 0) {
      any_failure_.calls_until = any_failure_.sticky ? 1 : 0;
      ++failed_;
      return Status::from_errno(any_failure_.error, what + ": injected");
    }
  }
  const uint64_t number = ++calls_[call];
  const auto failure = failures_.find(call);
  if (failure == failures_.end() || number < failure->second.at) {
    return {};
  }
  if (number == failure->second.at || failure->second.sticky) {
    return Status::from_errno(EIO, what + ": injected");
  }
  return {};
}

Status SimFileSystem::take_space(Inode& inode, uint64_t size) {
  if (size <= inode.current.size() || capacity_ == UINT64_MAX) {
    return {};
  }
  uint64_t used = 0;
  for (const auto& [name, other] : names_) {
    used += other->current.size();
  }
  if (used + size - inode.current.size() > capacity_) {
    return Status::from_errno(ENOSPC, "simulated disk");
  }
  return {};
}

std::optional<std::shared_ptr<SimFileSystem::Inode>> SimFileSystem::find(
    const std::string& path) const {
  const auto found = names_.find(path);
  return found == names_.end() ? std::nullopt : std::optional(found->second);
}

Result<std::unique_ptr<File>> SimFileSystem::open(const std::string& path, OpenMode mode) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(enter(SimCall::kOpen, path));
  std::optional<std::shared_ptr<Inode>> inode = find(path);
  if (mode == OpenMode::kCreateNew) {
    if (inode) {
      return Status::from_errno(EEXIST, path + ": open");
    }
    if (!directories_.contains(parent_of(path))) {
      return Status::from_errno(ENOENT, path + ": open");
    }
    inode = std::make_shared<Inode>();
    names_[path] = *inode;
    changes_.push_back({parent_of(path), "", path, *inode});
  }
  if (!inode) {
    return Status::from_errno(ENOENT, path + ": open");
  }
  return std::unique_ptr<File>(
      std::make_unique<SimFile>(*this, *inode, path, mode != OpenMode::kReadOnly));
}

Result<std::vector<std::string>> SimFileSystem::list(const std::string& directory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(count(SimCall::kList, directory));
  if (!directories_.contains(directory)) {
    return Status::from_errno(ENOENT, directory + ": list");
  }
  std::vector<std::string> result;
  for (const auto& [path, inode] : names_) {
    if (parent_of(path) == directory) {
      result.push_back(path.substr(directory.size() + 1));
    }
  }
  for (const std::string& path : directories_) {
    if (path != directory && parent_of(path) == directory) {
      result.push_back(path.substr(directory.size() + 1));
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

Result<bool> SimFileSystem::exists(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(count(SimCall::kExists, path));
  return names_.contains(path) || directories_.contains(path);
}

Status SimFileSystem::create_directories(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::string at = path; !at.empty() && at != "." && at != "/"; at = parent_of(at)) {
    directories_.insert(at);
  }
  return {};
}

Status SimFileSystem::rename(const std::string& from, const std::string& to) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(enter(SimCall::kRename, from));
  const std::optional<std::shared_ptr<Inode>> inode = find(from);
  if (!inode || !directories_.contains(parent_of(to))) {
    return Status::from_errno(ENOENT, from + ": rename to " + to);
  }
  TIDEMARK_CHECK(parent_of(from) == parent_of(to), "a rename stays in its directory");
  names_.erase(from);
  names_[to] = *inode;
  changes_.push_back({parent_of(from), from, to, *inode});
  return {};
}

Status SimFileSystem::remove(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(enter(SimCall::kRemove, path));
  if (names_.erase(path) == 0) {
    return Status::from_errno(ENOENT, path + ": remove");
  }
  changes_.push_back({parent_of(path), path, "", nullptr});
  return {};
}

Status SimFileSystem::sync_directory(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  syncs_repeated_ += unsynced_directories_.contains(path) ? 1U : 0U;
  if (Status status = enter(SimCall::kSyncDirectory, path); !status.ok()) {
    unsynced_directories_.insert(path);
    return status;
  }
  for (const NameChange& change : changes_) {
    if (change.directory == path) {
      durable_names_.erase(change.removed);
      if (!change.added.empty()) {
        durable_names_[change.added] = change.inode;
      }
    }
  }
  std::erase_if(changes_, [&](const NameChange& change) { return change.directory == path; });
  return {};
}

Result<std::unique_ptr<DirectoryLock>> SimFileSystem::lock_directory(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!directories_.contains(path)) {
    return Status::from_errno(ENOENT, path + ": lock");
  }
  if (!locks_.insert(path).second) {
    return Status(ErrorCode::kLocked, path + " is in use");
  }
  return std::unique_ptr<DirectoryLock>(std::make_unique<SimLock>(*this, path));
}

Result<uint64_t> SimFileSystem::free_bytes(const std::string& /*path*/) {
  const uint64_t used = used_bytes();
  const std::lock_guard<std::mutex> lock(mutex_);
  return used < capacity_ ? capacity_ - used : 0;
}

void SimFileSystem::crash() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++generation_;
  calls_until_dark_ = UINT64_MAX;
  locks_.clear();
  unsynced_directories_.clear();
  for (const NameChange& change : changes_) {
    if (random_.chance(1, 2)) {
      continue;
    }
    durable_names_.erase(change.removed);
    if (!change.added.empty()) {
      // The inode has one name: a lost earlier rename must not leave it two.
      std::erase_if(durable_names_,
                    [&](const auto& entry) { return entry.second == change.inode; });
      durable_names_[change.added] = change.inode;
    }
  }
  changes_.clear();
  names_ = durable_names_;
  for (const auto& [path, inode] : names_) {
    for (const Inode::Change& change : inode->pending) {
      inode->apply_torn(change, random_);
    }
    inode->pending.clear();
    inode->sync_failed = false;
    inode->current = inode->durable;
  }
}

void SimFileSystem::cut_power_at(uint64_t nth) {
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_until_dark_ = nth;
}

void SimFileSystem::set_capacity(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  capacity_ = bytes;
}

uint64_t SimFileSystem::used_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t used = 0;
  for (const auto& [path, inode] : names_) {
    used += inode->current.size();
  }
  return used;
}

void SimFileSystem::fail_at(SimCall call, uint64_t nth, bool sticky) {
  const std::lock_guard<std::mutex> lock(mutex_);
  failures_[call] = {calls_[call] + nth, sticky};
}

void SimFileSystem::flip_reads(uint64_t one_in) {
  const std::lock_guard<std::mutex> lock(mutex_);
  flip_one_in_ = one_in;
}

void SimFileSystem::heal() {
  const std::lock_guard<std::mutex> lock(mutex_);
  failures_.clear();
  any_failure_ = {};
  flip_one_in_ = 0;
  failed_ = 0;
  syncs_repeated_ = 0;
  unsynced_directories_.clear();
  for (const auto& [path, inode] : names_) {
    inode->sync_failed = false;
  }
}

void SimFileSystem::fail_any_at(std::set<SimCall> kinds, uint64_t nth, int error, bool sticky) {
  const std::lock_guard<std::mutex> lock(mutex_);
  any_failure_ = {std::move(kinds), nth, error, sticky};
}

uint64_t SimFileSystem::failures() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failed_;
}

uint64_t SimFileSystem::syncs_repeated() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return syncs_repeated_;
}

uint64_t SimFileSystem::calls(SimCall call) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = calls_.find(call);
  return found == calls_.end() ? 0 : found->second;
}

void SimFileSystem::flip_bit(const std::string& path, uint64_t offset, unsigned bit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::optional<std::shared_ptr<Inode>> inode = find(path);
  TIDEMARK_CHECK(inode.has_value(), path);
  const auto mask = static_cast<uint8_t>(1u << bit);
  (*inode)->current.at(offset) ^= mask;
  if (offset < (*inode)->durable.size()) {
    (*inode)->durable[offset] ^= mask;
  }
}

void SimFileSystem::put(const std::string& path, ByteView content) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto inode = std::make_shared<Inode>();
  inode->current.assign(content.begin(), content.end());
  inode->durable = inode->current;
  names_[path] = inode;
  durable_names_[path] = inode;
}

std::vector<uint8_t> SimFileSystem::content(const std::string& path) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::optional<std::shared_ptr<Inode>> inode = find(path);
  TIDEMARK_CHECK(inode.has_value(), path);
  return (*inode)->current;
}

}  // namespace tidemark
