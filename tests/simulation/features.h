// Features: topics of their own for what a broker can do beside keeping messages, with their
// clients and models. Each is there in some runs only.
//
//   keyed    a topic that is compacted by key
//   unique   a topic whose messages have ids that count
//   labels   a topic whose messages have tags, times to live, priorities and keys, with readers and
//            groups in queue mode that have filters
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/keyed_client.h"
#include "tests/simulation/label_client.h"
#include "tests/simulation/topic_maker.h"
#include "tests/simulation/unique_client.h"

namespace tidemark::sim {

class Features {
  struct World {
    Scheduler& scheduler;
    SimNetwork& network;
    Model& model;
  };

 public:
  Features(Scheduler& scheduler, SimNetwork& network, Model& model, const Options& options);

  void start();
  // No new work; what is under way is finished, then idle() holds.
  void finish();
  [[nodiscard]] bool idle() const;

  // Everything is read once more; then verified() holds.
  void verify();
  [[nodiscard]] bool verified() const;
  // What can be judged in the end only. Requires: verified().
  void check();

  [[nodiscard]] std::string describe() const;
  [[nodiscard]] std::string summary() const;

 private:
  void make_keyed(const World& world);
  void make_unique_ids(const World& world);
  void make_labels(const World& world);

  const Options& options_;
  KeyedModel keyed_model_;
  Directory keyed_topics_;
  TopicMaker keyed_maker_;
  std::vector<std::unique_ptr<KeyedProducer>> keyed_producers_;
  std::vector<std::unique_ptr<KeyedReader>> keyed_readers_;
  UniqueModel unique_model_;
  Directory unique_topics_;
  TopicMaker unique_maker_;
  std::vector<std::unique_ptr<UniqueClient>> unique_clients_;
  UniqueReader unique_reader_;
  LabelModel label_model_;
  Directory label_topics_;
  TopicMaker label_maker_;
  std::vector<std::unique_ptr<LabelProducer>> label_producers_;
  std::vector<std::unique_ptr<LabelReader>> label_readers_;
  std::vector<std::unique_ptr<LabelWorker>> label_workers_;
  LabelAuditor label_auditor_;
};

}  // namespace tidemark::sim
