// Flags that say when a message is delivered, and the checks that they go together.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tidemark/delay.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidemark::tools {

struct DelayOptions {
  std::optional<int64_t> after_ms;
  std::optional<int64_t> at_ms;
  std::optional<int64_t> every_ms;
  std::string cron;
  std::string zone;
  std::string key;
  bool key_from_key = false;
  bool replace = false;

  [[nodiscard]] bool delayed() const { return after_ms || at_ms || every_ms || !cron.empty(); }

  [[nodiscard]] bool keyed() const { return key_from_key || !key.empty(); }
};

// --after and --at, which exclude each other.
void add_after_and_at(CLI::App& command, DelayOptions& options);
// Those, --every, --cron, --tz, --delay-key, --delay-key-from-key and --replace.
void add_delay_options(CLI::App& command, DelayOptions& options);
// --due-from and --due-to (included).
void add_due_range(CLI::App& command, std::optional<int64_t>& from_ms,
                   std::optional<int64_t>& to_ms);
// Requires: options.delayed(). Views the texts of `options`.
client::Delay delay_of(const DelayOptions& options);

// "" if `text` has the six fields of a cron expression; the broker reads what is in them.
std::string check_cron(const std::string& text);

}  // namespace tidemark::tools
