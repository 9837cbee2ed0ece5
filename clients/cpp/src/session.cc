#include "clients/cpp/src/session.h"

#include <algorithm>
#include <utility>

#include "broker/protocol/messages.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

}  // namespace

Session::Session(Address address, uint16_t shard, const SessionOptions& options,
                 ChannelFactory& factory, Clock& clock, uint64_t seed, Greeter greeter)
    : address_(std::move(address)),
      shard_(shard),
      options_(options),
      factory_(factory),
      clock_(clock),
      random_(seed),
      greeter_(std::move(greeter)),
      backoff_(options.backoff_min_ns, options.backoff_max_ns) {}

void Session::request(FrameType type, uint16_t frame_shard, ByteView table,
                      std::vector<SharedBytes> payload, MonotonicTime deadline,
                      ReplyHandler handler) {
  const uint64_t correlation = next_correlation_++;
  Request request;
  request.type = type;
  request.deadline = deadline;
  request.handler = std::move(handler);
  protocol::OutFrame frame = protocol::make_frame(type, /*reply=*/false, frame_shard, correlation,
                                                  table, std::move(payload));
  note_deadline(deadline);
  if (state_ == State::kReady) {
    sent_.emplace(correlation, std::move(request));
    channel_->send(std::move(frame));
    return;
  }
  request.frame = std::move(frame);
  queued_.emplace_back(correlation, std::move(request));
  if (state_ == State::kIdle) {
    connect();
  }
}

MonotonicTime Session::run(MonotonicTime now) {
  doomed_.reset();
  if (now >= state_until_) {
    if (state_ == State::kConnecting || state_ == State::kGreeting) {
      fail(Status(ErrorCode::kUnavailable,
                  address_.text() + ": no answer within " +
                      std::to_string(options_.connect_timeout_ns / kNsPerMs) + " ms"));
      doomed_.reset();
    } else if (state_ == State::kWaiting) {
      state_ = State::kIdle;
      state_until_ = kNever;
      if (!queued_.empty()) {
        connect();
      }
    }
  }
  if (now >= next_deadline_) {
    expire(now);
  }
  return std::min(state_until_, next_deadline_);
}

void Session::connect() {
  state_ = State::kConnecting;
  state_until_ = {clock_.monotonic().ns + options_.connect_timeout_ns};
  channel_ = factory_.open(address_, *this);
}

void Session::on_open() {
  if (state_ != State::kConnecting) {
    return;
  }
  state_ = State::kGreeting;
  flatbuffers::FlatBufferBuilder builder(256);
  const auto client = builder.CreateString(options_.client_name);
  builder.Finish(fbs::CreateHello(builder, client, shard_));
  hello_correlation_ = next_correlation_++;
  channel_->send(protocol::make_frame(FrameType::kHello, /*reply=*/false, shard_,
                                      hello_correlation_, protocol::finished(builder)));
}

void Session::on_hello_reply(const protocol::Frame& frame) {
  Status status;
  if (frame.header.type == static_cast<uint16_t>(FrameType::kError)) {
    const auto table = protocol::read_table<fbs::ErrorReply>(frame.table(), "Error");
    status = table.ok() ? protocol::to_status((*table)->error()) : table.error();
    if (status.ok()) {
      status = Status(ErrorCode::kMalformed, "Error frame without an error");
    }
  } else if (frame.header.type != static_cast<uint16_t>(FrameType::kHello)) {
    status = Status(ErrorCode::kMalformed, "Hello was answered with another type");
  } else {
    const auto table = protocol::read_table<fbs::HelloReply>(frame.table(), "HelloReply");
    status = table.ok() ? protocol::to_status((*table)->error()) : table.error();
    if (status.ok()) {
      const fbs::HelloReply& hello = **table;
      facts_ = {.cluster_id = hello.cluster_id(),
                .node_id = hello.node_id(),
                .shards = hello.shards(),
                .message_bytes_max = hello.message_bytes_max(),
                .batch_bytes_max = hello.batch_bytes_max(),
                .frame_bytes_max = hello.frame_bytes_max(),
                .fsync = std::string(protocol::view(hello.fsync())),
                .version = std::string(protocol::view(hello.version()))};
      status = greeter_(facts_);
    }
  }
  if (!status.ok()) {
    fail(Status(status.code(), address_.text() + ": handshake: " + std::string(status.context())));
    return;
  }
  state_ = State::kReady;
  state_until_ = kNever;
  last_error_ = Status();
  backoff_.reset();
  while (!queued_.empty()) {
    auto [correlation, request] = std::move(queued_.front());
    queued_.pop_front();
    protocol::OutFrame out = std::move(request.frame);
    request.frame = {};
    sent_.emplace(correlation, std::move(request));
    channel_->send(std::move(out));
  }
}

