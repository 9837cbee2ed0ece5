// What the files of the noun `txn` share: its commands.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/transaction.h"
#include "tools/txn_view.h"

namespace tidemark::tools {

struct Globals;
class Session;

// Which transactions that have not ended.
struct TxnSelection {
  std::string group;
  std::string state;  // "open", "parked"; empty: both
  std::string topic;
  std::optional<int64_t> older_than_ms;

  [[nodiscard]] bool empty() const {
    return group.empty() && state.empty() && topic.empty() && !older_than_ms;
  }
};

struct TxnCommand {
  std::vector<std::string> ids;  // "-": from standard input
  TxnSelection selection;
  uint32_t limit = 100;  // list
  // commit, rollback, recheck
  bool dry_run = false;
  bool yes = false;
};

int list_transactions(const Globals& globals, const TxnCommand& command);
int show_transaction(const Globals& globals, const TxnCommand& command);
int change_transactions(const Globals& globals, const TxnCommand& command, TxnVerb verb);
int show_transaction_stats(const Globals& globals, const TxnCommand& command);

// Most that one answer of Transactions::list() has.
inline constexpr uint32_t kTxnPage = 10'000;

client::Transactions transactions_of(const Session& session);
// A usage error names the text that is no id.
client::TransactionId transaction_id_of(const std::string& text);
// Older than is counted from now.
client::TransactionQuery query_of(const TxnSelection& selection);

}  // namespace tidemark::tools
