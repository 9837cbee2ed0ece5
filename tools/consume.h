// What `tidemark consume` is asked for, by itself and as a member of a consumer group.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tidemark::tools {

struct Globals;

struct ConsumeOptions {
  std::string topic;
  std::string from = "start";
  std::vector<uint32_t> partitions;
  uint64_t count = 0;  // 0: no bound
  bool follow = false;
  std::string format = "%v\\n";
  // As a member of a group; the rest is for that alone.
  std::string group;
  std::string instance;
  int64_t session_timeout_ms = 10'000;
  int64_t idle_exit_ms = 0;  // 0: never
};

// How long poll() may wait when there is nothing to print: an interrupt is seen after this.
inline constexpr int64_t kConsumePollMs = 100;

// Requires: options.group is not empty. Gives the exit code.
int consume_as_member(const Globals& globals, const ConsumeOptions& options);

}  // namespace tidemark::tools
