#include "tests/blackbox/slow_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace tidemark::testing {

namespace {

constexpr const char* kGroups2 = "/sys/fs/cgroup";
constexpr const char* kGroups1 = "/sys/fs/cgroup/blkio";
constexpr size_t kWriters = 4;
constexpr size_t kWriteBytes = 4'096;

bool write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path);
  out << text << std::flush;
  return out.good();
}

// A group of our own, removed again if it lacks the file that limits.
bool make_group(const std::string& folder, std::string_view limit) {
  std::error_code error;
  if (!std::filesystem::create_directory(folder, error)) {
    return false;
  }
  if (std::filesystem::exists(folder + "/" + std::string(limit))) {
    return true;
  }
  ::rmdir(folder.c_str());
  return false;
}

}  // namespace

SlowDisk::SlowDisk(const LoopDisk& disk) : disk_(disk) {
  const std::string name = fmt::format("/tidemark-torture-{}", ::getpid());
  if (make_group(kGroups2 + name, "io.max")) {
    method_ = Method::kGroup2;
    group_ = kGroups2 + name;
  } else if (make_group(kGroups1 + name, "blkio.throttle.write_iops_device")) {
    method_ = Method::kGroup1;
    group_ = kGroups1 + name;
  }
}

SlowDisk::~SlowDisk() {
  end();
  if (!group_.empty()) {
    ::rmdir(group_.c_str());
  }
}

void SlowDisk::begin(pid_t process, uint64_t writes_per_s) {
  if (method_ != Method::kWriters) {
    limit(writes_per_s);
    (void)write_text(group_ + "/cgroup.procs", std::to_string(process));
    return;
  }
  writing_.store(true);
  for (size_t i = 0; i < kWriters; ++i) {
    writers_.emplace_back([this, i] { write_and_sync(i); });
  }
}

void SlowDisk::end() {
  if (method_ != Method::kWriters) {
    limit(0);
    return;
  }
  writing_.store(false);
  for (std::thread& writer : writers_) {
    writer.join();
  }
  writers_.clear();
}

std::string SlowDisk::method() const {
  switch (method_) {
    case Method::kGroup2:
      return "io.max of its control group";
    case Method::kGroup1:
      return "blkio.throttle of its control group";
    case Method::kWriters:
      return "others that write and sync beside it";
  }
  return "";
}

// 0: none.
void SlowDisk::limit(uint64_t writes_per_s) const {
  if (method_ == Method::kGroup2) {
    (void)write_text(group_ + "/io.max",
                     fmt::format("{} wiops={}", disk_.device_number(),
                                 writes_per_s == 0 ? "max" : std::to_string(writes_per_s)));
  } else {
    (void)write_text(group_ + "/blkio.throttle.write_iops_device",
                     fmt::format("{} {}", disk_.device_number(), writes_per_s));
  }
}

void SlowDisk::write_and_sync(size_t number) const {
  const std::string file = fmt::format("{}/writer-{}", disk_.path(), number);
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const std::string page(kWriteBytes, 'w');
  for (off_t at = 0; fd >= 0 && writing_.load(); at = (at + 1) % 256) {
    (void)!::pwrite(fd, page.data(), page.size(), at * static_cast<off_t>(page.size()));
    (void)::fdatasync(fd);
  }
  if (fd >= 0) {
    ::close(fd);
    ::unlink(file.c_str());
  }
}

}  // namespace tidemark::testing
