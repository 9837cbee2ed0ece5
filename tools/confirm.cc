#include "tools/confirm.h"

#include <unistd.h>

#include <cstdio>

#include "tools/errors.h"

namespace tidemark::tools {

void confirm(const std::string& danger, const std::string& question, const std::string& expected,
             const std::string& refused) {
  if (isatty(0) != 1 || isatty(2) != 1) {
    throw usage_error(danger + ": confirm with --yes");
  }
  std::fputs(question.c_str(), stderr);
  std::string answer;
  for (int c = std::getchar(); c != EOF && c != '\n'; c = std::getchar()) {
    answer += static_cast<char>(c);
  }
  if (answer != expected) {
    throw CommandError(ExitCode::kFailed, "Cancelled", refused);
  }
}

}  // namespace tidemark::tools
