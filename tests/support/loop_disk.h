// A small ext4 of its own in a loop device, which can lose its power. Needs root.
//
// Its image is in memory and has no name, its loop device is freed with the last use of it: nothing
// is left behind when the process ends, however it ends, once enter_private_mounts() was called.
// What the power cut keeps is what the file system had written to its device. Thread: one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "log/base/random.h"

namespace tidemark::testing {

// From now on what this process mounts is seen by it and its children alone, and is gone with the
// last of them. Call it before there are threads. False: not allowed.
bool enter_private_mounts();

class LoopDisk {
 public:
  enum class Cut {
    kLogLost,     // what the journal had not written is gone
    kLogFlushed,  // the journal is written first, as by a machine that has a moment left
  };

  // Makes the file system and mounts it at `path`, which is created. Null and `why`: it cannot be
  // had here.
  static std::unique_ptr<LoopDisk> create(const std::string& path, uint64_t bytes,
                                          std::string& why);
  // Unmounts it, also if it is in use.
  ~LoopDisk();
  LoopDisk(const LoopDisk&) = delete;
  LoopDisk& operator=(const LoopDisk&) = delete;

  // The kernel begins to write some pages of the files below `folder`, drawn by `random`, as it may
  // at any time: what was written later may be on disk before what was written earlier.
  void write_back_some(const std::string& folder, Random& random) const;
  // Nothing reaches the device any more and every later sync fails. One that is under way may tell
  // success and lose what it wrote (ext4 leaves blocks that were allocated ahead unwritten then):
  // whoever believes it has to be stopped first. False if the kernel cannot do that.
  [[nodiscard]] bool cut_power(Cut cut) const;
  // Requires: no process uses it. False: it cannot be mounted or unmounted.
  bool remount();

  [[nodiscard]] const std::string& path() const { return path_; }

  // "7:0", as control groups name it.
  [[nodiscard]] std::string device_number() const;

  // A file that takes all the space that is left, and its end.
  void fill() const;
  void free() const;

 private:
  LoopDisk(std::string path, std::string device, int device_fd)
      : path_(std::move(path)), device_(std::move(device)), device_fd_(device_fd) {}

  bool mount();

  const std::string path_;
  const std::string device_;
  const int device_fd_;  // keeps the loop device while nothing is mounted
};

}  // namespace tidemark::testing
