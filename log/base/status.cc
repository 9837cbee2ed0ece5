#include "log/base/status.h"

#include <cerrno>
#include <system_error>

#include "log/base/check.h"

namespace tidemark {

namespace {

struct Row {
  ErrorCode code;
  bool retryable;
  bool outcome_unknown;
  std::string_view name;
  std::string_view text;
};

constexpr Row kRows[] = {
#define TIDEMARK_ERROR(name, number, retryable, unknown, text) \
  {ErrorCode::name, retryable, unknown, std::string_view(#name).substr(1), text},
#include "log/base/error_codes.def"
#undef TIDEMARK_ERROR
};

constexpr bool numbers_equal_places() {
  size_t place = 0;
  for (const Row& row : kRows) {
    if (static_cast<size_t>(row.code) != place++) {
      return false;
    }
  }
  return true;
}

static_assert(numbers_equal_places(), "the table is dense, so that a look-up is an index");

const Row* find_row(ErrorCode code) {
  const auto place = static_cast<size_t>(code);
  return place < std::size(kRows) ? &kRows[place] : nullptr;
}

ErrorCode code_of_errno(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return ErrorCode::kDiskFull;
    case ENOENT:
      return ErrorCode::kNotFound;
    case EEXIST:
      return ErrorCode::kAlreadyExists;
    case EACCES:
    case EPERM:
      return ErrorCode::kNotAllowed;
    default:
      return ErrorCode::kIoError;
  }
}

}  // namespace

std::string_view error_text(ErrorCode code) {
  const Row* row = find_row(code);
  return row != nullptr ? row->text : "unknown error";
}

std::string_view error_name(ErrorCode code) {
  const Row* row = find_row(code);
  return row != nullptr ? row->name : "Unknown";
}

bool error_is_retryable(ErrorCode code) {
  const Row* row = find_row(code);
  return row != nullptr && row->retryable;
}

bool error_outcome_unknown(ErrorCode code) {
  const Row* row = find_row(code);
  return row != nullptr && row->outcome_unknown;
}

ErrorCode error_from_wire(uint16_t number) {
  return number < std::size(kRows) ? kRows[number].code : ErrorCode::kInternal;
}

Status::Status(ErrorCode code, std::string context) {
  TIDEMARK_CHECK(code != ErrorCode::kOk, "an ok Status has no context");
  detail_ = std::make_shared<const Detail>(Detail{code, std::move(context)});
}

Status Status::from_errno(int error, std::string_view context) {
  std::string text(context);
  // The message of the category is strerror without its shared buffer.
  text += ": " + std::generic_category().message(error) + " (errno " + std::to_string(error) + ")";
  return {code_of_errno(error), std::move(text)};
}

std::string Status::to_string() const {
  if (ok()) {
    return "ok";
  }
  std::string text(error_text(detail_->code));
  if (!detail_->context.empty()) {
    text += ": " + detail_->context;
  }
  return text;
}

}  // namespace tidemark
