// What the rules found: for each invariant how much there was to judge and what broke it.
//
// Thread: one.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/checker/history.h"

namespace tidemark::checker {

// Numbers as everywhere in the project; I21 to I23 need more than what clients see.
enum class Invariant : uint8_t {
  kAckedNeverLost = 1,
  kNoPhantom,
  kIntact,
  kOffsetIdentity,
  kOrder,
  kNoSkip,
  kReadStays,
  kPositionsNeverGoBack,
  kGroupCoverage,
  kGroupProgress,
  kDedup,
  kNeverEarly,
  kDelayedOnce,
  kBoundedLateness,
  kCancel,
  kHalfInvisible,
  kTxnOutcome,
  kCheckBack,
  kFencing,
  kSettledOnce,
  kRetention = 24,
};

inline constexpr std::array kInvariants = {
    Invariant::kAckedNeverLost, Invariant::kNoPhantom,
    Invariant::kIntact,         Invariant::kOffsetIdentity,
    Invariant::kOrder,          Invariant::kNoSkip,
    Invariant::kReadStays,      Invariant::kPositionsNeverGoBack,
    Invariant::kGroupCoverage,  Invariant::kGroupProgress,
    Invariant::kDedup,          Invariant::kNeverEarly,
    Invariant::kDelayedOnce,    Invariant::kBoundedLateness,
    Invariant::kCancel,         Invariant::kHalfInvisible,
    Invariant::kTxnOutcome,     Invariant::kCheckBack,
    Invariant::kFencing,        Invariant::kSettledOnce,
    Invariant::kRetention,
};

// "I1".
std::string name_of(Invariant invariant);
// "an acknowledged message is never lost".
std::string_view meaning_of(Invariant invariant);
std::optional<Invariant> invariant_by_name(std::string_view name);

class Report {
 public:
  static constexpr size_t kShownMax = 5;

  struct Violation {
    std::string what;
    std::vector<EventIndex> events;
  };

  struct Verdict {
    uint64_t judged = 0;
    uint64_t violated = 0;
    std::vector<Violation> first;  // at most kShownMax
  };

  // One more thing that the invariant speaks of was looked at.
  void judge(Invariant invariant) { ++verdict(invariant).judged; }

  // kNoEvent is left out of `events`.
  void violate(Invariant invariant, std::string what, std::initializer_list<EventIndex> events);

  // judge(), and violate() unless it holds.
  template <typename What>
  void expect(bool holds, Invariant invariant, const What& what,
              std::initializer_list<EventIndex> events) {
    judge(invariant);
    if (!holds) {
      violate(invariant, what(), events);
    }
  }

  [[nodiscard]] const Verdict& of(Invariant invariant) const {
    return verdicts_[static_cast<size_t>(invariant)];
  }

  // How many had something to judge, and how many are broken.
  [[nodiscard]] size_t judged() const;
  [[nodiscard]] size_t violated() const;

 private:
  Verdict& verdict(Invariant invariant) { return verdicts_[static_cast<size_t>(invariant)]; }

  std::array<Verdict, static_cast<size_t>(Invariant::kRetention) + 1> verdicts_;
};

}  // namespace tidemark::checker
