// SimNetwork: connections between clients and the shards of the broker. Frames of one connection
// arrive in order after random delays, those of different connections in any order. A connection
// that breaks loses what was on its way, in both directions.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "broker/shard/session.h"
#include "log/base/random.h"
#include "tests/simulation/scheduler.h"
#include "tests/support/request_builder.h"

namespace tidemark::sim {

// A client's end of its connections.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual void on_reply(uint64_t connection, const protocol::Frame& frame) = 0;
  virtual void on_closed(uint64_t connection) = 0;

  // A request of this peer reaches the broker now.
  virtual void on_arrival(uint64_t /*connection*/, uint64_t /*correlation*/) {}
};

// The broker's end.
class Service {
 public:
  virtual ~Service() = default;
  [[nodiscard]] virtual bool accepts() const = 0;
  virtual void on_request(ShardId shard, const shard::ReplyTo& from,
                          const protocol::Frame& frame) = 0;
  virtual void on_connection_closed(ShardId shard, uint64_t connection) = 0;
};

class SimNetwork {
 public:
  SimNetwork(Scheduler& scheduler, uint64_t seed, int64_t delay_us_max)
      : scheduler_(scheduler), random_(seed), delay_us_max_(delay_us_max) {}

  void attach(Service& service) { service_ = &service; }

  // 0 if nobody listens.
  uint64_t connect(Peer& peer, ShardId shard) {
    if (!service_->accepts()) {
      return 0;
    }
    const uint64_t id = next_id_++;
    connections_[id] = {&peer, shard, 0, 0};
    return id;
  }

  // Dropped if the connection is broken; the peer hears of that.
  void send(uint64_t connection, protocol::Frame frame) {
    const auto it = connections_.find(connection);
    if (it == connections_.end()) {
      return;
    }
    const int64_t at = arrival(it->second.to_service_ns);
    scheduler_.at_ns(at, [this, connection, frame = std::move(frame)] {
      const auto open = connections_.find(connection);
      if (open == connections_.end()) {
        return;
      }
      const shard::ReplyTo from{0, connection, frame.header.correlation,
                                static_cast<protocol::FrameType>(frame.header.type)};
      open->second.peer->on_arrival(connection, frame.header.correlation);
      service_->on_request(open->second.shard, from, frame);
    });
  }

  // From the service. The frame's bytes are part of the trace.
  void reply(const shard::ReplyTo& to, const protocol::OutFrame& out) {
    const auto it = connections_.find(to.connection);
    if (it == connections_.end()) {
      return;
    }
    const int64_t at = arrival(it->second.to_peer_ns);
    scheduler_.at_ns(at, [this, connection = to.connection, left_ns = scheduler_.now_ns(),
                          frame = testing::to_frame(out)] {
      const auto open = connections_.find(connection);
      if (open != connections_.end()) {
        reply_left_ns_ = left_ns;
        scheduler_.note(xxh3(frame.bytes.view()));
        open->second.peer->on_reply(connection, frame);
      }
    });
  }

  // When the reply that a peer is being given left the broker. The process is still the same, else
  // the connection were broken.
  [[nodiscard]] int64_t reply_left_ns() const { return reply_left_ns_; }

  void break_connection(uint64_t connection) {
    const auto it = connections_.find(connection);
    if (it == connections_.end()) {
      return;
    }
    const Connection gone = it->second;
    connections_.erase(it);
    if (service_->accepts()) {
      service_->on_connection_closed(gone.shard, connection);
    }
    scheduler_.after_us(random_delay_us(),
                        [peer = gone.peer, connection] { peer->on_closed(connection); });
  }

  void break_one() {
    if (!connections_.empty()) {
      auto it = connections_.begin();
      std::advance(it, static_cast<std::ptrdiff_t>(random_.below(connections_.size())));
      break_connection(it->first);
    }
  }

  void break_all() {
    while (!connections_.empty()) {
      break_connection(connections_.begin()->first);
    }
  }

 private:
  struct Connection {
    Peer* peer = nullptr;
    ShardId shard;
    int64_t to_service_ns = 0;  // arrival of the newest frame
    int64_t to_peer_ns = 0;
  };

  int64_t random_delay_us() {
    return static_cast<int64_t>(random_.below(static_cast<uint64_t>(delay_us_max_)) + 1);
  }

  int64_t arrival(int64_t& newest_ns) {
    newest_ns = std::max(newest_ns + 1, scheduler_.now_ns() + 1'000 * random_delay_us());
    return newest_ns;
  }

  Scheduler& scheduler_;
  Random random_;
  const int64_t delay_us_max_;
  Service* service_ = nullptr;
  std::map<uint64_t, Connection> connections_;
  uint64_t next_id_ = 1;
  int64_t reply_left_ns_ = 0;
};

}  // namespace tidemark::sim
