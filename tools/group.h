// What the files of the noun `group` share: its commands.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/group.h"
#include "tidemark/queue.h"
#include "tools/session.h"

namespace tidemark::tools {

struct GroupCommand {
  std::string group;
  // reset
  std::string topic;
  std::vector<uint32_t> partitions;  // empty: all
  std::string to;
  bool dry_run = false;
  bool force = false;
  bool yes = false;  // reset, delete
};

int list_groups(const Globals& globals, const GroupCommand& command);
int describe_group(const Globals& globals, const GroupCommand& command);
int show_group_lag(const Globals& globals, const GroupCommand& command);
int reset_group(const Globals& globals, const GroupCommand& command);
int delete_group(const Globals& globals, const GroupCommand& command);

// All that a group works on: in stream mode, and in queue mode.
struct GroupWork {
  client::GroupDescription stream;
  std::vector<client::QueuePartitionInfo> queues;  // by topic and partition

  // What is stored and not committed, or not settled.
  [[nodiscard]] uint64_t lag() const;
};

client::Groups groups_of(const Session& session);
// kNotFound: nothing is known of it in either mode.
client::Result<GroupWork> find_group(const Session& session, const std::string& group);
// The same; throws.
GroupWork require_group_work(const Session& session, const std::string& group);
// For tables and sentences: names may be any bytes.
std::string group_text(std::string_view group);

}  // namespace tidemark::tools
