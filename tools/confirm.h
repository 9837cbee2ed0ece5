// Asking a person before something is lost.
//
// Thread: one.
#pragma once

#include <string>

namespace tidemark::tools {

// Returns when `expected` was typed as the answer to `question`; throws CommandError (Cancelled)
// with `refused` for any other answer. Without a terminal nobody is asked: a usage error "<danger>:
// confirm with --yes".
void confirm(const std::string& danger, const std::string& question, const std::string& expected,
             const std::string& refused);

}  // namespace tidemark::tools
