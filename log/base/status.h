// Status: the outcome of an operation that can fail because of the world (disk, peer, user input).
//
// A Status is a code plus, for errors, one sentence of context added where the error was born. Our
// own bugs are not Statuses: they are TIDEMARK_CHECK failures. Ok costs one word and never
// allocates.
//
// Thread: a value type; distinct objects may be used from distinct threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace tidemark {

enum class ErrorCode : uint16_t {
#define TIDEMARK_ERROR(name, number, retryable, unknown, text) name = number,
#include "log/base/error_codes.def"
#undef TIDEMARK_ERROR
};

// Text of the table, e.g. "disk full". An unknown number gives "unknown error".
std::string_view error_text(ErrorCode code);
// Identifier of the table without the leading k, e.g. "DiskFull"; stable, for logs and JSON.
std::string_view error_name(ErrorCode code);
bool error_is_retryable(ErrorCode code);
bool error_outcome_unknown(ErrorCode code);
// kInternal for a number that is not in the table (a newer peer).
ErrorCode error_from_wire(uint16_t number);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok

  Status(ErrorCode code, std::string context);
  // Adds ": <strerror> (errno N)" to the context and picks the code: ENOSPC, EDQUOT -> kDiskFull,
  // ENOENT -> kNotFound, EEXIST -> kAlreadyExists, EACCES, EPERM -> kNotAllowed, else kIoError.
  static Status from_errno(int error, std::string_view context);

  [[nodiscard]] bool ok() const { return detail_ == nullptr; }

  [[nodiscard]] ErrorCode code() const { return detail_ ? detail_->code : ErrorCode::kOk; }

  // The context sentence; empty when ok.
  [[nodiscard]] std::string_view context() const {
    return detail_ ? std::string_view(detail_->context) : std::string_view();
  }

  // "disk full: segment 12: No space left on device (errno 28)", or "ok".
  [[nodiscard]] std::string to_string() const;

 private:
  struct Detail {
    ErrorCode code;
    std::string context;
  };

  std::shared_ptr<const Detail> detail_;
};

}  // namespace tidemark

#define RETURN_IF_ERROR(expression)                           \
  do {                                                        \
    ::tidemark::Status return_if_error_status = (expression); \
    if (!return_if_error_status.ok()) {                       \
      return return_if_error_status;                          \
    }                                                         \
  } while (false)
