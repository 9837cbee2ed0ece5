// What group consumers and Groups ask of the broker, and what the answers mean.
//
// Each function is one waiting call against an Asker, so that tests answer from a scripted broker.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "clients/cpp/src/call.h"
#include "tidemark/group.h"

namespace tidemark::client_core {

// Of one request; the broker refuses more.
inline constexpr size_t kGroupItemsPerRequestMax = 1024;

// A partition as the wire names it, and where it is.
struct GroupPlace {
  uint32_t topic = 0;
  uint32_t partition = 0;
  Home home;
};

struct GroupCommitItem {
  GroupPlace place;
  uint32_t epoch = 0;
  uint64_t offset = 0;
};

struct GroupCommitted {
  Status status;
  uint64_t offset = 0;  // recorded now
  uint32_t epoch = 0;
};

// One answer per item, in order. Tried once.
std::vector<GroupCommitted> commit_group(Asker& asker, std::string_view group,
                                         protocol::fbs::GroupCommitKind kind,
                                         const std::vector<GroupCommitItem>& items);

struct GroupOffset {
  Status status;
  GroupPlace place;
  std::optional<uint64_t> committed;
  std::optional<int64_t> committed_ms;
  uint32_t epoch = 0;
  uint64_t start_offset = 0;
  uint64_t end_offset = 0;

  // Messages stored and not committed.
  [[nodiscard]] uint64_t lag() const {
    const uint64_t from = std::max(committed.value_or(0), start_offset);
    return end_offset > from ? end_offset - from : 0;
  }
};

// Of these partitions, in order. Tried once.
std::vector<GroupOffset> group_offsets(Asker& asker, std::string_view group,
                                       const std::vector<GroupPlace>& places);

// --- for operators ---

Result<std::vector<client::GroupSummary>> list_groups(Asker& asker);
Result<client::GroupDescription> describe_group(Asker& asker, std::string_view group);
Result<std::vector<client::GroupResetResult>> reset_group(
    Asker& asker, std::string_view group, const std::vector<client::GroupReset>& resets,
    bool force);
Result<uint64_t> remove_group(Asker& asker, std::string_view group);

}  // namespace tidemark::client_core
