// tidemark produce: lines of a file or of standard input become messages.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/limits.h"
#include "tidemark/producer.h"
#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/delay_options.h"
#include "tools/delivery_log.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/line_reader.h"
#include "tools/output.h"
#include "tools/pacer.h"
#include "tools/parse.h"
#include "tools/progress.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

struct ProduceOptions {
  std::string topic;
  std::string file = "-";
  std::optional<std::string> message;
  std::string key;
  std::string key_separator;
  std::vector<std::string> headers;
  std::vector<std::string> tags;
  std::string message_id;
  bool message_id_from_key = false;
  std::optional<int64_t> ttl_ms;
  std::optional<int> priority;
  std::optional<uint32_t> partition;
  double rate = 0;
  uint64_t count = 0;  // 0: all lines, or one --message
  uint64_t batch_bytes = uint64_t{256} * 1024;
  int64_t linger_ms = 5;
  std::string compress = "none";
  DelayOptions delay;
  bool verbose = false;

  // A delay key or a message id names one message.
  [[nodiscard]] bool names_one() const { return !delay.key.empty() || !message_id.empty(); }

  // A handle is what a single delayed message is sent for.
  [[nodiscard]] bool is_single() const { return message ? count <= 1 : names_one(); }
};

// Answers to delayed messages are kept until they are printed: this bounds them.
constexpr size_t kDelayedUnansweredMax = 100'000;

// Where messages come from: --message, repeated, or lines.
class MessageSource {
 public:
  explicit MessageSource(const ProduceOptions& options)
      : message_(options.message), count_max_(options.count) {
    if (message_) {
      count_max_ = std::max<uint64_t>(options.count, 1);
      return;
    }
    if (options.file != "-") {
      file_.reset(std::fopen(options.file.c_str(), "rbe"));
      if (!file_) {
        throw CommandError(Status::from_errno(errno, options.file), "opening the input");
      }
    } else if (isatty(0) == 1) {
      note("reading lines from the terminal, end with Ctrl-D");
    }
    const size_t line_bytes_max = limits::kMessageBytesMax + options.key_separator.size();
    reader_ = std::make_unique<LineReader>(file_ ? fileno(file_.get()) : 0, line_bytes_max,
                                           interrupt_descriptor());
  }

  // The next line, valid until the next call.
  bool next(std::string_view& line) {
    if (given_ >= count_max_ && count_max_ > 0) {
      return false;
    }
    if (message_) {
      line = *message_;
    } else {
      const Result<bool> more = reader_->next(line);
      throw_if_error(more.status(), "input");
      if (!*more) {
        return false;
      }
    }
    ++given_;
    return true;
  }

  // Number of the last line given, from 1.
  [[nodiscard]] uint64_t line_number() const { return given_; }

  // Lines expected in all, 0 if not known.
  [[nodiscard]] uint64_t total() const { return count_max_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  std::optional<std::string> message_;
  uint64_t count_max_;
  uint64_t given_ = 0;
  std::unique_ptr<std::FILE, Close> file_;
  std::unique_ptr<LineReader> reader_;
};

// Turns a line into a message and hands it to the producer.
class LineSender {
 public:
  LineSender(const ProduceOptions& options, client::Producer& producer,
             const DeliveryLog& deliveries)
      : options_(options),
        producer_(producer),
        deliveries_(deliveries),
        topic_(require(producer.topic(options.topic), fmt::format("topic {}", options.topic))) {
    for (const std::string& text : options.headers) {
      const Result<KeyValue> header = parse_key_value(text);
      throw_if_error(header.status(), "--header");
      header_texts_.push_back(*header);
    }
    for (const KeyValue& header : header_texts_) {
      headers_.push_back({.key = header.key, .value = header.value});
    }
    if (options.delay.delayed()) {
      message_.delay = delay_of(options.delay);
      name_pending(options.delay.key);
    }
    message_.headers = headers_;
    tags_.assign(options.tags.begin(), options.tags.end());
    message_.tags = tags_;
    if (!options.message_id.empty()) {
      message_.id = options.message_id;
    }
    message_.ttl_ms = options.ttl_ms;
    message_.priority = options.priority;
    message_.partition = options.partition;
    if (!options.key.empty()) {
      message_.key = options.key;
    }
  }

