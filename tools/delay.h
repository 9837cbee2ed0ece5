// What the files of the noun `delay` share: its targets, its commands.
//
// Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/delay.h"
#include "tools/delay_options.h"
#include "tools/delay_view.h"

namespace tidemark::tools {

struct Globals;
class Session;

struct DelayCommand {
  std::string topic;
  std::vector<std::string> handles;  // "-": from standard input
  std::vector<std::string> keys;
  std::optional<uint32_t> partition;
  // list, purge
  std::optional<int64_t> due_from_ms;
  std::optional<int64_t> due_to_ms;
  std::string key_prefix;
  uint64_t limit = 100;
  bool dry_run = false;
  bool yes = false;
  // reschedule
  DelayOptions when;
  // histogram
  size_t bins = 20;
};

int list_delays(const Globals& globals, const DelayCommand& command);
int show_delay(const Globals& globals, const DelayCommand& command);
int cancel_delays(const Globals& globals, const DelayCommand& command);
int reschedule_delays(const Globals& globals, const DelayCommand& command);
int fire_delays_now(const Globals& globals, const DelayCommand& command);
int purge_delays(const Globals& globals, const DelayCommand& command);
int show_delay_stats(const Globals& globals, const DelayCommand& command);
int show_delay_histogram(const Globals& globals, const DelayCommand& command);

// Most that one page of Delays::list() has.
inline constexpr uint32_t kDelayPage = 10'000;

client::Delays delays_of(const Session& session);
// A usage error names the text that is no handle.
client::DelayTarget target_of_handle(const std::string& text);
// Throws unless the command names exactly one message.
client::DelayTarget single_target(const DelayCommand& command);
// By due range, partition and (if there is exactly one) key; at most one page.
client::DelayQuery query_of(const DelayCommand& command);

}  // namespace tidemark::tools
