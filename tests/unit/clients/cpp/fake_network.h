// A scripted broker behind the network seam: real frames, no sockets, no threads, time from a
// SimClock.
//
// The broker follows PROTOCOL.md where it matters to a client: Hello first, producer ids, sequences
// per (partition, producer) with the last five batches remembered, fetches from a list of stored
// batches, delayed messages that wait for ever (fake_network_delays.cc), transactions
// (fake_network_txns.cc), queues of one group (fake_network_queues.cc). What goes wrong is drawn
// from a seed, within the odds given.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/channel.h"
#include "log/base/random.h"
#include "log/format/record_batch.h"
#include "log/format/schedule_set.h"
#include "tests/support/sim_clock.h"
#include "tidemark/transaction.h"

namespace tidemark::testing {

// Chances per thousand of each event.
struct Faults {
  uint32_t refuse_connect = 0;
  uint32_t lose_before = 0;    // the connection breaks before the request was looked at
  uint32_t lose_after = 0;     // it breaks after it took effect
  uint32_t refuse = 0;         // a part of a produce request gets a retryable error
  uint32_t forget = 0;         // the partition forgets its producers
  uint32_t lose_receipts = 0;  // of a set, in the answer
};

struct StoredBatch {
  uint64_t base = 0;
  SharedBytes bytes;  // base offset stamped
  format::BatchHeader header;
};

struct StoredMessage {
  uint64_t offset = 0;
  std::string key;
  std::string value;
  int64_t producer_id = -1;
};

struct PendingMessage {
  uint64_t id = 0;
  int64_t due_ms = 0;
  std::string key;
  int64_t every_ms = 0;
  std::string zone;
  std::string cron;
  std::string value;
  int64_t producer_id = -1;
  SharedBytes batch;
};

// A part of a transaction that the broker has.
struct FakeHalf {
  uint32_t topic = 0;
  uint32_t partition = 0;
  SharedBytes bytes;
  bool schedule = false;
};

struct FakeTxn {
  protocol::fbs::TxnState state = protocol::fbs::TxnState::kNone;
  std::string group;
  std::string reference;
  uint32_t timeout_ms = 0;
  int64_t born_ms = 0;
  uint32_t checks = 0;
  std::map<uint32_t, FakeHalf> halves;  // by index
};

// What came in a TxnEnd.
struct FakeEnd {
  client::TransactionId id;
  bool commit = false;
  uint32_t halves = 0;
  std::vector<uint16_t> shards;
  protocol::fbs::TxnEndBy by = protocol::fbs::TxnEndBy::kProducer;
};

// What came in a QueueReceive.
struct FakeReceive {
  std::string group = {};
  uint16_t shard = 0;
  std::vector<std::pair<uint32_t, uint32_t>> parts = {};  // topic, partition
  uint32_t messages_max = 0;
  uint32_t bytes_max = 0;
  uint32_t wait_ms = 0;
  uint32_t visibility_ms = 0;
  std::vector<std::string> tags = {};
  std::string filter = {};
  bool ordered = false;
  bool from_end = false;
};

// An item of a QueueSettle.
struct FakeSettle {
  uint32_t topic = 0;
  uint32_t partition = 0;
  uint64_t offset = 0;
  uint64_t token = 0;
  int64_t delay_ms = 0;
  uint32_t count = 0;
  protocol::fbs::QueueAction action = protocol::fbs::QueueAction::kAck;
  std::string reason = {};
};

// A message as the group sees it.
struct FakeQueued {
  bool settled = false;
  uint64_t token = 0;  // 0: not leased
  MonotonicTime leased_until{};
  MonotonicTime ready_at{};
  uint32_t failures = 0;
};

class FakePartition {
 public:
  struct Verdict {
    ErrorCode error = ErrorCode::kOk;
    uint64_t base = 0;
    bool duplicate = false;
    std::vector<protocol::fbs::DelayReceipt> receipts = {};
  };

  Verdict append(ByteView batch);
  // `next_id`: of the shard.
  Verdict append_schedule(ByteView set, int64_t now_ms, uint64_t& next_id);

  // Values of everything that was taken, plain and delayed, in order.
  std::vector<std::string> applied;
  // In the order in which they were scheduled.
  std::vector<PendingMessage> pending;
  std::set<uint64_t> delivered;   // ids
  size_t pending_max = SIZE_MAX;  // then items are refused with kLimitExceeded
  // Those with a history: a producer whose first batch may still be repeated looks new to a broker
  // that forgot it, which no client can help; a broker forgets the one idle longest, so that never
  // happens to it.
  void forget_producers();

