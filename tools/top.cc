// tidemark top: what a broker is doing, looked at again and again.
#include <poll.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "log/base/clock.h"
#include "tools/broker_metrics.h"
#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/dlq.h"
#include "tools/errors.h"
#include "tools/group.h"
#include "tools/interrupt.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"
#include "tools/top_view.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kIntervalMsMin = 100;
constexpr int64_t kIntervalMsMax = 3'600'000;
constexpr size_t kGroupsShown = 10;
// To the upper left corner, and away with what is below.
constexpr const char* kRedraw = "\x1b[H\x1b[J";

struct TopOptions {
  int64_t interval_ms = 1'000;
  bool once = false;
  std::string metrics;
};

// False when interrupted meanwhile.
bool wait_ms(int64_t ms) {
  pollfd interrupts = {.fd = interrupt_descriptor(), .events = POLLIN, .revents = 0};
  [[maybe_unused]] const int woken = ::poll(&interrupts, 1, static_cast<int>(ms));
  return !interrupted();
}

// A group that goes between the two questions is none.
std::optional<std::vector<GroupState>> read_groups(const Session& session) {
  client::Groups groups = groups_of(session);
  const auto all = groups.list(session.deadline_ms());
  if (!all.ok()) {
    return std::nullopt;
  }
  std::vector<GroupState> states;
  for (const client::GroupSummary& one : *all) {
    const auto work = find_group(session, one.group);
    if (work.ok()) {
      states.push_back({.group = one.group,
                        .members = one.members,
                        .partitions = work->stream.partitions.size() + work->queues.size(),
                        .lag = work->lag()});
    } else if (work.status().code() != client::ErrorCode::kNotFound) {
      return std::nullopt;
    }
    if (interrupted()) {
      break;
    }
  }
  return states;
}

std::optional<std::vector<DeadLetters>> read_letters(Session& session) {
  const auto all = count_all_dead_letters(session);
  if (!all.ok()) {
    return std::nullopt;
  }
  std::vector<DeadLetters> out;
  for (const TopicLetters& one : *all) {
    out.push_back({.topic = one.topic, .letters = one.letters});
  }
  return out;
}

class Looks {
 public:
  Looks(const Globals& globals, const TopOptions& options)
      : place_(metrics_place_of(options.metrics, globals.brokers)), session_(globals) {}

  // False if the broker does not answer.
  bool look() {
    before_ = std::exchange(now_, read_metrics(place_));
    before_at_ = std::exchange(now_at_, system_clock().monotonic());
    return now_ && now_->sum("tidemark_build_info").has_value();
  }

  // Requires: look() gave true. Nothing at the first one.
  std::optional<TopView> view() {
    if (!before_) {
      return std::nullopt;
    }
    TopView view = compare(*before_, *now_, static_cast<double>(now_at_.ns - before_at_.ns) / 1e9);
    view.groups = read_groups(session_);
    view.dead_letters = read_letters(session_);
    return view;
  }

  [[nodiscard]] const MetricsPlace& place() const { return place_; }

 private:
  const MetricsPlace place_;
  Session session_;
  std::optional<BrokerMetrics> before_;
  std::optional<BrokerMetrics> now_;
  MonotonicTime before_at_;
  MonotonicTime now_at_;
};

void show(const Globals& globals, const TopView& view, bool redraw, bool first) {
  if (globals.json) {
    print(dump_json(top_json(view)) + "\n");
    return;
  }
  const std::string head = redraw ? kRedraw : first ? "" : "\n";
  print(head + top_text(view, kGroupsShown));
}

int run_top(const Globals& globals, const TopOptions& options) {
  catch_interrupts();
  Looks looks(globals, options);
  // A mistake in the address is told at once.
  require_metrics(looks.place());
  const bool redraw = !globals.json && !options.once && can_redraw(1);
  bool first = true;
  do {
    if (!looks.look()) {
      if (options.once) {
        require_metrics(looks.place());
      }
      note(fmt::format("no answer from {}", looks.place().to_string()));
    } else if (const std::optional<TopView> view = looks.view()) {
      show(globals, *view, redraw, first);
      first = false;
      if (options.once) {
        return 0;
      }
    }
  } while (wait_ms(options.interval_ms));
  return static_cast<int>(options.once ? ExitCode::kPartlyDone : ExitCode::kOk);
}

}  // namespace

void add_top_command(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<TopOptions>();
  CLI::App* command = app.add_subcommand("top", "Watch what a broker is doing");
  add_duration_within(*command, "--interval", options->interval_ms, kIntervalMsMin, kIntervalMsMax,
                      "Look again after this time; rates are of it (default 1s)");
  command->add_flag("--once", options->once, "Show one interval and stop");
  add_metrics_option(*command, options->metrics);
  command->footer(
      "A terminal is drawn over; anything else gets one block for each interval, with -o json one "
      "object on a line.\n"
      "The lag of a group is that of both modes, stream and queue; dead letters are counted for "
      "each "
      "dead-letter topic.\n"
      "Exit code 5 if the broker does not serve its metrics there.\n"
      "Examples:\n"
      "  tidemark top\n"
      "  tidemark top --once --interval 5s -o json | jq '.in.messages_per_second, .lag'");
  command->callback([&globals, options] {
    globals.action = [&globals, options] { return run_top(globals, *options); };
  });
}

}  // namespace tidemark::tools
