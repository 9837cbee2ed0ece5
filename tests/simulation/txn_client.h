// TxnClient: a process that makes transactions, and answers check-backs of its group from the local
// database. Transactions have parts on several partitions; some of them are given up at any step,
// or end more than once, or in contradiction. The process may die at any time, and may go on
// although another has taken its name.
//
//   sending --all parts stored--> prepared --decision in the database--> ending --answer--> over
//      \--- part refused, or the application changes its mind -------------^
//   from each of them: given up (whatever the database says then is the answer to check-backs)
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>

#include "tests/simulation/client.h"
#include "tests/support/txn_requests.h"

namespace tidemark::sim {

protocol::fbs::TxnId to_wire(const TxnName& name);
TxnName from_wire(const protocol::fbs::TxnId& id);
// What an error code says about a request; throws WrongResult for one that a valid request never
// gets.
TxnModel::Answer to_answer(const Status& status, const std::string& what);

// What it has asked for, by correlation: for ends, which several kinds of clients send.
struct TxnEndRequest {
  uint64_t connection = 0;
  std::vector<uint64_t> ends;  // of the model
  uint64_t work = 0;           // transaction that waits for the answer; 0: none
};

// A client that ends transactions.
class TxnEnder : public Client {
 public:
  using Client::Client;

  void on_arrival(uint64_t connection, uint64_t correlation) override;

 protected:
  struct Wanted {
    uint64_t txn = 0;
    bool commit = false;
    uint32_t halves = TxnModel::kAnyHalves;
    std::vector<uint16_t> shards = {};
  };

  // All coordinated by one shard. False: not sent.
  bool send_ends(const std::vector<Wanted>& wanted, TxnModel::By by, uint64_t work = 0);
  // False: not the answer to ends.
  bool take_end_reply(const protocol::Frame& frame);

  virtual void on_end(uint64_t /*work*/, TxnModel::Answer /*answer*/) {}

  // The works that waited for an answer.
  std::vector<uint64_t> lose_ends(uint64_t connection);

  std::map<uint64_t, TxnEndRequest> end_requests_;
};

class TxnClient final : public TxnEnder {
 public:
  // An empty instance is a name of its own.
  struct Identity {
    std::string group;
    std::string instance;

    [[nodiscard]] std::string name() const {
      return instance.empty() ? "" : group + "/" + instance;
    }
  };

  TxnClient(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
            const Options& options, uint64_t seed, Identity identity)
      : TxnEnder(scheduler, network, model, directory, options, seed),
        identity_(std::move(identity)) {}

  void start() { schedule(1'000); }

  // For ever.
  void die();

  [[nodiscard]] bool dead() const { return dead_; }

  // Waits for no check-backs any more, or again.
  void set_silent(bool silent) { silent_ = silent; }

  [[nodiscard]] bool idle() const override { return dead_ || (works_.empty() && !asking_); }

  [[nodiscard]] std::string describe() const override;

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

  static constexpr uint32_t kPollMsMax = 2'000;

 private:
  enum class Stage : uint8_t { kSending, kPrepared, kEnding };
  enum class Step : uint8_t { kWaiting, kInFlight, kStored };

  struct Piece {
    SharedBytes bytes;
    bool schedule = false;
    Step step = Step::kWaiting;
  };

  struct Work {
    Stage stage = Stage::kSending;
    std::vector<Piece> pieces;  // by index
    bool one_by_one = false;
    bool ending = false;  // an end is on its way
    bool commit = false;
    int64_t not_before_ns = 0;
  };

  struct PartRequest {
    uint64_t connection = 0;
    uint64_t txn = 0;
    std::vector<uint32_t> indexes;
    int64_t arrived_ns = INT64_MAX;
  };

  struct PollRequest {
    uint64_t connection = 0;
    ShardId shard;
    int64_t sent_ns = 0;
  };

  // A batch of its producer that is part of no transaction: one at a time, never sent again.
  struct PlainRequest {
    uint64_t connection = 0;
    uint64_t correlation = 0;  // 0: none is under way
    PartitionId partition;
    uint64_t uid = 0;
    int64_t arrived_ns = INT64_MAX;
  };

  void on_lost(uint64_t connection) override;
  void schedule(int64_t us);
  void work();
  void ask_for_id();
  void send_plain();
  void on_plain_reply(const protocol::Frame& frame);

  void begin();
  void add_part(uint64_t txn, Work& work, PartitionId partition);
  // False: it is over.
  bool progress(uint64_t txn, Work& work);
  void send_parts(uint64_t txn, Work& work);
  void send_some(uint64_t txn, Work& work, ShardId shard, const std::vector<uint32_t>& indexes);
  void send_end(uint64_t txn, Work& work);
  void decide(uint64_t txn, Work& work, bool commit);
  void give_up(uint64_t txn);
  // Ends again, or the other way, what has ended; or asks for a commit with a wrong number.
  void make_mischief();
  void poll();

  void on_init_reply(const protocol::Frame& frame);
  void on_part_reply(const PartRequest& request, const protocol::Frame& frame);
  void on_part(uint64_t txn, uint32_t index, TxnModel::Answer answer);
  void on_end(uint64_t txn, TxnModel::Answer answer) override;
  void on_checks(const PollRequest& request, const protocol::fbs::TxnPollReply& reply);
  // What the local database says; false: not known yet.
  bool look_up(uint64_t txn, bool& commit);

  const Identity identity_;
  bool dead_ = false;
  bool silent_ = false;
  uint64_t producer_ = 0;  // 0: not known
  uint16_t epoch_ = 0;
  uint64_t begun_ = 0;
  bool fenced_ = false;  // it was told so
  bool asking_ = false;
  uint64_t asking_on_ = 0;
  uint64_t asking_correlation_ = 0;
  std::map<uint64_t, Work> works_;  // by transaction
  std::map<uint64_t, PartRequest> part_requests_;
  std::map<uint64_t, PollRequest> poll_requests_;
  PlainRequest plain_;
  std::map<PartitionId, uint64_t> plain_sent_;  // batches; the last one may have no answer
  std::set<PartitionId> plain_over_;            // one was refused, or has no answer
  std::deque<uint64_t> over_;                   // transactions that ended, the newest last
};

}  // namespace tidemark::sim
