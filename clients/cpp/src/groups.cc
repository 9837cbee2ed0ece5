#include "clients/cpp/src/group_calls.h"
#include "tidemark/group.h"

namespace tidemark::client {

using client_core::Call;
using client_core::to_public;

Result<Groups> Groups::create(const Client& client) { return Groups(client); }

Result<std::vector<GroupSummary>> Groups::list(int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::list_groups(call));
}

Result<GroupDescription> Groups::describe(std::string_view group, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::describe_group(call, group));
}

Result<std::vector<GroupResetResult>> Groups::reset(std::string_view group,
                                                    const std::vector<GroupReset>& resets,
                                                    bool force, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::reset_group(call, group, resets, force));
}

Result<uint64_t> Groups::remove(std::string_view group, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::remove_group(call, group));
}

}  // namespace tidemark::client
