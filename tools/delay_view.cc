#include "tools/delay_view.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "log/base/check.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kBucketMs = 65'536;
constexpr int64_t kSecondMs = 1'000;
constexpr int64_t kMinuteMs = 60 * kSecondMs;
constexpr int64_t kHourMs = 60 * kMinuteMs;
constexpr int64_t kDayMs = 24 * kHourMs;

constexpr std::array<int64_t, 27> kWidths = {
    kSecondMs,    2 * kSecondMs, 5 * kSecondMs, 10 * kSecondMs, 15 * kSecondMs, 30 * kSecondMs,
    kMinuteMs,    2 * kMinuteMs, 5 * kMinuteMs, 10 * kMinuteMs, 15 * kMinuteMs, 30 * kMinuteMs,
    kHourMs,      2 * kHourMs,   3 * kHourMs,   6 * kHourMs,    12 * kHourMs,   kDayMs,
    2 * kDayMs,   5 * kDayMs,    10 * kDayMs,   30 * kDayMs,    60 * kDayMs,    90 * kDayMs,
    180 * kDayMs, 360 * kDayMs,  720 * kDayMs};

// How much of the span lies before `time_ms`. Rounded down, but never for all of it, so that parts
// add up.
uint64_t before(const DueSpan& span, int64_t time_ms) {
  if (time_ms <= span.from_ms) {
    return 0;
  }
  if (time_ms >= span.to_ms) {
    return span.messages;
  }
  const double part =
      static_cast<double>(time_ms - span.from_ms) / static_cast<double>(span.to_ms - span.from_ms);
  return std::min(span.messages, static_cast<uint64_t>(part * static_cast<double>(span.messages)));
}

uint64_t before(const std::vector<DueSpan>& spans, int64_t time_ms) {
  uint64_t sum = 0;
  for (const DueSpan& span : spans) {
    sum += before(span, time_ms);
  }
  return sum;
}

int64_t bin_width(int64_t now_ms, int64_t end_ms, size_t bins_max) {
  const auto bins_of_width = [now_ms, end_ms](int64_t width) {
    return static_cast<uint64_t>((end_ms - 1) / width - now_ms / width + 1);
  };
  for (const int64_t width : kWidths) {
    if (bins_of_width(width) <= bins_max) {
      return width;
    }
  }
  int64_t width = kWidths.back();
  while (bins_of_width(width) > bins_max && width < INT64_MAX / 2) {
    width *= 2;
  }
  return width;
}

// No finer than the bins.
std::string bin_label(int64_t time_ms, int64_t width_ms) {
  const std::string text = format_time(time_ms);  // 2026-03-01T12:30:05.250Z
  if (width_ms % kDayMs == 0) {
    return text.substr(0, 10);
  }
  return (width_ms % kMinuteMs == 0 ? text.substr(0, 16) : text.substr(0, 19)) + "Z";
}

}  // namespace

std::vector<DueSpan> spans_of(const client::DelayStats& stats) {
  std::vector<DueSpan> spans;
  spans.reserve(stats.buckets.size());
  for (const auto& [from_ms, messages] : stats.buckets) {
    spans.push_back({from_ms, (from_ms / kBucketMs + 1) * kBucketMs, messages});
  }
  return spans;
}

std::vector<DueSpan> spans_of(const std::vector<client::DelayedMessage>& messages) {
  std::vector<DueSpan> spans;
  spans.reserve(messages.size());
  for (const client::DelayedMessage& message : messages) {
    spans.push_back({message.due_ms, message.due_ms + 1, 1});
  }
  return spans;
}

Horizons horizons_of(const std::vector<DueSpan>& spans, int64_t now_ms) {
  uint64_t all = 0;
  for (const DueSpan& span : spans) {
    all += span.messages;
  }
  const uint64_t minute = before(spans, now_ms + kMinuteMs);
  const uint64_t hour = before(spans, now_ms + kHourMs);
  const uint64_t day = before(spans, now_ms + kDayMs);
  const uint64_t month = before(spans, now_ms + 30 * kDayMs);
  return {.minute = minute,
          .hour = hour - minute,
          .day = day - hour,
          .month = month - day,
          .more = all - month};
}

DueBins bins_of(const std::vector<DueSpan>& spans, int64_t now_ms, size_t bins_max) {
  TIDEMARK_CHECK(bins_max > 0, "a histogram has at least one bin");
  DueBins result;
  result.overdue = before(spans, now_ms);
  int64_t end_ms = now_ms;
  for (const DueSpan& span : spans) {
    end_ms = span.messages > 0 ? std::max(end_ms, span.to_ms) : end_ms;
  }
  if (end_ms <= now_ms) {
    return result;
  }
  result.width_ms = bin_width(now_ms, end_ms, bins_max);
  uint64_t counted = result.overdue;
  for (int64_t from_ms = now_ms - now_ms % result.width_ms; from_ms < end_ms;
       from_ms += result.width_ms) {
    const int64_t to_ms = from_ms + result.width_ms;
    const uint64_t up_to = before(spans, to_ms);
    result.bins.push_back({from_ms, to_ms, up_to - counted});
    counted = up_to;
  }
  return result;
}

std::string draw_bins(const DueBins& bins, size_t bar_width) {
  uint64_t most = bins.overdue;
  for (const DueBins::Bin& bin : bins.bins) {
    most = std::max(most, bin.messages);
  }
  const size_t count_width = format_count(most).size();
  const size_t label_width =
      bins.bins.empty() ? 0 : bin_label(bins.bins.front().from_ms, bins.width_ms).size();
  std::string out;
  const auto add_line = [&](const std::string& label, uint64_t messages) {
    // What is there is seen, however little it is.
    auto length = static_cast<size_t>(static_cast<double>(messages) / static_cast<double>(most) *
                                      static_cast<double>(bar_width));
    length = messages > 0 ? std::max<size_t>(length, 1) : 0;
    out += fmt::format("{:<{}}  {:>{}}{}{}\n", label, label_width, format_count(messages),
                       count_width, length > 0 ? "  " : "", std::string(length, '#'));
  };
  if (bins.overdue > 0) {
    add_line("overdue", bins.overdue);
  }
  for (const DueBins::Bin& bin : bins.bins) {
    add_line(bin_label(bin.from_ms, bins.width_ms), bin.messages);
  }
  return out;
}

std::string recurring_text(const client::DelayedMessage& message) {
  if (!message.cron.empty()) {
    return message.zone.empty() ? message.cron : message.cron + " " + message.zone;
  }
  return message.every_ms > 0 ? "every " + format_duration(message.every_ms) : "";
}

void add_change(ChangeCounts& counts, client::ErrorCode code, client::DelayOutcome outcome) {
  if (code != client::ErrorCode::kOk) {
    counts.add_failure(code);
    return;
  }
  switch (outcome) {
    case client::DelayOutcome::kCancelled:
    case client::DelayOutcome::kRescheduled:
      ++counts.done;
      return;
    case client::DelayOutcome::kAlreadyDelivered:
      counts.add_conflict("already delivered");
      return;
    case client::DelayOutcome::kNotFound:
      ++counts.not_found;
      return;
  }
}

}  // namespace tidemark::tools
