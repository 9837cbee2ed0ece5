#include "tools/change_counts.h"

#include <fmt/format.h>

#include "tools/parse.h"

namespace tidemark::tools {
namespace {

// The table of error codes that both libraries have numbers of.
ErrorCode own_code(client::ErrorCode code) { return error_from_wire(static_cast<uint16_t>(code)); }

// The name of the error object for an exit code.
std::string name_of(const ChangeCounts& counts, const ChangeWords& words, ExitCode code) {
  if (code == ExitCode::kPartlyDone) {
    return "PartlyDone";
  }
  if (counts.failed > 0) {
    return std::string(error_name(own_code(counts.first_error)));
  }
  return std::string(counts.conflict() > 0 ? words.conflict_name : "NotFound");
}

}  // namespace

void ChangeCounts::add_conflict(std::string_view what) {
  const auto found = conflicts.find(what);
  ++(found != conflicts.end() ? found->second : conflicts[std::string(what)]);
}

void ChangeCounts::add_failure(client::ErrorCode code) {
  first_error = failed == 0 ? code : first_error;
  ++failed;
}

uint64_t ChangeCounts::conflict() const {
  uint64_t sum = 0;
  for (const auto& [what, count] : conflicts) {
    sum += count;
  }
  return sum;
}

ExitCode exit_code_of(const ChangeCounts& counts) {
  if (counts.done == counts.total()) {
    return ExitCode::kOk;
  }
  if (counts.done > 0) {
    return ExitCode::kPartlyDone;
  }
  if (counts.failed > 0) {
    return exit_code_of(own_code(counts.first_error));
  }
  return counts.conflict() > 0 ? ExitCode::kConflict : ExitCode::kNotFound;
}

std::string describe_failures(const ChangeCounts& counts, const ChangeWords& words) {
  std::string why;
  const auto add = [&why](uint64_t count, std::string_view what) {
    if (count > 0) {
      why += fmt::format("{}{} {}", why.empty() ? "" : ", ", format_count(count), what);
    }
  };
  for (const auto& [what, count] : counts.conflicts) {
    add(count, what);
  }
  add(counts.not_found, "not found");
  add(counts.failed, "without an answer");
  if (counts.failed > 0) {
    why += fmt::format(" ({})", error_text(own_code(counts.first_error)));
  }
  const uint64_t total = counts.total();
  return fmt::format("{} of {} {}{} {} not {}: {}", format_count(total - counts.done),
                     format_count(total), words.noun, total == 1 ? "" : "s",
                     total - counts.done == 1 ? "was" : "were", words.done, why);
}

void throw_unless_all_done(const ChangeCounts& counts, const ChangeWords& words,
                           const std::optional<CommandError>& stopped) {
  if (stopped) {
    throw CommandError(counts.done > 0 ? ExitCode::kPartlyDone : stopped->exit_code(),
                       stopped->name(),
                       fmt::format("{}; {} {}s were {} before", stopped->what(),
                                   format_count(counts.done), words.noun, words.done));
  }
  const ExitCode code = exit_code_of(counts);
  if (code != ExitCode::kOk) {
    throw CommandError(code, name_of(counts, words, code), describe_failures(counts, words));
  }
}

}  // namespace tidemark::tools
