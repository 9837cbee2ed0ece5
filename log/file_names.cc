#include "log/file_names.h"

#include <algorithm>
#include <charconv>

namespace tidemark::log {

namespace {

constexpr size_t kSequenceDigits = 10;
constexpr size_t kPositionDigits = 20;
constexpr std::string_view kSuffix = ".seg";
constexpr std::string_view kSparePrefix = "spare-";

std::string padded(uint64_t value, size_t digits) {
  const std::string text = std::to_string(value);
  return std::string(text.size() < digits ? digits - text.size() : 0, '0') + text;
}

std::optional<uint64_t> parse_digits(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

std::string segment_file_name(uint64_t sequence, LogPosition first) {
  return padded(sequence, kSequenceDigits) + "-" + padded(first.value(), kPositionDigits) +
         std::string(kSuffix);
}

std::string spare_file_name(uint64_t number) {
  return std::string(kSparePrefix) + std::to_string(number) + std::string(kSuffix);
}

std::optional<SegmentFileName> parse_segment_file_name(std::string_view name) {
  if (name.size() != kSequenceDigits + 1 + kPositionDigits + kSuffix.size() ||
      name[kSequenceDigits] != '-' || !name.ends_with(kSuffix)) {
    return std::nullopt;
  }
  const std::optional<uint64_t> sequence = parse_digits(name.substr(0, kSequenceDigits));
  const std::optional<uint64_t> first =
      parse_digits(name.substr(kSequenceDigits + 1, kPositionDigits));
  if (!sequence || !first) {
    return std::nullopt;
  }
  return SegmentFileName{*sequence, LogPosition{*first}, std::string(name)};
}

std::optional<uint64_t> parse_spare_file_name(std::string_view name) {
  if (!name.starts_with(kSparePrefix) || !name.ends_with(kSuffix) ||
      name.size() <= kSparePrefix.size() + kSuffix.size()) {
    return std::nullopt;
  }
  return parse_digits(
      name.substr(kSparePrefix.size(), name.size() - kSparePrefix.size() - kSuffix.size()));
}

Result<std::vector<SegmentFileName>> list_segment_files(FileSystem& fs,
                                                        const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.list(directory));
  std::vector<SegmentFileName> files;
  for (const std::string& name : names) {
    if (std::optional<SegmentFileName> file = parse_segment_file_name(name)) {
      files.push_back(std::move(*file));
    }
  }
  std::sort(files.begin(), files.end(), [](const SegmentFileName& a, const SegmentFileName& b) {
    return a.sequence < b.sequence;
  });
  return files;
}

}  // namespace tidemark::log
