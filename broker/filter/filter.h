// Filter: decides by its tags and headers whether a reader wants a message. The language is in
// FILTERS.md. Immutable once parsed; any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/result.h"
#include "log/format/record_batch.h"

namespace tidemark::filter {

struct Condition;

class Filter {
 public:
  // `tags`: at least one of them, if there are any; `expression`: true for the message's headers,
  // if it is not empty. Both empty: nullptr, everything is wanted.
  // kInvalidArgument: an empty tag; says where in the expression (column, in bytes from 1) what was
  // found and what is expected. kLimitExceeded: names the limit.
  static Result<std::shared_ptr<const Filter>> parse(const std::vector<std::string_view>& tags,
                                                     std::string_view expression);
  ~Filter();
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  // Never fails: a header that is not there, is no number where one is needed, or is damaged makes
  // a comparison with it false (see FILTERS.md). Does not allocate.
  [[nodiscard]] bool matches(const format::RecordView& record) const;

  // The same tags, in any order, and the same text.
  [[nodiscard]] bool same_as(const Filter& other) const;

 private:
  Filter();

  std::vector<std::string> tags_;  // sorted, each once
  std::string expression_;
  std::unique_ptr<const Condition> condition_;  // views expression_; null: none
};

}  // namespace tidemark::filter
