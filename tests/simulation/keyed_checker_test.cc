#include <utility>
#include <vector>

#include "tests/simulation/checker_test.h"
#include "tests/simulation/keyed_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};
constexpr int64_t kAfterMs = 100;
constexpr int64_t kTombstoneMs = 1'000;
constexpr int64_t kLateMs = 1'000'000;  // everything is old enough by then

// Messages of one key at offsets 0 to 3, one without a key at 4, a tombstone of the key at 5; each
// received at its offset times 10.
struct History {
  KeyedModel model;
  std::vector<uint64_t> uids;

  explicit History(bool unreadable = false) : model(1, {1, kAfterMs, kTombstoneMs, unreadable}) {
    const auto find = [&](bool keyless, bool tombstone) {
      uint64_t uid = uids.empty() ? 1 : uids.back() + 1;
      while (model.key_of(uid).empty() != keyless || model.is_tombstone(uid) != tombstone) {
        ++uid;
      }
      uids.push_back(uid);
    };
    for (int i = 0; i < 4; ++i) {
      find(false, false);
    }
    find(true, false);
    find(false, true);
  }

  void store(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      model.sent(kPartition, uids[i]);
      model.stored(kPartition, Offset{i}, uids[i], static_cast<int64_t>(i) * 10);
    }
  }

  // What is there of `count` messages, read at `at` (a time in ns and ms alike).
  void read(const std::vector<uint64_t>& offsets, uint64_t count, int64_t at) {
    KeyedModel::Pass pass = model.begin_pass(kPartition);
    read(pass, offsets, count, at);
  }

  void read(KeyedModel::Pass& pass, const std::vector<uint64_t>& offsets, uint64_t count,
            int64_t at) {
    for (const uint64_t offset : offsets) {
      model.passed(pass, Offset{offset}, at, at);
      model.seen(pass, Offset{offset}, uids[offset], at);
    }
    model.passed(pass, Offset{count}, at, at);
    model.end_pass(pass, at);
  }
};

// Batches may be unreadable for compaction.
struct UnreadableHistory : History {
  UnreadableHistory() : History(true) {}
};

using BadHistory = JudgedHistory<History>;
using BadUnreadable = JudgedHistory<UnreadableHistory>;

std::vector<BadHistory> histories() {
  return {
      {"everything is there", "",
       [](History& h) {
         h.store(5);
         h.read({0, 1, 2, 3, 4}, 5, 0);
       }},
      {"the newest is there", "",
       [](History& h) {
         h.store(5);
         h.read({3, 4}, 5, kLateMs);
       }},
      {"a later one than the newest known", "",
       [](History& h) {
         h.store(3);
         KeyedModel::Pass pass = h.model.begin_pass(kPartition);
         h.store(5);
         h.read(pass, {3, 4}, 5, kLateMs);
       }},
      {"a tombstone took the key", "",
       [](History& h) {
         h.store(6);
         h.read({4}, 6, kLateMs);
       }},
      {"a tombstone that nobody acknowledged took the key", "",
       [](History& h) {
         h.store(5);
         h.model.sent(kPartition, h.uids[5]);
         h.read({4}, 6, kLateMs);
       }},
      {"the newest is gone", "I25",
       [](History& h) {
         h.store(5);
         h.read({2, 4}, 5, kLateMs);
       }},
      {"the key is gone", "I25",
       [](History& h) {
         h.store(5);
         h.read({4}, 5, kLateMs);
       }},
      {"the message without a key is gone", "I25",
       [](History& h) {
         h.store(5);
         h.read({3}, 5, kLateMs);
       }},
      {"the message without a key is gone, its offset was not reached", "I25",
       [](History& h) {
         h.store(5);
         h.read({0, 1, 2, 3}, 4, 0);
       }},
      {"gone before its time", "I25",
       [](History& h) {
         h.store(5);
         h.read({1, 2, 3, 4}, 5, kAfterMs - 10);
       }},
      {"a tombstone gone before its time", "I25",
       [](History& h) {
         h.store(6);
         h.read({4}, 6, kTombstoneMs - 100);
       }},
      {"came back", "I25",
       [](History& h) {
         h.store(5);
         h.read({1, 3, 4}, 5, kLateMs);
         h.read({0, 1, 3, 4}, 5, kLateMs + 1);
       }},
      {"an older one outlives its tombstone", "I25",
       [](History& h) {
         h.store(6);
         h.read({3, 4}, 6, kLateMs);
         h.read({3, 4}, 6, kLateMs + 1);
       }},
      {"an older one outlives a newer one", "I25",
       [](History& h) {
         h.store(5);
         h.read({0, 2, 3, 4}, 5, kLateMs);
         h.read({0, 3, 4}, 5, kLateMs + 1);
       }},
      {"twice in a pass", "I25",
       [](History& h) {
         h.store(5);
         h.read({0, 0, 1, 2, 3, 4}, 5, 0);
       }},
  };
}

std::vector<BadUnreadable> unreadable_histories() {
  return {
      {"an older one outlives a newer one", "",
       [](UnreadableHistory& h) {
         h.store(5);
         h.read({0, 2, 3, 4}, 5, kLateMs);
         h.read({0, 3, 4}, 5, kLateMs + 1);
       }},
      {"an older one outlives a newer one, while a tombstone comes", "",
       [](UnreadableHistory& h) {
         h.store(5);
         h.read({0, 2, 3, 4}, 5, kLateMs);
         KeyedModel::Pass pass = h.model.begin_pass(kPartition);
         h.model.passed(pass, Offset{0}, kLateMs + 1, kLateMs + 1);
         h.model.seen(pass, Offset{0}, h.uids[0], kLateMs + 1);
         h.store(6);
         h.read(pass, {4}, 6, 2 * kLateMs);
       }},
      {"an older one outlives its tombstone", "I25",
       [](UnreadableHistory& h) {
         h.store(6);
         h.read({3, 4}, 6, kLateMs);
         h.read({3, 4}, 6, kLateMs + 1);
       }},
      {"the newest is gone", "I25",
       [](UnreadableHistory& h) {
         h.store(5);
         h.read({0, 2, 4}, 5, kLateMs);
       }},
      {"came back", "I25",
       [](UnreadableHistory& h) {
         h.store(5);
         h.read({1, 3, 4}, 5, kLateMs);
         h.read({0, 1, 3, 4}, 5, kLateMs + 1);
       }},
  };
}

}  // namespace

std::string find_blind_keyed_checker() {
  const std::string misjudged = find_misjudged<History>({histories()});
  return misjudged.empty() ? find_misjudged<UnreadableHistory>({unreadable_histories()})
                           : misjudged;
}

}  // namespace tidemark::sim