  [[nodiscard]] const std::deque<StoredBatch>& batches() const { return batches_; }

  [[nodiscard]] uint64_t end() const { return end_; }

  // Drops whole batches below `offset`.
  void trim(uint64_t offset);

  [[nodiscard]] uint64_t start() const { return batches_.empty() ? end_ : batches_.front().base; }

  [[nodiscard]] std::vector<StoredMessage> messages() const;

 private:
  struct Remembered {
    int32_t first = 0;
    uint32_t count = 0;
    uint64_t base = 0;
    std::vector<protocol::fbs::DelayReceipt> receipts;
  };

  // Judges a batch by its sequence and remembers it; nullopt: it is to be stored.
  std::optional<Verdict> judge(const format::BatchHeader& header);
  protocol::fbs::DelayReceipt schedule(const format::ScheduleItem& item, int64_t producer_id,
                                       int64_t now_ms, uint64_t& next_id);

  struct Producer {
    int32_t next = 0;
    size_t batches = 0;
    std::deque<Remembered> last;
  };

  std::deque<StoredBatch> batches_;
  uint64_t end_ = 0;
  std::map<int64_t, Producer> producers_;
};

struct FakeTopic {
  uint32_t id = 0;
  std::vector<FakePartition> partitions;
};

class FakeChannel;

class FakeNetwork final : public client_core::ChannelFactory {
 public:
  FakeNetwork(SimClock& clock, uint64_t seed) : clock_(clock), random_(seed) {}

  std::unique_ptr<client_core::Channel> open(const client_core::Address& address,
                                             client_core::ChannelEvents& events) override;

  // Moves one thing one step: a connection opens, a request is handled, an answer arrives. False if
  // nothing can move.
  bool step();
  // Breaks every connection now.
  void cut_all();

  FakeTopic& add_topic(const std::string& name, uint32_t partitions);

  void remove_topic(const std::string& name) { topics_.erase(name); }

  [[nodiscard]] bool has_topic(const std::string& name) const { return topics_.contains(name); }

  FakeTopic& topic(const std::string& name) { return topics_.at(name); }

  // Overrides an answer: gives the status for a request type (ok: handle it as usual).
  std::function<Status(protocol::FrameType)> on_request;
  // Status for a target of DelayCancel or DelayReschedule.
  std::function<Status()> on_delay_ref;
  // Status for a part of a produce request.
  std::function<Status(uint32_t partition)> on_produce_part;

  // Status for an item of TxnEnd.
  std::function<Status(const FakeEnd&)> on_txn_end;

  Faults faults;
  bool reachable = true;
  bool silent = false;  // requests are taken and never answered
  uint16_t shards = 2;
  uint64_t cluster_id = 77;
  size_t connects = 0;
  size_t produce_requests = 0;
  size_t fetch_requests = 0;
  size_t produce_parts_max = 0;  // of one request
  size_t delay_refs_max = 0;     // of one request
  size_t delay_requests = 0;
  uint32_t delay_page_max = 1'000'000;  // items of one DelayListReply
  std::vector<std::string> violations;

  // As a coordinating shard knows them; one broker has all shards.
  std::map<client::TransactionId, FakeTxn> txns;
  std::vector<FakeEnd> ends;
  size_t end_requests = 0;
  size_t ends_max = 0;  // of one request
  size_t txn_polls = 0;
  size_t duplicate_halves = 0;
  // What answers to plain batches say of each message; empty: nothing.
  std::vector<uint64_t> produce_offsets;
  uint32_t txn_page_max = 1'000'000;              // items of one TxnListReply
  std::vector<client::TransactionId> checks_due;  // asked of the next poll at their shard

  // Queues, by (topic id, partition) and offset.
  std::map<std::pair<uint32_t, uint32_t>, std::map<uint64_t, FakeQueued>> queues;
  std::vector<FakeReceive> receives;
  std::vector<std::vector<FakeSettle>> settles;  // by request
  std::vector<uint64_t> redriven;
  bool damage_queued = false;  // the next batch of a receive reply is damaged
  uint32_t unsettled_page_max = 10'000;
  std::vector<protocol::fbs::QueueRange> unsettled_lie;  // if any: what is answered instead
  // Status for a part of a QueueReceive.
  std::function<Status(uint32_t partition)> on_queue_part;
  // Error for an item of a QueueSettle.
  std::function<ErrorCode(const FakeSettle&)> on_settle;
  // Before a QueueReceive is looked at.
  std::function<void(const FakeReceive&)> on_receive;
  [[nodiscard]] size_t leased() const;
  std::vector<std::string> fetch_tags;  // of the last one
  std::string fetch_filter;

