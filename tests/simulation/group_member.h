// GroupMember: a process that reads with others of its consumer group. It may crash, leave, hang
// for longer than its session and go on as if nothing had happened, commit too late, and seek.
//
// A partition at the member:
//
//   told --> asks for the position --> reads, commits --no longer told--> closes: last commit -->
//   gone          ^                         |  seek: the next commit is a rewind
//                 +---- another epoch ------+---- fenced --> gone at once
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "tests/simulation/group_client.h"

namespace tidemark::sim {

class GroupMember final : public GroupClient {
 public:
  struct Identity {
    std::string group;
    std::string member;
    std::string instance;
    std::vector<std::string> topics;
  };

  GroupMember(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
              const Options& options, uint64_t seed, Identity identity)
      : GroupClient(scheduler, network, model, directory, options, seed),
        identity_(std::move(identity)) {}

  void start() { schedule(); }

  // For ever, without a word.
  void die();

  // Gives up all it has, says so, and dies.
  void leave() { leaving_ = true; }

  // Sends nothing for a while; with `until_lost` only until a connection is lost.
  void hang(int64_t ms, bool until_lost) {
    hung_until_ms_ = scheduler_.now_ms() + ms;
    hung_until_lost_ = until_lost;
  }

  void wake() { hung_until_ms_ = 0; }

  // Also when it was replaced.
  [[nodiscard]] bool dead() const { return dead_; }

  [[nodiscard]] bool idle() const override { return true; }

  [[nodiscard]] std::string describe() const override;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

  [[nodiscard]] std::vector<PartitionId> works_on() const;

 private:
  struct Work {
    uint32_t epoch = 0;
    bool known = false;  // where to go on from
    Offset position;     // everything before it is done
    Offset committed;
    bool rewind = false;  // the next commit may go back
    bool closing = false;
    bool asking = false;
    bool fetching = false;
    bool committing = false;
    int64_t not_before_ms = 0;

    [[nodiscard]] bool to_commit() const { return known && (rewind || position > committed); }
  };

  struct BeatRequest {
    uint64_t connection = 0;
    uint64_t beat = 0;  // of the model
    bool leave = false;
  };

  struct FetchRequest {
    uint64_t connection = 0;
    PartitionId partition;
    uint32_t epoch = 0;
    Offset offset;
    int64_t sent_ns = 0;
  };

  // A commit that others overtake, or of what it has given up.
  struct Late {
    testing::CommitInput item;
    int64_t at_ms = 0;
  };

  void on_commit(Kind kind, const testing::CommitInput& item, Answer answer,
                 Offset recorded) override;
  void on_look(const std::vector<testing::GroupOffsetResult>& results) override;
  void on_look_failed(const std::vector<PartitionId>& partitions) override;
  void on_other(uint64_t connection, const protocol::Frame& frame) override;
  void on_other_lost(uint64_t connection) override;

  void schedule();
  void work();
  void send_beat();
  void on_beat(const BeatRequest& request, const protocol::Frame& frame);
  void take(const testing::HeartbeatResult& result);
  void go_on(PartitionId partition, Work& work);
  void fetch(PartitionId partition, Work& work);
  void on_fetched(const FetchRequest& request, const protocol::Frame& frame);
  void commit_all();
  void commit_later(PartitionId partition, const Work& work);
  void commit_late();
  void give_up_closed();
  void give_up(std::map<PartitionId, Work>::iterator work);
  Work* find(PartitionId partition, uint32_t epoch);

  const Identity identity_;
  bool dead_ = false;
  bool leaving_ = false;
  int64_t hung_until_ms_ = 0;
  bool hung_until_lost_ = false;
  std::map<PartitionId, Work> works_;
  std::map<PartitionId, uint32_t> given_up_;  // newest epoch: it does not come back
  uint64_t generation_ = 0;
  bool beat_wanted_ = true;  // there is something to say
  int64_t beat_not_before_ms_ = 0;
  int64_t commit_at_ms_ = 0;
  std::map<uint64_t, BeatRequest> beats_;     // by correlation
  std::map<uint64_t, FetchRequest> fetches_;  // by correlation
  std::deque<Late> late_;
};

}  // namespace tidemark::sim
