// tidemark txn commit|rollback|recheck, of transactions by their ids or by a selection.
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/cli.h"
#include "tools/confirm.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/json_text.h"
#include "tools/name_source.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"
#include "tools/txn.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using client::TransactionChange;
using client::TransactionId;

// Where ids come from, in sets. `next` gives false at the end.
class IdSource {
 public:
  virtual ~IdSource() = default;
  virtual bool next(std::vector<TransactionId>& ids) = 0;
};

class NamedIds : public IdSource {
 public:
  explicit NamedIds(const TxnCommand& command) : names_(command.ids, "ids") {}

  bool next(std::vector<TransactionId>& ids) override {
    ids.clear();
    std::vector<std::string> names;
    const bool more = names_.next(names);
    for (const std::string& name : names) {
      ids.push_back(transaction_id_of(name));
    }
    return more;
  }

 private:
  NameSource names_;
};

// Page by page. What was ended is not in the next page, what could not be is not given again.
class SelectedIds : public IdSource {
 public:
  SelectedIds(client::Transactions& transactions, const TxnCommand& command, int64_t deadline_ms)
      : transactions_(transactions),
        query_(query_of(command.selection)),
        one_page_(command.dry_run),
        deadline_ms_(deadline_ms) {}

  bool next(std::vector<TransactionId>& ids) override {
    ids.clear();
    if (last_ || interrupted()) {
      return false;
    }
    const auto page = require(transactions_.list(query_, deadline_ms_), "transactions");
    last_ = one_page_ || page.size() < query_.limit;
    for (const client::TransactionInfo& info : page) {
      if (seen_.insert(info.id).second) {
        ids.push_back(info.id);
      }
    }
    if (ids.empty() && page.size() == query_.limit) {
      note(fmt::format("more are selected than the oldest {}, which were all tried",
                       format_count(page.size())));
    }
    return !ids.empty();
  }

 private:
  client::Transactions& transactions_;
  client::TransactionQuery query_;
  bool one_page_;
  int64_t deadline_ms_;
  bool last_ = false;
  std::set<TransactionId> seen_;
};

// The answers, as a table or as JSON.
class TxnReport {
 public:
  TxnReport(const Globals& globals, TxnVerb verb)
      : globals_(globals), verb_(verb), table_({{"ID"}, {"OUTCOME"}}) {}

  void add(const TransactionId& id, const TransactionChange& change) {
    const client::ErrorCode code = change.status.code();
    add_change(counts_, code, change.state);
    add_line(id, outcome_text(verb_, code, change.state));
    if (!globals_.json || change.status.ok()) {
      return;
    }
    Json& object = results_.back();
    if (code == client::ErrorCode::kConflict) {
      object["state"] = client::transaction_state_text(change.state);
    }
    object["error"] = {{"code", client::error_name(code)}, {"message", change.status.to_string()}};
  }

  // Of a dry run.
  void add_selected(const TransactionId& id) {
    ++selected_;
    add_line(id, "selected");
  }

  void print_all(bool dry_run) {
    Json object = Json::object();
    if (dry_run) {
      object["dry_run"] = true;
      object["matching"] = selected_;
    } else {
      object[std::string(outcome_text(verb_, client::ErrorCode::kOk, {}))] = counts_.done;
      object["conflict"] = counts_.conflict();
      object["not_found"] = counts_.not_found;
      object["failed"] = counts_.failed;
    }
    object["results"] = std::move(results_);
    print_result(globals_, table_.to_string(), dump_json(object));
  }

  [[nodiscard]] const ChangeCounts& counts() const { return counts_; }

  [[nodiscard]] uint64_t selected() const { return selected_; }

 private:
  void add_line(const TransactionId& id, std::string_view outcome) {
    if (globals_.json) {
      results_.push_back(Json{{"id", id.to_string()}, {"outcome", outcome}});
    } else {
      table_.add({id.to_string(), std::string(outcome)});
    }
  }

  const Globals& globals_;
  TxnVerb verb_;
  Table table_;
  Json results_ = Json::array();
  ChangeCounts counts_;
  uint64_t selected_ = 0;
};

client::Result<std::vector<TransactionChange>> apply(client::Transactions& transactions,
                                                     TxnVerb verb,
                                                     const std::vector<TransactionId>& ids,
                                                     int64_t deadline_ms) {
  switch (verb) {
    case TxnVerb::kCommit:
      return transactions.commit(ids, deadline_ms);
    case TxnVerb::kRollback:
      return transactions.rollback(ids, deadline_ms);
    case TxnVerb::kRecheck:
      return transactions.recheck(ids, deadline_ms);
  }
  return std::vector<TransactionChange>();
}

void check_command(const TxnCommand& command, TxnVerb verb) {
  const bool selects = !command.selection.empty();
  if (selects == !command.ids.empty()) {
    throw usage_error(
        "name transactions by their ids, or select them by --group, --state, --topic or "
        "--older-than");
  }
  if (!selects && command.dry_run) {
    throw usage_error("--dry-run is for a selection");
  }
  if (selects && !command.yes && !command.dry_run) {
    const std::string word(verb_text(verb));
    confirm(fmt::format("txn {} of a selection may touch many transactions", word),
            fmt::format("{} every transaction that is selected? Type {} to confirm: ", word, word),
            word, "nothing was changed");
  }
}

}  // namespace

int change_transactions(const Globals& globals, const TxnCommand& command, TxnVerb verb) {
  check_command(command, verb);
  catch_interrupts();
  Session session(globals);
  client::Transactions transactions = transactions_of(session);
  std::unique_ptr<IdSource> source;
  if (command.selection.empty()) {
    source = std::make_unique<NamedIds>(command);
  } else {
    source = std::make_unique<SelectedIds>(transactions, command, session.deadline_ms());
  }
  TxnReport report(globals, verb);
  std::vector<TransactionId> ids;
  const std::optional<CommandError> stopped = run_steps(report.counts(), [&] {
    if (!source->next(ids)) {
      return false;
    }
    if (command.dry_run) {
      for (const TransactionId& id : ids) {
        report.add_selected(id);
      }
      return true;
    }
    const auto changes =
        require(apply(transactions, verb, ids, session.deadline_ms()), "transactions");
    for (size_t i = 0; i < changes.size(); ++i) {
      report.add(ids.at(i), changes[i]);
    }
    return true;
  });
  report.print_all(command.dry_run);
  if (command.dry_run && report.selected() == kTxnPage) {
    note(fmt::format("these are the oldest {}; there may be more", format_count(kTxnPage)));
  }
  throw_unless_all_done(report.counts(), words_of(verb), stopped);
  if (interrupted()) {
    throw CommandError(report.counts().done > 0 ? ExitCode::kPartlyDone : ExitCode::kFailed,
                       "Cancelled", "interrupted");
  }
  return 0;
}

}  // namespace tidemark::tools
