#include "tests/checker/report.h"

#include <algorithm>
#include <utility>

namespace tidemark::checker {

std::string name_of(Invariant invariant) {
  return "I" + std::to_string(static_cast<unsigned>(invariant));
}

std::string_view meaning_of(Invariant invariant) {
  static constexpr std::array<std::string_view, kInvariants.size()> kMeanings = {
      "an acknowledged message is never lost, and lies where the acknowledgement said",
      "nothing is there that was not sent, or whose sending failed for certain",
      "what is read is what was sent, and where it was sent to",
      "an offset of a partition means one message, for ever",
      "messages of a partition keep their order",
      "a reader skips nothing, and the final drain has no hole",
      "what was read once is there later, and a high watermark never falls",
      "positions of groups never go back",
      "a partition has one member at a time, and a group gets every message",
      "a group with a living member catches up",
      "a message that was sent several times is stored once",
      "a delayed message never comes early",
      "a delayed message comes exactly once",
      "a delayed message does not come too late",
      "what was cancelled never comes",
      "messages of a transaction are not seen before its commit",
      "a transaction is seen whole or not at all, as it ended",
      "an undecided transaction is asked about, and never forgotten",
      "a fenced producer gets nothing stored",
      "a queue settles each message once, and keeps it until then",
      "retention takes only what the policy allows",
  };
  const auto* const found = std::find(kInvariants.begin(), kInvariants.end(), invariant);
  return kMeanings[static_cast<size_t>(found - kInvariants.begin())];
}

std::optional<Invariant> invariant_by_name(std::string_view name) {
  for (const Invariant invariant : kInvariants) {
    if (name_of(invariant) == name) {
      return invariant;
    }
  }
  return std::nullopt;
}

void Report::violate(Invariant invariant, std::string what,
                     std::initializer_list<EventIndex> events) {
  Verdict& broken = verdict(invariant);
  ++broken.violated;
  if (broken.first.size() >= kShownMax) {
    return;
  }
  Violation violation{std::move(what), {}};
  for (const EventIndex event : events) {
    if (event != kNoEvent) {
      violation.events.push_back(event);
    }
  }
  broken.first.push_back(std::move(violation));
}

size_t Report::judged() const {
  return static_cast<size_t>(
      std::count_if(verdicts_.begin(), verdicts_.end(),
                    [](const Verdict& verdict) { return verdict.judged > 0; }));
}

size_t Report::violated() const {
  return static_cast<size_t>(
      std::count_if(verdicts_.begin(), verdicts_.end(),
                    [](const Verdict& verdict) { return verdict.violated > 0; }));
}

}  // namespace tidemark::checker
