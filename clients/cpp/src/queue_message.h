// The content of leased messages, and how it is found in the batches of an answer.
//
// Thread: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/protocol/messages.h"
#include "log/base/bytes.h"
#include "log/base/result.h"
#include "tidemark/queue.h"

namespace tidemark::client_core {

class QueueEngine;

}  // namespace tidemark::client_core

namespace tidemark::client {

// Stays where it is: the views point into `bytes`.
struct QueueMessageState {
  std::weak_ptr<client_core::QueueEngine> engine;
  uint64_t lease = 0;  // of the engine
  std::shared_ptr<const std::string> topic;
  uint32_t partition = 0;
  uint64_t offset = 0;
  int64_t timestamp_ms = 0;
  uint32_t deliveries = 0;
  std::optional<std::string_view> key;
  std::optional<std::string_view> value;
  std::vector<Header> headers;
  std::string bytes;  // of key, value and headers

  // For the program.
  static QueueMessage give(std::unique_ptr<QueueMessageState> state) {
    return QueueMessage(std::move(state));
  }
};

}  // namespace tidemark::client

namespace tidemark::client_core {

struct LeasedMessage {
  protocol::fbs::QueueLease lease;
  // With offset, time, deliveries and content; null: it could not be read.
  std::unique_ptr<client::QueueMessageState> content;
};

// The leased messages of a part of an answer, in the order of the leases. `status`: why some could
// not be read.
struct LeasedMessages {
  std::vector<LeasedMessage> messages;
  Status status;
};

LeasedMessages read_leased(ByteView batches, const protocol::fbs::QueuePartReply& part);

}  // namespace tidemark::client_core
