// Where the fields of the RecordBatch v2 header lie (record_batch.h has the table). For the files
// of this folder only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "log/base/bytes.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/limits.h"
#include "log/base/status.h"

namespace tidemark::format {

inline constexpr size_t kBaseOffsetAt = 0;
inline constexpr size_t kLengthAt = 8;
inline constexpr size_t kLeaderEpochAt = 12;
inline constexpr size_t kMagicAt = 16;
inline constexpr size_t kCrcAt = 17;
inline constexpr size_t kAttributesAt = 21;
inline constexpr size_t kLastOffsetDeltaAt = 23;
inline constexpr size_t kBaseTimestampAt = 27;
inline constexpr size_t kMaxTimestampAt = 35;
inline constexpr size_t kProducerIdAt = 43;
inline constexpr size_t kProducerEpochAt = 51;
inline constexpr size_t kBaseSequenceAt = 53;
inline constexpr size_t kRecordCountAt = 57;

// The length field counts what follows it.
inline constexpr size_t kLengthCoversFrom = 12;
inline constexpr size_t kCrcCoversFrom = kAttributesAt;

inline constexpr uint8_t kMagic = 2;

inline constexpr uint16_t kCodecMask = 0x07;
inline constexpr uint16_t kLogAppendTimeBit = 0x08;
inline constexpr uint16_t kTransactionalBit = 0x10;
inline constexpr uint16_t kControlBit = 0x20;
inline constexpr uint16_t kKnownAttributes =
    kCodecMask | kLogAppendTimeBit | kTransactionalBit | kControlBit;

// The checksum of a batch whose other bytes are in place.
inline void put_crc(MutableByteView batch) {
  store_be(batch.data() + kCrcAt, crc32c(ByteView(batch).subspan(kCrcCoversFrom)));
}

// One wording for the builder and the broker. `what` begins the sentence.
inline Status message_too_large(const std::string& what, size_t message_bytes) {
  return Status(ErrorCode::kTooLarge, what + ": a message of " + std::to_string(message_bytes) +
                                          " bytes (key, value and headers); the limit is " +
                                          std::to_string(limits::kMessageBytesMax));
}

}  // namespace tidemark::format
