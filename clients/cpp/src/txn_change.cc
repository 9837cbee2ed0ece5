// Commit, roll back and recheck by operators: every id gets an answer of its own. All of them are
// idempotent, so whatever may pass is asked again.
#include <algorithm>
#include <utility>

#include "clients/cpp/src/txn_calls.h"
#include "clients/cpp/src/txn_state.h"
#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

using Ids = std::vector<client::TransactionId>;
using Changes = std::vector<client::TransactionChange>;

class TxnChangeCall {
 public:
  TxnChangeCall(Asker& asker, FrameType type, const Ids& ids, ItemsBuilder build)
      : asker_(asker), type_(type), ids_(ids), build_(std::move(build)), changes_(ids.size()) {
    for (size_t i = 0; i < ids.size(); ++i) {
      open_.push_back(i);
    }
  }

  Result<Changes> run() {
    RETURN_IF_ERROR(asker_.check());
    while (!open_.empty()) {
      const Result<ClusterShards> shards = find_shards(asker_);
      if (shards.ok()) {
        ask_open(*shards);
      } else {
        last_error_ = shards.error();
      }
      const bool again = shards.ok() || may_ask_again(last_error_);
      if (!open_.empty() && (!again || !asker_.pause())) {
        break;
      }
    }
    if (!ids_.empty() && open_.size() == ids_.size() && !asked_) {
      return last_error_;
    }
    for (const size_t i : open_) {
      if (changes_[i].status.ok()) {
        changes_[i].status = to_public(last_error_);
      }
    }
    return std::move(changes_);
  }

 private:
  void ask_open(const ClusterShards& shards) {
    asked_ = true;
    std::map<Home, std::vector<size_t>> waiting;
    for (const size_t i : std::exchange(open_, {})) {
      const client::TransactionId& id = ids_[i];
      if (id.empty() || id.shard >= shards.homes.size()) {
        changes_[i].status = client::Status(client::ErrorCode::kNotFound,
                                            "transaction " + id.to_string() + " names shard " +
                                                std::to_string(id.shard) + "; the cluster has " +
                                                std::to_string(shards.homes.size()));
      } else {
        waiting[shards.homes[id.shard]].push_back(i);
      }
    }
    ask_in_chunks(asker_, type_, std::move(waiting), limits::kTxnItemsPerRequestMax, build_,
                  [this](Home /*home*/, const std::vector<size_t>& items, const Reply& reply) {
                    take_reply(items, reply);
                  });
    std::sort(open_.begin(), open_.end());
  }

  void take_reply(const std::vector<size_t>& items, const Reply& reply) {
    Status status = reply.status;
    const fbs::TxnResultReply* table = nullptr;
    if (status.ok()) {
      table = &table_of<fbs::TxnResultReply>(reply);
      if (table->results() == nullptr || table->results()->size() != items.size()) {
        status =
            Status(ErrorCode::kOutcomeUnknown, "TxnResultReply does not answer every transaction");
      }
    }
    for (size_t i = 0; i < items.size(); ++i) {
      client::TransactionChange& change = changes_[items[i]];
      Status each = status;
      if (status.ok()) {
        const fbs::TxnResult& result =
            *table->results()->Get(static_cast<flatbuffers::uoffset_t>(i));
        each = protocol::to_status(result.error());
        change.state = to_state(result.state());
      }
      const bool ended = change.state == client::TransactionStateKind::kCommitted ||
                         change.state == client::TransactionStateKind::kRolledBack;
      if (each.code() == ErrorCode::kConflict && ended) {
        each = recorded_otherwise(ids_[items[i]],
                                  change.state == client::TransactionStateKind::kCommitted);
      }
      change.status = to_public(each);
      if (may_ask_again(each)) {
        last_error_ = each;
        open_.push_back(items[i]);
      }
    }
  }

  Asker& asker_;
  FrameType type_;
  const Ids& ids_;
  ItemsBuilder build_;
  Changes changes_;
  std::vector<size_t> open_;  // ids without a final answer, in order
  bool asked_ = false;
  Status last_error_;
};

}  // namespace

Result<Changes> end_transactions(Asker& asker, const Ids& ids, bool commit) {
  TxnChangeCall call(asker, FrameType::kTxnEnd, ids, [&](const std::vector<size_t>& items) {
    flatbuffers::FlatBufferBuilder builder(1024);
    std::vector<flatbuffers::Offset<fbs::TxnEndItem>> list;
    for (const size_t i : items) {
      const fbs::TxnId id = to_wire(ids[i]);
      list.push_back(fbs::CreateTxnEndItem(builder, &id, commit));
    }
    const auto offset = builder.CreateVector(list);
    builder.Finish(fbs::CreateTxnEnd(builder, offset, fbs::TxnEndBy::kOperator));
    return finished_copy(builder);
  });
  return call.run();
}

Result<Changes> recheck_transactions(Asker& asker, const Ids& ids) {
  TxnChangeCall call(asker, FrameType::kTxnRecheck, ids, [&](const std::vector<size_t>& items) {
    flatbuffers::FlatBufferBuilder builder(1024);
    std::vector<fbs::TxnId> list;
    list.reserve(items.size());
    for (const size_t i : items) {
      list.push_back(to_wire(ids[i]));
    }
    const auto offset = builder.CreateVectorOfStructs(list);
    builder.Finish(fbs::CreateTxnRecheck(builder, offset));
    return finished_copy(builder);
  });
  return call.run();
}

}  // namespace tidemark::client_core
