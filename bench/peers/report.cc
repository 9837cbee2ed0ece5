#include "bench/peers/report.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace tidemark::bench {
namespace {

using Json = nlohmann::ordered_json;

double ms_of(const Row& row, double fraction) {
  return static_cast<double>(row.latency_ns.percentile(fraction)) / 1e6;
}

double ratio_to(double baseline_mb_per_s, const Row& row) {
  return baseline_mb_per_s > 0 ? row.mb_per_s() / baseline_mb_per_s : 0;
}

// Of all measurements beside rows of this name, in order.
std::vector<double> baselines_of(const Comparison& comparison, std::string_view name) {
  std::vector<double> out;
  for (const SystemResult& system : comparison.systems) {
    for (const std::vector<Row>& run : system.runs) {
      for (const Row& row : run) {
        if (row.name == name && row.baseline.syncs > 0) {
          out.push_back(row.baseline.mb_per_s());
        }
      }
    }
  }
  std::ranges::sort(out);
  return out;
}

double middle(const std::vector<double>& sorted) {
  return sorted.empty() ? 0 : sorted[(sorted.size() - 1) / 2];
}

Json row_json(const Row& row) {
  Json out;
  out["row"] = row.name;
  if (!row.measured()) {
    out["why_not"] = row.why_not;
    return out;
  }
  out["size"] = row.bytes;
  out["messages"] = row.messages;
  if (row.seconds > 0) {
    out["seconds"] = row.seconds;
    out["messages_per_s"] = row.per_s();
    out["mb_per_s"] = row.mb_per_s();
  }
  if (row.rate > 0) {
    out["rate"] = row.rate;
  }
  if (row.baseline.syncs > 0) {
    out["baseline_mb_per_s"] = row.baseline.mb_per_s();
    out["baseline_syncs_per_s"] = static_cast<double>(row.baseline.syncs) / row.baseline.seconds;
    out["baseline_ratio"] = ratio_to(row.baseline.mb_per_s(), row);
  }
  if (row.latency_ns.count() > 0) {
    out[row.name == "delayed" ? "lateness_ms" : "latency_ms"] = {{"p50", ms_of(row, 0.5)},
                                                                 {"p90", ms_of(row, 0.9)},
                                                                 {"p99", ms_of(row, 0.99)},
                                                                 {"p999", ms_of(row, 0.999)},
                                                                 {"max", ms_of(row, 1)}};
  }
  if (row.name == "delayed") {
    out["early"] = row.early;
    out["delay_step_ms"] = row.delay_step_ms;
  }
  if (row.cut) {
    out["cut"] = true;
  }
  out["lost"] = row.lost;
  out["duplicates"] = row.duplicates;
  return out;
}

Json options_json(const WorkloadOptions& options) {
  return {{"warm_up_seconds", options.warm_up_seconds},
          {"seconds", options.seconds},
          {"count_max", options.count_max},
          {"in_flight", options.in_flight},
          {"rates", options.rates},
          {"e2e_size", options.e2e_bytes},
          {"delayed", options.delayed_count},
          {"delayed_size", options.delayed_bytes},
          {"delay_min_ms", options.delay_min_ms},
          {"delay_window_ms", options.delay_window_ms},
          {"transaction_size", options.transaction_bytes}};
}

// The median of a row over the runs that measured it; one that did not if none has.
const Row* median(const SystemResult& system, const std::string& name) {
  std::vector<const Row*> measured;
  const Row* other = nullptr;
  for (const std::vector<Row>& run : system.runs) {
    for (const Row& row : run) {
      if (row.name == name) {
        other = &row;
        if (row.measured()) {
          measured.push_back(&row);
        }
      }
    }
  }
  if (measured.empty()) {
    return other;
  }
  const auto key = [](const Row* row) {
    return row->latency_ns.count() > 0 ? ms_of(*row, 0.99) : row->per_s();
  };
  std::ranges::sort(measured, std::less<>(), key);
  return measured[(measured.size() - 1) / 2];
}

std::string grouped(double value) {
  const std::string digits = fmt::format("{:.0f}", value);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) {
      out += ',';
    }
    out += digits[i];
  }
  return out;
}

