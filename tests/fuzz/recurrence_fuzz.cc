// Schedules from anybody: what is refused has a reason, what is accepted has occurrences, each the
// first after what was asked.
//
// Three lines: `every` in milliseconds or a cron text; the zone; the instant asked for.
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "broker/delay/recurrence.h"
#include "log/base/bytes.h"
#include "log/base/check.h"

namespace tidemark::delay {
namespace {

std::string_view take_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && rest == text.data() + text.size() ? std::optional(value)
                                                                   : std::nullopt;
}

void try_recurrence(std::string_view text) {
  Recurrence recurrence;
  const std::string_view when = take_line(text);
  if (const auto every_ms = number(when)) {
    recurrence.every_ms = *every_ms;
  } else {
    recurrence.kind = Recurrence::Kind::kCron;
    recurrence.cron = when;
  }
  recurrence.zone = take_line(text);
  const Status status = check_recurrence(recurrence);
  if (!status.ok()) {
    TIDEMARK_CHECK(status.code() == ErrorCode::kInvalidArgument && !status.context().empty());
    return;
  }
  int64_t after_ms = number(text).value_or(1'774'746'000'000);
  for (int i = 0; i < 8; ++i) {
    const std::optional<int64_t> next_ms = next_occurrence(recurrence, 0, after_ms);
    if (!next_ms) {
      // The year 9999 ends the calendar; before its last 28 years there is always one more.
      TIDEMARK_CHECK(after_ms > 252'000'000'000'000);
      return;
    }
    TIDEMARK_CHECK(*next_ms > after_ms && *next_ms >= 0);
    // The same answer from anywhere between.
    const int64_t from_ms = after_ms < 0 ? -1 : after_ms;
    TIDEMARK_CHECK(next_occurrence(recurrence, 0, from_ms + (*next_ms - from_ms) / 2) == next_ms ||
                   *next_ms - from_ms == 1);
    TIDEMARK_CHECK(next_occurrence(recurrence, 0, *next_ms - 1) == next_ms);
    after_ms = *next_ms;
  }
}

}  // namespace
}  // namespace tidemark::delay

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::delay::try_recurrence(tidemark::as_text({data, size}));
  return 0;
}
