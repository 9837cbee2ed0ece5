// Half messages and requests about transactions, for tests of the broker's core.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/support/request_builder.h"

namespace tidemark::testing {

// A part of a transaction.
struct HalfInput {
  protocol::fbs::TxnId txn;
  PartitionId partition;
  uint32_t index = 0;
  SharedBytes payload = {};  // a record batch or a schedule set
  bool schedule = false;
  std::string group = "orders";
  uint32_t timeout_ms = 0;
  std::string reference = "order 17";
};

struct EndInput {
  protocol::fbs::TxnId txn;
  bool commit = true;
  uint32_t halves = UINT32_MAX;
  std::vector<uint16_t> shards = {};
};

struct TxnListInput {
  std::string group = {};
  protocol::fbs::TxnState state = protocol::fbs::TxnState::kNone;
  uint32_t topic = 0;
  int64_t born_before_ms = INT64_MAX;
  protocol::fbs::TxnId after = {};
  uint32_t limit = 100;
};

protocol::Frame half_request(std::span<const HalfInput> parts, uint64_t correlation = 0);
protocol::Frame txn_end_request(std::span<const EndInput> items,
                                protocol::fbs::TxnEndBy by = protocol::fbs::TxnEndBy::kProducer,
                                uint64_t correlation = 0);
protocol::Frame txn_poll_request(const std::string& group, uint32_t wait_ms,
                                 uint32_t checks_max = 64, uint64_t correlation = 0);
protocol::Frame txn_list_request(const TxnListInput& query, uint64_t correlation = 0);
protocol::Frame txn_show_request(const protocol::fbs::TxnId& txn, uint64_t correlation = 0);
protocol::Frame txn_recheck_request(std::span<const protocol::fbs::TxnId> items,
                                    uint64_t correlation = 0);
protocol::Frame txn_stats_request(uint64_t correlation = 0);
protocol::Frame named_producer_request(const std::string& group, const std::string& instance,
                                       uint64_t correlation = 0);

struct TxnResult {
  Status status;
  protocol::fbs::TxnState state = protocol::fbs::TxnState::kNone;
};

// A transaction that the broker asks about.
struct TxnCheck {
  protocol::fbs::TxnId txn;
  std::string reference;
  int64_t born_ms = 0;
  uint32_t checks = 0;
};

std::vector<TxnResult> read_txn_results(const protocol::Frame& reply);
std::vector<TxnCheck> read_txn_checks(const protocol::Frame& reply);

}  // namespace tidemark::testing
