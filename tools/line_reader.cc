#include "tools/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace tidemark::tools {
namespace {

constexpr size_t kReadBytes = size_t{256} * 1024;

}  // namespace

LineReader::LineReader(int descriptor, size_t line_bytes_max, int interrupt_descriptor)
    : descriptor_(descriptor),
      interrupt_descriptor_(interrupt_descriptor),
      line_bytes_max_(line_bytes_max),
      buffer_(2 * kReadBytes) {}

Result<bool> LineReader::next(std::string_view& line) {
  for (;;) {
    const void* found =
        scanned_ < end_ ? std::memchr(buffer_.data() + scanned_, '\n', end_ - scanned_) : nullptr;
    const size_t line_end =
        found ? static_cast<size_t>(static_cast<const char*>(found) - buffer_.data()) : end_;
    if (line_end - begin_ > line_bytes_max_) {
      return Status(ErrorCode::kTooLarge,
                    fmt::format("line {} is longer than the limit of {} bytes", line_number_ + 1,
                                line_bytes_max_));
    }
    scanned_ = line_end;
    if (!found && !at_end_) {
      RETURN_IF_ERROR(fill());
      continue;
    }
    if (!found && begin_ == end_) {
      return false;
    }
    line = {buffer_.data() + begin_, line_end - begin_};
    begin_ = found ? line_end + 1 : end_;
    scanned_ = begin_;
    ++line_number_;
    return true;
  }
}

bool LineReader::may_block() const {
  return !at_end_ &&
         (begin_ == end_ || std::memchr(buffer_.data() + begin_, '\n', end_ - begin_) == nullptr);
}

Status LineReader::fill() {
  if (buffer_.size() - end_ < kReadBytes) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    scanned_ -= begin_;
    end_ -= begin_;
    begin_ = 0;
    if (buffer_.size() - end_ < kReadBytes) {
      buffer_.resize(std::max(buffer_.size() * 2, end_ + kReadBytes));
    }
  }
  for (;;) {
    RETURN_IF_ERROR(wait_readable());
    const ssize_t got = ::read(descriptor_, buffer_.data() + end_, kReadBytes);
    if (got > 0) {
      end_ += static_cast<size_t>(got);
      bytes_read_ += static_cast<uint64_t>(got);
      return Status();
    }
    if (got == 0) {
      at_end_ = true;
      return Status();
    }
    if (errno != EINTR && errno != EAGAIN) {
      return Status::from_errno(errno, "reading the input");
    }
  }
}

Status LineReader::wait_readable() const {
  std::array<pollfd, 2> waited = {{{descriptor_, POLLIN, 0}, {interrupt_descriptor_, POLLIN, 0}}};
  while (::poll(waited.data(), waited.size(), -1) < 0) {
    if (errno != EINTR) {
      return Status::from_errno(errno, "waiting for input");
    }
  }
  if (waited[1].revents != 0) {
    return Status(ErrorCode::kCancelled, "interrupted");
  }
  return Status();
}

}  // namespace tidemark::tools