  // Waits while the write buffer is full. False if a message failed or an interrupt came: stop.
  // Throws for a line that cannot be sent.
  bool send(std::string_view line, uint64_t line_number) {
    message_.value = line;
    if (!options_.key_separator.empty()) {
      split_key(line, line_number);
    }
    if (options_.delay.key_from_key) {
      require_key(line_number, "names no pending message");
      name_pending(*message_.key);
    }
    if (options_.message_id_from_key) {
      require_key(line_number, "is no message id");
      message_.id = message_.key;
    }
    for (;;) {
      const client::Status accepted = producer_.send(topic_, message_, line_number);
      if (accepted.ok()) {
        ++sent_;
        bytes_ += line.size();
        return !deliveries_.any_failed() && !interrupted();
      }
      if (accepted.code() != client::ErrorCode::kOverloaded) {
        throw command_error(accepted, fmt::format("line {}", line_number));
      }
      if (deliveries_.any_failed() || interrupted()) {
        return false;
      }
    }
  }

  [[nodiscard]] uint64_t sent() const { return sent_; }

  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  void name_pending(std::string_view key) {
    if (!key.empty()) {
      message_.delay->with_key(key, options_.delay.replace ? client::Delay::OnPending::kReplace
                                                           : client::Delay::OnPending::kRefuse);
    }
  }

  void require_key(uint64_t line_number, std::string_view else_what) const {
    if (message_.key->empty()) {
      throw CommandError(ExitCode::kFailed, "InvalidArgument",
                         fmt::format("line {} has an empty key, which {}", line_number, else_what));
    }
  }

  void split_key(std::string_view line, uint64_t line_number) {
    const size_t at = line.find(options_.key_separator);
    if (at == std::string_view::npos) {
      throw CommandError(
          ExitCode::kFailed, "InvalidArgument",
          fmt::format("line {} has no key separator '{}'", line_number, options_.key_separator));
    }
    message_.key = line.substr(0, at);
    message_.value = line.substr(at + options_.key_separator.size());
  }

