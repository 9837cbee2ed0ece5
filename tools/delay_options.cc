#include "tools/delay_options.h"

#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "log/base/clock.h"
#include "tools/cli_options.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kEveryMsMin = 1'000;
constexpr size_t kDelayKeyBytesMax = 255;

CLI::Option* add_due_time(CLI::App& command, const std::string& name,
                          std::optional<int64_t>& out_ms, const std::string& help) {
  const auto parse = [&out_ms, name](const std::string& text) {
    const Result<int64_t> parsed = parse_due_ms(text, system_clock().wall().ms);
    if (!parsed.ok()) {
      throw CLI::ValidationError(name, std::string(parsed.error().context()));
    }
    out_ms = *parsed;
  };
  return command.add_option_function<std::string>(name, parse, help)->type_name("TIME");
}

std::string check_delay_key(const std::string& text) {
  const bool fits = !text.empty() && text.size() <= kDelayKeyBytesMax;
  return fits ? std::string()
              : fmt::format("a key has 1 to {} bytes, this one {}", kDelayKeyBytesMax, text.size());
}

struct When {
  CLI::Option* after;
  CLI::Option* at;
};

When add_when(CLI::App& command, DelayOptions& options) {
  CLI::Option* after =
      add_duration_within(command, "--after", options.after_ms, 0, client::kDelayMsMax,
                          "Deliver this long after the broker received it: 250ms, 90s, 1h30m, 2d");
  CLI::Option* at = add_due_time(command, "--at", options.at_ms,
                                 "Deliver at this time: 2026-12-24T18:00:00Z, 2026-12-24T18:00 "
                                 "(local), @<ms since 1970>, +90s");
  at->excludes(after);
  return {after, at};
}

}  // namespace

void add_after_and_at(CLI::App& command, DelayOptions& options) {
  (void)add_when(command, options);
}

void add_delay_options(CLI::App& command, DelayOptions& options) {
  const auto [after, at] = add_when(command, options);
  CLI::Option* every =
      add_duration_within(command, "--every", options.every_ms, kEveryMsMin, client::kDelayMsMax,
                          "Deliver again and again, first after this time (at least 1s)");
  every->excludes(after)->excludes(at);
  CLI::Option* cron =
      command
          .add_option("--cron", options.cron,
                      "Deliver again and again: second minute hour day month weekday, for example "
                      "'0 30 8 * * mon-fri'")
          ->check(check_cron)
          ->excludes(after)
          ->excludes(at)
          ->excludes(every)
          ->type_name("FIELDS");
  command.add_option("--tz", options.zone, "Time zone of --cron, for example Europe/Berlin (UTC)")
      ->needs(cron)
      ->type_name("ZONE");
  CLI::Option* key = command
                         .add_option("--delay-key", options.key,
                                     "Name of the one pending message, to cancel or replace it by")
                         ->check(check_delay_key)
                         ->type_name("KEY");
  command
      .add_flag("--delay-key-from-key", options.key_from_key,
                "Each message is named by its own key while it is pending")
      ->excludes(key);
  command.add_flag("--replace", options.replace,
                   "A pending message of the same delay key is cancelled in the same step; without "
                   "this the new one is refused");
}

void add_due_range(CLI::App& command, std::optional<int64_t>& from_ms,
                   std::optional<int64_t>& to_ms) {
  add_due_time(command, "--due-from", from_ms, "Only messages due from this time on");
  add_due_time(command, "--due-to", to_ms, "Only messages due up to this time, included");
}

client::Delay delay_of(const DelayOptions& options) {
  if (options.at_ms) {
    return client::Delay::at(*options.at_ms);
  }
  if (options.every_ms) {
    return client::Delay::every(*options.every_ms);
  }
  if (!options.cron.empty()) {
    return client::Delay::cron(options.cron, options.zone);
  }
  return client::Delay::after(options.after_ms.value_or(0));
}

std::string check_cron(const std::string& text) {
  std::istringstream fields(text);
  size_t count = 0;
  for (std::string field; fields >> field;) {
    ++count;
  }
  return count == 6 ? std::string()
                    : fmt::format(
                          "'{}' has {} fields; six are needed: second minute hour day "
                          "month weekday",
                          text, count);
}

}  // namespace tidemark::tools
