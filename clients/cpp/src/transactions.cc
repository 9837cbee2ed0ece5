#include "clients/cpp/src/txn_calls.h"
#include "tidemark/transaction.h"

namespace tidemark::client {

using client_core::Call;
using client_core::to_public;

std::string_view transaction_state_text(TransactionStateKind state) {
  switch (state) {
    case TransactionStateKind::kNone:
      return "none";
    case TransactionStateKind::kOpen:
      return "open";
    case TransactionStateKind::kParked:
      return "parked";
    case TransactionStateKind::kCommitted:
      return "committed";
    case TransactionStateKind::kRolledBack:
      return "rolled_back";
  }
  return "unknown";
}

Result<Transactions> Transactions::create(const Client& client) { return Transactions(client); }

Result<std::vector<TransactionInfo>> Transactions::list(const TransactionQuery& query,
                                                        int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::list_transactions(call, query));
}

Result<TransactionInfo> Transactions::show(const TransactionId& id, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::show_transaction(call, id));
}

Result<std::vector<TransactionChange>> Transactions::commit(const std::vector<TransactionId>& ids,
                                                            int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::end_transactions(call, ids, true));
}

Result<std::vector<TransactionChange>> Transactions::rollback(const std::vector<TransactionId>& ids,
                                                              int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::end_transactions(call, ids, false));
}

Result<std::vector<TransactionChange>> Transactions::recheck(const std::vector<TransactionId>& ids,
                                                             int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::recheck_transactions(call, ids));
}

Result<TransactionTotals> Transactions::stats(int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::transaction_totals(call));
}

}  // namespace tidemark::client
