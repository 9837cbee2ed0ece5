// tidemark delay cancel|reschedule|fire-now|purge
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/change_counts.h"
#include "tools/cli.h"
#include "tools/confirm.h"
#include "tools/delay.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/json_text.h"
#include "tools/name_source.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/progress.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr ChangeWords kCancelling = {
    .noun = "message", .done = "cancelled", .conflict_name = "AlreadyDelivered"};
constexpr ChangeWords kRescheduling = {
    .noun = "message", .done = "rescheduled", .conflict_name = "AlreadyDelivered"};

// A call on the client with some targets: cancel, or reschedule to a time.
using Change = std::function<client::Result<std::vector<client::DelayChange>>(
    const std::vector<client::DelayTarget>&)>;

// The targets of a command, in sets: handles or keys of the command line, or handles of standard
// input.
class Targets {
 public:
  explicit Targets(const DelayCommand& command)
      : command_(command), names_(by_key() ? command.keys : command.handles, "handles") {
    if (command.handles.empty() && command.keys.empty()) {
      throw usage_error("name messages by their handles or by --key");
    }
  }

  // False when there are no more.
  bool next(std::vector<client::DelayTarget>& targets, std::vector<std::string>& names) {
    targets.clear();
    if (!names_.next(names)) {
      return false;
    }
    for (const std::string& name : names) {
      targets.push_back(by_key() ? client::DelayTarget::of_key(name, command_.partition)
                                 : target_of_handle(name));
    }
    return true;
  }

  [[nodiscard]] bool by_key() const { return !command_.keys.empty(); }

 private:
  const DelayCommand& command_;
  NameSource names_;
};

// The answers, as a table or as JSON.
class ChangeReport {
 public:
  ChangeReport(const Globals& globals, std::string topic, bool by_key, bool moves)
      : globals_(globals),
        topic_(std::move(topic)),
        by_key_(by_key),
        moves_(moves),
        table_(moves ? std::vector<Table::Column>{{by_key ? "KEY" : "HANDLE"},
                                                  {"OUTCOME"},
                                                  {"DUE"},
                                                  {"NEW HANDLE"}}
                     : std::vector<Table::Column>{{by_key ? "KEY" : "HANDLE"}, {"OUTCOME"}}) {}

  void add(const std::string& name, const client::DelayChange& change) {
    add_change(counts_, change.status.code(), change.outcome);
    const bool known = change.status.ok();
    const std::string_view outcome =
        known ? client::delay_outcome_text(change.outcome) : std::string_view("unknown");
    const bool moved = known && change.outcome == client::DelayOutcome::kRescheduled;
    if (globals_.json) {
      Json object = Json{{by_key_ ? "key" : "handle", name}, {"outcome", outcome}};
      if (moved) {
        object["due_ms"] = change.receipt.due_ms;
        object["due"] = format_time(change.receipt.due_ms);
        object["new_handle"] = change.receipt.handle.to_string();
      }
      if (!known) {
        object["error"] = {{"code", client::error_name(change.status.code())},
                           {"message", change.status.to_string()}};
      }
      results_.push_back(std::move(object));
      return;
    }
    std::vector<std::string> cells = {name, std::string(outcome)};
    if (moves_) {
      cells.push_back(moved ? format_time(change.receipt.due_ms) : "");
      cells.push_back(moved ? change.receipt.handle.to_string() : "");
    }
    table_.add(std::move(cells));
  }

  void print_all() {
    if (!globals_.json) {
      print(table_.to_string());
      return;
    }
    Json object = Json{{"topic", topic_}};
    object[std::string(words().done)] = counts_.done;
    object["already_delivered"] = counts_.conflict();
    object["not_found"] = counts_.not_found;
    object["failed"] = counts_.failed;
    object["results"] = std::move(results_);
    print(dump_json(object) + "\n");
  }

  [[nodiscard]] const ChangeCounts& counts() const { return counts_; }

  [[nodiscard]] ChangeWords words() const { return moves_ ? kRescheduling : kCancelling; }

 private:
  const Globals& globals_;
  std::string topic_;
  bool by_key_;
  bool moves_;
  Table table_;
  Json results_ = Json::array();
  ChangeCounts counts_;
};

int change_all(const Globals& globals, const DelayCommand& command, bool moves,
               const std::function<Change(client::Delays&, int64_t)>& make_change) {
  catch_interrupts();
  Targets targets(command);
  Session session(globals);
  client::Delays delays = delays_of(session);
  const Change change = make_change(delays, session.deadline_ms());
  ChangeReport report(globals, command.topic, targets.by_key(), moves);
  std::vector<client::DelayTarget> set;
  std::vector<std::string> names;
  const std::optional<CommandError> stopped = run_steps(report.counts(), [&] {
    if (!targets.next(set, names)) {
      return false;
    }
    const auto changes = require(change(set), fmt::format("topic {}", command.topic));
    for (size_t i = 0; i < changes.size(); ++i) {
      report.add(names.at(i), changes[i]);
    }
    return true;
  });
  report.print_all();
  throw_unless_all_done(report.counts(), report.words(), stopped);
  return 0;
}

