// tidemark bench produce|consume|e2e|delay|txn: flags, baseline and report; the runs are in
// bench_*.cc.
#include "tools/bench.h"

#include <algorithm>
#include <array>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/limits.h"
#include "log/base/random.h"
#include "tools/baseline.h"
#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

struct Percentile {
  const char* name;
  double fraction;
};

constexpr std::array<Percentile, 5> kPercentiles = {
    {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"p9999", 0.9999}}};

using Json = nlohmann::ordered_json;

double to_ms(uint64_t ns) { return static_cast<double>(ns) / 1e6; }

Json percentiles_json(const Histogram& histogram) {
  Json object = Json::object();
  for (const Percentile& percentile : kPercentiles) {
    object[percentile.name] = to_ms(histogram.percentile(percentile.fraction));
  }
  object["max"] = to_ms(histogram.max());
  return object;
}

std::string percentiles_line(std::string_view name, const Histogram& histogram) {
  std::string out = fmt::format("  {:<11}", name);
  for (const Percentile& percentile : kPercentiles) {
    out += fmt::format(" {} {:.3f}", percentile.name,
                       to_ms(histogram.percentile(percentile.fraction)));
  }
  return out + fmt::format(" max {:.3f}\n", to_ms(histogram.max()));
}

using Run = BenchResult (*)(const Globals&, Session&, const BenchOptions&, Baseline&);

int run_bench(const Globals& globals, const BenchOptions& options, Run run, bool wants_baseline) {
  catch_interrupts();
  Session session(globals);
  const auto cluster = require(session.admin().describe_cluster(session.deadline_ms()), "cluster");
  Baseline baseline(options, cluster);
  BenchResult result = run(globals, session, options, baseline);
  baseline.end();
  result.fsync = cluster.fsync;
  // A topic that was there may hold messages of other sizes: then the mean is what was measured.
  result.size = result.value_bytes > 0 && result.messages > 0 ? result.value_bytes / result.messages
                                                              : options.size;
  result.has_baseline = wants_baseline && options.baseline;
  result.baseline = baseline.result();
  print_result(globals, bench_table(result), bench_json(result));
  const bool wrong =
      result.early > 0 || result.lost > 0 || result.duplicates > 0 || result.uncommitted > 0;
  if ((result.counts_lateness || result.of_transactions) && wrong) {
    return static_cast<int>(ExitCode::kFailed);
  }
  const bool bad = result.failed > 0 || wrong;
  return static_cast<int>(bad ? ExitCode::kPartlyDone : ExitCode::kOk);
}

void add_partitions_option(CLI::App& command, BenchOptions& options) {
  command
      .add_option("--partitions", options.partitions, "Partitions, if the topic has to be created")
      ->check(CLI::Range(uint32_t{1}, limits::kPartitionsPerTopicMax))
      ->capture_default_str()
      ->type_name("N");
}

void add_common_options(CLI::App& command, BenchOptions& options) {
  add_topic_name(command, options.topic);
  add_bytes(command, "--size", options.size, "Bytes of a message's value (default 1024)");
  command.add_option("--count", options.count, "Messages")->check(check_positive)->type_name("N");
  command.add_option("--seconds", options.seconds, "Stop after this time")
      ->check(check_positive)
      ->type_name("S");
  add_partitions_option(command, options);
}

