// tidemark consume: messages of topics, printed one by one.
#include "tools/consume.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "broker/meta/topic_name.h"
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
    printer.print(batch.topic, batch.partition, message);
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
    require(batch.status(), fmt::format("topic {}", options.topics.front()));
    if (batch->messages.empty()) {
      printer.flush();
      if (ranges && ranges->advance(consumer, options.topics.front())) {
        patience.on_progress();
      } else {
        patience.on_nothing(consumer.last_error());
      }
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
    return options.queue ? consume_as_queue(globals, options) : consume_as_member(globals, options);
  }
  if (options.topics.size() > 1) {
    throw usage_error("several topics are read with --group only");
  }
  const std::string& topic = options.topics.front();
  MessagePrinter printer(globals.json, options.format);
  const Result<StartPoint> from = parse_start_point(options.from, system_clock().wall().ms);
  if (!from.ok()) {
    throw usage_error(fmt::format("--from: {}", from.error().context()));
  }
  Session session(globals);
  PartitionRanges ranges = resolve_ranges(session, topic, options.partitions, *from);
  const bool until_end = !options.follow && options.count == 0;
  if (until_end && ranges.finished()) {
    printer.summarize(system_clock().monotonic());
    return 0;
  }
  client::ConsumerOptions reading;
  reading.tags = options.tags;
  reading.filter = options.filter;
  client::Consumer consumer =
      require(client::Consumer::create(session.client(), reading), "consumer");
  require(consumer.assign(ranges.assignment(topic, until_end)), fmt::format("topic {}", topic));
  const MonotonicTime started = system_clock().monotonic();
  read_messages(globals, options, consumer, until_end ? &ranges : nullptr, printer);
  consumer.close();
  printer.summarize(started);
  const bool stopped_early = interrupted() && !options.follow;
  return static_cast<int>(stopped_early ? ExitCode::kPartlyDone : ExitCode::kOk);
}

// Needs --queue.
void add_queue_options(CLI::App& command, ConsumeOptions& options, CLI::Option* group) {
  CLI::Option* queue =
      command
          .add_flag("--queue", options.queue,
                    "Queue mode: messages are leased one by one, to any number of consumers")
          ->needs(group);
  command
      .add_flag("--ack", options.ack,
                "Ack what was printed; without it what was printed is given back at the end")
      ->needs(queue);
  add_duration_within(command, "--visibility", options.visibility_ms, limits::kQueueVisibilityMsMin,
                      limits::kQueueVisibilityMsMax, "How long a message is leased (default 30s)")
      ->needs(queue);
  command
      .add_flag("--ordered", options.ordered,
                "Messages of one key one after another, each when the one before is settled")
      ->needs(queue);
  command
      .add_flag("--from-end", options.from_end,
                "A group that is new to a partition begins with what comes from now on")
      ->needs(queue);
  command
      .add_option("--in-flight", options.in_flight,
                  "Messages that may be leased and not yet settled (default 256)")
      ->check(CLI::Range(size_t{1}, limits::kQueueWindow))
      ->needs(queue)
      ->type_name("N");
}

// --group and what is for it alone.
void add_group_options(CLI::App& command, ConsumeOptions& options) {
  CLI::Option* group = add_group_name(
      command, "--group", options.group,
      "Read as a member of this consumer group: it shares the partitions out, and keeps positions");
  add_duration_within(command, "--idle-exit", options.idle_exit_ms, 1, client::kDelayMsMax,
                      "Stop when no message came for this long (exit code 0)")
      ->needs(group);
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
  add_queue_options(command, options, group);
}

// What is read, and what of it is printed.
void add_reading_options(CLI::App& command, ConsumeOptions& options) {
  const auto valid = [](const std::string& text) {
    return std::string(meta::check_topic_name(text).context());  // empty: valid
  };
  command.add_option("topic", options.topics, "Name of the topic; with --group several")
      ->required()
      ->check(valid)
      ->type_name("TOPIC");
  command
      .add_option("--from", options.from,
                  "Where to begin: start, end, an offset, a time (2026-03-01T12:30:05Z, @<ms>) or "
                  "back from now (-10m)")
      ->capture_default_str()
      ->type_name("WHERE");
  command
      .add_option("--partition", options.partitions,
                  "Only this partition; may be given several times (default: all)")
      ->allow_extra_args(false)
      ->type_name("N");
  add_filter_options(command, options.filter, options.tags);
  command
      .add_option("-n,--count,--max-messages", options.count,
                  "Stop after this many messages, and wait until they have come")
      ->check(check_positive)
      ->type_name("N");
  command.add_flag("-f,--follow", options.follow,
                   "Go on with new messages until interrupted (or --count)");
  command
      .add_option("--format", options.format,
                  "%v value, %k key, %o offset, %p partition, %t time in ms, %T time, %h headers, "
                  "%s size, %n topic, %d deliveries (queue mode), %%, \\n \\t \\r \\0 \\\\ \\xHH")
      ->capture_default_str()
      ->type_name("TEXT");
}

}  // namespace

void add_consume_command(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<ConsumeOptions>();
  CLI::App* command = app.add_subcommand("consume", "Print messages of topics");
  add_reading_options(*command, *options);
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
      "With --queue --ack what was printed is acked, message by message. Without --ack it is given "
      "back at the end, ready for\n"
      "others at once; while the command runs, a lease that ends counts as a failed delivery. What "
      "was leased and not printed\n"
      "when it ends or is interrupted goes back the same way. What --filter and --tag leave out is "
      "settled unseen: all consumers\n"
      "of a group in queue mode have the same ones. `tidemark group delete` makes such a group "
      "begin anew.\n"
      "Examples:\n"
      "  tidemark consume orders --from start -n 10 --format '%p %o %k %v\\n'\n"
      "  tidemark consume orders --from -10m --follow -o json | jq .value\n"
      "  tidemark consume orders --from 2026-03-01T08:00+01:00 --partition 3\n"
      "  tidemark consume orders --group billing --instance $HOSTNAME | ./bill\n"
      "  tidemark consume orders --tag urgent --filter \"region = 'eu'\" -o json\n"
      "  tidemark consume mails --group mailer --queue --ack --idle-exit 5s --format '%d %k "
      "%v\\n'");
  command->callback([&globals, options] {
    globals.action = [&globals, options] { return consume(globals, *options); };
  });
}

}  // namespace tidemark::tools
