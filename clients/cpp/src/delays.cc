#include "clients/cpp/src/delay_calls.h"
#include "tidemark/delay.h"

namespace tidemark::client {

using client_core::Call;
using client_core::to_public;

std::string_view delay_outcome_text(DelayOutcome outcome) {
  switch (outcome) {
    case DelayOutcome::kNotFound:
      return "not_found";
    case DelayOutcome::kCancelled:
      return "cancelled";
    case DelayOutcome::kRescheduled:
      return "rescheduled";
    case DelayOutcome::kAlreadyDelivered:
      return "already_delivered";
  }
  return "unknown";
}

Result<Delays> Delays::create(const Client& client) { return Delays(client); }

Result<std::vector<DelayChange>> Delays::cancel(std::string_view topic,
                                                const std::vector<DelayTarget>& targets,
                                                int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::cancel_delayed(call, topic, targets));
}

Result<std::vector<DelayChange>> Delays::reschedule(std::string_view topic,
                                                    const std::vector<DelayTarget>& targets,
                                                    const Delay& when, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(
      client_core::reschedule_delayed(call, topic, targets, when, system_clock().wall().ms));
}

Result<std::vector<DelayedMessage>> Delays::list(std::string_view topic, const DelayQuery& query,
                                                 int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::list_delayed(call, topic, query));
}

Result<DelayedMessage> Delays::show(std::string_view topic, const DelayTarget& target,
                                    int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::show_delayed(call, topic, target));
}

Result<std::vector<DelayStats>> Delays::stats(std::string_view topic, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::delay_stats(call, topic));
}

}  // namespace tidemark::client
