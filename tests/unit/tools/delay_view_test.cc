#include "tools/delay_view.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

constexpr int64_t kMinute = 60'000;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kDay = 24 * kHour;
constexpr int64_t kNow = 1'772'323'200'000;  // 2026-03-01T00:00:00Z

DueSpan exact(int64_t due_ms) { return {due_ms, due_ms + 1, 1}; }

uint64_t sum_of(const DueBins& bins) {
  uint64_t sum = bins.overdue;
  for (const DueBins::Bin& bin : bins.bins) {
    sum += bin.messages;
  }
  return sum;
}

struct Change {
  client::ErrorCode code = client::ErrorCode::kOk;
  client::DelayOutcome outcome = client::DelayOutcome::kNotFound;
};

Change change(client::DelayOutcome outcome) { return {client::ErrorCode::kOk, outcome}; }

Change failure(client::ErrorCode code) { return {code, client::DelayOutcome::kNotFound}; }

TEST_CASE("a bucket reaches to the next multiple of 65,536 ms") {
  client::DelayStats stats;
  stats.buckets = {{65'536, 3}, {131'080, 4}};
  const std::vector<DueSpan> spans = spans_of(stats);
  REQUIRE(spans.size() == 2);
  CHECK(spans[0].from_ms == 65'536);
  CHECK(spans[0].to_ms == 131'072);
  CHECK(spans[1].from_ms == 131'080);
  CHECK(spans[1].to_ms == 196'608);
  CHECK(spans[1].messages == 4);
}

TEST_CASE("horizons") {
  const std::vector<DueSpan> spans = {exact(kNow - kHour),       exact(kNow),
                                      exact(kNow + kMinute - 1), exact(kNow + kMinute),
                                      exact(kNow + kHour - 1),   exact(kNow + kHour),
                                      exact(kNow + 29 * kDay),   exact(kNow + 30 * kDay),
                                      exact(kNow + 400 * kDay)};
  const Horizons horizons = horizons_of(spans, kNow);
  CHECK(horizons.minute == 3);
  CHECK(horizons.hour == 2);
  CHECK(horizons.day == 1);
  CHECK(horizons.month == 1);
  CHECK(horizons.more == 2);
}

TEST_CASE("what lies across a border is shared out and nothing is lost") {
  const std::vector<DueSpan> spans = {{kNow + kMinute - 30'000, kNow + kMinute + 10'000, 1'001}};
  const Horizons horizons = horizons_of(spans, kNow);
  CHECK(horizons.minute == 750);
  CHECK(horizons.hour == 251);
  CHECK(horizons.day + horizons.month + horizons.more == 0);
}

TEST_CASE("bins have a width that people can read, and hold everything") {
  CHECK(bins_of({}, kNow, 20).bins.empty());
  const DueBins late = bins_of({exact(kNow - 5), exact(kNow - 1)}, kNow, 20);
  CHECK(late.overdue == 2);
  CHECK(late.bins.empty());

  std::vector<DueSpan> spans = {{kNow - 1'000, kNow, 7}};
  for (int64_t minute = 0; minute < 100; ++minute) {
    spans.push_back({kNow + minute * kMinute, kNow + (minute + 1) * kMinute, 11});
  }
  const DueBins bins = bins_of(spans, kNow, 20);
  CHECK(bins.width_ms == 5 * kMinute);
  REQUIRE(bins.bins.size() == 20);
  CHECK(bins.overdue == 7);
  CHECK(bins.bins[0].from_ms == kNow);
  CHECK(bins.bins[0].messages == 55);
  CHECK(bins.bins[19].to_ms == kNow + 100 * kMinute);
  CHECK(sum_of(bins) == 7 + 1'100);

  // Begins within a bin: borders stay at multiples of the width.
  const DueBins moved = bins_of(spans, kNow + 90'000, 20);
  CHECK(moved.bins[0].from_ms == kNow);
  CHECK(sum_of(moved) == 7 + 1'100);

  for (const size_t bins_max : {size_t{1}, size_t{2}, size_t{7}, size_t{1'000}}) {
    CAPTURE(bins_max);
    const DueBins wide = bins_of({exact(kNow), exact(kNow + 34 * 366 * kDay)}, kNow, bins_max);
    CHECK(wide.bins.size() <= bins_max);
    CHECK(sum_of(wide) == 2);
  }
}

TEST_CASE("bars") {
  const DueBins bins = bins_of({exact(kNow - 1),
                                {kNow, kNow + kHour, 1'000},
                                {kNow + 2 * kHour, kNow + 3 * kHour, 500},
                                exact(kNow + 3 * kHour)},
                               kNow, 4);
  CHECK(draw_bins(bins, 10) ==
        "overdue                1  #\n"
        "2026-03-01T00:00Z  1,000  ##########\n"
        "2026-03-01T01:00Z      0\n"
        "2026-03-01T02:00Z    500  #####\n"
        "2026-03-01T03:00Z      1  #\n");
  CHECK(draw_bins({}, 10).empty());
}

TEST_CASE("again and again") {
  client::DelayedMessage message;
  CHECK(recurring_text(message).empty());
  message.every_ms = 600'000;
  CHECK(recurring_text(message) == "every 10m");
  message.every_ms = 0;
  message.cron = "0 30 8 * * *";
  CHECK(recurring_text(message) == "0 30 8 * * *");
  message.zone = "Europe/Berlin";
  CHECK(recurring_text(message) == "0 30 8 * * * Europe/Berlin");
}

TEST_CASE("exit codes of changes") {
  using client::DelayOutcome;
  const auto code_of = [](const std::vector<Change>& changes) {
    ChangeCounts counts;
    for (const Change& one : changes) {
      add_change(counts, one.code, one.outcome);
    }
    return exit_code_of(counts);
  };
  const auto cancelled = change(DelayOutcome::kCancelled);
  const auto delivered = change(DelayOutcome::kAlreadyDelivered);
  const auto missing = change(DelayOutcome::kNotFound);
  const auto unknown = failure(client::ErrorCode::kOutcomeUnknown);
  CHECK(code_of({}) == ExitCode::kOk);
  CHECK(code_of({cancelled, change(DelayOutcome::kRescheduled)}) == ExitCode::kOk);
  CHECK(code_of({missing}) == ExitCode::kNotFound);
  CHECK(code_of({delivered}) == ExitCode::kConflict);
  CHECK(code_of({unknown}) == ExitCode::kUnavailable);
  CHECK(code_of({failure(client::ErrorCode::kInvalidArgument)}) == ExitCode::kUsage);
  CHECK(code_of({missing, delivered}) == ExitCode::kConflict);
  CHECK(code_of({missing, unknown}) == ExitCode::kUnavailable);
  CHECK(code_of({cancelled, missing}) == ExitCode::kPartlyDone);
  CHECK(code_of({cancelled, unknown}) == ExitCode::kPartlyDone);
}

TEST_CASE("failures in words") {
  constexpr auto kOk = client::ErrorCode::kOk;
  ChangeCounts counts;
  add_change(counts, kOk, client::DelayOutcome::kAlreadyDelivered);
  CHECK(describe_failures(counts, {"message", "cancelled", ""}) ==
        "1 of 1 message was not cancelled: 1 already delivered");
  add_change(counts, kOk, client::DelayOutcome::kNotFound);
  add_change(counts, kOk, client::DelayOutcome::kCancelled);
  add_change(counts, client::ErrorCode::kTimedOut, client::DelayOutcome::kNotFound);
  CHECK(describe_failures(counts, {"message", "rescheduled", ""}) ==
        "3 of 4 messages were not rescheduled: 1 already delivered, 1 not found, 1 without an "
        "answer (timed out)");
}

}  // namespace
}  // namespace tidemark::tools