// What a cell has besides its number when something went wrong.
std::string losses(const Row& row) {
  std::string out;
  if (row.lost > 0) {
    out += fmt::format(", **{} lost**", row.lost);
  }
  if (row.duplicates > 0) {
    out += fmt::format(", {} twice", row.duplicates);
  }
  return out;
}

// A pace that was not kept: latencies then grow with the length of the run.
std::string shortfall(const Row& row) {
  return row.per_s() < 0.9 * row.rate ? fmt::format(", only {}/s", grouped(row.per_s())) : "";
}

// `baseline`: MB/s, 0 for none.
std::string cell(const Row* row, double baseline) {
  if (row == nullptr || !row->measured()) {
    return "no";
  }
  if (row->name == "delayed") {
    return fmt::format("{:.1f} / {:.1f}, {} early{}", ms_of(*row, 0.5), ms_of(*row, 0.99),
                       row->early, losses(*row));
  }
  if (row->latency_ns.count() > 0) {
    return fmt::format("{:.2f} / {:.2f}{}{}", ms_of(*row, 0.5), ms_of(*row, 0.99), shortfall(*row),
                       losses(*row));
  }
  std::string out = grouped(row->per_s());
  if (baseline > 0) {
    out += fmt::format(" ({:.2f})", ratio_to(baseline, *row));
  }
  return out + losses(*row);
}

struct Column {
  std::string row;
  std::string title;
};

std::vector<Column> columns_of(const WorkloadOptions& options) {
  std::vector<Column> out = {{"produce_100", "produce 100 B/s"},
                             {"produce_1024", "produce 1 KiB/s"},
                             {"consume_100", "consume 100 B/s"},
                             {"consume_1024", "consume 1 KiB/s"}};
  for (const double rate : options.rates) {
    out.push_back({e2e_name(rate), fmt::format("e2e at {}/s, p50 / p99 ms", grouped(rate))});
  }
  out.push_back({"schedule", "schedule/s"});
  out.push_back({"delayed", "late p50 / p99 ms"});
  out.push_back({"transactions", "transactions/s"});
  return out;
}

std::string table_head(std::string_view first, const std::vector<Column>& columns) {
  std::string titles = fmt::format("| {} |", first);
  std::string rule = "|---|";
  for (const Column& column : columns) {
    titles += fmt::format(" {} |", column.title);
    rule += "---:|";
  }
  return titles + "\n" + rule + "\n";
}

std::string label(const SystemResult& system) {
  return fmt::format("{}, {}", system.peer, system.mode);
}

// With whom a system is compared: our durable mode for durable ones, the relaxed one for others.
const SystemResult* ours_for(const Comparison& comparison, const SystemResult& system) {
  const bool durable = system.mode == "durable";
  const auto found = std::ranges::find_if(comparison.systems, [durable](const SystemResult& one) {
    return one.peer == "tidemark" && (one.mode == "durable") == durable;
  });
  return found == comparison.systems.end() ? nullptr : &*found;
}

// How many times better we are: more messages a second, or a shorter time.
std::optional<double> advantage(const Row* ours, const Row* theirs) {
  if (ours == nullptr || theirs == nullptr || !ours->measured() || !theirs->measured()) {
    return std::nullopt;
  }
  const bool timed = theirs->latency_ns.count() > 0;
  const double better = timed ? ms_of(*theirs, 0.99) : ours->per_s();
  const double worse = timed ? ms_of(*ours, 0.99) : theirs->per_s();
  return worse > 0 ? std::optional(better / worse) : std::nullopt;
}

std::string ratio_table(const Comparison& comparison, const std::vector<Column>& columns) {
  std::string out = table_head("Tidemark is better by", columns);
  bool any = false;
  for (const SystemResult& system : comparison.systems) {
    const SystemResult* ours = ours_for(comparison, system);
    if (system.peer == "tidemark" || ours == nullptr || system.runs.empty()) {
      continue;
    }
    any = true;
    out += fmt::format("| {} |", label(system));
    for (const Column& column : columns) {
      const std::optional<double> ratio =
          advantage(median(*ours, column.row), median(system, column.row));
      if (!ratio) {
        out += " |";
      } else {
        const char* const mark = *ratio < 1 ? "**" : "";
        out += fmt::format(" {}{:.2f}{} |", mark, *ratio, mark);
      }
    }
    out += "\n";
  }
  return any ? out : "";
}

