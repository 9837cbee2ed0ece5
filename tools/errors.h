// How a command ends: exit codes, and the error that a command throws.
//
// Thread: value types. Errors are exceptions here (and only here): a command is a straight line of
// steps, and each failure ends it with one sentence and one exit code.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "log/base/status.h"

namespace tidemark::tools {

// Documented in `tidemark --help`; scripts rely on them.
enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kNotFound = 3,
  kNotAllowed = 4,
  kUnavailable = 5,  // or timed out
  kConflict = 6,
  kPartlyDone = 7,
};

ExitCode exit_code_of(ErrorCode code);

// Ends the command. `what` is a sentence without a full stop, `name` is the stable name of the
// error table
// ("UnknownTopic") or of the tool itself ("Usage", "PartlyDone").
class CommandError : public std::exception {
 public:
  CommandError(ExitCode exit_code, std::string name, std::string what)
      : exit_code_(exit_code), name_(std::move(name)), what_(std::move(what)) {}

  // "<doing>: <text of the status>".
  CommandError(const Status& status, std::string_view doing);

  [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

  [[nodiscard]] ExitCode exit_code() const { return exit_code_; }

  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  ExitCode exit_code_;
  std::string name_;
  std::string what_;
};

CommandError usage_error(std::string what);

// Thrown by the output when its reader has gone; the command ends quietly.
class OutputClosed : public std::exception {};

void throw_if_error(const Status& status, std::string_view doing);

}  // namespace tidemark::tools
