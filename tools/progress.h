// A progress bar with rate and time left on standard error, for work that takes more than a second
// and only when standard error is a terminal and --quiet was not given.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "log/base/clock.h"

namespace tidemark::tools {

class Progress {
 public:
  // `total` in `unit`s (0: not known, then there is no bar and no time left), e.g. ("produce",
  // 100000, "messages").
  Progress(std::string_view label, uint64_t total, std::string_view unit, bool enabled);
  ~Progress();  // removes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap enough for every batch, not for every message. Draws at most ten times a second.
  void update(uint64_t done, uint64_t bytes);
  // Takes the line off the terminal, so that other text can be printed.
  void clear();

  // The line that is drawn; `width` columns at most.
  static std::string render(std::string_view label, uint64_t done, uint64_t total,
                            std::string_view unit, uint64_t bytes, double seconds, size_t width);

 private:
  std::string label_;
  std::string unit_;
  uint64_t total_;
  bool enabled_;
  bool drawn_ = false;
  MonotonicTime started_;
  MonotonicTime last_drawn_;
};

// True if standard error is a terminal that can redraw a line.
bool progress_wanted(bool quiet);

}  // namespace tidemark::tools
