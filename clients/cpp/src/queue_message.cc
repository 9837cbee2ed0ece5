#include "clients/cpp/src/queue_message.h"

#include <algorithm>
#include <utility>

#include "clients/cpp/src/queue_engine.h"
#include "log/format/record_batch.h"

namespace tidemark::client_core {

namespace {

Status damaged(std::string_view what) {
  return {ErrorCode::kCorrupted, "a leased message: " + std::string(what)};
}

// Copies key, value and headers. Nothing grows after the space was reserved, so views hold.
Status copy_content(const format::RecordView& record, client::QueueMessageState& out) {
  std::vector<format::HeaderView> headers;
  size_t bytes = record.key.size() + record.value.size();
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    bytes += header.key.size() + header.value.size();
    headers.push_back(header);
  }
  if (cursor.failed()) {
    return damaged("its headers are damaged");
  }
  out.bytes.reserve(bytes);
  const auto keep = [&](std::string_view text) {
    const size_t at = out.bytes.size();
    out.bytes.append(text);
    return std::string_view(out.bytes).substr(at);
  };
  if (record.has_key) {
    out.key = keep(as_text(record.key));
  }
  if (record.has_value) {
    out.value = keep(as_text(record.value));
  }
  out.headers.reserve(headers.size());
  for (const format::HeaderView& each : headers) {
    const std::string_view key = keep(each.key);
    out.headers.push_back(
        {.key = key,
         .value = each.has_value ? std::optional(keep(as_text(each.value))) : std::nullopt});
  }
  return {};
}

// Places of the leases in the part, by offset.
using Wanted = std::vector<std::pair<uint64_t, size_t>>;

Status read_batch(ByteView batch, const Wanted& wanted, std::vector<LeasedMessage>& out) {
  ASSIGN_OR_RETURN(const format::BatchHeader header, format::verify_batch(batch));
  ASSIGN_OR_RETURN(format::BatchReader reader, format::BatchReader::open(batch));
  format::RecordView record;
  while (reader.next(record)) {
    const uint64_t offset = header.base_offset + record.offset_delta;
    const auto at = std::lower_bound(wanted.begin(), wanted.end(), std::pair(offset, size_t{0}));
    if (at == wanted.end() || at->first != offset) {
      continue;
    }
    LeasedMessage& message = out[at->second];
    auto content = std::make_unique<client::QueueMessageState>();
    RETURN_IF_ERROR(copy_content(record, *content));
    content->offset = offset;
    content->timestamp_ms = record.timestamp_ms;
    content->deliveries = message.lease.deliveries();
    message.content = std::move(content);
  }
  return reader.status();
}

}  // namespace

LeasedMessages read_leased(ByteView batches, const protocol::fbs::QueuePartReply& part) {
  LeasedMessages out;
  if (part.leases() == nullptr) {
    return out;
  }
  Wanted wanted;
  for (const protocol::fbs::QueueLease* lease : *part.leases()) {
    wanted.emplace_back(lease->offset(), out.messages.size());
    out.messages.push_back({.lease = *lease, .content = nullptr});
  }
  std::sort(wanted.begin(), wanted.end());
  while (!batches.empty()) {
    const Result<uint32_t> size = format::batch_bytes_from_prefix(batches);
    if (!size.ok() || *size > batches.size()) {
      out.status = size.ok() ? damaged("its batch is cut off") : size.error();
      return out;
    }
    Status status = read_batch(batches.first(*size), wanted, out.messages);
    if (!status.ok()) {
      out.status = std::move(status);
    }
    batches = batches.subspan(*size);
  }
  const bool all = std::all_of(out.messages.begin(), out.messages.end(),
                               [](const LeasedMessage& each) { return each.content != nullptr; });
  if (!all && out.status.ok()) {
    out.status = damaged("it is not in the batches that came with it");
  }
  return out;
}

}  // namespace tidemark::client_core

namespace tidemark::client {

namespace {

constexpr size_t kReasonBytesMax = limits::kQueueReasonBytesMax;

// At most as long as the wire allows, without half a character.
std::string cut(std::string_view reason) {
  if (reason.size() <= kReasonBytesMax) {
    return std::string(reason);
  }
  size_t end = kReasonBytesMax;
  while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xC0U) == 0x80U) {
    --end;
  }
  return std::string(reason.substr(0, end));
}

void settle(const QueueMessageState& state, protocol::fbs::QueueAction action, int64_t delay_ms,
            std::string reason, QueueMessage::Settled settled) {
  const auto engine = state.engine.lock();
  if (engine != nullptr) {
    engine->settle(state.lease, action, delay_ms, std::move(reason), std::move(settled));
  } else if (settled) {
    settled(Status(ErrorCode::kShuttingDown, "the consumer is closed"));
  }
}

}  // namespace

QueueMessage::QueueMessage(std::unique_ptr<QueueMessageState> state) : state_(std::move(state)) {}

QueueMessage::~QueueMessage() {
  if (state_ == nullptr) {
    return;
  }
  if (const auto engine = state_->engine.lock(); engine != nullptr) {
    engine->drop(state_->lease);
  }
}

QueueMessage::QueueMessage(QueueMessage&&) noexcept = default;

QueueMessage& QueueMessage::operator=(QueueMessage&& other) noexcept {
  if (this != &other) {
    const QueueMessage dropped(std::exchange(state_, std::move(other.state_)));
  }
  return *this;
}

const std::string& QueueMessage::topic() const { return *state_->topic; }

uint32_t QueueMessage::partition() const { return state_->partition; }

uint64_t QueueMessage::offset() const { return state_->offset; }

int64_t QueueMessage::timestamp_ms() const { return state_->timestamp_ms; }

std::optional<std::string_view> QueueMessage::key() const { return state_->key; }

std::optional<std::string_view> QueueMessage::value() const { return state_->value; }

std::span<const Header> QueueMessage::headers() const { return state_->headers; }

uint32_t QueueMessage::deliveries() const { return state_->deliveries; }

int64_t QueueMessage::lease_left_ms() const {
  const auto engine = state_->engine.lock();
  return engine != nullptr ? engine->lease_left_ms(state_->lease) : 0;
}

void QueueMessage::ack(Settled settled) {
  settle(*state_, protocol::fbs::QueueAction::kAck, 0, {}, std::move(settled));
}

void QueueMessage::nack(std::string_view reason, std::optional<int64_t> delay_ms, Settled settled) {
  const int64_t ms = delay_ms ? std::clamp<int64_t>(*delay_ms, 0, limits::kQueueDelayMsMax) : -1;
  settle(*state_, protocol::fbs::QueueAction::kNack, ms, cut(reason), std::move(settled));
}

void QueueMessage::dead_letter(std::string_view reason, Settled settled) {
  settle(*state_, protocol::fbs::QueueAction::kDeadLetter, 0, cut(reason), std::move(settled));
}

void QueueMessage::release(Settled settled) {
  settle(*state_, protocol::fbs::QueueAction::kRelease, 0, {}, std::move(settled));
}

void QueueMessage::extend(int64_t visibility_ms, Settled settled) {
  const int64_t ms = std::clamp<int64_t>(visibility_ms, limits::kQueueVisibilityMsMin,
                                         limits::kQueueVisibilityMsMax);
  settle(*state_, protocol::fbs::QueueAction::kExtend, ms, {}, std::move(settled));
}

}  // namespace tidemark::client
