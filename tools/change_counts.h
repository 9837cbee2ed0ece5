// What came of a command that changes several things by name: counts, the exit code, the sentence.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tidemark/error.h"
#include "tools/errors.h"

namespace tidemark::tools {

struct ChangeCounts {
  uint64_t done = 0;
  // Had another end before, by what it was: "already delivered".
  std::map<std::string, uint64_t, std::less<>> conflicts;
  uint64_t not_found = 0;
  uint64_t failed = 0;                                     // no answer, or an error
  client::ErrorCode first_error = client::ErrorCode::kOk;  // of those

  void add_conflict(std::string_view what);
  // Requires: not kOk.
  void add_failure(client::ErrorCode code);

  [[nodiscard]] uint64_t conflict() const;

  [[nodiscard]] uint64_t total() const { return done + conflict() + not_found + failed; }
};

// What a change does, and to what, for sentences and error names.
struct ChangeWords {
  std::string_view noun;           // "message"
  std::string_view done;           // "cancelled"
  std::string_view conflict_name;  // of the error object: "AlreadyDelivered"
};

// kOk: all done; kPartlyDone: some. None: that of the error, else kConflict, else kNotFound.
ExitCode exit_code_of(const ChangeCounts& counts);
// "2 of 3 messages were not cancelled: 1 already delivered, 1 not found". Requires: not all were
// done.
std::string describe_failures(const ChangeCounts& counts, const ChangeWords& words);
// Throws the CommandError for what exit_code_of() says, if that is not kOk. `stopped`: the error
// that ended the command before its end.
void throw_unless_all_done(const ChangeCounts& counts, const ChangeWords& words,
                           const std::optional<CommandError>& stopped = {});

// Runs `step` until it gives false. An error after something was changed is returned, so that what
// was changed before is told first; else it is thrown.
template <typename Step>
std::optional<CommandError> run_steps(const ChangeCounts& counts, Step step) {
  try {
    while (step()) {
    }
  } catch (const CommandError& error) {
    if (counts.total() == 0) {
      throw;
    }
    return error;
  }
  return std::nullopt;
}

}  // namespace tidemark::tools
