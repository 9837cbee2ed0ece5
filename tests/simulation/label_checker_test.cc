#include <functional>
#include <vector>

#include "tests/simulation/checker_test.h"
#include "tests/simulation/label_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};
constexpr size_t kEverything = 0;
constexpr size_t kRed = 1;
constexpr int64_t kReceivedMs = 10'000;
constexpr int64_t kLateMs = 1'000'000;

// Messages at offsets from 0 on, chosen by what they say.
struct History {
  LabelModel model{1, -1};
  std::vector<uint64_t> uids;
  uint64_t next_uid = 1;
  const LabelModel::Name name{"group", kPartition};

  uint64_t store(const std::function<bool(const Labels&)>& fits) {
    while (!fits(model.labels_of(next_uid))) {
      ++next_uid;
    }
    uids.push_back(next_uid);
    model.stored(kPartition, Offset{uids.size() - 1}, next_uid, kReceivedMs);
    return next_uid++;
  }

  int64_t ttl(size_t number) { return model.labels_of(uids[number]).ttl_ms; }

  void read(size_t number, size_t filter, int64_t at_ms) {
    model.read(kPartition, Offset{number}, uids[number], filter, {at_ms, at_ms});
  }

  void left_out(size_t number, size_t filter, int64_t at_ms) {
    model.left_out(kPartition, Offset{number}, Offset{number + 1}, filter, {at_ms, at_ms});
    model.check();
  }

  void lease(const std::vector<size_t>& numbers, int64_t at_ns) {
    std::vector<LabelModel::Lease> leases;
    for (const size_t number : numbers) {
      leases.push_back({Offset{number}, uids[number]});
    }
    model.leased(name, leases, {kReceivedMs, kReceivedMs}, at_ns);
  }
};

bool is_red(const Labels& labels) {
  return labels.ttl_ms < 0 && LabelModel::filters()[kRed].wants(labels);
}

bool is_not_red(const Labels& labels) {
  return labels.ttl_ms < 0 && !LabelModel::filters()[kRed].wants(labels);
}

bool is_short(const Labels& labels) { return labels.ttl_ms >= 100; }

bool is_keyed(const Labels& labels) {
  return labels.ttl_ms < 0 && labels.priority == 0 && labels.key == "key-1";
}

using BadHistory = JudgedHistory<History>;

std::vector<BadHistory> of_readers() {
  return {
      {"what the filter wants, the rest left out", "",
       [](History& h) {
         h.store(is_red);
         h.store(is_not_red);
         h.read(0, kRed, kReceivedMs);
         h.left_out(1, kRed, kReceivedMs);
       }},
      {"expired, left out", "",
       [](History& h) {
         h.store(is_short);
         h.read(0, kEverything, kReceivedMs + h.ttl(0) - 1);
         h.left_out(0, kEverything, kReceivedMs + h.ttl(0));
       }},
      {"not wanted, but read", "I27",
       [](History& h) {
         h.store(is_not_red);
         h.read(0, kRed, kReceivedMs);
       }},
      {"wanted, but left out", "I27",
       [](History& h) {
         h.store(is_red);
         h.left_out(0, kRed, kLateMs);
       }},
      {"wanted, left out, known later", "I27",
       [](History& h) {
         h.model.left_out(kPartition, Offset{0}, Offset{1}, kRed, {kReceivedMs, kReceivedMs});
         h.store(is_red);
         h.model.check();
       }},
      {"read when its time was over", "I28",
       [](History& h) {
         h.store(is_short);
         h.read(0, kEverything, kReceivedMs + h.ttl(0) + 20);
       }},
      {"left out before its time", "I28",
       [](History& h) {
         h.store(is_short);
         h.left_out(0, kEverything, kReceivedMs + h.ttl(0) - 20);
       }},
  };
}

std::vector<BadHistory> of_queues() {
  return {
      {"one of a key after the other", "",
       [](History& h) {
         h.model.open("group", {kEverything, true});
         h.store(is_keyed);
         h.store(is_keyed);
         h.lease({0}, 10);
         h.model.acked(h.name, Offset{0}, 20);
         h.lease({1}, 30);
         h.model.settled(h.name, kLateMs);
         h.model.check();
       }},
      {"two of a key without order", "",
       [](History& h) {
         h.model.open("group", {kEverything, false});
         h.store(is_keyed);
         h.store(is_keyed);
         h.lease({0, 1}, 10);
         h.model.check();
       }},
      {"two of a key at a time", "I29",
       [](History& h) {
         h.model.open("group", {kEverything, true});
         h.store(is_keyed);
         h.store(is_keyed);
         h.lease({0}, 10);
         h.lease({1}, 15);
         h.model.acked(h.name, Offset{0}, 20);
         h.model.check();
       }},
      {"the second of a key first", "I29",
       [](History& h) {
         h.model.open("group", {kEverything, true});
         h.store(is_keyed);
         h.store(is_keyed);
         h.lease({1}, 10);
         h.model.check();
       }},
      {"a lower priority first", "I29",
       [](History& h) {
         h.model.open("group", {kEverything, false});
         h.store([](const Labels& l) { return l.ttl_ms < 0 && l.priority == 3; });
         h.store([](const Labels& l) { return l.ttl_ms < 0 && l.priority == 4; });
         h.lease({0, 1}, 10);
       }},
      {"a later one of a priority first", "I29",
       [](History& h) {
         h.model.open("group", {kEverything, false});
         h.store(is_keyed);
         h.store(is_keyed);
         h.lease({1, 0}, 10);
       }},
      {"leased, not wanted", "I27",
       [](History& h) {
         h.model.open("group", {kRed, false});
         h.store(is_not_red);
         h.lease({0}, 10);
       }},
      {"settled unseen", "I27",
       [](History& h) {
         h.model.open("group", {kRed, false});
         h.store(is_red);
         h.model.settled(h.name, kLateMs);
         h.model.check();
       }},
      {"settled unseen before its time", "I28",
       [](History& h) {
         h.model.open("group", {kEverything, false});
         h.store(is_short);
         h.model.settled(h.name, kReceivedMs + h.ttl(0) - 20);
         h.model.check();
       }},
  };
}

}  // namespace

std::string find_blind_label_checker() {
  return find_misjudged<History>({of_readers(), of_queues()});
}

}  // namespace tidemark::sim
