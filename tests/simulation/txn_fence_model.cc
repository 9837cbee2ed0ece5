#include "tests/simulation/txn_fence_model.h"

#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

void TxnFenceModel::init_answered(const std::string& name, uint64_t producer, uint16_t epoch,
                                  int64_t left_ns) {
  const std::string what = "producer " + std::to_string(producer) + " of name \"" + name +
                           "\" got epoch " + std::to_string(epoch);
  require(producer != 0, "I19: producer id 0 was given");
  if (name.empty()) {
    require(epoch == 0 && names_.emplace(producer, "").second,
            "I19: not a producer of its own: " + what);
    return;
  }
  const auto [known, first] = producers_.emplace(name, producer);
  require(known->second == producer,
          "I19: was producer " + std::to_string(known->second) + ": " + what);
  require(!first || names_.emplace(producer, name).second, "I19: another has this id: " + what);
  require(epoch < arrivals_[name], "I19: an epoch that nobody asked for: " + what);
  // Answers may come in another order than the requests.
  require(epochs_[producer].emplace(epoch, left_ns).second, "I19: given twice: " + what);
}

void TxnFenceModel::check_taken(uint64_t producer, uint16_t epoch, int64_t arrived_ns,
                                const std::string& what) const {
  const auto it = epochs_.find(producer);
  if (it == epochs_.end()) {
    return;
  }
  for (auto newer = it->second.upper_bound(epoch); newer != it->second.end(); ++newer) {
    require(newer->second > arrived_ns, "I19: taken after epoch " + std::to_string(newer->first) +
                                            " of the producer was given: " + what);
  }
}

void TxnFenceModel::check_fenced(uint64_t producer, uint16_t epoch, const std::string& what) const {
  const auto name = names_.find(producer);
  require(name != names_.end() && !name->second.empty(),
          "I19: fenced, but it has no name: " + what);
  require(arrivals_.at(name->second) >= epoch + uint64_t{2},
          "I19: fenced, but nobody asked for a newer epoch: " + what);
}

}  // namespace tidemark::sim
