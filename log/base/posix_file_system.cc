#include "log/base/posix_file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <system_error>

#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark {

namespace {

constexpr mode_t kFileMode = 0640;
// Parts of one pwritev; IOV_MAX is 1024 on Linux.
constexpr size_t kPartsPerCallMax = IOV_MAX;

// A descriptor that is closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}

  ~Descriptor() {
    // An error of close() says nothing about data that was synced, and nothing else counts as
    // stored.
    ::close(fd_);
  }

  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

template <typename Call>
auto without_interrupt(Call call) {
  while (true) {
    const auto result = call();
    if (result != -1 || errno != EINTR) {
      return result;
    }
  }
}

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  Status read(uint64_t offset, MutableByteView out) override;
  Status write(uint64_t offset, std::span<const ByteView> parts) override;
  Status sync() override;
  Status allocate(uint64_t size) override;
  Status truncate(uint64_t size) override;
  Result<uint64_t> size() override;

 private:
  [[nodiscard]] Status error(std::string_view operation) const {
    return Status::from_errno(errno, path_ + ": " + std::string(operation));
  }

  Status fill_with_zeros(uint64_t size);

  Descriptor fd_;
  std::string path_;
};

Status PosixFile::read(uint64_t offset, MutableByteView out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = without_interrupt([&] {
      return ::pread(fd_.get(), out.data() + done, out.size() - done,
                     static_cast<off_t>(offset + done));
    });
    if (got < 0) {
      return error("read at " + std::to_string(offset + done));
    }
    if (got == 0) {
      return {ErrorCode::kCorrupted, path_ + ": wanted " + std::to_string(out.size()) +
                                         " bytes at " + std::to_string(offset) +
                                         ", the file ends at " + std::to_string(offset + done)};
    }
    done += static_cast<size_t>(got);
  }
  return {};
}

Status PosixFile::write(uint64_t offset, std::span<const ByteView> parts) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): filled as far as it is given on
  std::array<iovec, kPartsPerCallMax> vectors;
  size_t next = 0;     // first part that is not wholly written
  size_t skipped = 0;  // bytes of it that are written
  while (true) {
    size_t count = 0;
    for (size_t i = next; i < parts.size() && count < vectors.size(); ++i) {
      const size_t skip = i == next ? skipped : 0;
      if (parts[i].size() > skip) {
        // pwritev takes a pointer to mutable bytes but only reads them.
        vectors[count++] = {const_cast<uint8_t*>(parts[i].data()) + skip, parts[i].size() - skip};
      }
    }
    if (count == 0) {
      return {};
    }
    const ssize_t put = without_interrupt([&] {
      return ::pwritev(fd_.get(), vectors.data(), static_cast<int>(count),
                       static_cast<off_t>(offset));
    });
    if (put < 0) {
      return error("write at " + std::to_string(offset));
    }
    if (put == 0) {
      return {ErrorCode::kIoError,
              path_ + ": write at " + std::to_string(offset) + " took no byte"};
    }
    offset += static_cast<uint64_t>(put);
    skipped += static_cast<size_t>(put);
    while (next < parts.size() && skipped >= parts[next].size()) {
      skipped -= parts[next++].size();
    }
  }
}

Status PosixFile::sync() {
  // An interrupted sync is an error like any other: whether the kernel dropped dirty pages is
  // unknown.
  return ::fdatasync(fd_.get()) == 0 ? Status() : error("sync");
}

Status PosixFile::allocate(uint64_t size) {
  if (without_interrupt([&] { return ::fallocate(fd_.get(), 0, 0, static_cast<off_t>(size)); }) ==
      0) {
    return {};
  }
  if (errno != EOPNOTSUPP) {
    return error("allocate " + std::to_string(size) + " bytes");
  }
  return fill_with_zeros(size);
}

// For file systems without fallocate. Files here never have holes below their size.
Status PosixFile::fill_with_zeros(uint64_t size) {
  static constexpr std::array<uint8_t, 64 * limits::kKiB> kZeros{};
  ASSIGN_OR_RETURN(uint64_t at, this->size());
  while (at < size) {
    const auto step = static_cast<size_t>(std::min<uint64_t>(kZeros.size(), size - at));
    const ByteView part(kZeros.data(), step);
    RETURN_IF_ERROR(write(at, {&part, 1}));
    at += step;
  }
  return {};
}

Status PosixFile::truncate(uint64_t size) {
  const int result =
      without_interrupt([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); });
  return result == 0 ? Status() : error("truncate to " + std::to_string(size));
}

Result<uint64_t> PosixFile::size() {
  struct stat info {};

  if (::fstat(fd_.get(), &info) != 0) {
    return error("stat");
  }
  return static_cast<uint64_t>(info.st_size);
}

