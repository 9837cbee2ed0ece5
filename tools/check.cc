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
#include "tools/dlq.h"
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
  const auto work = find_group(session, group);
  if (work.status().code() == client::ErrorCode::kNotFound) {
    return std::nullopt;
  }
  return require(work, fmt::format("group {}", group_text(group))).lag();
}

int run_check(const Globals& globals, const CheckOptions& options) {
  const CheckRules rules = options.rules.any() ? options.rules : CheckRules::defaults();
  std::vector<CheckResult> results;
  if (rules.needs_metrics()) {
    results =
        check_metrics(rules, require_metrics(metrics_place_of(options.metrics, globals.brokers)));
  }
  if (!rules.lags.empty() || !rules.dead_letters.empty()) {
    Session session(globals);
    for (const LagBound& bound : rules.lags) {
      results.push_back(check_lag(bound, lag_of(session, bound.group)));
    }
    for (const LettersBound& bound : rules.dead_letters) {
      results.push_back(check_letters(bound, count_dead_letters(session, bound.topic)));
    }
  }
  print_result(globals, check_table(results), dump_json(check_json(results)));
  return static_cast<int>(all_ok(results) ? ExitCode::kOk : ExitCode::kFailed);
}

// An option that may be given several times; `parse` reads each.
template <typename Bound>
void add_bounds(CLI::App& command, const std::string& name, std::vector<Bound>& out,
                Result<Bound> (*parse)(std::string_view), const std::string& help,
                const std::string& type) {
  const auto add = [&out, name, parse](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      Result<Bound> bound = parse(text);
      if (!bound.ok()) {
        throw CLI::ValidationError(name, std::string(bound.error().context()));
      }
      out.push_back(*std::move(bound));
    }
  };
  command.add_option_function<std::vector<std::string>>(name, add, help)
      ->allow_extra_args(false)
      ->type_name(type);
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
  add_bounds(command, "--lag", rules.lags, parse_lag_bound,
             "Critical when the lag of this group, in stream and queue mode, is above N; may be "
             "given several times",
             "GROUP>N");
  add_bounds(command, "--dead-letters", rules.dead_letters, parse_letters_bound,
             "Critical when more than N letters of this dead-letter topic are neither redriven nor "
             "purged; may be given several times",
             "TOPIC>N");
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
      "  tidemark check --lag 'billing>1000' --txn-oldest 1h -o json | jq .ok\n"
      "  tidemark check --lag 'mailer>1000' --dead-letters 'mails-dead>0'");
  command->callback([&globals, options] {
    globals.action = [&globals, options] { return run_check(globals, *options); };
  });
}

}  // namespace tidemark::tools