void add_send_options(CLI::App& command, BenchOptions& options) {
  command
      .add_option(
          "--rate", options.rate,
          "Messages per second, open loop: latency counts from the intended time of each message")
      ->check(check_positive)
      ->type_name("N");
  command
      .add_option("--in-flight", options.in_flight, "At most this many messages without an answer")
      ->check(check_positive)
      ->type_name("N");
  add_bytes(command, "--batch-bytes", options.batch_bytes, "Size of a full batch (default 256KiB)");
  command
      .add_option("--linger-ms", options.linger_ms,
                  "Wait this long for a batch to fill (default 5; 0 with --rate)")
      ->check(CLI::Range(0, 60'000))
      ->type_name("MS");
  command.add_option("--compress", options.compress, "none or zstd")
      ->check(CLI::IsMember({"none", "zstd"}))
      ->type_name("CODEC");
}

void add_baseline_options(CLI::App& command, BenchOptions& options) {
  command.add_flag("!--no-baseline", options.baseline, "Do not measure what the file system gives");
  command
      .add_option("--baseline-dir", options.baseline_dir,
                  "Where the baseline writes its files: name a folder on the broker's file system "
                  "(default: here)")
      ->type_name("DIR");
  add_bytes(command, "--baseline-bytes", options.baseline_bytes,
            "Bytes written per sync in the baseline (default: as many as the broker's logs write, "
            "by its /metrics; else 1MiB)");
  command
      .add_option("--baseline-seconds", options.baseline_seconds,
                  "How long the baseline writes in all (default: as long as `bench produce` sends; "
                  "2 with --rate and for e2e)")
      ->check(check_positive)
      ->type_name("S");
  add_metrics_option(command, options.metrics);
}

void check_options(const BenchOptions& options) {
  if (options.size > limits::kMessageBytesMax) {
    throw usage_error(
        fmt::format("--size: a message has at most {} bytes", limits::kMessageBytesMax));
  }
  if (options.baseline_bytes &&
      (*options.baseline_bytes == 0 || *options.baseline_bytes > kBaselineBytesMax)) {
    throw usage_error("--baseline-bytes: between 1 byte and 256MiB");
  }
}

void add_backlog_options(CLI::App& command, BenchOptions& options) {
  add_duration(command, "--delay", options.delay_ms,
               "How far ahead each message is scheduled (default 5s), give or take half");
  command.add_flag("--fixed", options.fixed_delay, "Exactly --delay ahead");
  command
      .add_option("--backlog", options.backlog,
                  "Schedule this many messages before the run, to stay pending during it")
      ->capture_default_str()
      ->type_name("N");
  add_duration(command, "--spread", options.spread_ms,
               "Spread the due times of the backlog evenly over this time (default 1h)");
  const auto set_after = [&options](const std::string& text) {
    const Result<int64_t> parsed = parse_duration_ms(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError("--backlog-after", std::string(parsed.error().context()));
    }
    options.backlog_after_ms = *parsed;
  };
  command
      .add_option_function<std::string>(
          "--backlog-after", set_after,
          "The backlog begins to fall due this long from now (default: after the run)")
      ->type_name("TIME");
  command.add_flag("--keep-backlog", options.keep_backlog,
                   "Keep the topic with its backlog (default: delete it if it was made here)");
}

void add_delay_bench(CLI::App& bench, Globals& globals) {
  const auto options = std::make_shared<BenchOptions>();
  options->rate = 10'000;
  options->seconds = 10;
  CLI::App* command = bench.add_subcommand(
      "delay", "Schedule messages, receive them when they are due, measure how late they are");
  add_topic_name(*command, options->topic);
  add_bytes(*command, "--size", options->size, "Bytes of a message's value (default 1024)");
  command
      ->add_option("--seconds", options->seconds,
                   "Schedule for this time; 0 schedules only the backlog")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("S");
  add_partitions_option(*command, *options);
  add_send_options(*command, *options);
  add_baseline_options(*command, *options);
  add_backlog_options(*command, *options);
  command->footer(
      "Open loop, 10,000 messages per second by default. Lateness is the time of receiving minus "
      "the due time by this\n"
      "machine's clock; the broker has to run on it, too. Exit code 1 if a message came early, "
      "twice or not at all.\n"
      "Examples:\n"
      "  tidemark bench delay load --rate 100000 --seconds 30 --size 100 --backlog 1000000\n"
      "  tidemark bench delay far --seconds 0 --backlog 10000000 --spread 30d --keep-backlog");
  command->callback([&globals, options] {
    globals.action = [&globals, options] {
      check_options(*options);
      return run_bench(globals, *options, bench_delay, true);
    };
  });
}

void add_txn_bench(CLI::App& bench, Globals& globals) {
  constexpr uint32_t kOpenMax = 65'536;
  const auto options = std::make_shared<BenchOptions>();
  CLI::App* command = bench.add_subcommand(
      "txn", "Run transactions of one message each and measure until each has ended");
  add_common_options(*command, *options);
  command->add_option("--open", options->open, "Transactions that are open at a time")
      ->check(CLI::Range(uint32_t{1}, kOpenMax))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--rollback", options->rollback_percent,
                   "Roll back this many of a hundred, commit the others")
      ->check(CLI::Range(0, 100))
      ->capture_default_str()
      ->type_name("PERCENT");
  add_baseline_options(*command, *options);
  command->footer(
      "A transaction is a pair: a half message that is stored, then a commit that is answered. In "
      "turns with them as\n"
      "many plain messages of the same size are in flight; --count and --seconds are those of "
      "either side. Default: 10\n"
      "seconds. Then the topic is read: exit code 1 if a committed message is missing or comes "
      "twice, or one that was\n"
      "rolled back is visible.\n"
      "Example:\n"
      "  tidemark bench txn load --size 1024 --open 1000 --seconds 10 --partitions 4");
  command->callback([&globals, options] {
    globals.action = [&globals, options] {
      check_options(*options);
      return run_bench(globals, *options, bench_txn, true);
    };
  });
}

void add_bench(CLI::App& bench, Globals& globals, const std::string& name, const std::string& help,
               Run run, bool writes, const std::string& footer) {
  const auto options = std::make_shared<BenchOptions>();
  CLI::App* command = bench.add_subcommand(name, help);
  add_common_options(*command, *options);
  if (writes) {
    add_send_options(*command, *options);
    add_baseline_options(*command, *options);
  } else {
    command->add_option("--repeat", options->repeat, "Read the topic this many times")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str()
        ->type_name("N");
  }
  command->footer(footer);
  command->callback([&globals, options, run, writes] {
    globals.action = [&globals, options, run, writes] {
      check_options(*options);
      return run_bench(globals, *options, run, writes);
    };
  });
}

}  // namespace

