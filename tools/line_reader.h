// Cuts a byte stream into lines, in bounded memory and byte-exact: only the newline itself is taken
// off (a carriage return is part of the line), and the last line counts with or without a newline.
//
// Thread: one. Owner of the buffer; the file belongs to the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "log/base/result.h"

namespace tidemark::tools {

class LineReader {
 public:
  // Reads from a file descriptor that stays open while the reader is used. Lines longer than
  // `line_bytes_max` are an error. `interrupt_descriptor` (or -1) ends a read that waits.
  LineReader(int descriptor, size_t line_bytes_max, int interrupt_descriptor = -1);

  // True with the next line, valid until the next call; false at the end of the input.
  // kTooLarge (naming line and limit) or kIoError: the input cannot be read further.
  // kCancelled when `interrupt_descriptor` became readable.
  Result<bool> next(std::string_view& line);

  // Line number of the last line given, from 1.
  [[nodiscard]] uint64_t line_number() const { return line_number_; }

  [[nodiscard]] uint64_t bytes_read() const { return bytes_read_; }

  // True if the next call may have to wait for input: nothing complete is buffered.
  [[nodiscard]] bool may_block() const;

 private:
  Status fill();
  Status wait_readable() const;

  int descriptor_;
  int interrupt_descriptor_;
  size_t line_bytes_max_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t scanned_ = 0;  // no newline in [begin_, scanned_)
  size_t end_ = 0;
  bool at_end_ = false;
  uint64_t line_number_ = 0;
  uint64_t bytes_read_ = 0;
};

}  // namespace tidemark::tools
