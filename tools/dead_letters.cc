#include "tools/dead_letters.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "log/format/message_properties.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

template <typename Number>
std::optional<Number> number_in(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                  : std::nullopt;
}

}  // namespace

std::optional<DeadLetter> dead_letter_of(const client::ReceivedMessage& message) {
  DeadLetter letter;
  bool dead = false;
  // Each death has its own set of headers: the last one counts.
  for (const client::Header& header : message.headers) {
    const std::string_view value = header.value.value_or(std::string_view());
    if (header.key == format::kDeadTopicHeader) {
      letter = {};
      letter.topic = value;
      dead = true;
    } else if (header.key == format::kRedrivenHeader) {
      dead = false;
    } else if (header.key == format::kDeadPartitionHeader) {
      letter.partition = number_in<uint32_t>(value);
    } else if (header.key == format::kDeadOffsetHeader) {
      letter.offset = number_in<uint64_t>(value);
    } else if (header.key == format::kDeadGroupHeader) {
      letter.group = value;
    } else if (header.key == format::kDeadReasonHeader) {
      letter.reason = value;
    } else if (header.key == format::kDeadDeliveriesHeader) {
      letter.deliveries = number_in<uint32_t>(value);
    } else if (header.key == format::kDeadTimeHeader) {
      letter.time_ms = number_in<int64_t>(value);
    }
  }
  return dead ? std::optional(letter) : std::nullopt;
}

void LetterCounts::add(Kind kind, int64_t time_ms) {
  if (kinds_.size() >= kinds_max_ && !kinds_.contains(kind)) {
    kind = {.topic = std::move(kind.topic),
            .partition = kind.partition,
            .source_topic = {},
            .group = {},
            .reason = {}};
  }
  Numbers& numbers = kinds_[std::move(kind)];
  ++letters_;
  ++numbers.letters;
  numbers.oldest_ms = std::min(numbers.oldest_ms, time_ms);
  numbers.newest_ms = std::max(numbers.newest_ms, time_ms);
}

std::string LetterCounts::table() const {
  const auto right = Table::Align::kRight;
  Table table({{"TOPIC"},
               {"PARTITION", right},
               {"LETTERS", right},
               {"FROM"},
               {"GROUP"},
               {"OLDEST"},
               {"NEWEST"},
               {"REASON"}});
  for (const auto& [kind, numbers] : kinds_) {
    table.add({kind.topic, fmt::format("{}", kind.partition), format_count(numbers.letters),
               kind.source_topic.empty() ? "(others)" : printable(kind.source_topic),
               printable(kind.group), format_time(numbers.oldest_ms),
               format_time(numbers.newest_ms), printable(kind.reason)});
  }
  table.add({"total", "", format_count(letters_), "", "", "", "", ""});
  return table.to_string();
}

Json LetterCounts::json() const {
  Json list = Json::array();
  for (const auto& [kind, numbers] : kinds_) {
    Json object = Json{{"topic", kind.topic}, {"partition", kind.partition}};
    const bool others = kind.source_topic.empty();
    const auto bytes = [others](const std::string& text) {
      return others ? std::optional<std::string>() : std::optional(text);
    };
    add_bytes_field(object, "source_topic", bytes(kind.source_topic));
    add_bytes_field(object, "group", bytes(kind.group));
    add_bytes_field(object, "reason", bytes(kind.reason));
    object["letters"] = numbers.letters;
    object["oldest_ms"] = numbers.oldest_ms;
    object["newest_ms"] = numbers.newest_ms;
    list.push_back(std::move(object));
  }
  return Json{{"letters", letters_}, {"dead_letters", std::move(list)}};
}

std::optional<uint64_t> OpenOffsets::next(uint64_t offset) {
  for (;;) {
    while (at_ < ranges_.size() && ranges_[at_].first + ranges_[at_].count <= offset) {
      ++at_;
    }
    if (at_ < ranges_.size()) {
      return std::max(ranges_[at_].first, offset);
    }
    if (all_) {
      return std::nullopt;
    }
    ranges_ = ask_(offset, page_);
    at_ = 0;
    all_ = ranges_.size() < page_;
  }
}

std::vector<client::OffsetRange> ranges_of(const std::vector<uint64_t>& offsets) {
  std::vector<client::OffsetRange> ranges;
  for (const uint64_t offset : offsets) {
    if (!ranges.empty() && ranges.back().first + ranges.back().count == offset) {
      ++ranges.back().count;
    } else {
      ranges.push_back({.first = offset, .count = 1});
    }
  }
  return ranges;
}

Result<double> parse_rate(std::string_view text) {
  std::string_view number = text;
  if (number.ends_with("/s")) {
    number.remove_suffix(2);
  }
  double rate = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rate);
  if (error != std::errc() || end != number.data() + number.size() || !(rate > 0 && rate <= 1e9)) {
    return Status(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is not a rate; write 500 or 500/s", text));
  }
  return rate;
}

}  // namespace tidemark::tools