std::string notes_of(const Comparison& comparison, const std::vector<Column>& columns) {
  std::string out;
  std::string peer;
  for (const SystemResult& system : comparison.systems) {
    if (system.peer != peer) {
      peer = system.peer;
      out += fmt::format("- **{}** {}{}\n", peer, system.version,
                         system.notes.empty() ? "" : ": " + system.notes);
    }
    out += fmt::format("  - {}: {}\n", system.mode, system.settings);
    if (!system.failure.empty()) {
      out += fmt::format("  - {}: could not be run: {}\n", system.mode, system.failure);
    }
    for (const Column& column : columns) {
      const Row* row = median(system, column.row);
      // What is said of the schedule holds for the delivery.
      if (row != nullptr && !row->measured() && row->name != "delayed") {
        out += fmt::format("  - {}: no {}: {}\n", system.mode, row->name, row->why_not);
      }
    }
  }
  return out;
}

}  // namespace

std::string comparison_json(const Comparison& comparison) {
  Json out;
  out["date"] = comparison.date;
  out["commit"] = comparison.commit;
  out["machine"] = comparison.machine;
  out["options"] = options_json(comparison.options);
  out["loopback"] = {{"round_trip_us_p50", comparison.loopback.round_trip_us_p50},
                     {"mb_per_s", comparison.loopback.mb_per_s}};
  out["systems"] = Json::array();
  for (const SystemResult& system : comparison.systems) {
    Json entry = {{"system", system.peer},
                  {"mode", system.mode},
                  {"version", system.version},
                  {"settings", system.settings},
                  {"notes", system.notes}};
    if (!system.failure.empty()) {
      entry["failure"] = system.failure;
    }
    entry["runs"] = Json::array();
    for (const std::vector<Row>& run : system.runs) {
      Json rows = Json::array();
      std::ranges::transform(run, std::back_inserter(rows), row_json);
      entry["runs"].push_back(std::move(rows));
    }
    out["systems"].push_back(std::move(entry));
  }
  return out.dump(2) + "\n";
}

std::string comparison_markdown(const Comparison& comparison) {
  const WorkloadOptions& options = comparison.options;
  std::string out =
      fmt::format("{}, commit {}, {}.\n\n", comparison.date, comparison.commit, comparison.machine);
  out += fmt::format(
      "{:.3g} s and at most {} messages a row, {} in flight; end to end {} B; {} delayed "
      "messages of {} B, {} to {} ms; transactions of {} B. Loopback: {:.0f} us a round trip, "
      "{} MB/s.\n\n",
      options.seconds, grouped(static_cast<double>(options.count_max)), grouped(options.in_flight),
      options.e2e_bytes, grouped(static_cast<double>(options.delayed_count)), options.delayed_bytes,
      options.delay_min_ms, options.delay_min_ms + options.delay_window_ms,
      options.transaction_bytes, comparison.loopback.round_trip_us_p50,
      grouped(comparison.loopback.mb_per_s));
  const std::vector<Column> columns = columns_of(options);
  out += table_head("system, mode", columns);
  for (const SystemResult& system : comparison.systems) {
    out += fmt::format("| {} |", label(system));
    for (const Column& column : columns) {
      const double baseline = middle(baselines_of(comparison, column.row));
      out += fmt::format(
          " {} |", system.failure.empty() ? cell(median(system, column.row), baseline) : "no");
    }
    out += "\n";
  }
  out +=
      "\nIn brackets: MB/s divided by those of the raw baseline (write + fdatasync of as many "
      "bytes as are in flight), the median of all systems' rows:";
  for (const char* name : {"produce_100", "produce_1024"}) {
    if (const std::vector<double> all = baselines_of(comparison, name); !all.empty()) {
      out += fmt::format(" {} {:.0f} MB/s ({:.0f} to {:.0f})", name, middle(all), all.front(),
                         all.back());
    }
  }
  out += ".\n\n";
  const std::string ratios = ratio_table(comparison, columns);
  if (!ratios.empty()) {
    out += ratios +
           "\nMessages a second ours / theirs, or p99 theirs / ours; durable against "
           "durable, default against relaxed. Below 1 we lose.\n\n";
  }
  return out + notes_of(comparison, columns);
}

}  // namespace tidemark::bench
