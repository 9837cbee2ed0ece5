// Dead letters as the tool looks at them: what their headers tell, how many of which kind there
// are, and which are still there.
//
// Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "log/base/result.h"
#include "tidemark/message.h"
#include "tidemark/queue.h"

namespace tidemark::tools {

// How a message died, the last time. Views into the message.
struct DeadLetter {
  std::string_view topic;  // where it was
  std::optional<uint32_t> partition;
  std::optional<uint64_t> offset;
  std::string_view group;  // that failed on it
  std::string_view reason;
  std::optional<uint32_t> deliveries;
  std::optional<int64_t> time_ms;
};

// Nothing for a message that is no dead letter, or no longer: it was sent back.
std::optional<DeadLetter> dead_letter_of(const client::ReceivedMessage& message);

// Letters by where they are, where they come from, and why.
class LetterCounts {
 public:
  struct Kind {
    std::string topic;  // the dead-letter topic
    uint32_t partition = 0;
    std::string source_topic;
    std::string group;
    std::string reason;

    friend auto operator<=>(const Kind&, const Kind&) = default;
  };

  struct Numbers {
    uint64_t letters = 0;
    int64_t oldest_ms = INT64_MAX;
    int64_t newest_ms = INT64_MIN;
  };

  explicit LetterCounts(size_t kinds_max = 10'000) : kinds_max_(kinds_max) {}

  // `time_ms`: when it died. Above kinds_max, letters of a new kind are counted as one without
  // source, group and reason for each partition.
  void add(Kind kind, int64_t time_ms);

  [[nodiscard]] uint64_t letters() const { return letters_; }

  [[nodiscard]] std::string table() const;
  [[nodiscard]] nlohmann::ordered_json json() const;

 private:
  size_t kinds_max_;
  uint64_t letters_ = 0;
  std::map<Kind, Numbers> kinds_;
};

// Which offsets of a partition are not settled; asked for page by page, as it is read.
class OpenOffsets {
 public:
  // The ranges from `from` on, in order, at most `max`; fewer: there are no more.
  using Ask = std::function<std::vector<client::OffsetRange>(uint64_t from, size_t max)>;

  explicit OpenOffsets(Ask ask, size_t page = 1'024) : ask_(std::move(ask)), page_(page) {}

  // The first one that is not settled from `offset` on; nullopt: none. `offset` never goes back.
  std::optional<uint64_t> next(uint64_t offset);

  bool contains(uint64_t offset) { return next(offset) == offset; }

 private:
  Ask ask_;
  size_t page_;
  std::vector<client::OffsetRange> ranges_;
  size_t at_ = 0;     // in ranges_: what is before ends before the last offset asked for
  bool all_ = false;  // nothing is behind ranges_
};

// Offsets that are next to each other as ranges. Requires: ascending.
std::vector<client::OffsetRange> ranges_of(const std::vector<uint64_t>& offsets);

// "500", "500/s": per second, above 0.
Result<double> parse_rate(std::string_view text);

}  // namespace tidemark::tools
