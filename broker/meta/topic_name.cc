#include "broker/meta/topic_name.h"

#include "log/base/limits.h"

namespace tidemark::meta {

namespace {

bool is_allowed(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

}  // namespace

Status check_topic_name(std::string_view name) {
  const auto bad = [](std::string what) {
    return Status(ErrorCode::kInvalidArgument, "topic name " + std::move(what) +
                                                   "; allowed are 1 to " +
                                                   std::to_string(limits::kTopicNameBytesMax) +
                                                   " characters of A-Z a-z 0-9 . _ -");
  };
  if (name.empty()) {
    return bad("is empty");
  }
  if (name.size() > limits::kTopicNameBytesMax) {
    return bad("has " + std::to_string(name.size()) + " characters");
  }
  if (name == "." || name == "..") {
    return bad("'" + std::string(name) + "' is not allowed");
  }
  for (size_t i = 0; i < name.size(); ++i) {
    if (!is_allowed(name[i])) {
      return bad("has a character that is not allowed at position " + std::to_string(i + 1));
    }
  }
  return Status();
}

}  // namespace tidemark::meta
