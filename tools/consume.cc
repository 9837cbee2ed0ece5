// tidemark consume: messages of a topic, printed one by one.
#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "log/base/clock.h"
#include "tidemark/consumer.h"
#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/message_format.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/partition_ranges.h"
#include "tools/progress.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

struct ConsumeOptions {
  std::string topic;
  std::string from = "start";
  std::vector<uint32_t> partitions;
  uint64_t count = 0;  // 0: no bound
  bool follow = false;
  std::string format = "%v\\n";
};

// How long poll() may wait when there is nothing to print: an interrupt is seen after this.
constexpr int64_t kPollMs = 100;

class MessagePrinter {
 public:
  MessagePrinter(const Globals& globals, const ConsumeOptions& options) : json_(globals.json) {
    Result<MessageFormat> parsed = MessageFormat::parse(options.format);
    if (!parsed.ok()) {
      throw usage_error(std::string(parsed.error().context()));
    }
    format_ = *std::move(parsed);
  }

  void print(uint32_t partition, const client::ReceivedMessage& message) {
    PrintedMessage printed;
    printed.partition = partition;
    printed.offset = message.offset;
    printed.timestamp_ms = message.timestamp_ms;
    printed.has_key = message.key.has_value();
    printed.key = message.key.value_or(std::string_view());
    printed.has_value = message.value.has_value();
    printed.value = message.value.value_or(std::string_view());
    if (json_ || format_.needs_headers()) {
      headers_.clear();
      for (const client::Header& header : message.headers) {
        headers_.push_back({header.key, header.value.value_or(std::string_view())});
      }
      printed.headers = headers_;
    }
    if (json_) {
      append_json(printed, out_.text());
    } else {
      format_.append(printed, out_.text());
    }
    out_.commit();
    ++messages_;
    value_bytes_ += printed.value.size();
  }

  void flush() { out_.flush(); }

  [[nodiscard]] bool nothing_gathered() const { return out_.empty(); }

  [[nodiscard]] uint64_t messages() const { return messages_; }

  [[nodiscard]] uint64_t value_bytes() const { return value_bytes_; }

 private:
  bool json_;
  MessageFormat format_;
  OutputBuffer out_;
  std::vector<PrintedHeader> headers_;
  uint64_t messages_ = 0;
  uint64_t value_bytes_ = 0;
};

// Prints what is wanted of one batch; gives false when the wanted number has been printed.
bool print_batch(const client::MessageBatch& batch, const ConsumeOptions& options,
                 PartitionRanges* ranges, MessagePrinter& printer) {
  for (const client::ReceivedMessage& message : batch.messages) {
    if (ranges && !ranges->contains(batch.partition, message.offset)) {
      break;
    }
    printer.print(batch.partition, message);
    if (options.count > 0 && printer.messages() >= options.count) {
      return false;
    }
  }
  if (ranges) {
    ranges->advance(batch.partition, batch.next_offset);
  }
  return true;
}

// Without an end in sight a broker that is away is waited for; else for as long as one request may
// take.
class Patience {
 public:
  Patience(int64_t timeout_ms, bool endless) : timeout_ms_(timeout_ms), endless_(endless) {}

  void on_progress() { waiting_ = false; }

  // Nothing came; throws the reason when there is one and it has lasted too long.
  void on_nothing(const client::Consumer& consumer) {
    const client::Status reason = consumer.last_error();
    if (reason.ok()) {
      waiting_ = false;
      return;
    }
    const MonotonicTime now = system_clock().monotonic();
    if (!waiting_) {
      waiting_ = true;
      waiting_since_ = now;
      note(fmt::format("waiting: {}", reason.to_string()));
    }
    if (!endless_ && now.ns - waiting_since_.ns > timeout_ms_ * 1'000'000) {
      throw command_error(reason, "nothing could be read");
    }
  }

 private:
  int64_t timeout_ms_;
  bool endless_;
  bool waiting_ = false;
  MonotonicTime waiting_since_;
};

