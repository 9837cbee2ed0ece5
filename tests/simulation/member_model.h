// Who of a consumer group works on what, as members say and are told.
//
//   I9  an epoch of a partition belongs to one member; a partition does not go to another member
//       while a live one lists it as owned; a member knows of each change by its generation
//
// Heartbeats are judged together, when a process of the broker has ended and at the end. A member
// is surely alive for its session timeout after a heartbeat that was answered. What it lists is
// its own once it was told so, or when it says so early in the life of a process, in which nothing
// is given out before all could; unless another one has said so of as high an epoch, or says so of
// a higher one later.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/group_requests.h"

namespace tidemark::sim {

class MemberModel {
 public:
  using Share = testing::GroupShare;
  enum class Answer : uint8_t { kOk, kFenced, kUnsure };

  struct Beat {
    std::string group;
    std::string member;
    std::string instance = {};
    uint32_t session_ms = 1'000;
    std::vector<Share> owned = {};
    bool leave = false;
  };

  uint64_t sent(Beat beat);
  void arrived(uint64_t id, int64_t at_ns);
  void answered(uint64_t id, Answer answer, const testing::HeartbeatResult& result,
                int64_t left_ns);
  // Of a process: claims count from here.
  void broker_started(int64_t at_ns);
  void check();

  struct Counters {
    uint64_t beats = 0;   // answered
    uint64_t fenced = 0;  // members that were replaced
    uint64_t leases = 0;  // epochs told to members
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Record {
    Beat beat;
    int64_t arrived_ns = -1;  // -1: not yet
    std::optional<Answer> answer;
    testing::HeartbeatResult result;
    int64_t left_ns = 0;
  };

  // At a point of the replay.
  struct Member {
    std::string instance;
    int64_t heard_ns = 0;  // surely
    uint32_t session_ms = 0;
    std::set<Share> told;
    std::map<PartitionId, uint32_t> works_on;  // told or claimed, and listed ever since
    std::vector<Share> last_told;
    uint64_t generation = 0;
  };

  using Group = std::map<std::string, Member>;

  void on_arrival(const Record& record);
  void on_answer(const Record& record);
  void claim(const Record& record, Group& group, const Share& share);
  void check_generation(const Record& record, Member& member);
  void check_free(const Record& record, const Group& group, const Share& share) const;

  std::map<uint64_t, Record> records_;
  uint64_t next_ = 1;
  int64_t started_ns_ = 0;
  std::map<std::string, Group> groups_;
  std::map<std::tuple<std::string, PartitionId, uint32_t>, std::string> holders_;  // for ever
  Counters counters_;
};

}  // namespace tidemark::sim
