// Filters and messages from anybody: what is refused has a reason, what is accepted decides every
// message, and `not` decides the other way.
//
// The first line is the expression, the second one the tags with commas between them; what follows
// are the headers of a message, a line for each: name:value, or a name alone.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "broker/filter/filter.h"
#include "log/base/check.h"
#include "log/format/varint.h"

namespace tidemark::filter {
namespace {

std::string_view take_until(std::string_view& text, char border) {
  const size_t end = text.find(border);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

void put(std::vector<uint8_t>& out, bool present, std::string_view text) {
  uint8_t room[format::kVarint64BytesMax];
  const int64_t length = present ? static_cast<int64_t>(text.size()) : -1;
  out.insert(out.end(), room, format::put_varint(room, length));
  out.insert(out.end(), text.begin(), text.end());
}

// Null if it is refused.
std::shared_ptr<const Filter> parse(const std::vector<std::string_view>& tags,
                                    std::string_view expression) {
  auto filter = Filter::parse(tags, expression);
  if (!filter.ok()) {
    const ErrorCode code = filter.error().code();
    TIDEMARK_CHECK(code == ErrorCode::kInvalidArgument || code == ErrorCode::kLimitExceeded);
    TIDEMARK_CHECK(filter.error().context().starts_with("filter: "));
    return nullptr;
  }
  TIDEMARK_CHECK((*filter == nullptr) == (tags.empty() && expression.empty()));
  return *filter;
}

void try_record(const std::vector<std::string_view>& tags, const std::string& expression,
                const format::RecordView& record) {
  const auto filter = parse(tags, expression);
  if (filter == nullptr) {
    return;
  }
  const bool matches = filter->matches(record);
  TIDEMARK_CHECK(matches == filter->matches(record));
  TIDEMARK_CHECK(filter->same_as(*parse(tags, expression)));
  const auto condition = parse({}, expression);
  if (condition == nullptr) {
    return;
  }
  const bool holds = condition->matches(record);
  TIDEMARK_CHECK(holds || !matches);
  TIDEMARK_CHECK(tags.empty() ? matches == holds
                              : matches == (holds && parse(tags, "")->matches(record)));
  // Larger expressions may exceed a limit.
  if (const auto negated = parse({}, "not (" + expression + ")")) {
    TIDEMARK_CHECK(negated->matches(record) != holds);
  }
  if (const auto twice = parse({}, "(" + expression + ") and (" + expression + ")")) {
    TIDEMARK_CHECK(twice->matches(record) == holds);
  }
}

void try_filter(std::string_view text) {
  const std::string expression(take_until(text, '\n'));
  std::string_view tag_line = take_until(text, '\n');
  std::vector<std::string_view> tags;
  while (!tag_line.empty()) {
    tags.push_back(take_until(tag_line, ','));
  }
  format::RecordView record;
  // As they are: damaged, most of the time.
  record.headers = as_bytes(text);
  record.header_count = static_cast<uint32_t>(text.size() / 2);
  try_record(tags, expression, record);
  std::vector<uint8_t> headers;
  record.header_count = 0;
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    const bool has_value = line.find(':') != std::string_view::npos;
    put(headers, true, take_until(line, ':'));
    put(headers, has_value, line);
    ++record.header_count;
  }
  record.headers = headers;
  try_record(tags, expression, record);
}

}  // namespace
}  // namespace tidemark::filter

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::filter::try_filter(tidemark::as_text({data, size}));
  return 0;
}
