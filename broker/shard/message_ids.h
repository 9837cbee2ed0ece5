// Ids of the messages in a batch, and a batch without some of its messages. Pure functions.
#pragma once

#include <optional>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/checksum.h"
#include "log/base/result.h"
#include "log/format/record_batch.h"

namespace tidemark::shard {

// The id of a message: the value of its first header tm-id, unless that is empty.
using MessageId = std::optional<Hash128>;

// By message, of a batch that was validated; empty if no message has an id. kInvalidArgument: an
// id longer than limits::kMessageIdBytesMax; a codec that is not read here.
Result<std::vector<MessageId>> read_message_ids(ByteView batch);

// The messages that are to be kept, as a batch of their own with the producer, its first sequence
// and the codec of the whole. Requires: one flag a message, not all of them false. kTooLarge: it
// does not fit a batch; only a batch that was compressed can be so large.
Result<Buffer> keep_messages(ByteView batch, const std::vector<bool>& kept);

}  // namespace tidemark::shard
