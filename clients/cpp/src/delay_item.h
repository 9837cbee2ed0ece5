// Delays as programs say them, checked and turned into the items of a schedule set; and what
// follows from a key.
#pragma once

#include <cstddef>
#include <cstdint>

#include "broker/protocol/messages.h"
#include "log/base/bytes.h"
#include "log/base/result.h"
#include "log/format/schedule_set.h"
#include "tidemark/delay.h"

namespace tidemark::client_core {

// Without its batch; views `delay`'s texts. `now_ms`: wall time, bounds what is due at a time.
// kInvalidArgument says what is wrong and what is allowed.
Result<format::ScheduleItem> to_item(const client::Delay& delay, int64_t now_ms);

// Where messages with this message key or delay key go. Requires: partitions > 0.
uint32_t partition_of_key(ByteView key, size_t partitions);

// What a broker's shard said about one delayed message.
client::DelayReceipt to_receipt(const protocol::fbs::DelayReceipt& receipt, uint16_t shard,
                                uint32_t topic);

}  // namespace tidemark::client_core
