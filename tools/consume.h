// What `tidemark consume` is asked for: by itself, as a member of a consumer group, or in queue
// mode.
//
// Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tidemark::tools {

struct Globals;

struct ConsumeOptions {
  std::vector<std::string> topics;  // one; with a group several
  std::string from = "start";
  std::vector<uint32_t> partitions;
  uint64_t count = 0;  // 0: no bound
  bool follow = false;
  std::string format = "%v\\n";
  std::vector<std::string> tags;
  std::string filter;
  // As a member of a group; the rest is for that alone.
  std::string group;
  int64_t idle_exit_ms = 0;  // 0: never
  std::string instance;
  std::optional<int64_t> session_timeout_ms;
  // In queue mode.
  bool queue = false;
  bool ack = false;
  bool ordered = false;
  bool from_end = false;
  std::optional<int64_t> visibility_ms;
  std::optional<size_t> in_flight;
};

// How long poll() may wait when there is nothing to print: an interrupt is seen after this.
inline constexpr int64_t kConsumePollMs = 100;

// Requires: options.group is not empty. Gives the exit code.
int consume_as_member(const Globals& globals, const ConsumeOptions& options);
// Requires: options.queue.
int consume_as_queue(const Globals& globals, const ConsumeOptions& options);

// Of a group. A usage error unless --from is start or end.
void check_group_start(const ConsumeOptions& options);
// How many messages may be leased at a time. With --count so few that none is leased that will not
// be printed: what is acked and what may be leased are together never more than the count.
size_t queue_in_flight(const ConsumeOptions& options);

}  // namespace tidemark::tools
