#include <vector>

#include "tests/simulation/checker_test.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/unique_model.h"

namespace tidemark::sim {

namespace {

constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};
constexpr int64_t kWindowMs = 1'000;

// Delivery `uid` of `id` arrives at `at_ms`; what is stored lies at offsets from 0 on.
struct History {
  UniqueModel model{kWindowMs};
  std::vector<UniqueModel::Stored> stored;

  void send(uint64_t uid, uint64_t id, int64_t at_ms, bool sequenced = false) {
    model.sent(kPartition, uid, id, sequenced);
    model.arrived(uid, at_ms);
  }

  void store(uint64_t uid) { stored.push_back({Offset{stored.size()}, uid}); }

  void drain() { model.check_drained(kPartition, stored); }
};

using BadHistory = JudgedHistory<History>;

std::vector<BadHistory> good_histories() {
  return {
      {"a duplicate", "",
       [](History& h) {
         h.send(1, 7, 0);
         h.send(2, 7, 500);
         h.store(1);
         h.model.answered(1, Offset{0}, 0);
         h.model.answered(2, Offset{0}, 500);
         h.drain();
       }},
      {"again when the window is over", "",
       [](History& h) {
         h.send(1, 7, 0);
         h.send(2, 7, kWindowMs);
         h.store(1);
         h.store(2);
         h.model.answered(2, Offset{1}, kWindowMs);
         h.drain();
       }},
      {"a retry that came late", "",
       [](History& h) {
         h.send(1, 7, 0);
         h.send(2, 7, 10);
         h.model.arrived(2, 2 * kWindowMs);
         h.store(1);
         h.store(2);
         h.drain();
       }},
      {"acknowledged by its sequence, another one is stored", "",
       [](History& h) {
         h.send(1, 7, 0);
         h.send(2, 7, 10, true);
         h.store(1);
         h.model.acknowledged(2);
         h.drain();
       }},
  };
}

std::vector<BadHistory> bad_histories() {
  return {
      {"two of an id within the window", "I26",
       [](History& h) {
         h.send(1, 7, 0);
         h.send(2, 7, kWindowMs - 100);
         h.store(1);
         h.store(2);
         h.drain();
       }},
      {"one delivery twice", "I26",
       [](History& h) {
         h.send(1, 7, 0);
         h.store(1);
         h.store(1);
         h.drain();
       }},
      {"one with a sequence twice", "I26",
       [](History& h) {
         h.send(1, 0, 0, true);
         h.store(1);
         h.store(1);
         h.drain();
       }},
      {"answered with the offset of another id", "I26",
       [](History& h) {
         h.send(1, 7, 0);
         h.send(2, 8, 0);
         h.store(1);
         h.store(2);
         h.model.answered(2, Offset{0}, 0);
         h.drain();
       }},
      {"without an id, answered with the offset of another", "I26",
       [](History& h) {
         h.send(1, 0, 0);
         h.send(2, 0, 0);
         h.store(1);
         h.store(2);
         h.model.answered(2, Offset{0}, 0);
         h.drain();
       }},
      {"answered with an offset where nothing is", "I26",
       [](History& h) {
         h.send(1, 7, 0);
         h.store(1);
         h.model.answered(1, Offset{1}, 0);
         h.drain();
       }},
      {"taken for a duplicate when the window was over", "I26",
       [](History& h) {
         h.send(1, 7, 0);
         h.send(2, 7, kWindowMs + 100);
         h.store(1);
         h.model.answered(2, Offset{0}, kWindowMs + 100);
         h.drain();
       }},
      {"acknowledged by its sequence, not stored", "I26",
       [](History& h) {
         h.send(1, 7, 0, true);
         h.send(2, 8, 0);
         h.store(2);
         h.model.acknowledged(1);
         h.drain();
       }},
      {"never arrived", "I2",
       [](History& h) {
         h.model.sent(kPartition, 1, 7, false);
         h.store(1);
         h.drain();
       }},
  };
}

}  // namespace

std::string find_blind_unique_checker() {
  return find_misjudged<History>({good_histories(), bad_histories()});
}

}  // namespace tidemark::sim
