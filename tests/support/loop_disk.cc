#include "tests/support/loop_disk.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "tests/support/run_command.h"

namespace tidemark::testing {

namespace {

// FS_IOC_SHUTDOWN and its flags: ext4, xfs and f2fs have it, no header for programs does.
constexpr unsigned long kShutDown = _IOR('X', 125, uint32_t);  // NOLINT(google-runtime-int)
constexpr uint32_t kLogFlush = 1;
constexpr uint32_t kNoLogFlush = 2;
constexpr int kDeviceAttempts = 16;  // somebody else may take the free one first
constexpr uint64_t kPageBytes = 4'096;

// -1: none can be had. `device` is its name.
int take_device(int image, std::string& device) {
  const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) {
    return -1;
  }
  int fd = -1;
  for (int i = 0; i < kDeviceAttempts && fd < 0; ++i) {
    const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
    device = "/dev/loop" + std::to_string(number);
    fd = number < 0 ? -1 : ::open(device.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      break;
    }
    loop_config config{};
    config.fd = static_cast<uint32_t>(image);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(fd, LOOP_CONFIGURE, &config) != 0) {
      ::close(fd);
      fd = -1;
    }
  }
  ::close(control);
  return fd;
}

std::string ballast_in(const std::string& path) { return path + "/ballast"; }

}  // namespace

bool enter_private_mounts() {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

std::unique_ptr<LoopDisk> LoopDisk::create(const std::string& path, uint64_t bytes,
                                           std::string& why) {
  if (::geteuid() != 0) {
    why = "mounting a loop file system needs root";
    return nullptr;
  }
  why = "no loop file system can be mounted here";
  const int image = ::memfd_create("tidemark-disk", MFD_CLOEXEC);
  if (image < 0 || ::ftruncate(image, static_cast<off_t>(bytes)) != 0) {
    return nullptr;
  }
  std::string device;
  const int fd = take_device(image, device);
  ::close(image);  // the device has it
  if (fd < 0) {
    return nullptr;
  }
  std::error_code error;
  std::filesystem::create_directories(path, error);
  std::unique_ptr<LoopDisk> disk(new LoopDisk(path, device, fd));
  const bool made =
      run_command({"/sbin/mkfs.ext4", "-q", "-F", "-m", "0", device}).exit_code == 0 &&
      disk->mount();
  return made ? std::move(disk) : nullptr;
}

LoopDisk::~LoopDisk() {
  ::umount2(path_.c_str(), MNT_DETACH);
  ::close(device_fd_);
}

bool LoopDisk::mount() { return ::mount(device_.c_str(), path_.c_str(), "ext4", 0, nullptr) == 0; }

bool LoopDisk::remount() { return ::umount2(path_.c_str(), 0) == 0 && mount(); }

void LoopDisk::write_back_some(const std::string& folder, Random& random) const {
  std::vector<std::string> files;
  std::error_code error;
  for (auto at = std::filesystem::recursive_directory_iterator(folder, error);
       !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    files.push_back(at->path().string());
  }
  for (const std::string& file : files) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);

    struct stat is {};

    if (fd >= 0 && ::fstat(fd, &is) == 0 && S_ISREG(is.st_mode)) {
      const uint64_t pages = static_cast<uint64_t>(is.st_size) / kPageBytes + 1;
      for (int i = 0; i < 8; ++i) {
        const uint64_t first = random.below(pages);
        (void)::sync_file_range(fd, static_cast<off_t>(first * kPageBytes),
                                static_cast<off_t>(random.between(1, 4) * kPageBytes),
                                SYNC_FILE_RANGE_WRITE);
      }
    }
    if (fd >= 0) {
      ::close(fd);
    }
  }
}

bool LoopDisk::cut_power(Cut cut) const {
  const int root = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) {
    return false;
  }
  uint32_t flag = cut == Cut::kLogFlushed ? kLogFlush : kNoLogFlush;
  const bool done = ::ioctl(root, kShutDown, &flag) == 0;
  ::close(root);
  return done;
}

std::string LoopDisk::device_number() const {
  struct stat is {};

  (void)::fstat(device_fd_, &is);
  return std::to_string(major(is.st_rdev)) + ":" + std::to_string(minor(is.st_rdev));
}

void LoopDisk::fill() const {
  const int fd = ::open(ballast_in(path_).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    return;  // no block left for its name: it is full
  }
  off_t at = 0;
  for (off_t piece = off_t{64} << 20; piece >= static_cast<off_t>(kPageBytes);) {
    if (::posix_fallocate(fd, at, piece) == 0) {
      at += piece;
    } else {
      piece /= 2;
    }
  }
  ::close(fd);
}

void LoopDisk::free() const { ::unlink(ballast_in(path_).c_str()); }

}  // namespace tidemark::testing
