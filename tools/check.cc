// tidemark check: a broker and its groups against thresholds, for scripts and monitoring.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tidemark/delay.h"
#include "tools/check_rules.h"
#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/errors.h"
#include "tools/group.h"
#include "tools/json_text.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

struct CheckOptions {
  CheckRules rules;
  std::string metrics;
};

std::optional<uint64_t> lag_of(const Session& session, const std::string& group) {
  const auto description = groups_of(session).describe(group, session.deadline_ms());
  if (description.status().code() == client::ErrorCode::kNotFound) {
    return std::nullopt;
  }
  return require(description, fmt::format("group {}", group_text(group))).lag;
}

int run_check(const Globals& globals, const CheckOptions& options) {
  const bool asked = options.rules.needs_metrics() || !options.rules.lags.empty();
  const CheckRules rules = asked ? options.rules : CheckRules::defaults();
  std::vector<CheckResult> results;
  if (rules.needs_metrics()) {
    results =
        check_metrics(rules, require_metrics(metrics_place_of(options.metrics, globals.brokers)));
  }
  if (!rules.lags.empty()) {
    const Session session(globals);
    for (const LagBound& bound : rules.lags) {
      results.push_back(check_lag(bound, lag_of(session, bound.group)));
    }
  }
  print_result(globals, check_table(results), dump_json(check_json(results)));
  return static_cast<int>(all_ok(results) ? ExitCode::kOk : ExitCode::kFailed);
}

void add_rules(CLI::App& command, CheckRules& rules) {
  command.add_flag("--ready", rules.ready, "Every shard is ready");
  command.add_flag("--read-only", rules.read_only, "No shard is read-only after a storage failure");
  command.add_flag("--disk-full", rules.disk_full, "No shard lacks disk space");
  command
      .add_option("--delay-overdue", rules.delay_overdue_max,
                  "At most this many delayed messages are overdue by a minute")
      ->type_name("N");
  command
      .add_option("--txn-parked", rules.txn_parked_max, "At most this many transactions are parked")
      ->type_name("N");
  add_duration_within(command, "--txn-oldest", rules.txn_oldest_ms_max, 0, client::kDelayMsMax,
                      "No transaction that has not ended is older");
  const auto add_lag = [&rules](const std::string& text) {
    Result<LagBound> bound = parse_lag_bound(text);
    if (!bound.ok()) {
      throw CLI::ValidationError("--lag", std::string(bound.error().context()));
    }
    rules.lags.push_back(*std::move(bound));
  };
  command
      .add_option_function<std::vector<std::string>>(
          "--lag",
          [add_lag](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              add_lag(text);
            }
          },
          "Critical when the lag of this group is above N; may be given several times")
      ->allow_extra_args(false)
      ->type_name("GROUP>N");
}

}  // namespace

void add_check_command(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<CheckOptions>();
  CLI::App* command =
      app.add_subcommand("check", "Compare a broker and its groups with thresholds");
  add_rules(*command, options->rules);
  add_metrics_option(*command, options->metrics);
  command->footer(
      "Without any of them: --ready --read-only --disk-full --delay-overdue 0 --txn-parked 0.\n"
      "Prints a line for each, ok or critical. Exit code 0 if all are ok, 1 if one is not, 5 if "
      "the "
      "broker does not answer.\n"
      "Examples:\n"
      "  tidemark check\n"
      "  tidemark check --lag 'billing>1000' --txn-oldest 1h -o json | jq .ok");
  command->callback([&globals, options] {
    globals.action = [&globals, options] { return run_check(globals, *options); };
  });
}

}  // namespace tidemark::tools
