// Admin: creates the topics, later alters, deletes and creates some, and keeps the directory. One
// change at a time, repeated until its outcome is known.
#pragma once

#include <optional>

#include "tests/simulation/client.h"

namespace tidemark::sim {

class Admin final : public Client {
 public:
  using Client::Client;

  void start();

  [[nodiscard]] bool idle() const override {
    return !change_.has_value() && created_ >= options_.topics && !lacks_dead_letters();
  }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  struct Change {
    enum class Kind { kCreate, kAlter, kDelete } kind = Kind::kCreate;
    testing::TopicInput topic;
    TopicId id;           // kAlter, kDelete
    bool unsure = false;  // an earlier try may have been done
    bool done = false;    // what remains is to learn the topic as it is now
  };

  void on_lost(uint64_t connection) override;
  void schedule();
  void plan();
  void send();
  void on_outcome(const Status& status);
  void learn(const protocol::fbs::TopicInfo& topic);

  // It comes before all others.
  [[nodiscard]] bool lacks_dead_letters() const {
    return options_.queue_groups > 0 && options_.queue_max_deliveries > 0 &&
           !directory_.dead_letters.has_value();
  }

  protocol::Frame create_request();

  std::optional<Change> change_;
  uint32_t created_ = 0;
  uint64_t connection_ = 0;  // of the request under way; 0: none
  uint64_t correlation_ = 0;
};

}  // namespace tidemark::sim
