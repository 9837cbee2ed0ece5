#include "tests/simulation/checker_test.h"

#include <utility>
#include <vector>

#include "tests/simulation/model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};
constexpr PartitionId kOther{TopicId{1}, PartitionIndex{1}};

// Three messages of producer 7, 1 and 2 acknowledged at offsets 0 and 1, all three stored.
struct History {
  Model model{1};
  std::vector<Model::Stored> stored;

  History() {
    for (uint64_t i = 0; i < 3; ++i) {
      model.sent(kPartition, 7, i, 5);
      stored.push_back({Offset{i}, model.value_of(i + 1)});
    }
    model.acknowledged(1, 2, Offset{0});
  }

  void drain(Offset start = {}, bool retention = false) {
    model.check_drained(kPartition, start, retention, stored);
  }
};

using BadHistory = JudgedHistory<History>;

// What is lost, or was never there.
std::vector<BadHistory> losses() {
  return {
      {"nothing is wrong", "", [](History& h) { h.drain(); }},
      {"retention took the first", "",
       [](History& h) {
         h.stored.erase(h.stored.begin());
         h.drain(Offset{1}, true);
       }},
      {"acknowledged, not stored", "I1",
       [](History& h) {
         h.stored.resize(1);
         h.drain();
       }},
      {"acknowledged, read elsewhere", "I1",
       [](History& h) { h.model.read(kPartition, Offset{2}, h.stored[0].value); }},
      {"begins late without retention", "I1",
       [](History& h) {
         h.stored.erase(h.stored.begin());
         h.drain(Offset{1}, false);
       }},
      {"never sent", "I2",
       [](History& h) {
         History other;
         other.model.sent(kPartition, 7, 3, 5);
         h.model.read(kPartition, Offset{3}, other.model.value_of(4));
       }},
      {"a flipped bit", "I3",
       [](History& h) {
         h.stored[2].value[18] ^= 1;
         h.drain();
       }},
      {"in another partition", "I3",
       [](History& h) { h.model.read(kOther, Offset{0}, h.stored[0].value); }},
  };
}

// What is there in another way than it must be.
std::vector<BadHistory> confusions() {
  return {
      {"another message at a known offset", "I4",
       [](History& h) {
         h.model.read(kPartition, Offset{2}, h.stored[2].value);
         const uint64_t uid = h.model.sent(kPartition, 8, 0, 5);
         h.model.read(kPartition, Offset{2}, h.model.value_of(uid));
       }},
      {"sent after an acknowledgement, lies before it", "I5",
       [](History& h) {
         const uint64_t uid = h.model.sent(kPartition, 8, 0, 5);
         h.model.acknowledged(uid, 1, Offset{1});
       }},
      {"out of the producer's order", "I5",
       [](History& h) {
         const uint64_t uid = h.model.sent(kPartition, 7, 3, 5);
         h.stored.insert(h.stored.begin() + 2, {Offset{2}, h.model.value_of(uid)});
         h.stored[3].offset = Offset{3};
         h.drain();
       }},
      {"a gap", "I6",
       [](History& h) {
         h.stored[2].offset = Offset{3};
         h.drain();
       }},
      {"read once, not stored", "I7",
       [](History& h) {
         h.model.read(kPartition, Offset{2}, h.stored[2].value);
         h.stored.resize(2);
         h.drain();
       }},
      {"stored twice", "I11",
       [](History& h) {
         h.stored.push_back({Offset{3}, h.stored[2].value});
         h.drain();
       }},
      {"acknowledged twice, at two offsets", "I11",
       [](History& h) { h.model.acknowledged(1, 1, Offset{5}); }},
  };
}

}  // namespace

std::string find_blind_checker() {
  if (std::string misjudged = find_misjudged<History>({losses(), confusions()});
      !misjudged.empty()) {
    return misjudged;
  }
  for (const std::string& blind :
       {find_blind_keyed_checker(), find_blind_unique_checker(), find_blind_label_checker()}) {
    if (!blind.empty()) {
      return blind;
    }
  }
  return {};
}

}  // namespace tidemark::sim
