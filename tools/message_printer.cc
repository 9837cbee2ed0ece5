#include "tools/message_printer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tools/errors.h"
#include "tools/parse.h"

namespace tidemark::tools {

MessagePrinter::MessagePrinter(bool json, const std::string& format) : json_(json) {
  Result<MessageFormat> parsed = MessageFormat::parse(format);
  if (!parsed.ok()) {
    throw usage_error(std::string(parsed.error().context()));
  }
  format_ = *std::move(parsed);
}

void MessagePrinter::print(std::string_view topic, uint32_t partition,
                           const client::ReceivedMessage& message) {
  PrintedMessage printed;
  printed.topic = topic;
  printed.partition = partition;
  printed.offset = message.offset;
  printed.timestamp_ms = message.timestamp_ms;
  printed.has_key = message.key.has_value();
  printed.key = message.key.value_or(std::string_view());
  printed.has_value = message.value.has_value();
  printed.value = message.value.value_or(std::string_view());
  print(printed, message.headers);
}

void MessagePrinter::print(const client::QueueMessage& message) {
  PrintedMessage printed;
  printed.topic = message.topic();
  printed.partition = message.partition();
  printed.offset = message.offset();
  printed.timestamp_ms = message.timestamp_ms();
  printed.has_key = message.key().has_value();
  printed.key = message.key().value_or(std::string_view());
  printed.has_value = message.value().has_value();
  printed.value = message.value().value_or(std::string_view());
  printed.deliveries = message.deliveries();
  print(printed, message.headers());
}

void MessagePrinter::print(PrintedMessage printed, std::span<const client::Header> headers) {
  if (json_ || format_.needs_headers()) {
    headers_.clear();
    for (const client::Header& header : headers) {
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

void MessagePrinter::summarize(MonotonicTime started) const {
  const double seconds =
      std::max(1e-6, static_cast<double>(system_clock().monotonic().ns - started.ns) / 1e9);
  const auto messages = static_cast<double>(messages_);
  const auto bytes = static_cast<double>(value_bytes_);
  note(fmt::format("consumed {} messages, {} in {:.2f} s ({}/s, {}/s)", format_count(messages_),
                   format_megabytes(bytes), seconds,
                   format_count(static_cast<uint64_t>(messages / seconds)),
                   format_megabytes(bytes / seconds)));
}

}  // namespace tidemark::tools
