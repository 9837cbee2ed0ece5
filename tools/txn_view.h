// Transactions in words: what a change came to, what a transaction holds.
//
// Thread: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tidemark/transaction.h"
#include "tools/change_counts.h"

namespace tidemark::tools {

enum class TxnVerb { kCommit, kRollback, kRecheck };

// "commit", "rollback", "recheck".
std::string_view verb_text(TxnVerb verb);
// For sentences: "transaction", "committed".
ChangeWords words_of(TxnVerb verb);

// What became of one transaction: "committed", "rolled_back", "rechecked" when it was done (now or
// before), else "already_committed", "already_rolled_back", "refused" (another conflict),
// "not_found", "unknown" (no answer, or an error).
std::string_view outcome_text(TxnVerb verb, client::ErrorCode code,
                              client::TransactionStateKind state);
void add_change(ChangeCounts& counts, client::ErrorCode code, client::TransactionStateKind state);

uint64_t messages_of(const client::TransactionInfo& info);
uint64_t bytes_of(const client::TransactionInfo& info);
// Every topic once, in the order of the parts: "orders, audit".
std::string topics_text(const client::TransactionInfo& info);

}  // namespace tidemark::tools
