// GroupOperator: looks at consumer groups, and now and then sets a position. GroupAuditor: how far
// they all are behind.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/simulation/group_client.h"

namespace tidemark::sim {

class GroupOperator final : public GroupClient {
 public:
  using GroupClient::GroupClient;

  void start() { schedule(); }

  [[nodiscard]] bool idle() const override { return !finishing_ || !asking(); }

  [[nodiscard]] std::string describe() const override { return "operator of groups"; }

 private:
  void on_other(uint64_t connection, const protocol::Frame& frame) override;

  void on_other_lost(uint64_t connection) override {
    connection_ = connection == connection_ ? 0 : connection_;
  }

  void schedule();
  void work();
  void read_describe(const protocol::fbs::GroupDescribeReply& reply) const;

  std::string group_;        // asked about
  uint64_t connection_ = 0;  // of a description under way; 0: none
  uint64_t correlation_ = 0;
};

class GroupAuditor final : public GroupClient {
 public:
  using GroupClient::GroupClient;

  // From now on lag is counted up to where each partition is seen to end next.
  void begin() { ranges_.clear(); }

  // Asks for all positions.
  void look();

  [[nodiscard]] bool idle() const override { return left_ == 0; }

  // Of all groups, as seen last: messages of before begin() that are not committed. Requires:
  // idle().
  [[nodiscard]] uint64_t lag() const { return lag_; }

  struct Range {
    Offset start;  // as seen last
    Offset end;    // as seen first
  };

  [[nodiscard]] const std::map<GroupModel::Name, Range>& ranges() const { return ranges_; }

  [[nodiscard]] std::string describe() const override {
    return "lag " + std::to_string(lag_) + text_ + ", " + std::to_string(left_) + " questions left";
  }

 private:
  void on_look(const std::vector<testing::GroupOffsetResult>& results) override;
  void on_look_failed(const std::vector<PartitionId>& partitions) override;

  void on_other(uint64_t /*connection*/, const protocol::Frame& /*frame*/) override {}

  void on_other_lost(uint64_t /*connection*/) override {}

  void ask();

  std::vector<GroupModel::Name> questions_;  // the last is asked
  size_t left_ = 0;
  uint64_t lag_ = 0;
  Offset known_;  // end of the partition when it was asked about
  std::map<GroupModel::Name, Range> ranges_;
  std::string text_;
};

}  // namespace tidemark::sim