int move_all(const Globals& globals, const DelayCommand& command, const client::Delay& when) {
  return change_all(globals, command, true, [&](client::Delays& delays, int64_t deadline_ms) {
    return [&delays, &command, &when, deadline_ms](const std::vector<client::DelayTarget>& set) {
      return delays.reschedule(command.topic, set, when, deadline_ms);
    };
  });
}

struct PurgeCounts {
  uint64_t matching = 0;
  ChangeCounts changes;
};

// Page by page, each from where the one before ended: what was cancelled is gone, what was left out
// is not looked at again.
void purge_pages(const Globals& globals, const DelayCommand& command, Session& session,
                 PurgeCounts& counts) {
  client::Delays delays = delays_of(session);
  client::DelayQuery query = query_of(command);
  Progress progress("purge", 0, "messages", progress_wanted(globals.quiet));
  const std::string doing = fmt::format("topic {}", command.topic);
  for (bool last = false; !last && !interrupted();) {
    const auto page = require(delays.list(command.topic, query, session.deadline_ms()), doing);
    last = page.size() < query.limit;
    std::vector<client::DelayTarget> targets;
    for (const client::DelayedMessage& message : page) {
      if (message.key.starts_with(command.key_prefix)) {
        targets.push_back(client::DelayTarget::of(message.handle));
      }
    }
    counts.matching += targets.size();
    if (!page.empty()) {
      query.after = page.back().handle;
    }
    if (!targets.empty() && !command.dry_run) {
      for (const client::DelayChange& change :
           require(delays.cancel(command.topic, targets, session.deadline_ms()), doing)) {
        add_change(counts.changes, change.status.code(), change.outcome);
      }
    }
    progress.update(counts.matching, 0);
  }
}

void print_purge(const Globals& globals, const DelayCommand& command, const PurgeCounts& counts) {
  Json object = Json{{"topic", command.topic}, {"dry_run", command.dry_run}};
  object["matching"] = counts.matching;
  object["cancelled"] = counts.changes.done;
  object["already_delivered"] = counts.changes.conflict();
  object["not_found"] = counts.changes.not_found;
  object["failed"] = counts.changes.failed;
  const std::string text =
      command.dry_run
          ? fmt::format("{} pending messages would be cancelled\n", format_count(counts.matching))
          : fmt::format("cancelled {} of {} pending messages\n", format_count(counts.changes.done),
                        format_count(counts.matching));
  print_result(globals, text, object.dump());
}

}  // namespace

int cancel_delays(const Globals& globals, const DelayCommand& command) {
  return change_all(globals, command, false, [&](client::Delays& delays, int64_t deadline_ms) {
    return [&delays, &command, deadline_ms](const std::vector<client::DelayTarget>& set) {
      return delays.cancel(command.topic, set, deadline_ms);
    };
  });
}

int reschedule_delays(const Globals& globals, const DelayCommand& command) {
  if (!command.when.delayed()) {
    throw usage_error("say when: give --after or --at");
  }
  return move_all(globals, command, delay_of(command.when));
}

int fire_delays_now(const Globals& globals, const DelayCommand& command) {
  return move_all(globals, command, client::Delay::after(0));
}

int purge_delays(const Globals& globals, const DelayCommand& command) {
  if (!command.yes && !command.dry_run) {
    confirm(fmt::format("delay purge {} cancels pending messages", command.topic),
            fmt::format("Cancel the pending messages of topic {}? Type its name to confirm: ",
                        command.topic),
            command.topic, "nothing was cancelled");
  }
  catch_interrupts();
  Session session(globals);
  PurgeCounts counts;
  std::optional<CommandError> stopped;
  try {
    purge_pages(globals, command, session, counts);
  } catch (const CommandError& error) {
    if (counts.changes.done == 0) {
      throw;
    }
    stopped = error;
  }
  print_purge(globals, command, counts);
  if (stopped) {
    throw CommandError(ExitCode::kPartlyDone, stopped->name(), stopped->what());
  }
  if (interrupted()) {
    throw CommandError(counts.changes.done > 0 ? ExitCode::kPartlyDone : ExitCode::kFailed,
                       "Cancelled", "interrupted");
  }
  // What was delivered or cancelled meanwhile is not pending any more, which is what was wanted.
  if (counts.changes.failed > 0) {
    throw_unless_all_done(counts.changes, kCancelling);
  }
  return 0;
}

}  // namespace tidemark::tools
