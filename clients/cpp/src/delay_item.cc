#include "clients/cpp/src/delay_item.h"

#include <string>

#include "log/base/check.h"
#include "log/base/checksum.h"

namespace tidemark::client_core {

namespace {

constexpr int64_t kEveryMsMin = 1'000;

Status check_range(const char* what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) {
    return {};
  }
  return {ErrorCode::kInvalidArgument, std::string(what) + " is " + std::to_string(value) +
                                           " ms; allowed are " + std::to_string(low) + " to " +
                                           std::to_string(high)};
}

Status check_text(const char* what, std::string_view text, size_t low, size_t high) {
  if (text.size() >= low && text.size() <= high) {
    return {};
  }
  return {ErrorCode::kInvalidArgument, std::string(what) + " has " + std::to_string(text.size()) +
                                           " bytes; allowed are " + std::to_string(low) + " to " +
                                           std::to_string(high)};
}

Status check_delay(const client::Delay& delay, int64_t now_ms) {
  RETURN_IF_ERROR(check_text("the delay key", delay.key(), 0, format::kDelayKeyBytesMax));
  switch (delay.repeat()) {
    case client::Delay::Repeat::kEvery:
      return check_range("the interval of a recurring message", delay.every_ms(), kEveryMsMin,
                         client::kDelayMsMax);
    case client::Delay::Repeat::kCron:
      RETURN_IF_ERROR(check_text("the time zone", delay.zone(), 0, format::kZoneBytesMax));
      return check_text("the cron text", delay.cron(), 1, format::kCronBytesMax);
    case client::Delay::Repeat::kNever:
      break;
  }
  return delay.kind() == client::Delay::Kind::kAfter
             ? check_range("the delay", delay.ms(), 0, client::kDelayMsMax)
             : check_range("the time of delivery (since 1970)", delay.ms(), 0,
                           now_ms + client::kDelayMsMax);
}

std::string refusal_text(ErrorCode code) {
  if (code == ErrorCode::kAlreadyExists) {
    return "the delay key is taken: a message is pending under it";
  }
  if (code == ErrorCode::kLimitExceeded) {
    return "the partition has as many pending delayed messages, or bytes of them, as its topic "
           "allows";
  }
  return "the broker refused the delayed message";
}

}  // namespace

Result<format::ScheduleItem> to_item(const client::Delay& delay, int64_t now_ms) {
  RETURN_IF_ERROR(check_delay(delay, now_ms));
  format::ScheduleItem item;
  item.due_kind =
      delay.kind() == client::Delay::Kind::kAfter ? format::DueKind::kAfter : format::DueKind::kAt;
  item.due_ms = delay.ms();
  item.key = delay.key();
  item.replace = delay.replace() && !delay.key().empty();
  switch (delay.repeat()) {
    case client::Delay::Repeat::kNever:
      break;
    case client::Delay::Repeat::kEvery:
      item.recurrence = format::RecurrenceKind::kEvery;
      item.every_ms = delay.every_ms();
      break;
    case client::Delay::Repeat::kCron:
      item.recurrence = format::RecurrenceKind::kCron;
      item.zone = delay.zone();
      item.cron = delay.cron();
      break;
  }
  return item;
}

uint32_t partition_of_key(ByteView key, size_t partitions) {
  TIDEMARK_CHECK(partitions > 0);
  return static_cast<uint32_t>(xxh3(key) % partitions);
}

client::DelayReceipt to_receipt(const protocol::fbs::DelayReceipt& receipt, uint16_t shard,
                                uint32_t topic) {
  client::DelayReceipt out;
  if (receipt.error() != 0) {
    const ErrorCode code = error_from_wire(receipt.error());
    out.status = client::Status(static_cast<client::ErrorCode>(code), refusal_text(code));
    return out;
  }
  out.due_ms = receipt.due_ms();
  out.handle.shard = shard;
  out.handle.topic = topic;
  out.handle.tag = receipt.tag();
  out.handle.due_ms = receipt.due_ms();
  out.handle.id = receipt.id();
  out.handle.position = receipt.position();
  return out;
}

}  // namespace tidemark::client_core
