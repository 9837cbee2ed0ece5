// tidemark consume: messages of a topic, printed one by one.
#include "tools/consume.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/limits.h"
#include "tidemark/consumer.h"
#include "tidemark/delay.h"
#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/message_printer.h"
#include "tools/parse.h"
#include "tools/partition_ranges.h"
#include "tools/patience.h"
#include "tools/progress.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

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

void read_messages(const Globals& globals, const ConsumeOptions& options,
                   client::Consumer& consumer, PartitionRanges* ranges, MessagePrinter& printer) {
  const uint64_t total = options.count > 0 ? options.count : ranges ? ranges->messages_left() : 0;
  Progress progress("consume", total, "messages",
                    progress_wanted(globals.quiet) && !options.follow);
  Patience patience(globals.timeout_ms, options.follow);
  while (!interrupted() && !(ranges && ranges->finished())) {
    // What has gathered is written before a wait begins.
    const auto batch = consumer.poll(printer.nothing_gathered() ? kConsumePollMs : 0);
    require(batch.status(), fmt::format("topic {}", options.topic));
    if (batch->messages.empty() &&
        (!ranges || !ranges->advance(batch->partition, batch->next_offset))) {
      printer.flush();
      patience.on_nothing(consumer.last_error());
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

int consume(const Globals& globals, const ConsumeOptions& options) {
  catch_interrupts();
  if (!options.group.empty()) {
    return consume_as_member(globals, options);
  }
  MessagePrinter printer(globals.json, options.format);
  const Result<StartPoint> from = parse_start_point(options.from, system_clock().wall().ms);
  if (!from.ok()) {
    throw usage_error(fmt::format("--from: {}", from.error().context()));
  }
  Session session(globals);
  PartitionRanges ranges = resolve_ranges(session, options.topic, options.partitions, *from);
  const bool until_end = !options.follow && options.count == 0;
  if (until_end && ranges.finished()) {
    printer.summarize(system_clock().monotonic());
    return 0;
  }
  client::Consumer consumer = require(client::Consumer::create(session.client()), "consumer");
  require(consumer.assign(ranges.assignment(options.topic, until_end)),
          fmt::format("topic {}", options.topic));
  const MonotonicTime started = system_clock().monotonic();
  read_messages(globals, options, consumer, until_end ? &ranges : nullptr, printer);
  consumer.close();
  printer.summarize(started);
  const bool stopped_early = interrupted() && !options.follow;
  return static_cast<int>(stopped_early ? ExitCode::kPartlyDone : ExitCode::kOk);
}

// --group and what is for it alone.
void add_group_options(CLI::App& command, ConsumeOptions& options) {
  CLI::Option* group = add_group_name(
      command, "--group", options.group,
      "Read as a member of this consumer group: it shares the partitions out, and keeps positions");
  command
      .add_option("--instance", options.instance,
                  "Name of this member: after a restart within the session timeout it has its "
                  "partitions again; a second one of the same name takes over")
      ->needs(group)
      ->type_name("NAME");
  add_duration_within(
      command, "--session-timeout", options.session_timeout_ms, limits::kGroupSessionMsMin,
      limits::kGroupSessionMsMax,
      "Not heard of for this long, the member has lost its partitions (default 10s)")
      ->needs(group);
  add_duration_within(command, "--idle-exit", options.idle_exit_ms, 1, client::kDelayMsMax,
                      "Stop when no message came for this long (exit code 0)")
      ->needs(group);
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
  add_group_options(*command, *options);
  command->footer(
      "Without --follow and --count it stops at the end that the topic had when the command began. "
      "With -o json each\n"
      "message is an object on a line; bytes that are not UTF-8 are in value_base64 and "
      "key_base64.\n"
      "Within a partition messages come in order, across partitions they do not.\n"
      "With --group it goes on until interrupted (or --count, --idle-exit). What is committed is "
      "what "
      "was printed, each second\n"
      "and at the end; what a member that was killed had not committed yet comes again to "
      "another.\n"
      "Examples:\n"
      "  tidemark consume orders --from start -n 10 --format '%p %o %k %v\\n'\n"
      "  tidemark consume orders --from -10m --follow -o json | jq .value\n"
      "  tidemark consume orders --from 2026-03-01T08:00+01:00 --partition 3\n"
      "  tidemark consume orders --group billing --instance $HOSTNAME | ./bill");
  command->callback([&globals, options] {
    globals.action = [&globals, options] { return consume(globals, *options); };
  });
}

}  // namespace tidemark::tools
