// Request frames about transactions, for tests of the broker's core; as request_builder.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/support/request_builder.h"

namespace tidemark::testing {

// What all parts of a transaction say about it.
struct TxnBirth {
  protocol::fbs::TxnId txn;
  std::string group;
  std::string reference;
  uint32_t timeout_ms = 0;
};

struct HalfInput {
  PartitionId partition;
  uint32_t index = 0;
  bool schedule = false;
  SharedBytes bytes;
};

struct TxnEndInput {
  protocol::fbs::TxnId txn;
  bool commit = false;
  uint32_t halves = UINT32_MAX;
  std::vector<uint16_t> shards = {};
};

struct TxnListInput {
  std::string group = {};
  protocol::fbs::TxnState state = protocol::fbs::TxnState::kNone;
  protocol::fbs::TxnId after = {};
  uint32_t limit = 100;
};

protocol::Frame init_named_producer_request(const std::string& group, const std::string& instance,
                                            uint64_t correlation = 0);
protocol::Frame half_request(const TxnBirth& birth, std::span<const HalfInput> parts,
                             uint64_t correlation = 0);
protocol::Frame txn_end_request(std::span<const TxnEndInput> items, protocol::fbs::TxnEndBy by,
                                uint64_t correlation = 0);
protocol::Frame txn_poll_request(const std::string& group, uint32_t wait_ms, uint32_t checks_max,
                                 uint64_t correlation = 0);
protocol::Frame txn_list_request(const TxnListInput& wanted, uint64_t correlation = 0);
protocol::Frame txn_show_request(const protocol::fbs::TxnId& txn, uint64_t correlation = 0);
protocol::Frame txn_recheck_request(std::span<const protocol::fbs::TxnId> items,
                                    uint64_t correlation = 0);
protocol::Frame txn_stats_request(uint64_t correlation = 0);

}  // namespace tidemark::testing
