// What the loops of a broker send each other. One mailbox per ordered pair of loops; see
// broker/shard/mailbox.h.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "broker/net/connection.h"
#include "broker/protocol/frame.h"
#include "broker/shard/mailbox.h"
#include "broker/shard/session.h"
#include "broker/shard/shard_runtime.h"

namespace tidemark::broker {

struct ShardReport {
  shard::ShardStats stats;
  bool ready = false;
};

// A copy of one loop's numbers.
struct LoopReport {
  uint32_t loop = 0;
  std::vector<ShardReport> shards;
  net::ConnectionCounters connections;
  uint64_t open_connections = 0;
  uint64_t requests_forwarded = 0;  // to shards of other loops
  uint64_t mail_overflow = 0;       // messages that wait for room in a mailbox
  uint64_t turns = 0;
};

// A request for a shard of the receiving loop.
struct RequestMessage {
  shard::ReplyTo from;
  uint16_t shard = 0;
  protocol::Frame frame;
};

// A reply for a connection of the receiving loop.
struct ReplyMessage {
  shard::ReplyTo to;
  protocol::OutFrame frame;
};

struct ShardMailMessage {
  shard::ShardMail mail;
};

// A connection that lives on the receiving loop from now on.
struct ConnectionMessage {
  net::DetachedConnection connection;
};

// A connection of loop `loop` is gone; `shard` of the receiving loop has had requests from it.
struct ConnectionGoneMessage {
  uint32_t loop = 0;
  uint64_t connection = 0;
  uint16_t shard = 0;
};

// Loop -> loop 0: the shards are open, or why not.
struct OpenedMessage {
  uint32_t loop = 0;
  Status status;
};

// Loop 0 -> loop: send a ReportMessage.
struct ReportRequestMessage {
  uint64_t gather = 0;
};

struct ReportMessage {
  uint64_t gather = 0;
  LoopReport report;
};

// Loop 0 -> loop: stop the shards in order.
struct StopShardsMessage {};

// Loop -> loop 0: they are stopped, and every reply they gave is in a mailbox.
struct ShardsStoppedMessage {
  uint32_t loop = 0;
  Status status;  // the first that did not stop well
};

// Loop 0 -> loop: write what is queued, close the connections, end.
struct CloseMessage {};

using LoopMessage =
    std::variant<RequestMessage, ReplyMessage, ShardMailMessage, ConnectionMessage,
                 ConnectionGoneMessage, OpenedMessage, ReportRequestMessage, ReportMessage,
                 StopShardsMessage, ShardsStoppedMessage, CloseMessage>;
using LoopMailbox = shard::Mailbox<LoopMessage>;

}  // namespace tidemark::broker
