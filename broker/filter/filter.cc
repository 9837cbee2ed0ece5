#include "broker/filter/filter.h"

#include <algorithm>
#include <utility>

#include "broker/filter/condition.h"
#include "broker/filter/lexer.h"
#include "log/base/limits.h"
#include "log/format/message_properties.h"

namespace tidemark::filter {
namespace {

Status check_tags(const std::vector<std::string_view>& tags) {
  if (tags.size() > limits::kFilterTagsMax) {
    return beyond_limit(std::to_string(tags.size()) + " tags", limits::kFilterTagsMax);
  }
  size_t bytes = 0;
  for (size_t i = 0; i < tags.size(); ++i) {
    if (tags[i].empty()) {
      return Status(ErrorCode::kInvalidArgument,
                    "filter: tag " + std::to_string(i + 1) + " is empty");
    }
    bytes += tags[i].size();
  }
  return bytes <= limits::kFilterBytesMax
             ? Status()
             : beyond_limit("tags of " + std::to_string(bytes) + " bytes", limits::kFilterBytesMax);
}

bool has_tag(const std::vector<std::string>& tags, const format::RecordView& record) {
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    if (header.has_value && header.key == format::kTagHeader &&
        std::find(tags.begin(), tags.end(), as_text(header.value)) != tags.end()) {
      return true;
    }
  }
  return false;
}

}  // namespace

Filter::Filter() = default;
Filter::~Filter() = default;

Result<std::shared_ptr<const Filter>> Filter::parse(const std::vector<std::string_view>& tags,
                                                    std::string_view expression) {
  RETURN_IF_ERROR(check_tags(tags));
  if (expression.size() > limits::kFilterBytesMax) {
    return beyond_limit("an expression of " + std::to_string(expression.size()) + " bytes",
                        limits::kFilterBytesMax);
  }
  if (tags.empty() && expression.empty()) {
    return std::shared_ptr<const Filter>();
  }
  const std::shared_ptr<Filter> filter(new Filter());
  filter->tags_.assign(tags.begin(), tags.end());
  std::sort(filter->tags_.begin(), filter->tags_.end());
  filter->tags_.erase(std::unique(filter->tags_.begin(), filter->tags_.end()), filter->tags_.end());
  filter->expression_ = expression;
  if (!expression.empty()) {
    ASSIGN_OR_RETURN(Condition condition, parse_condition(filter->expression_));
    filter->condition_ = std::make_unique<const Condition>(std::move(condition));
  }
  return std::shared_ptr<const Filter>(filter);
}

bool Filter::matches(const format::RecordView& record) const {
  return (tags_.empty() || has_tag(tags_, record)) &&
         (condition_ == nullptr || is_true(*condition_, record));
}

bool Filter::same_as(const Filter& other) const {
  return tags_ == other.tags_ && expression_ == other.expression_;
}

}  // namespace tidemark::filter