  const ProduceOptions& options_;
  client::Producer& producer_;
  const DeliveryLog& deliveries_;
  client::Topic topic_;
  std::vector<KeyValue> header_texts_;
  std::vector<client::Header> headers_;
  std::vector<std::string_view> tags_;
  client::Message message_;
  uint64_t sent_ = 0;
  uint64_t bytes_ = 0;
};

client::ProducerOptions producer_options(const ProduceOptions& options, const Globals& globals,
                                         DeliveryLog& deliveries) {
  client::ProducerOptions out;
  out.batch_bytes = options.batch_bytes;
  out.linger_ms = options.linger_ms;
  out.compression =
      options.compress == "zstd" ? client::Compression::kZstd : client::Compression::kNone;
  // Short, so that an interrupt or a failure is seen soon; the sender tries again.
  out.overflow = client::Overflow::block_for(200);
  out.delivery_timeout_ms = std::max<int64_t>(globals.timeout_ms, 1'000);
  out.fail_fast_on_disk_full = true;
  if (options.delay.delayed()) {
    out.buffer_messages_max = std::min(out.buffer_messages_max, kDelayedUnansweredMax);
  }
  out.on_delivery = [&deliveries](const client::DeliveryBatch& batch) {
    deliveries.on_delivery(batch);
  };
  return out;
}

// Prints the answer to each delayed message as it comes: when it is due and what cancels it.
class ReceiptPrinter {
 public:
  ReceiptPrinter(const Globals& globals, const ProduceOptions& options)
      : json_(globals.json),
        wanted_(options.delay.delayed() &&
                (globals.json || options.verbose || options.is_single())) {}

  [[nodiscard]] bool wanted() const { return wanted_; }

  void print_new(DeliveryLog& deliveries) {
    for (const DelayedDelivery& delivery : deliveries.take_each()) {
      if (json_) {
        add_json(delivery);
      } else if (delivery.receipt.status.ok()) {
        add_row(delivery);
      }
      out_.commit();
    }
    out_.flush();
  }

 private:
  void add_row(const DelayedDelivery& delivery) {
    if (!heading_printed_) {
      heading_printed_ = true;
      out_.text() +=
          fmt::format("{:<24}  {:>9}  {:>9}  {}\n", "DUE", "LINE", "PARTITION", "HANDLE");
    }
    out_.text() +=
        fmt::format("{:<24}  {:>9}  {:>9}  {}\n", format_time(delivery.receipt.due_ms),
                    delivery.line, delivery.partition, delivery.receipt.handle.to_string());
  }

  void add_json(const DelayedDelivery& delivery) {
    nlohmann::ordered_json object = nlohmann::ordered_json::object();
    const client::DelayReceipt& receipt = delivery.receipt;
    object["line"] = delivery.line;
    object["partition"] = delivery.partition;
    if (receipt.status.ok()) {
      object["due_ms"] = receipt.due_ms;
      object["due"] = format_time(receipt.due_ms);
      object["handle"] = receipt.handle.to_string();
    } else {
      object["error"] = {{"code", client::error_name(receipt.status.code())},
                         {"message", receipt.status.to_string()}};
    }
    out_.text() += object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }

  bool json_;
  bool wanted_;
  bool heading_printed_ = false;
  OutputBuffer out_;
};

void print_json(const ProduceOptions& options, const LineSender& sender,
                const DeliveryLog& deliveries, double seconds) {
  nlohmann::ordered_json partitions = nlohmann::ordered_json::array();
  for (const auto& [number, partition] : deliveries.partitions()) {
    partitions.push_back({{"partition", number},
                          {"messages", partition.messages},
                          {"last_offset", partition.last_offset}});
  }
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  object["topic"] = options.topic;
  object["messages"] = sender.sent();
  object["bytes"] = sender.bytes();
  object["acked"] = deliveries.acked();
  object["failed"] = deliveries.failed();
  object["outcome_unknown"] = deliveries.unknown();
  object["seconds"] = seconds;
  object["messages_per_s"] = static_cast<double>(sender.sent()) / seconds;
  object["mb_per_s"] = static_cast<double>(sender.bytes()) / 1e6 / seconds;
  object["partitions"] = std::move(partitions);
  print(object.dump() + "\n");
}

void summarize(const LineSender& sender, const DeliveryLog& deliveries, double seconds) {
  const auto messages = static_cast<double>(sender.sent());
  const auto bytes = static_cast<double>(sender.bytes());
  note(fmt::format("produced {} messages, {} in {:.2f} s ({}/s, {}/s): {} acked, {} failed",
                   format_count(sender.sent()), format_megabytes(bytes), seconds,
                   format_count(static_cast<uint64_t>(messages / seconds)),
                   format_megabytes(bytes / seconds), format_count(deliveries.acked()),
                   format_count(deliveries.failed())));
}

// Nothing was stored: the error's own code. Something was: partly done.
[[noreturn]] void throw_partly(uint64_t acked, const CommandError& error) {
  if (acked == 0) {
    throw error;
  }
  throw CommandError(ExitCode::kPartlyDone, error.name(),
                     fmt::format("{}; {} messages were stored", error.what(), format_count(acked)));
}

// One message, and nothing if there are more: a delay key of all of them would let one be pending,
// a message id would let one be stored.
void send_single(const ProduceOptions& options, MessageSource& source, LineSender& sender) {
  std::string_view line;
  if (!source.next(line)) {
    return;
  }
  const std::string only(line);
  if (source.next(line)) {
    const std::string_view name = options.delay.key.empty() ? "--message-id" : "--delay-key";
    throw usage_error(
        fmt::format("{} names a single message; with several use {}-from-key", name, name));
  }
  (void)sender.send(only, 1);
}

void send_all(const ProduceOptions& options, MessageSource& source, LineSender& sender,
              const Globals& globals, DeliveryLog& deliveries, ReceiptPrinter& receipts) {
  if (options.names_one()) {
    send_single(options, source, sender);
    return;
  }
  constexpr uint64_t kMessagesBetweenUpdates = 1024;
  Pacer pacer(options.rate, system_clock().monotonic());
  Progress progress("produce", source.total(), "messages", progress_wanted(globals.quiet));
  std::string_view line;
  while (source.next(line)) {
    if (!pacer.unlimited()) {
      (void)pacer.wait(source.line_number() - 1);
    }
    if (!sender.send(line, source.line_number())) {
      return;
    }
    if (!pacer.unlimited() || source.line_number() % kMessagesBetweenUpdates == 0) {
      progress.update(sender.sent(), sender.bytes());
      if (receipts.wanted()) {
        receipts.print_new(deliveries);
      }
    }
  }
}

// Throws what has to be said about a run that did not end well.
void check_outcome(const DeliveryLog& deliveries, const client::FlushResult& closed,
                   const std::optional<CommandError>& input_error) {
  if (deliveries.failed() > 0) {
    throw_partly(deliveries.acked(), command_error(deliveries.first_error(),
                                                   fmt::format("{} messages from line {} on failed",
                                                               deliveries.failed(),
                                                               deliveries.first_failed_message())));
  }
  if (!closed.undelivered.empty()) {
    throw_partly(deliveries.acked(),
                 command_error(closed.status, fmt::format("{} messages were not delivered in time",
                                                          closed.undelivered.size())));
  }
  if (input_error) {
    throw_partly(deliveries.acked(), *input_error);
  }
  if (interrupted()) {
    throw_partly(deliveries.acked(), CommandError(ExitCode::kFailed, "Cancelled", "interrupted"));
  }
}

// Flags that mean nothing without others are mistakes.
void check_options(const ProduceOptions& options) {
  const DelayOptions& delay = options.delay;
  if (!delay.delayed() && (delay.keyed() || delay.replace || options.verbose)) {
    throw usage_error(
        "--delay-key, --delay-key-from-key, --replace and --verbose are for delayed messages: give "
        "--after, --at, --every or --cron");
  }
  if (delay.delayed() && options.compress != "none") {
    throw usage_error("--compress: delayed messages are not compressed");
  }
  if (delay.replace && !delay.keyed()) {
    throw usage_error("--replace needs --delay-key or --delay-key-from-key");
  }
  if (delay.key_from_key && options.key.empty() && options.key_separator.empty()) {
    throw usage_error("--delay-key-from-key needs --key-separator or --key");
  }
  if (options.message_id_from_key && options.key.empty() && options.key_separator.empty()) {
    throw usage_error("--message-id-from-key needs --key-separator or --key");
  }
}

int produce(const Globals& globals, const ProduceOptions& options) {
  check_options(options);
  catch_interrupts();
  Session session(globals);
  const client::TopicDescription topic = session.describe_topic(options.topic);
  if (options.partition && *options.partition >= topic.partitions.size()) {
    throw CommandError(ExitCode::kNotFound, "UnknownPartition",
                       fmt::format("topic {} has {} partitions, there is no partition {}",
                                   options.topic, topic.partitions.size(), *options.partition));
  }
  MessageSource source(options);
  ReceiptPrinter receipts(globals, options);
  DeliveryLog deliveries(receipts.wanted());
  client::Producer producer = require(
      client::Producer::create(session.client(), producer_options(options, globals, deliveries)),
      "producer");
  LineSender sender(options, producer, deliveries);
  const MonotonicTime started = system_clock().monotonic();
  std::optional<CommandError> input_error;
  try {
    send_all(options, source, sender, globals, deliveries, receipts);
  } catch (const CommandError& error) {
    // What was sent before the bad line still counts; the error is reported at the end.
    input_error = error;
  }
  // Every message gets its report within the delivery timeout and the time of one request.
  const client::FlushResult closed = producer.close(3 * globals.timeout_ms + 1'000);
  const double seconds =
      std::max(1e-6, static_cast<double>(system_clock().monotonic().ns - started.ns) / 1e9);
  summarize(sender, deliveries, seconds);
  if (receipts.wanted()) {
    receipts.print_new(deliveries);
  } else if (globals.json) {
    print_json(options, sender, deliveries, seconds);
  }
  check_outcome(deliveries, closed, input_error);
  return 0;
}

void add_batch_options(CLI::App& command, ProduceOptions& options) {
  command.add_option("--rate", options.rate, "Messages per second (default: as fast as possible)")
      ->check(check_positive)
      ->type_name("N");
  add_bytes(command, "--batch-bytes", options.batch_bytes,
            "Send a batch when it has this size (default 256KiB)");
  command.add_option("--linger-ms", options.linger_ms, "Wait this long for a batch to fill")
      ->check(CLI::Range(0, 60'000))
      ->capture_default_str()
      ->type_name("MS");
  command.add_option("--compress", options.compress, "Compression of batches: none or zstd")
      ->check(CLI::IsMember({"none", "zstd"}))
      ->capture_default_str()
      ->type_name("CODEC");
}

std::string check_short_text(const std::string& text) {
  const bool fits = !text.empty() && text.size() <= limits::kMessageIdBytesMax;
  return fits ? std::string()
              : fmt::format("takes 1 to {} bytes, this has {}", limits::kMessageIdBytesMax,
                            text.size());
}

// What messages ask of the queue.
void add_property_options(CLI::App& command, ProduceOptions& options) {
  command
      .add_option("--tag", options.tags,
                  "Tag of every message, for --tag and --filter of consumers; may be given several "
                  "times")
      ->allow_extra_args(false)
      ->check(check_short_text)
      ->type_name("TAG");
  CLI::Option* id =
      command
          .add_option("--message-id", options.message_id,
                      "Id of the message: one that comes again within the --dedupe time of the "
                      "topic is not stored")
          ->check(check_short_text)
          ->type_name("TEXT");
  command
      .add_flag("--message-id-from-key", options.message_id_from_key,
                "The key of each message is its id, too")
      ->excludes(id);
  add_duration_within(command, "--ttl", options.ttl_ms, 1, client::kDelayMsMax,
                      "Not delivered later than this after it is visible (default: as the topic "
                      "has it)");
  command
      .add_option("--priority", options.priority,
                  "In queue mode 7 goes first, 0 (the default) last")
      ->check(CLI::Range(0, 7))
      ->type_name("N");
}

}  // namespace

void add_produce_command(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<ProduceOptions>();
  CLI::App* command =
      app.add_subcommand("produce", "Send lines of a file or of standard input as messages");
  add_topic_name(*command, options->topic);
  CLI::Option* file =
      command
          ->add_option("file", options->file,
                       "File with one message per line; - is standard input (default)")
          ->type_name("FILE");
  command->add_option("-m,--message", options->message, "Send this text instead of lines")
      ->excludes(file)
      ->type_name("TEXT");
  CLI::Option* key =
      command->add_option("--key", options->key, "Key of every message")->type_name("TEXT");
  const auto set_separator = [options](const std::string& text) {
    const Result<std::string> parsed = unescape(text);
    if (!parsed.ok() || parsed->empty() || parsed->find('\n') != std::string::npos) {
      throw CLI::ValidationError("--key-separator",
                                 "takes a text like : or \\t, without a newline");
    }
    options->key_separator = *parsed;
  };
  command
      ->add_option_function<std::string>(
          "--key-separator", set_separator,
          "What is before the first of these in a line is the key: for example \\t")
      ->excludes(key)
      ->type_name("TEXT");
  command
      ->add_option("--header", options->headers,
                   "Header of every message, key=value; may be given several times")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command
      ->add_option("--partition", options->partition,
                   "Send to this partition (default: by key, or in turn)")
      ->type_name("N");
  command
      ->add_option("-n,--count", options->count,
                   "Send at most this many lines, or the --message this many times")
      ->check(check_positive)
      ->type_name("N");
  add_property_options(*command, *options);
  add_batch_options(*command, *options);
  add_delay_options(*command, options->delay);
  command->add_flag("-v,--verbose", options->verbose,
                    "Print due time and handle of every delayed message");
  command->footer(
      "A line is everything up to a newline, byte for byte. Lines over 1 MiB are refused.\n"
      "Without --quiet, what was sent is summarised on standard error; with -o json an object with "
      "the counts\n"
      "and the last offset of each partition is printed.\n"
      "A delayed message is printed with its due time and the handle that cancels it: a single "
      "one, "
      "all with --verbose,\n"
      "and all with -o json, then as an object on a line.\n"
      "Examples:\n"
      "  tidemark produce orders < orders.txt\n"
      "  tidemark produce orders orders.tsv --key-separator '\\t' --compress zstd\n"
      "  tidemark produce orders --message hello --header source=shell\n"
      "  tidemark produce mails mails.tsv --key-separator '\\t' --tag promo --priority 1 --ttl 1h\n"
      "  tidemark produce payments -m '17 EUR' --message-id payment-4711\n"
      "  tidemark produce reminders -m 'call back' --after 90s --delay-key callback-17 --replace\n"
      "  tidemark produce reports -m daily --cron '0 0 6 * * *' --tz Europe/Berlin");
  command->callback([&globals, options] {
    globals.action = [&globals, options] { return produce(globals, *options); };
  });
}

}  // namespace tidemark::tools
