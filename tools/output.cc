#include "tools/output.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "log/base/status.h"
#include "tools/errors.h"

namespace tidemark::tools {
namespace {

std::atomic<bool> quiet_now{false};

}  // namespace

OutputBuffer::OutputBuffer(int descriptor) : descriptor_(descriptor) {
  text_.reserve(kWriteBytes * 2);
}

void OutputBuffer::flush() {
  std::string_view rest = text_;
  while (!rest.empty()) {
    const ssize_t written = ::write(descriptor_, rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<size_t>(written));
      bytes_written_ += static_cast<uint64_t>(written);
      continue;
    }
    const int error = errno;
    if (error == EINTR) {
      continue;
    }
    text_.clear();
    if (error == EPIPE) {
      throw OutputClosed();
    }
    throw CommandError(Status::from_errno(error, "standard output"), "writing the result");
  }
  text_.clear();
}

void print(std::string_view text) {
  OutputBuffer out;
  out.text() = text;
  out.flush();
}

void note(std::string_view line) {
  if (quiet_now) {
    return;
  }
  std::string text(line);
  text += '\n';
  // Nothing sensible is left to do when standard error cannot be written.
  [[maybe_unused]] const ssize_t written = ::write(2, text.data(), text.size());
}

void set_quiet(bool quiet) { quiet_now = quiet; }

bool can_redraw(int descriptor) {
  const char* terminal =
      std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): nobody changes the environment
  return isatty(descriptor) == 1 && terminal != nullptr && std::string_view(terminal) != "dumb";
}

std::string Table::to_string() const {
  std::vector<size_t> widths;
  widths.reserve(columns_.size());
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = columns_[i].name.size();
    for (const std::vector<std::string>& row : rows_) {
      width = std::max(width, row[i].size());
    }
    widths.push_back(width);
  }
  std::string out;
  const auto add_line = [&](const auto& cell_at) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_at(i);
      const std::string padding(widths[i] - cell.size(), ' ');
      line += i == 0 ? "" : "  ";
      line += columns_[i].align == Align::kRight ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  };
  add_line([this](size_t i) -> const std::string& { return columns_[i].name; });
  for (const std::vector<std::string>& row : rows_) {
    add_line([&row](size_t i) -> const std::string& { return row[i]; });
  }
  return out;
}

}  // namespace tidemark::tools