class PosixDirectoryLock final : public DirectoryLock {
 public:
  explicit PosixDirectoryLock(int fd) : fd_(fd) {}

 private:
  Descriptor fd_;
};

std::string pid_text(int fd) {
  std::array<char, 32> text{};
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  std::string pid;
  for (ssize_t i = 0;
       i < got && text[static_cast<size_t>(i)] >= '0' && text[static_cast<size_t>(i)] <= '9'; ++i) {
    pid += text[static_cast<size_t>(i)];
  }
  return pid;
}

}  // namespace

Result<std::unique_ptr<File>> PosixFileSystem::open(const std::string& path, OpenMode mode) {
  int flags = O_CLOEXEC | O_NOFOLLOW;
  switch (mode) {
    case OpenMode::kReadOnly:
      flags |= O_RDONLY;
      break;
    case OpenMode::kReadWrite:
      flags |= O_RDWR;
      break;
    case OpenMode::kCreateNew:
      flags |= O_RDWR | O_CREAT | O_EXCL;
      break;
  }
  const int fd = without_interrupt([&] { return ::open(path.c_str(), flags, kFileMode); });
  if (fd < 0) {
    return Status::from_errno(errno, path + ": open");
  }
  return std::unique_ptr<File>(std::make_unique<PosixFile>(fd, path));
}

Result<std::vector<std::string>> PosixFileSystem::list(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) {
    return Status::from_errno(error.value(), directory + ": list");
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<bool> PosixFileSystem::exists(const std::string& path) {
  struct stat info {};

  if (::lstat(path.c_str(), &info) == 0) {
    return true;
  }
  if (errno == ENOENT || errno == ENOTDIR) {
    return false;
  }
  return Status::from_errno(errno, path + ": stat");
}

Status PosixFileSystem::create_directories(const std::string& path) {
  std::vector<std::filesystem::path> missing;
  std::filesystem::path at = std::filesystem::path(path).lexically_normal();
  if (!at.has_filename()) {
    at = at.parent_path();
  }
  std::error_code error;
  while (!at.empty() && !std::filesystem::is_directory(at, error)) {
    missing.push_back(at);
    at = at.parent_path();
  }
  for (auto next = missing.rbegin(); next != missing.rend(); ++next) {
    std::filesystem::create_directory(*next, error);
    if (error) {
      return Status::from_errno(error.value(), next->string() + ": create directory");
    }
    const std::string parent = next->parent_path().string();
    RETURN_IF_ERROR(sync_directory(parent.empty() ? "." : parent));
  }
  return {};
}

Status PosixFileSystem::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    return Status::from_errno(errno, from + ": rename to " + to);
  }
  return {};
}

Status PosixFileSystem::remove(const std::string& path) {
  return ::unlink(path.c_str()) == 0 ? Status() : Status::from_errno(errno, path + ": remove");
}

Status PosixFileSystem::sync_directory(const std::string& path) {
  const int fd =
      without_interrupt([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (fd < 0) {
    return Status::from_errno(errno, path + ": open directory");
  }
  const Descriptor directory(fd);
  return ::fsync(fd) == 0 ? Status() : Status::from_errno(errno, path + ": sync directory");
}

Result<std::unique_ptr<DirectoryLock>> PosixFileSystem::lock_directory(const std::string& path) {
  const std::string name = path + "/LOCK";
  const int fd = without_interrupt(
      [&] { return ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kFileMode); });
  if (fd < 0) {
    return Status::from_errno(errno, name + ": open");
  }
  auto lock = std::make_unique<PosixDirectoryLock>(fd);

  // An OFD lock belongs to this open file, not to the process: a second one in this process is
  // refused too.
  struct flock range {};

  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &range) != 0) {
    if (errno != EAGAIN && errno != EACCES) {
      return Status::from_errno(errno, name + ": lock");
    }
    const std::string pid = pid_text(fd);
    return Status(ErrorCode::kLocked,
                  path + " is in use" + (pid.empty() ? "" : " by process " + pid));
  }
  const std::string text = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd, 0) != 0 ||
      ::pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    // The pid is only there to be read by a human; a full disk must not keep the owner out.
    errno = 0;
  }
  return std::unique_ptr<DirectoryLock>(std::move(lock));
}

Result<uint64_t> PosixFileSystem::free_bytes(const std::string& path) {
  struct statvfs info {};

  if (without_interrupt([&] { return ::statvfs(path.c_str(), &info); }) != 0) {
    return Status::from_errno(errno, path + ": statvfs");
  }
  return uint64_t{info.f_bavail} * info.f_frsize;
}

}  // namespace tidemark
