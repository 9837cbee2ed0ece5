#include "tools/txn_view.h"

#include <algorithm>
#include <vector>

namespace tidemark::tools {
namespace {

using client::ErrorCode;
using client::TransactionInfo;
using client::TransactionStateKind;

}  // namespace

std::string_view verb_text(TxnVerb verb) {
  switch (verb) {
    case TxnVerb::kCommit:
      return "commit";
    case TxnVerb::kRollback:
      return "rollback";
    case TxnVerb::kRecheck:
      return "recheck";
  }
  return "";
}

ChangeWords words_of(TxnVerb verb) {
  ChangeWords words = {.noun = "transaction", .done = "", .conflict_name = "Conflict"};
  switch (verb) {
    case TxnVerb::kCommit:
      words.done = "committed";
      break;
    case TxnVerb::kRollback:
      words.done = "rolled back";
      break;
    case TxnVerb::kRecheck:
      words.done = "rechecked";
      break;
  }
  return words;
}

std::string_view outcome_text(TxnVerb verb, ErrorCode code, TransactionStateKind state) {
  if (code == ErrorCode::kOk) {
    return verb == TxnVerb::kRollback ? std::string_view("rolled_back") : words_of(verb).done;
  }
  if (code == ErrorCode::kConflict) {
    return state == TransactionStateKind::kCommitted    ? "already_committed"
           : state == TransactionStateKind::kRolledBack ? "already_rolled_back"
                                                        : "refused";
  }
  return code == ErrorCode::kNotFound ? "not_found" : "unknown";
}

void add_change(ChangeCounts& counts, ErrorCode code, TransactionStateKind state) {
  if (code == ErrorCode::kOk) {
    ++counts.done;
  } else if (code == ErrorCode::kNotFound) {
    ++counts.not_found;
  } else if (code == ErrorCode::kConflict) {
    counts.add_conflict(state == TransactionStateKind::kCommitted    ? "already committed"
                        : state == TransactionStateKind::kRolledBack ? "already rolled back"
                                                                     : "refused");
  } else {
    counts.add_failure(code);
  }
}

uint64_t messages_of(const TransactionInfo& info) {
  uint64_t sum = 0;
  for (const client::TransactionPart& part : info.parts) {
    sum += part.messages;
  }
  return sum;
}

uint64_t bytes_of(const TransactionInfo& info) {
  uint64_t sum = 0;
  for (const client::TransactionPart& part : info.parts) {
    sum += part.bytes;
  }
  return sum;
}

std::string topics_text(const TransactionInfo& info) {
  std::vector<std::string_view> seen;
  std::string out;
  for (const client::TransactionPart& part : info.parts) {
    if (std::ranges::count(seen, part.topic) == 0) {
      seen.emplace_back(part.topic);
      out += (out.empty() ? "" : ", ") + part.topic;
    }
  }
  return out;
}

}  // namespace tidemark::tools
