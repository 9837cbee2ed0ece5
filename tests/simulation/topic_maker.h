// TopicMaker: creates one topic of its own, repeated until its outcome is known, and enters it in a
// directory. Nobody alters or deletes it.
#pragma once

#include <string>
#include <utility>

#include "tests/simulation/client.h"

namespace tidemark::sim {

struct TopicWish {
  std::string name;
  uint32_t partitions = 1;
  int64_t ttl_ms = -1;
  int64_t dedupe_window_ms = -1;
  int64_t compact_after_ms = -1;
  int64_t tombstone_ms = 86'400'000;
};

class TopicMaker final : public Client {
 public:
  TopicMaker(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
             const Options& options, uint64_t seed, TopicWish wish)
      : Client(scheduler, network, model, directory, options, seed), wish_(std::move(wish)) {}

  void start() { schedule(); }

  [[nodiscard]] bool idle() const override { return !directory_.topics.empty(); }

  [[nodiscard]] std::string describe() const override {
    return "topic " + wish_.name + (idle() ? " is there" : created_ ? " is created" : " is wanted");
  }

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  void on_lost(uint64_t connection) override;
  void schedule();
  void send();
  [[nodiscard]] protocol::Frame create_request() const;

  const TopicWish wish_;
  bool created_ = false;
  bool unsure_ = false;      // an earlier try may have been done
  uint64_t connection_ = 0;  // of the request under way; 0: none
  uint64_t correlation_ = 0;
};

}  // namespace tidemark::sim
