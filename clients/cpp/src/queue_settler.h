// Settlements on their way to the broker: acks, nacks, dead letters and extensions of leases.
//
//   add() -> waiting --route--> lane of a shard --request--> answered
//               ^                                   |
//               +--- passing error, after a pause --+
//
// All that a lane has leaves together, up to 1024 items, when the request before is answered. The
// items of one request share its reason, so a nack with another reason waits for the next one.
// Nothing waits for longer than its give_up.
//
// Thread: one at a time (QueueEngine's lock). run() and on_reply() on the I/O thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "clients/cpp/src/cluster.h"
#include "tidemark/queue.h"

namespace tidemark::client_core {

// The partition that a message was leased from, as long as there is one of this id.
struct QueuePlace {
  std::shared_ptr<const std::string> topic;
  uint32_t topic_id = 0;
  uint32_t partition = 0;
};

struct Settlement {
  uint64_t lease = 0;  // of the engine
  QueuePlace place;
  uint64_t offset = 0;
  uint64_t token = 0;
  protocol::fbs::QueueAction action = protocol::fbs::QueueAction::kAck;
  int64_t delay_ms = -1;
  std::string reason;
  client::QueueMessage::Settled settled;
  bool automatic = false;   // nobody asked for it: no failure is told
  uint64_t generation = 0;  // flush() waits for generations
  MonotonicTime give_up = kNever;

  MonotonicTime retry_at{};
  MonotonicTime sent_at{};    // the last attempt
  uint64_t need_version = 0;  // metadata older than this is known to be wrong
  bool maybe_done = false;    // an attempt ended without a known outcome
  Status last_error;
};

class QueueSettler {
 public:
  using Answered = std::pair<Settlement, Status>;
  // Sends a request and sees to it that on_reply() gets the answer.
  using Send = std::function<void(Session& session, ByteView table, std::vector<Settlement> items)>;

  QueueSettler(std::string group, uint64_t seed);

  void add(Settlement settlement);

  // Sends what can be sent; when to be run again.
  MonotonicTime run(MonotonicTime now, Cluster& cluster, const Send& send);
  void on_reply(Session* session, std::vector<Settlement> items, Reply reply, Cluster& cluster);

  // What has an outcome, in the order in which it got it.
  std::vector<Answered> take_answered() { return std::exchange(answered_, {}); }

  // Nothing more is sent: what is not under way has this outcome.
  void abandon(const Status& why);

 private:
  struct Lane {
    std::deque<Settlement> items;
    bool in_flight = false;
    Backoff backoff{20 * kNsPerMs, 1'000 * kNsPerMs};
  };

  // The lane to go to; nullptr: wait, or it was answered.
  Lane* route(Settlement& settlement, Cluster& cluster, bool& answered);
  void answer(Settlement settlement, Status status);
  void give_up(Settlement settlement);
  // What one request takes of a lane.
  std::vector<Settlement> take_batch(Lane& lane, MonotonicTime now);
  void judge(Settlement settlement, const Status& status, MonotonicTime retry_at, Cluster& cluster);

  std::string group_;
  Random random_;
  std::deque<Settlement> waiting_;  // for a route, or for its time
  std::map<Session*, Lane> lanes_;
  std::vector<Answered> answered_;
};

}  // namespace tidemark::client_core
