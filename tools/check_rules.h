// What `tidemark check` compares, and how it tells.
//
// Thread: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "log/base/result.h"
#include "tools/broker_metrics.h"

namespace tidemark::tools {

// Of a group: "GROUP>N". The last '>' counts: names may have some.
struct LagBound {
  std::string group;
  uint64_t lag_max = 0;
};

Result<LagBound> parse_lag_bound(std::string_view text);

// Of a dead-letter topic: "TOPIC>N".
struct LettersBound {
  std::string topic;
  uint64_t letters_max = 0;
};

Result<LettersBound> parse_letters_bound(std::string_view text);

struct CheckRules {
  bool ready = false;
  bool read_only = false;
  bool disk_full = false;
  std::optional<uint64_t> delay_overdue_max;
  std::optional<uint64_t> txn_parked_max;
  std::optional<int64_t> txn_oldest_ms_max;
  std::vector<LagBound> lags;
  std::vector<LettersBound> dead_letters;

  [[nodiscard]] bool needs_metrics() const {
    return ready || read_only || disk_full || delay_overdue_max || txn_parked_max ||
           txn_oldest_ms_max;
  }

  [[nodiscard]] bool any() const {
    return needs_metrics() || !lags.empty() || !dead_letters.empty();
  }

  // What is checked when nothing was asked for.
  static CheckRules defaults();
};

struct CheckResult {
  std::string name;     // "txn-parked", as the option
  std::string subject;  // "parked transactions"
  std::string unit;     // "transactions"
  std::string group;    // of a lag
  std::string topic;    // of dead letters
  // Nothing: the broker does not tell, or there is no such group or topic. Never ok.
  std::optional<uint64_t> value;
  uint64_t threshold = 0;

  [[nodiscard]] bool ok() const { return value && *value <= threshold; }
};

// All but the lags and dead letters.
std::vector<CheckResult> check_metrics(const CheckRules& rules, const BrokerMetrics& metrics);
CheckResult check_lag(const LagBound& bound, std::optional<uint64_t> lag);
CheckResult check_letters(const LettersBound& bound, std::optional<uint64_t> letters);

bool all_ok(const std::vector<CheckResult>& results);
std::string check_table(const std::vector<CheckResult>& results);
nlohmann::ordered_json check_json(const std::vector<CheckResult>& results);

}  // namespace tidemark::tools
