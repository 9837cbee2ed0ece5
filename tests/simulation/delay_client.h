// DelayClient: sends schedule sets as an idempotent producer, one on its way per partition, again
// under the same sequences until they are answered; cancels and reschedules what it sent, by handle
// and by key, also right at the due time, under handles that are void, and twice.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>

#include "tests/simulation/client.h"
#include "tests/simulation/delay_frames.h"

namespace tidemark::sim {

class DelayClient final : public Client {
 public:
  using Client::Client;

  void start() { schedule(1'000); }

  // From now on it asks for so little that the broker can do all of it in time.
  void be_gentle() { gentle_ = true; }

  [[nodiscard]] bool idle() const override;
  [[nodiscard]] std::string describe() const override;

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

 private:
  using Receipts = std::vector<protocol::fbs::DelayReceipt>;
  // A key of a partition.
  using SlotName = std::pair<PartitionId, std::string>;

  struct Slot {
    uint64_t current = 0;  // the last message taken under the key
    uint32_t busy = 0;     // requests about it that are not answered
  };

  // When: a delay, or a wall time.
  struct When {
    format::DueKind kind = format::DueKind::kAfter;
    int64_t ms = 0;
  };

  struct Item {
    uint64_t uid = 0;
    When when;
    std::string key;
  };

  struct Set {
    std::vector<Item> items;
    uint64_t sequence = 0;
    SharedBytes bytes;
    bool in_flight = false;
  };

  struct Stream {
    uint64_t next_sequence = 0;
    std::deque<Set> sets;  // not acknowledged, in order; the first may be on its way
    int64_t not_before_ns = 0;
    bool acknowledged_any = false;
    // The last one that was acknowledged, and its answer.
    std::optional<Set> last;
    Receipts last_receipts;
  };

  // A message as a change names it: by handle, or by the key of its slot.
  struct Target {
    uint64_t uid = 0;
    PartitionId partition;
    std::optional<protocol::fbs::DelayHandle> handle;
    std::string key;  // of the message, if it has one
    uint64_t change = 0;
  };

  struct Request {
    uint64_t connection = 0;
    uint64_t birth = 0;  // of the process that sent it
    // Of a set.
    PartitionId partition;
    std::optional<uint64_t> sequence;
    std::vector<Item> items;
    // Of a change.
    bool reschedule = false;
    When when;  // reschedule
    std::vector<Target> targets;
  };

  void on_lost(uint64_t connection) override;
  void schedule(int64_t us);
  void work();
  void ask_for_id();
  void be_born_again();

  // sets
  void make_set();
  When random_when();
  format::ScheduleItem random_item(PartitionId partition, const Set& set, Item& item);
  void send_stream(PartitionId partition, Stream& stream);
  void send_set(uint64_t connection, PartitionId partition, const Set& set);
  void on_set_reply(const Request& request, const protocol::Frame& frame);
  void on_receipts(PartitionId partition, Stream& stream, const Receipts& receipts);
  void on_taken(PartitionId partition, const Item& item,
                const protocol::fbs::DelayReceipt& receipt);
  void on_set_refused(PartitionId partition, Stream& stream, const Status& status);

  // changes
  void make_change();
  void change_at_due(const Target& target, int64_t due_ms);
  void cancel_series();
  [[nodiscard]] bool may_change(const Target& target);
  void send_change(Request request);
  void on_change_reply(Request& request, const protocol::Frame& frame);
  void on_change_result(const Request& request, Target& target,
                        const protocol::fbs::DelayChangeResult& result);
  void release(const Target& target);
  void remember(const Target& target);
  Slot* slot_of(const Target& target);

  uint64_t producer_ = 0;  // id; 0: not known
  bool gentle_ = false;
  bool asking_ = false;
  uint64_t asking_on_ = 0;
  uint64_t births_ = 0;
  uint32_t series_made_ = 0;
  std::map<PartitionId, Stream> streams_;
  std::map<uint64_t, Request> requests_;  // by correlation
  std::map<SlotName, Slot> slots_;
  std::deque<Target> known_;   // by handle, some of them void
  std::deque<Target> series_;  // to be cancelled in the end
};

}  // namespace tidemark::sim
