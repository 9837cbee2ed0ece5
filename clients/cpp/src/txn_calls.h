// What Transactions asks of the shards of the cluster, and what the answers mean.
//
// Each function is one waiting call; what may pass is tried again until the Asker's time is over.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/call.h"
#include "tidemark/transaction.h"

namespace tidemark::client_core {

Result<std::vector<client::TransactionInfo>> list_transactions(
    Asker& asker, const client::TransactionQuery& query);
Result<client::TransactionInfo> show_transaction(Asker& asker, const client::TransactionId& id);
// One change per id. An error: nothing could be asked.
Result<std::vector<client::TransactionChange>> end_transactions(
    Asker& asker, const std::vector<client::TransactionId>& ids, bool commit);
Result<std::vector<client::TransactionChange>> recheck_transactions(
    Asker& asker, const std::vector<client::TransactionId>& ids);
Result<client::TransactionTotals> transaction_totals(Asker& asker);

// --- where shards are ---

struct ClusterShards {
  std::vector<Home> homes;                // by shard
  std::map<uint32_t, std::string> names;  // of topics, by id
};

Result<ClusterShards> find_shards(Asker& asker);

inline protocol::fbs::TxnId to_wire(const client::TransactionId& id) {
  return {id.producer, id.number, id.shard};
}

client::TransactionStateKind to_state(protocol::fbs::TxnState state);

}  // namespace tidemark::client_core
