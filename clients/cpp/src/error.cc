#include "tidemark/error.h"

#include "log/base/check.h"
#include "log/base/status.h"

namespace tidemark::client {

namespace {

tidemark::ErrorCode internal(ErrorCode code) { return static_cast<tidemark::ErrorCode>(code); }

#define TIDEMARK_ERROR(name, number, retryable, unknown, text)      \
  static_assert(static_cast<uint16_t>(ErrorCode::name) == (number), \
                "the public list equals the table");
#include "log/base/error_codes.def"
#undef TIDEMARK_ERROR

}  // namespace

std::string_view error_name(ErrorCode code) { return tidemark::error_name(internal(code)); }

std::string_view error_text(ErrorCode code) { return tidemark::error_text(internal(code)); }

bool is_retryable(ErrorCode code) { return tidemark::error_is_retryable(internal(code)); }

bool outcome_unknown(ErrorCode code) { return tidemark::error_outcome_unknown(internal(code)); }

Status::Status(ErrorCode code, std::string context) {
  TIDEMARK_CHECK(code != ErrorCode::kOk, "an ok Status has no context");
  detail_ = std::make_shared<const Detail>(Detail{code, std::move(context)});
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

}  // namespace tidemark::client