double BenchResult::mb_per_s() const {
  const uint64_t bytes = value_bytes > 0 ? value_bytes : messages * size;
  return seconds > 0 ? static_cast<double>(bytes) / 1e6 / seconds : 0;
}

double BenchResult::baseline_ratio() const {
  const double base = baseline.mb_per_s();
  return base > 0 ? mb_per_s() / base : 0;
}

std::string bench_json(const BenchResult& result) {
  Json object = Json::object();
  object["messages"] = result.messages;
  object["seconds"] = result.seconds;
  object["messages_per_s"] = result.messages_per_s();
  object["mb_per_s"] = result.mb_per_s();
  object["fsync"] = result.fsync;
  object["size"] = result.size;
  object["latency_ms"] = result.has_latency ? percentiles_json(result.latency_ns) : Json();
  if (result.counts_lateness) {
    object["lateness_ms"] = percentiles_json(result.lateness_ns);
    object["early"] = result.early;
  }
  if (result.of_transactions) {
    object["open"] = result.open;
    object["rolled_back"] = result.rolled_back;
    object["produce_messages_per_s"] = result.produce_messages_per_s;
    object["produce_ratio"] = result.produce_ratio();
  }
  if (result.counts_losses) {
    object["lost"] = result.lost;
    object["duplicates"] = result.duplicates;
  }
  if (result.of_transactions) {
    object["uncommitted"] = result.uncommitted;
    object["failed"] = result.failed;
  }
  if (result.counts_lateness) {
    object["failed"] = result.failed;
    object["fires_per_s"] = result.fires_per_s;
    object["backlog"] = result.backlog;
    object["backlog_pending"] = result.backlog_pending ? Json(*result.backlog_pending) : Json();
  }
  object["baseline_mb_per_s"] = nullptr;
  object["baseline_ratio"] = nullptr;
  if (result.has_baseline) {
    object["baseline_mb_per_s"] = result.baseline.mb_per_s();
    object["baseline_ratio"] = result.baseline_ratio();
  }
  return object.dump();
}

