// A checker that never fails proves nothing: histories with one fault each, which the model must
// reject by the invariant they break.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

// A history made by hand, and what a model must say of it.
template <class History>
struct JudgedHistory {
  const char* name;
  const char* verdict;  // a part of it, the invariant above all; "": nothing is wrong
  std::function<void(History&)> play;
};

// Plays each of the lists on a history of its own, then `finish` on that. Empty, or the name of the
// first one that was judged otherwise, and how.
template <class History>
std::string find_misjudged(
    std::initializer_list<std::vector<JudgedHistory<History>>> lists,
    const std::function<void(History&)>& finish = [](History&) {}) {
  for (const auto& list : lists) {
    for (const JudgedHistory<History>& judged : list) {
      std::string verdict;
      try {
        History history;
        judged.play(history);
        finish(history);
      } catch (const WrongResult& wrong) {
        verdict = wrong.what();
      }
      const std::string wanted = judged.verdict;
      if (wanted.empty() ? !verdict.empty() : verdict.find(wanted) == std::string::npos) {
        return std::string(judged.name) + (verdict.empty() ? "" : " (" + verdict + ")");
      }
    }
  }
  return {};
}

// Empty, or the first history that was accepted, or rejected by another name.
std::string find_blind_checker();
// The same for topics of features; find_blind_checker() asks them, too.
std::string find_blind_keyed_checker();
std::string find_blind_unique_checker();
std::string find_blind_label_checker();
// The same for delayed messages.
std::string find_blind_delay_checker();
// The same for transactions.
std::string find_blind_txn_checker();
// The same for consumer groups.
std::string find_blind_group_checker();
// The same for queue mode.
std::string find_blind_queue_checker();

}  // namespace tidemark::sim
