// What members and operators of consumer groups share: positions are committed and asked for, and
// the model hears of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/simulation/consumer.h"
#include "tests/support/group_requests.h"

namespace tidemark::sim {

class GroupClient : public Reader {
 public:
  using Reader::Reader;

  void on_reply(uint64_t connection, const protocol::Frame& frame) final;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

 protected:
  using Kind = GroupModel::Kind;
  using Answer = GroupModel::Answer;

  // All on one shard. False: not sent.
  bool send_commits(ShardId shard, const std::string& group, Kind kind,
                    const std::vector<testing::CommitInput>& items);
  // No partitions: all with a position.
  bool send_look(ShardId shard, const std::string& group,
                 const std::vector<PartitionId>& partitions);

  virtual void on_commit(Kind /*kind*/, const testing::CommitInput& /*item*/, Answer /*answer*/,
                         Offset /*recorded*/) {}

  virtual void on_look(const std::vector<testing::GroupOffsetResult>& /*results*/) {}

  // Refused for now, or lost.
  virtual void on_look_failed(const std::vector<PartitionId>& /*partitions*/) {}

  // All other replies.
  virtual void on_other(uint64_t connection, const protocol::Frame& frame) = 0;
  virtual void on_other_lost(uint64_t connection) = 0;

  // Nothing that was sent is answered any more.
  void forget_requests() { requests_.clear(); }

  [[nodiscard]] bool asking() const { return !requests_.empty(); }

 private:
  struct Request {
    uint64_t connection = 0;
    std::string group;
    // A commit, or a look.
    Kind kind = Kind::kCommit;
    std::vector<testing::CommitInput> items;
    std::vector<uint64_t> commits;  // of the model
    std::vector<PartitionId> partitions;
  };

  void on_lost(uint64_t connection) final;
  void fail(const Request& request);
  void read_commits(const Request& request, const protocol::Frame& frame);
  void read_look(const Request& request, const protocol::Frame& frame);

  std::map<uint64_t, Request> requests_;  // by correlation
};

}  // namespace tidemark::sim