void Session::on_frame(protocol::Frame frame) {
  if (state_ != State::kGreeting && state_ != State::kReady) {
    return;  // the rest of a connection that was given up
  }
  if (frame.header.version != protocol::kProtocolVersion) {
    fail(Status(ErrorCode::kUnsupportedVersion, address_.text() + ": speaks protocol version " +
                                                    std::to_string(frame.header.version) +
                                                    ", this client version " +
                                                    std::to_string(protocol::kProtocolVersion)));
    return;
  }
  if (!frame.header.reply) {
    fail(Status(ErrorCode::kMalformed, address_.text() + ": sent a request"));
    return;
  }
  if (state_ == State::kGreeting) {
    if (frame.header.correlation == hello_correlation_ || frame.header.correlation == 0) {
      on_hello_reply(frame);
    }
    return;
  }
  const auto found = sent_.find(frame.header.correlation);
  if (found == sent_.end()) {
    if (frame.header.type == static_cast<uint16_t>(FrameType::kError)) {
      // The broker could not tell which request was wrong, so the stream is beyond repair.
      const auto table = protocol::read_table<fbs::ErrorReply>(frame.table(), "Error");
      const Status why = table.ok() ? protocol::to_status((*table)->error()) : table.error();
      fail(Status(ErrorCode::kUnavailable, address_.text() + ": " + why.to_string()));
    }
    return;
  }
  Request request = std::move(found->second);
  sent_.erase(found);
  answer(request, std::move(frame));
}

void Session::answer(Request& request, protocol::Frame frame) {
  Reply reply;
  if (frame.header.type == static_cast<uint16_t>(request.type)) {
    reply.frame = std::move(frame);
    request.handler(std::move(reply));
    return;
  }
  if (frame.header.type == static_cast<uint16_t>(FrameType::kError)) {
    const auto table = protocol::read_table<fbs::ErrorReply>(frame.table(), "Error");
    if (table.ok()) {
      reply.status = protocol::to_status((*table)->error());
      reply.retry_after_ms = protocol::retry_after_ms((*table)->error());
    }
  }
  if (reply.status.ok()) {
    reply.status =
        Status(ErrorCode::kMalformed, address_.text() + ": answered " +
                                          std::string(protocol::frame_type_name(request.type)) +
                                          " with type " + std::to_string(frame.header.type));
  }
  request.handler(std::move(reply));
}

void Session::on_closed(Status why) {
  if (state_ == State::kIdle || state_ == State::kWaiting) {
    return;
  }
  fail(std::move(why));
}

void Session::fail(Status why) {
  ++losses_;
  last_error_ = why;
  doomed_ = std::move(channel_);
  state_ = State::kWaiting;
  state_until_ = {clock_.monotonic().ns + backoff_.next_ns(random_)};

  // Handlers may ask again: what they queue belongs to the next attempt.
  auto queued = std::exchange(queued_, {});
  auto sent = std::exchange(sent_, {});
  next_deadline_ = kNever;
  std::vector<uint64_t> order;
  order.reserve(sent.size());
  for (const auto& [correlation, request] : sent) {
    order.push_back(correlation);
  }
  std::sort(order.begin(), order.end());
  for (const uint64_t correlation : order) {
    Reply reply;
    reply.status =
        Status(ErrorCode::kOutcomeUnknown, "connection lost: " + std::string(why.context()));
    sent[correlation].handler(std::move(reply));
  }
  for (auto& [correlation, request] : queued) {
    Reply reply;
    reply.status = why;
    request.handler(std::move(reply));
  }
}

void Session::expire(MonotonicTime now) {
  std::vector<Request> late;
  next_deadline_ = kNever;
  for (auto at = queued_.begin(); at != queued_.end();) {
    if (now >= at->second.deadline) {
      late.push_back(std::move(at->second));
      at = queued_.erase(at);
    } else {
      note_deadline(at->second.deadline);
      ++at;
    }
  }
  bool connection_dead = false;
  std::vector<Request> unanswered;
  for (auto at = sent_.begin(); at != sent_.end();) {
    if (now >= at->second.deadline) {
      connection_dead = true;
      unanswered.push_back(std::move(at->second));
      at = sent_.erase(at);
    } else {
      note_deadline(at->second.deadline);
      ++at;
    }
  }
  for (Request& request : late) {
    Reply reply;
    const std::string why = last_error_.ok() ? address_.text() + ": not connected in time"
                                             : std::string(last_error_.context());
    reply.status = Status(ErrorCode::kUnavailable, why);
    request.handler(std::move(reply));
  }
  for (Request& request : unanswered) {
    Reply reply;
    reply.status =
        Status(ErrorCode::kTimedOut, address_.text() + ": " +
                                         std::string(protocol::frame_type_name(request.type)) +
                                         " was not answered in time");
    request.handler(std::move(reply));
  }
  if (connection_dead) {
    fail(Status(ErrorCode::kUnavailable, address_.text() + ": a request was not answered in time"));
    doomed_.reset();
  }
}

void Session::note_deadline(MonotonicTime deadline) {
  next_deadline_ = std::min(next_deadline_, deadline);
}

}  // namespace tidemark::client_core
