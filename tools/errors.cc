#include "tools/errors.h"

namespace tidemark::tools {

ExitCode exit_code_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk:
      return ExitCode::kOk;
    case ErrorCode::kInvalidArgument:
      return ExitCode::kUsage;
    case ErrorCode::kNotFound:
    case ErrorCode::kUnknownTopic:
    case ErrorCode::kUnknownPartition:
      return ExitCode::kNotFound;
    case ErrorCode::kNotAllowed:
      return ExitCode::kNotAllowed;
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimedOut:
    case ErrorCode::kOverloaded:
    case ErrorCode::kNotLeader:
    case ErrorCode::kOutcomeUnknown:
    case ErrorCode::kDiskFull:
    case ErrorCode::kShuttingDown:
    case ErrorCode::kWrongShard:
      return ExitCode::kUnavailable;
    case ErrorCode::kAlreadyExists:
    case ErrorCode::kConflict:
    case ErrorCode::kOutOfOrderSequence:
    case ErrorCode::kFenced:
    case ErrorCode::kLocked:
      return ExitCode::kConflict;
    case ErrorCode::kCorrupted:
    case ErrorCode::kIoError:
    case ErrorCode::kTooLarge:
    case ErrorCode::kUnsupportedVersion:
    case ErrorCode::kUnsupportedType:
    case ErrorCode::kMalformed:
    case ErrorCode::kOffsetOutOfRange:
    case ErrorCode::kUnknownProducer:
    case ErrorCode::kReadOnly:
    case ErrorCode::kLimitExceeded:
    case ErrorCode::kCancelled:
    case ErrorCode::kInternal:
      return ExitCode::kFailed;
  }
  return ExitCode::kFailed;
}

CommandError::CommandError(const Status& status, std::string_view doing)
    : exit_code_(exit_code_of(status.code())), name_(error_name(status.code())) {
  what_ = std::string(doing) + ": " + status.to_string();
}

CommandError usage_error(std::string what) {
  return CommandError(ExitCode::kUsage, "Usage", std::move(what));
}

void throw_if_error(const Status& status, std::string_view doing) {
  if (!status.ok()) {
    throw CommandError(status, doing);
  }
}

}  // namespace tidemark::tools
