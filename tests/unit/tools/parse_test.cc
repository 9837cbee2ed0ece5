#include "tools/parse.h"

#include <cstdlib>
#include <ctime>
#include <string>

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

TEST_CASE("durations") {
  CHECK(parse_duration_ms("500ms").value() == 500);
  CHECK(parse_duration_ms("30s").value() == 30'000);
  CHECK(parse_duration_ms("30").value() == 30'000);
  CHECK(parse_duration_ms("10m").value() == 600'000);
  CHECK(parse_duration_ms("1.5h").value() == 5'400'000);
  CHECK(parse_duration_ms("7d").value() == 604'800'000);
  CHECK(parse_duration_ms("2w").value() == 1'209'600'000);
  CHECK(parse_duration_ms("1h30m").value() == 5'400'000);
  CHECK(parse_duration_ms("1d2h3m4s5ms").value() == 93'784'005);
  CHECK(parse_duration_ms("1m1.5s").value() == 61'500);
  CHECK(parse_duration_ms("0").value() == 0);
  for (const char* wrong :
       {"", "ms", "-5s", "5x", "1.2.3s", "5 s", "99999999999999999999d", "1e3s", "30m1h", "1h30",
        "1h1h", "1h 30m", "1hm", "106751991167d106751991167h"}) {
    CAPTURE(wrong);
    const Result<int64_t> parsed = parse_duration_ms(wrong);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code() == ErrorCode::kInvalidArgument);
    CHECK(parsed.error().context().find(std::string("'") + wrong + "'") != std::string_view::npos);
  }
}

TEST_CASE("sizes") {
  CHECK(parse_bytes("0").value() == 0);
  CHECK(parse_bytes("4096").value() == 4096);
  CHECK(parse_bytes("64KiB").value() == 65'536);
  CHECK(parse_bytes("10GiB").value() == 10ull << 30);
  CHECK(parse_bytes("10G").value() == 10ull << 30);
  CHECK(parse_bytes("5MB").value() == 5'000'000);
  CHECK(parse_bytes("0.5KiB").value() == 512);
  CHECK(parse_bytes("9007199254740993").value() == 9007199254740993ull);
  for (const char* wrong : {"", "KiB", "-1", "1kib", "1 KiB", "9999999TiB", "0x10"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_bytes(wrong).ok());
  }
}

TEST_CASE("times") {
  CHECK(parse_time_ms("1970-01-01").value() == 0);
  CHECK(parse_time_ms("2026-03-01T12:30:05.250Z").value() == 1'772'368'205'250);
  CHECK(parse_time_ms("2026-03-01T12:30:05.25").value() == 1'772'368'205'250);
  CHECK(parse_time_ms("2026-03-01T14:30:05.250+02:00").value() == 1'772'368'205'250);
  CHECK(parse_time_ms("2026-03-01T07:00:05.250-0530").value() == 1'772'368'205'250);
  CHECK(parse_time_ms("2026-03-01 12:30").value() == 1'772'368'200'000);
  CHECK(parse_time_ms("2024-02-29").ok());
  for (const char* wrong :
       {"", "2026", "2026-3-1", "2026-02-29", "2026-02-31T00:00", "2026-13-01", "2026-03-01T24:00",
        "2026-03-01T12:60", "2026-03-01T12:30:05.", "2026-03-01T12:30Zx", "2026-03-01T12:30+2",
        "2026-03-01T12:30+15:00", "-026-03-01", "now"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_time_ms(wrong).ok());
  }
}

// Sets TZ for one test case; these tests have one thread.
class TimeZone {
 public:
  explicit TimeZone(const char* name) {
    ::setenv("TZ", name, 1);  // NOLINT(concurrency-mt-unsafe): one thread
    ::tzset();
  }

  ~TimeZone() {
    ::unsetenv("TZ");  // NOLINT(concurrency-mt-unsafe): one thread
    ::tzset();
  }

  TimeZone(const TimeZone&) = delete;
  TimeZone& operator=(const TimeZone&) = delete;
};

TEST_CASE("when something is due") {
  constexpr int64_t kNow = 1'700'000'000'000;
  // A rule instead of a name: the tz database need not be there.
  const TimeZone berlin("CET-1CEST,M3.5.0,M10.5.0/3");
  CHECK(parse_due_ms("+90s", kNow).value() == kNow + 90'000);
  CHECK(parse_due_ms("+1h30m", kNow).value() == kNow + 5'400'000);
  CHECK(parse_due_ms("+0", kNow).value() == kNow);
  CHECK(parse_due_ms("@1735066800000", kNow).value() == 1'735'066'800'000);
  CHECK(parse_due_ms("2026-12-24T18:00:00Z", kNow).value() == 1'798'135'200'000);
  CHECK(parse_due_ms("2026-12-24T18:00:00.250+01:00", kNow).value() == 1'798'131'600'250);
  // Local: one hour before UTC in winter, two in summer.
  CHECK(parse_due_ms("2026-12-24T18:00", kNow).value() == 1'798'131'600'000);
  CHECK(parse_due_ms("2026-12-24", kNow).value() == 1'798'066'800'000);
  CHECK(parse_due_ms("2026-07-01T18:00", kNow).value() ==
        parse_due_ms("2026-07-01T16:00Z", kNow).value());
  // The clocks go from 02:00 to 03:00 in that night.
  const Result<int64_t> skipped = parse_due_ms("2026-03-29T02:30", kNow);
  REQUIRE_FALSE(skipped.ok());
  CHECK(skipped.error().context().find("skipped") != std::string_view::npos);
  for (const char* wrong : {"", "90s", "-90s", "+", "+x", "@", "@-1", "@x", "now",
                            "2026-12-24T25:00", "2026-02-30", "+9223372036854775807ms"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_due_ms(wrong, kNow).ok());
  }
}

TEST_CASE("how far away") {
  CHECK(format_span(0) == "0s");
  CHECK(format_span(250) == "250ms");
  CHECK(format_span(1'250) == "1s250ms");
  CHECK(format_span(59'999) == "59s999ms");
  CHECK(format_span(61'250) == "1m1s");
  CHECK(format_span(5'400'999) == "1h30m");
  CHECK(format_span(93'784'005) == "1d2h");
  CHECK(format_span(-125'500) == "-2m5s");
  CHECK(format_span(INT64_MIN).starts_with("-106751991167d"));
}

TEST_CASE("a formatted time is read back") {
  for (const int64_t time :
       {0ll, 1ll, 999ll, 951'782'400'000ll, 1'772'368'205'250ll, 4'102'444'799'999ll}) {
    CAPTURE(time);
    CHECK(parse_time_ms(format_time(time)).value() == time);
  }
  CHECK(format_time(1'772'368'205'250) == "2026-03-01T12:30:05.250Z");
  CHECK(format_time(-1) == "1969-12-31T23:59:59.999Z");
}

TEST_CASE("where to start") {
  using Kind = StartPoint::Kind;
  constexpr int64_t kNow = 1'000'000'000;
  CHECK(parse_start_point("start", kNow).value().kind == Kind::kStart);
  CHECK(parse_start_point("end", kNow).value().kind == Kind::kEnd);
  CHECK(parse_start_point("42", kNow).value().kind == Kind::kOffset);
  CHECK(parse_start_point("42", kNow).value().offset == 42);
  CHECK(parse_start_point("18446744073709551615", kNow).value().offset == UINT64_MAX);
  CHECK(parse_start_point("@1500", kNow).value().time_ms == 1500);
  CHECK(parse_start_point("-10m", kNow).value().time_ms == kNow - 600'000);
  CHECK(parse_start_point("-9000d", kNow).value().time_ms == 0);
  CHECK(parse_start_point("2026-03-01", kNow).value().kind == Kind::kTime);
  for (const char* wrong : {"", "beginning", "-", "@", "@-5", "@x", "-x", "42x",
                            "18446744073709551616", "1960-01-01"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_start_point(wrong, kNow).ok());
  }
}

TEST_CASE("key=value") {
  CHECK(parse_key_value("a=b").value().key == "a");
  CHECK(parse_key_value("a=b=c").value().value == "b=c");
  CHECK(parse_key_value("a=").value().value.empty());
  CHECK_FALSE(parse_key_value("=b").ok());
  CHECK_FALSE(parse_key_value("ab").ok());
}

TEST_CASE("escapes") {
  using namespace std::string_literals;
  CHECK(unescape("a\\tb\\n\\r\\\\").value() == "a\tb\n\r\\");
  CHECK(unescape("\\0\\x41\\xfF").value() == "\0A\xFF"s);
  CHECK(unescape("").value().empty());
  for (const char* wrong : {"\\", "a\\", "\\q", "\\x", "\\x4", "\\xg0"}) {
    CAPTURE(wrong);
    CHECK_FALSE(unescape(wrong).ok());
  }
}

TEST_CASE("numbers for people") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.0 KiB");
  CHECK(format_bytes(uint64_t{10} << 30) == "10.0 GiB");
  CHECK(format_duration(-1) == "forever");
  CHECK(format_duration(0) == "0s");
  CHECK(format_duration(604'800'000) == "7d");
  CHECK(format_duration(5'400'500) == "1h30m500ms");
  CHECK(format_count(0) == "0");
  CHECK(format_count(999) == "999");
  CHECK(format_count(1000) == "1,000");
  CHECK(format_count(1'234'567) == "1,234,567");
}

}  // namespace
}  // namespace tidemark::tools
