#include "tools/name_source.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tools/errors.h"
#include "tools/interrupt.h"

namespace tidemark::tools {
namespace {

constexpr size_t kLineBytesMax = 4'096;

}  // namespace

NameSource::NameSource(std::vector<std::string> given, std::string_view noun)
    : given_(std::move(given)) {
  if (std::ranges::count(given_, "-") == 0) {
    return;
  }
  if (given_.size() > 1) {
    throw usage_error(fmt::format("- takes the {} from standard input; give no others", noun));
  }
  given_.clear();
  reader_ = std::make_unique<LineReader>(0, kLineBytesMax, interrupt_descriptor());
}

bool NameSource::next(std::vector<std::string>& names) {
  names = std::exchange(given_, {});
  if (!reader_) {
    return !names.empty();
  }
  std::string_view line;
  while (names.size() < kLinesPerSet) {
    const Result<bool> more = reader_->next(line);
    throw_if_error(more.status(), "standard input");
    if (!*more) {
      break;
    }
    if (!line.empty()) {
      names.emplace_back(line);
    }
  }
  return !names.empty();
}

}  // namespace tidemark::tools
