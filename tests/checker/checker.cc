#include "tests/checker/checker.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <utility>

#include "tests/checker/facts.h"
#include "tests/checker/rules.h"

namespace tidemark::checker {

namespace {

// The lines of these events, read again from the files.
std::map<EventIndex, std::string> lines_of(const History& history, const Report& report) {
  std::map<std::pair<uint16_t, uint32_t>, std::vector<EventIndex>> wanted;
  for (const Invariant invariant : kInvariants) {
    for (const Report::Violation& violation : report.of(invariant).first) {
      for (const EventIndex event : violation.events) {
        wanted[{history.at(event).file, history.at(event).line}].push_back(event);
      }
    }
  }
  std::map<EventIndex, std::string> lines;
  std::ifstream in;
  uint32_t line = 0;
  int file = -1;
  std::string text;
  for (const auto& [place, events] : wanted) {
    if (place.first != file) {
      file = place.first;
      line = 0;
      in = std::ifstream(history.file_name(place.first));
    }
    while (line < place.second && std::getline(in, text)) {
      ++line;
    }
    for (const EventIndex event : events) {
      lines[event] = text;
    }
  }
  return lines;
}

void describe_violations(const History& history, const Report& report, std::string& text) {
  const std::map<EventIndex, std::string> lines = lines_of(history, report);
  for (const Invariant invariant : kInvariants) {
    const Report::Verdict& verdict = report.of(invariant);
    if (verdict.violated == 0) {
      continue;
    }
    text += name_of(invariant) + " violated " + std::to_string(verdict.violated) +
            (verdict.violated == 1 ? " time: " : " times: ") + std::string(meaning_of(invariant)) +
            "\n";
    for (const Report::Violation& violation : verdict.first) {
      text += "  " + violation.what + "\n";
      for (const EventIndex event : violation.events) {
        text += "    " + history.place_of(event) + ": " + lines.at(event) + "\n";
      }
    }
    if (verdict.violated > verdict.first.size()) {
      text += "  and " + std::to_string(verdict.violated - verdict.first.size()) + " more\n";
    }
  }
}

bool describe_missing(const Options& options, const Report& report, std::string& text) {
  bool all_there = true;
  for (const Invariant invariant : options.required) {
    if (report.of(invariant).judged == 0) {
      text += name_of(invariant) + " had nothing to judge\n";
      all_there = false;
    }
  }
  return all_there;
}

}  // namespace

Result check_history(const Options& options) {
  Result result;
  History history;
  for (const std::string& file : options.files) {
    std::ifstream in(file);
    if (!in) {
      result.text = file + ": cannot be opened\n";
      return result;
    }
    history.read(in, file);
  }
  history.finish();
  if (history.errors().empty()) {
    const Facts facts(history);
    if (history.errors().empty()) {
      for (auto* const rule : {check_records, check_order, check_groups, check_delays,
                               check_transactions, check_fencing, check_queues, check_retention}) {
        rule(facts, result.report);
      }
    }
  }
  if (!history.errors().empty()) {
    for (const std::string& error : history.errors()) {
      result.text += error + "\n";
    }
    return result;
  }
  describe_violations(history, result.report, result.text);
  const bool complete = describe_missing(options, result.report, result.text);
  if (options.verbose) {
    for (const Invariant invariant : kInvariants) {
      const Report::Verdict& verdict = result.report.of(invariant);
      result.text += name_of(invariant) + " judged " + std::to_string(verdict.judged) + ": " +
                     std::string(meaning_of(invariant)) + "\n";
    }
  }
  result.text += std::to_string(history.size()) + " events, " +
                 std::to_string(result.report.judged()) + " invariants checked, " +
                 std::to_string(result.report.violated()) + " violated\n";
  result.outcome =
      result.report.violated() == 0 && complete ? Outcome::kAccepted : Outcome::kViolated;
  return result;
}

}  // namespace tidemark::checker
