#include "tools/txn_view.h"

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

using client::ErrorCode;
using client::TransactionStateKind;

TEST_CASE("what became of a transaction") {
  const auto commit = [](ErrorCode code, TransactionStateKind state) {
    return outcome_text(TxnVerb::kCommit, code, state);
  };
  CHECK(commit(ErrorCode::kOk, TransactionStateKind::kCommitted) == "committed");
  CHECK(commit(ErrorCode::kConflict, TransactionStateKind::kRolledBack) == "already_rolled_back");
  CHECK(commit(ErrorCode::kConflict, TransactionStateKind::kOpen) == "refused");
  CHECK(commit(ErrorCode::kNotFound, TransactionStateKind::kNone) == "not_found");
  CHECK(commit(ErrorCode::kOutcomeUnknown, TransactionStateKind::kNone) == "unknown");
  CHECK(outcome_text(TxnVerb::kRollback, ErrorCode::kOk, {}) == "rolled_back");
  CHECK(outcome_text(TxnVerb::kRecheck, ErrorCode::kOk, {}) == "rechecked");
  CHECK(outcome_text(TxnVerb::kRollback, ErrorCode::kConflict, TransactionStateKind::kCommitted) ==
        "already_committed");
}

TEST_CASE("exit codes, and a sentence that names the recorded outcome") {
  ChangeCounts counts;
  add_change(counts, ErrorCode::kConflict, TransactionStateKind::kRolledBack);
  CHECK(exit_code_of(counts) == ExitCode::kConflict);
  CHECK(describe_failures(counts, words_of(TxnVerb::kCommit)) ==
        "1 of 1 transaction was not committed: 1 already rolled back");
  add_change(counts, ErrorCode::kNotFound, TransactionStateKind::kNone);
  CHECK(exit_code_of(counts) == ExitCode::kConflict);
  add_change(counts, ErrorCode::kUnavailable, TransactionStateKind::kNone);
  CHECK(exit_code_of(counts) == ExitCode::kUnavailable);
  add_change(counts, ErrorCode::kOk, TransactionStateKind::kCommitted);
  CHECK(exit_code_of(counts) == ExitCode::kPartlyDone);
  CHECK(describe_failures(counts, words_of(TxnVerb::kRollback)) ==
        "3 of 4 transactions were not rolled back: 1 already rolled back, 1 not found, 1 without "
        "an answer (unavailable)");

  ChangeCounts missing;
  add_change(missing, ErrorCode::kNotFound, TransactionStateKind::kNone);
  CHECK(exit_code_of(missing) == ExitCode::kNotFound);
}

TEST_CASE("parts add up, topics come once") {
  client::TransactionInfo info;
  CHECK(topics_text(info).empty());
  info.parts.push_back({.topic = "orders", .index = 0, .messages = 2, .bytes = 100});
  info.parts.push_back({.topic = "audit", .index = 1, .messages = 1, .bytes = 50});
  info.parts.push_back({.topic = "orders", .index = 2, .messages = 3, .bytes = 7});
  CHECK(messages_of(info) == 6);
  CHECK(bytes_of(info) == 157);
  CHECK(topics_text(info) == "orders, audit");
}

}  // namespace
}  // namespace tidemark::tools
