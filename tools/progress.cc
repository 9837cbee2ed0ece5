#include "tools/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kFirstDrawNs = 1'000'000'000;
constexpr int64_t kRedrawNs = 100'000'000;

size_t terminal_width() {
  winsize size = {};
  if (ioctl(2, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    return 80;
  }
  return size.ws_col;
}

void write_to_terminal(std::string_view text) {
  [[maybe_unused]] const ssize_t written = ::write(2, text.data(), text.size());
}

}  // namespace

Progress::Progress(std::string_view label, uint64_t total, std::string_view unit, bool enabled)
    : label_(label),
      unit_(unit),
      total_(total),
      enabled_(enabled),
      started_(system_clock().monotonic()) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (drawn_) {
    write_to_terminal("\r\x1b[K");
    drawn_ = false;
  }
}

void Progress::update(uint64_t done, uint64_t bytes) {
  if (!enabled_) {
    return;
  }
  const MonotonicTime now = system_clock().monotonic();
  if (now.ns - started_.ns < kFirstDrawNs || now.ns - last_drawn_.ns < kRedrawNs) {
    return;
  }
  last_drawn_ = now;
  drawn_ = true;
  const double seconds = static_cast<double>(now.ns - started_.ns) / 1e9;
  write_to_terminal(
      "\r" + render(label_, done, total_, unit_, bytes, seconds, terminal_width() - 1) + "\x1b[K");
}

std::string Progress::render(std::string_view label, uint64_t done, uint64_t total,
                             std::string_view unit, uint64_t bytes, double seconds, size_t width) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const double mb_rate = seconds > 0 ? static_cast<double>(bytes) / seconds / 1e6 : 0;
  std::string text = fmt::format("{} {}/s", format_count(static_cast<uint64_t>(rate)), unit);
  if (bytes > 0) {
    text += fmt::format("  {:.1f} MB/s", mb_rate);
  }
  if (total == 0) {
    return fmt::format("{}  {} {}  {}", label, format_count(done), unit, text).substr(0, width);
  }
  const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  if (rate > 0 && done < total) {
    const auto left = static_cast<int64_t>(static_cast<double>(total - done) / rate) + 1;
    text += fmt::format("  {} left", format_duration(left * 1000));
  }
  const std::string head = fmt::format("{}  {:3.0f}%  ", label, part * 100);
  const size_t taken = head.size() + text.size() + 4;
  if (taken + 10 > width) {
    return (head + text).substr(0, width);
  }
  const size_t bar_width = std::min<size_t>(40, width - taken);
  const auto filled = static_cast<size_t>(part * static_cast<double>(bar_width));
  return fmt::format("{}[{}{}]  {}", head, std::string(filled, '#'),
                     std::string(bar_width - filled, '.'), text);
}

bool progress_wanted(bool quiet) { return !quiet && can_redraw(2); }

}  // namespace tidemark::tools