void read_messages(const Globals& globals, const ConsumeOptions& options,
                   client::Consumer& consumer, PartitionRanges* ranges, MessagePrinter& printer) {
  const uint64_t total = options.count > 0 ? options.count : ranges ? ranges->messages_left() : 0;
  Progress progress("consume", total, "messages",
                    progress_wanted(globals.quiet) && !options.follow);
  Patience patience(globals.timeout_ms, options.follow);
  while (!interrupted() && !(ranges && ranges->finished())) {
    // What has gathered is written before a wait begins.
    const auto batch = consumer.poll(printer.nothing_gathered() ? kPollMs : 0);
    require(batch.status(), fmt::format("topic {}", options.topic));
    if (batch->messages.empty() &&
        (!ranges || !ranges->advance(batch->partition, batch->next_offset))) {
      printer.flush();
      patience.on_nothing(consumer);
      continue;
    }
    patience.on_progress();
    if (!print_batch(*batch, options, ranges, printer)) {
      break;
    }
    progress.update(printer.messages(), printer.value_bytes());
  }
  printer.flush();
}

void summarize(const MessagePrinter& printer, MonotonicTime started) {
  const double seconds =
      std::max(1e-6, static_cast<double>(system_clock().monotonic().ns - started.ns) / 1e9);
  const auto messages = static_cast<double>(printer.messages());
  const auto bytes = static_cast<double>(printer.value_bytes());
  note(fmt::format("consumed {} messages, {} in {:.2f} s ({}/s, {}/s)",
                   format_count(printer.messages()), format_megabytes(bytes), seconds,
                   format_count(static_cast<uint64_t>(messages / seconds)),
                   format_megabytes(bytes / seconds)));
}

int consume(const Globals& globals, const ConsumeOptions& options) {
  catch_interrupts();
  MessagePrinter printer(globals, options);
  const Result<StartPoint> from = parse_start_point(options.from, system_clock().wall().ms);
  if (!from.ok()) {
    throw usage_error(fmt::format("--from: {}", from.error().context()));
  }
  Session session(globals);
  PartitionRanges ranges = resolve_ranges(session, options.topic, options.partitions, *from);
  const bool until_end = !options.follow && options.count == 0;
  if (until_end && ranges.finished()) {
    summarize(printer, system_clock().monotonic());
    return 0;
  }
  client::Consumer consumer = require(client::Consumer::create(session.client()), "consumer");
  require(consumer.assign(ranges.assignment(options.topic, until_end)),
          fmt::format("topic {}", options.topic));
  const MonotonicTime started = system_clock().monotonic();
  read_messages(globals, options, consumer, until_end ? &ranges : nullptr, printer);
  consumer.close();
  summarize(printer, started);
  const bool stopped_early = interrupted() && !options.follow;
  return static_cast<int>(stopped_early ? ExitCode::kPartlyDone : ExitCode::kOk);
}

}  // namespace

void add_consume_command(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<ConsumeOptions>();
  CLI::App* command = app.add_subcommand("consume", "Print messages of a topic");
  add_topic_name(*command, options->topic);
  command
      ->add_option("--from", options->from,
                   "Where to begin: start, end, an offset, a time (2026-03-01T12:30:05Z, @<ms>) or "
                   "back from now (-10m)")
      ->capture_default_str()
      ->type_name("WHERE");
  command
      ->add_option("--partition", options->partitions,
                   "Only this partition; may be given several times (default: all)")
      ->allow_extra_args(false)
      ->type_name("N");
  command
      ->add_option("-n,--count", options->count,
                   "Stop after this many messages, and wait until they have come")
      ->check(check_positive)
      ->type_name("N");
  command->add_flag("-f,--follow", options->follow,
                    "Go on with new messages until interrupted (or --count)");
  command
      ->add_option("--format", options->format,
                   "%v value, %k key, %o offset, %p partition, %t time in ms, %T time, %h headers, "
                   "%s size, %%, "
                   "\\n \\t \\r \\0 \\\\ \\xHH")
      ->capture_default_str()
      ->type_name("TEXT");
  command->footer(
      "Without --follow and --count it stops at the end that the topic had when the command began. "
      "With -o json each\n"
      "message is an object on a line; bytes that are not UTF-8 are in value_base64 and "
      "key_base64.\n"
      "Within a partition messages come in order, across partitions they do not.\n"
      "Examples:\n"
      "  tidemark consume orders --from start -n 10 --format '%p %o %k %v\\n'\n"
      "  tidemark consume orders --from -10m --follow -o json | jq .value\n"
      "  tidemark consume orders --from 2026-03-01T08:00+01:00 --partition 3");
  command->callback([&globals, options] {
    globals.action = [&globals, options] { return consume(globals, *options); };
  });
}

}  // namespace tidemark::tools
