// Requests of consumer groups, for tests of the broker's core.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/request_builder.h"

namespace tidemark::testing {

// A partition that a group works on, or is to work on.
struct GroupShare {
  PartitionId partition;
  uint32_t epoch = 0;

  friend auto operator<=>(const GroupShare&, const GroupShare&) = default;
};

struct HeartbeatInput {
  std::string group = "billing";
  std::string member = "m1";
  std::string instance = {};
  std::vector<std::string> topics = {};
  uint32_t session_timeout_ms = 10'000;
  uint32_t wait_ms = 0;
  uint64_t generation = 0;
  std::vector<GroupShare> owned = {};
  bool leave = false;
};

struct CommitInput {
  PartitionId partition;
  uint32_t epoch = 0;
  Offset offset;
};

protocol::Frame group_heartbeat_request(const HeartbeatInput& input, uint64_t correlation = 0);
protocol::Frame group_commit_request(
    std::string_view group, std::span<const CommitInput> items,
    protocol::fbs::GroupCommitKind kind = protocol::fbs::GroupCommitKind::kCommit,
    uint64_t correlation = 0);
// No partitions: all that the group has a position in.
protocol::Frame group_offsets_request(std::string_view group,
                                      std::span<const PartitionId> partitions,
                                      uint64_t correlation = 0);
protocol::Frame group_list_request(uint64_t correlation = 0);
protocol::Frame group_describe_request(std::string_view group, uint64_t correlation = 0);
protocol::Frame group_delete_request(std::string_view group, uint64_t correlation = 0);

struct HeartbeatResult {
  uint64_t generation = 0;
  std::vector<GroupShare> assigned;
  uint32_t members = 0;
};

struct GroupCommitOutcome {
  Status status;
  Offset offset;
  uint32_t epoch = 0;
};

struct GroupOffsetResult {
  Status status;
  PartitionId partition;
  std::optional<Offset> committed;
  uint32_t epoch = 0;
  int64_t committed_ms = -1;
  Offset start;
  Offset end;

  [[nodiscard]] Offset position() const {
    return committed.has_value() ? std::max(*committed, start) : start;
  }

  // Less than 0 where a broker lies.
  [[nodiscard]] int64_t lag() const {
    return static_cast<int64_t>(end.value()) - static_cast<int64_t>(position().value());
  }
};

HeartbeatResult read_heartbeat_reply(const protocol::Frame& reply);
std::vector<GroupCommitOutcome> read_group_commit_reply(const protocol::Frame& reply);
std::vector<GroupOffsetResult> read_group_offsets_reply(const protocol::Frame& reply);

}  // namespace tidemark::testing