std::string bench_table(const BenchResult& result) {
  std::string out = fmt::format(
      "{}: {} {} of {} bytes, {} partition{}, fsync {}, {}\n", result.what,
      format_count(result.messages), result.of_transactions ? "transactions" : "messages",
      result.size, result.partitions, result.partitions == 1 ? "" : "s", result.fsync,
      result.of_transactions ? fmt::format("{} open at a time", format_count(result.open))
      : result.rate > 0      ? fmt::format("open loop at {:.0f}/s", result.rate)
                             : std::string("as fast as possible"));
  out += fmt::format("  throughput  {}/s, {:.1f} MB/s in {:.2f} s\n",
                     format_count(static_cast<uint64_t>(result.messages_per_s())),
                     result.mb_per_s(), result.seconds);
  if (result.has_latency) {
    out += percentiles_line(result.counts_lateness ? "ack ms" : "latency ms", result.latency_ns);
  }
  if (result.counts_lateness) {
    out += percentiles_line("lateness ms", result.lateness_ns);
    out += fmt::format("  fires       {}/s (median second), {} early\n",
                       format_count(static_cast<uint64_t>(result.fires_per_s)), result.early);
  }
  if (result.backlog > 0) {
    out += fmt::format("  backlog     {} scheduled, {} pending after the run\n",
                       format_count(result.backlog),
                       result.backlog_pending ? format_count(*result.backlog_pending) : "unknown");
  }
  if (result.of_transactions) {
    out += fmt::format("  produce     {}/s plain messages, as many in flight; ratio {:.2f}\n",
                       format_count(static_cast<uint64_t>(result.produce_messages_per_s)),
                       result.produce_ratio());
    out += fmt::format("  rolled back {}, of which {} are visible\n",
                       format_count(result.rolled_back), result.uncommitted);
  }
  if (result.counts_losses) {
    out += fmt::format("  checked     {} lost, {} duplicates\n", result.lost, result.duplicates);
  }
  if (result.failed > 0) {
    out += fmt::format("  failed      {}\n", format_count(result.failed));
  }
  if (result.has_baseline) {
    out += fmt::format(
        "  baseline    {:.1f} MB/s raw write+fdatasync ({} per sync); ratio {:.2f}\n",
        result.baseline.mb_per_s(),
        format_bytes(result.baseline.syncs > 0 ? result.baseline.bytes / result.baseline.syncs : 0),
        result.baseline_ratio());
  }
  return out;
}

Payloads::Payloads(size_t size) : size_(size), pool_(std::max<size_t>(size_t{1} << 20, 2 * size)) {
  Random random(0x7469'6465);
  std::ranges::generate(pool_, [&random] { return static_cast<char>(random.next()); });
}

BenchTopic open_topic(Session& session, const BenchOptions& options) {
  auto created =
      session.admin().create_topic(options.topic, options.partitions, {}, session.deadline_ms());
  if (created.ok()) {
    note(fmt::format("created topic {} with {} partitions", options.topic, options.partitions));
    return {.partitions = options.partitions, .created = true};
  }
  if (created.status().code() != client::ErrorCode::kAlreadyExists) {
    throw command_error(created.status(), fmt::format("topic {}", options.topic));
  }
  return {
      .partitions = static_cast<uint32_t>(session.describe_topic(options.topic).partitions.size()),
      .created = false};
}

void add_bench_commands(CLI::App& app, Globals& globals) {
  CLI::App* bench = app.add_subcommand("bench", "Measure throughput and latency");
  bench->require_subcommand(1);
  add_bench(*bench, globals, "produce", "Send messages and measure until each is acknowledged",
            bench_produce, true,
            "Without --rate it sends as fast as the broker answers, and latency includes the wait "
            "in the write buffer\n"
            "(--in-flight bounds it). Default: 10 seconds.\n"
            "Examples:\n"
            "  tidemark bench produce load --size 1024 --seconds 10 --partitions 4\n"
            "  tidemark bench produce load --size 100 --rate 50000 --seconds 30 -o json");
  add_bench(*bench, globals, "consume", "Read a topic from its start and measure", bench_consume,
            false,
            "Reads to the end that the topic had when the command began. A topic with fewer than "
            "--count messages (default:\n"
            "an empty one) is filled with messages of --size first.\n"
            "Example:\n"
            "  tidemark bench consume load --count 1000000 --size 1024 --repeat 5");
  add_bench(*bench, globals, "e2e",
            "Send messages, read them back, measure from intended sending to arrival", bench_e2e,
            true,
            "Producer and consumer run in this process, so both read one clock. Counts what was "
            "lost or came twice.\n"
            "Default: 10 seconds at 10,000 messages per second.\n"
            "Example:\n"
            "  tidemark bench e2e load --size 100 --rate 10000 --seconds 30");
  add_delay_bench(*bench, globals);
  add_txn_bench(*bench, globals);
}

}  // namespace tidemark::tools
