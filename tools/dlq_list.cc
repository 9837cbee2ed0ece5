// tidemark dlq list|peek
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/dlq.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/json_text.h"
#include "tools/message_format.h"
#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

// Of a table; the whole value is in the JSON.
constexpr size_t kValueBytesShown = 60;

[[noreturn]] void throw_interrupted() {
  throw CommandError(ExitCode::kFailed, "Cancelled", "interrupted");
}

std::string text_of(std::string_view bytes) { return printable(std::string(bytes)); }

std::string value_text(const std::optional<std::string_view>& value) {
  if (!value) {
    return "";
  }
  std::string text = text_of(value->substr(0, kValueBytesShown));
  // One row is one line.
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7F; }, ' ');
  return value->size() > kValueBytesShown ? text + "..." : text;
}

// "orders/3@17".
std::string source_text(const DeadLetter& letter) {
  std::string text = text_of(letter.topic);
  text += letter.partition ? fmt::format("/{}", *letter.partition) : "";
  return letter.offset ? text + fmt::format("@{}", *letter.offset) : text;
}

// What consume prints of it, and its last death.
Json letter_json(uint32_t partition, const client::ReceivedMessage& message,
                 const DeadLetter& letter) {
  std::vector<PrintedHeader> headers;
  for (const client::Header& header : message.headers) {
    headers.push_back({header.key, header.value.value_or(std::string_view())});
  }
  PrintedMessage printed;
  printed.partition = partition;
  printed.offset = message.offset;
  printed.timestamp_ms = message.timestamp_ms;
  printed.has_key = message.key.has_value();
  printed.key = message.key.value_or(std::string_view());
  printed.has_value = message.value.has_value();
  printed.value = message.value.value_or(std::string_view());
  printed.headers = headers;
  std::string text;
  append_json(printed, text);
  Json object = Json::parse(text);
  const auto number = [](const auto& value) { return value ? Json(*value) : Json(); };
  add_bytes_field(object, "source_topic", std::string(letter.topic));
  object["source_partition"] = number(letter.partition);
  object["source_offset"] = number(letter.offset);
  add_bytes_field(object, "group", std::string(letter.group));
  add_bytes_field(object, "reason", std::string(letter.reason));
  object["deliveries"] = number(letter.deliveries);
  object["dead_ms"] = number(letter.time_ms);
  return object;
}

Table letter_table() {
  const auto right = Table::Align::kRight;
  return Table({{"PARTITION", right},
                {"OFFSET", right},
                {"FROM"},
                {"GROUP"},
                {"DELIVERIES", right},
                {"DIED"},
                {"REASON"},
                {"KEY"},
                {"VALUE"}});
}

void add_row(Table& table, uint32_t partition, const client::ReceivedMessage& message,
             const DeadLetter& letter) {
  table.add({fmt::format("{}", partition), fmt::format("{}", message.offset), source_text(letter),
             text_of(letter.group), letter.deliveries ? fmt::format("{}", *letter.deliveries) : "",
             letter.time_ms ? format_time(*letter.time_ms) : "", value_text(letter.reason),
             value_text(message.key), value_text(message.value)});
}

}  // namespace

int list_dead_letters(const Globals& globals, const DlqCommand& command) {
  catch_interrupts();
  Session session(globals);
  const std::vector<std::string> topics =
      command.topic.empty() ? require(dead_letter_topics(session), "listing the topics")
                            : std::vector<std::string>{command.topic};
  LetterCounts counts;
  for (const std::string& topic : topics) {
    const auto count = [&](uint32_t partition, const client::ReceivedMessage& message,
                           const DeadLetter& letter) {
      counts.add({.topic = topic,
                  .partition = partition,
                  .source_topic = std::string(letter.topic),
                  .group = std::string(letter.group),
                  .reason = std::string(letter.reason)},
                 letter.time_ms.value_or(message.timestamp_ms));
      return true;
    };
    if (!read_dead_letters(globals, session, topic, command, count)) {
      throw_interrupted();
    }
  }
  print_result(globals, counts.table(), dump_json(counts.json()));
  return 0;
}

int peek_dead_letters(const Globals& globals, const DlqCommand& command) {
  catch_interrupts();
  Session session(globals);
  Table table = letter_table();
  OutputBuffer out;
  uint64_t seen = 0;
  const auto show = [&](uint32_t partition, const client::ReceivedMessage& message,
                        const DeadLetter& letter) {
    if (globals.json) {
      out.text() += dump_json(letter_json(partition, message, letter)) + "\n";
      out.commit();
    } else {
      add_row(table, partition, message, letter);
    }
    return ++seen < command.count;
  };
  const bool whole = read_dead_letters(globals, session, command.topic, command, show);
  if (!globals.json) {
    out.text() += table.to_string();
  }
  out.flush();
  if (!whole) {
    throw_interrupted();
  }
  return 0;
}

}  // namespace tidemark::tools
