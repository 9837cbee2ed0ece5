// Names of what a command changes: words of the command line, or lines of standard input for "-".
//
// Thread: one.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/line_reader.h"

namespace tidemark::tools {

class NameSource {
 public:
  // Throws a usage error if "-" is not alone; `noun` names the names there: "handles".
  NameSource(std::vector<std::string> given, std::string_view noun);

  // The next set: all words at once, so that they can be looked at before the first is changed, or
  // at most kLinesPerSet lines that are not empty. False when there are no more. Throws
  // CommandError when standard input cannot be read.
  bool next(std::vector<std::string>& names);

  // As many as travel in one request.
  static constexpr size_t kLinesPerSet = 1'024;

 private:
  std::vector<std::string> given_;
  std::unique_ptr<LineReader> reader_;
};

}  // namespace tidemark::tools