 private:
  friend class FakeChannel;

  struct LongPoll {
    FakeChannel* channel = nullptr;
    protocol::Frame request;
    MonotonicTime until;
  };

  bool chance(uint32_t per_thousand) { return random_.chance(per_thousand, 1000); }

  void forget(FakeChannel* channel);
  void lose(FakeChannel& channel, const std::string& why);
  void handle(FakeChannel& channel, const protocol::Frame& frame);
  void reply(FakeChannel& channel, const protocol::Frame& request,
             flatbuffers::FlatBufferBuilder& builder, std::vector<SharedBytes> payload = {});
  void on_metadata(FakeChannel& channel, const protocol::Frame& frame);
  void on_produce(FakeChannel& channel, const protocol::Frame& frame);
  // False: nothing to send yet.
  bool on_fetch(FakeChannel& channel, const protocol::Frame& frame, bool last_chance);
  FakePartition::Verdict append_set(FakePartition& partition,
                                    const protocol::fbs::ProducePart& part, ByteView set);
  void hold(FakeChannel& channel, const protocol::Frame& request, uint32_t wait_ms);
  void on_init_producer(FakeChannel& channel, const protocol::Frame& frame);
  FakePartition::Verdict add_half(const protocol::fbs::ProducePart& part, ByteView bytes);
  void on_txn(FakeChannel& channel, const protocol::Frame& frame);
  bool on_txn_poll(FakeChannel& channel, const protocol::Frame& frame, bool last_chance);
  void on_txn_end_request(FakeChannel& channel, const protocol::Frame& frame);
  Status end_txn(const FakeEnd& end);
  void on_txn_list(FakeChannel& channel, const protocol::Frame& frame);
  void on_txn_show(FakeChannel& channel, const protocol::Frame& frame);
  void on_txn_recheck(FakeChannel& channel, const protocol::Frame& frame);
  void on_txn_stats(FakeChannel& channel, const protocol::Frame& frame);
  flatbuffers::Offset<protocol::fbs::TxnInfo> build_txn(flatbuffers::FlatBufferBuilder& builder,
                                                        const client::TransactionId& id,
                                                        uint16_t shard) const;
  void on_list_offsets(FakeChannel& channel, const protocol::Frame& frame);
  void on_delay(FakeChannel& channel, const protocol::Frame& frame);
  void on_delay_change(FakeChannel& channel, const protocol::Frame& frame);
  void on_delay_list(FakeChannel& channel, const protocol::Frame& frame);
  void on_delay_show(FakeChannel& channel, const protocol::Frame& frame);
  void on_delay_stats(FakeChannel& channel, const protocol::Frame& frame);

  // A pending message by reference, at the shard that was asked.
  struct Found {
    FakePartition* partition = nullptr;
    uint32_t index = 0;
    size_t at = 0;
    bool pending = false;
    bool delivered = false;
  };

  Found find_pending(const protocol::fbs::DelayRef& ref, uint16_t shard);
  FakePartition* find(uint32_t topic, uint32_t partition);
  bool step_long_polls();
  void on_queue(FakeChannel& channel, const protocol::Frame& frame);
  bool on_queue_receive(FakeChannel& channel, const protocol::Frame& frame, bool last_chance);
  void on_queue_settle(FakeChannel& channel, const protocol::Frame& frame);
  ErrorCode settle(const FakeSettle& item, uint16_t shard);
  void on_queue_describe(FakeChannel& channel, const protocol::Frame& frame);
  void on_queue_redrive(FakeChannel& channel, const protocol::Frame& frame);
  void on_queue_unsettled(FakeChannel& channel, const protocol::Frame& frame);

  SimClock& clock_;
  Random random_;
  std::vector<FakeChannel*> channels_;
  std::map<std::string, FakeTopic> topics_;
  std::deque<LongPoll> long_polls_;
  uint32_t next_topic_id_ = 1;
  uint64_t next_producer_id_ = 1000;
  std::map<std::pair<std::string, std::string>, std::pair<uint64_t, int16_t>> producer_names_;
  std::map<uint64_t, uint16_t> fences_;         // lowest epoch
  std::map<uint16_t, uint64_t> next_delay_id_;  // by shard; the first one is 1
  uint64_t next_lease_token_ = 1;
};

}  // namespace tidemark::testing
