// Frames: what travels on a connection, in both directions.
//
//   offset bytes field (little-endian)
//        0     4 magic "TDMK"
//        4     4 frame bytes, this header included
//        8     1 protocol version = 1
//        9     1 flags: bit 0 reply
//       10     2 type (FrameType)
//       12     2 shard the request is for (kNoShard: the metadata shard)
//       14     2 reserved = 0
//       16     8 correlation id, chosen by the asking side, returned in the reply
//       24     4 table bytes
//       28     4 low 32 bits of XXH3-64 over bytes 0..27
//       32       FlatBuffers table, zeros up to a multiple of 8, then the payload (record batches)
//       up to the end
//
// Everything in the header is checked before anything is allocated. A frame of an unknown version
// or type has a header of this same shape, so it can be skipped and answered.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::protocol {

inline constexpr size_t kFrameHeaderBytes = 32;
inline constexpr uint32_t kFrameMagic = 0x4B4D4454;  // "TDMK"
inline constexpr uint8_t kProtocolVersion = 1;
inline constexpr uint16_t kNoShard = 0xFFFF;

enum class FrameType : uint16_t {
  kHello = 1,
  kInitProducer = 2,
  kMetadata = 3,
  kTopicCreate = 4,
  kTopicAlter = 5,
  kTopicDelete = 6,
  kProduce = 16,
  kFetch = 17,
  kListOffsets = 18,
  kPartitionDescribe = 19,
  kDelayCancel = 32,
  kDelayReschedule = 33,
  kDelayList = 34,
  kDelayShow = 35,
  kDelayStats = 36,
  kTxnEnd = 48,
  kTxnPoll = 49,
  kTxnList = 50,
  kTxnShow = 51,
  kTxnRecheck = 52,
  kTxnStats = 53,
  kGroupHeartbeat = 64,
  kGroupCommit = 65,
  kGroupOffsets = 66,
  kGroupList = 67,
  kGroupDescribe = 68,
  kGroupDelete = 69,
  kQueueReceive = 72,
  kQueueSettle = 73,
  kQueueDescribe = 74,
  kQueueRedrive = 75,
  kQueueUnsettled = 76,
  kError = 0xFFFF,  // only as a reply
};

bool is_known_request(uint16_t type);
std::string_view frame_type_name(FrameType type);

struct FrameHeader {
  uint32_t frame_bytes = 0;
  uint8_t version = kProtocolVersion;
  bool reply = false;
  uint16_t type = 0;
  uint16_t shard = kNoShard;
  uint64_t correlation = 0;
  uint32_t table_bytes = 0;
};

// Checks magic, header check, and that frame_bytes is within [header, frame_bytes_max] and holds
// the table. kMalformed or kTooLarge (names the limit). Version and type are not judged here.
Result<FrameHeader> decode_frame_header(ByteView header, size_t frame_bytes_max);
void encode_frame_header(const FrameHeader& header, MutableByteView out);

// A complete frame: one block, shared, so that a payload can be kept without a copy.
struct Frame {
  FrameHeader header;
  SharedBytes bytes;  // whole frame

  [[nodiscard]] ByteView table() const {
    return bytes.view().subspan(kFrameHeaderBytes, header.table_bytes);
  }

  [[nodiscard]] ByteView payload() const;
};

// Finds frames in a byte stream. Feed it what was read; take frames out. After an error the stream
// is beyond repair: close it.
//
// Memory: one block per frame under way, allocated only after its header was checked.
class FrameParser {
 public:
  explicit FrameParser(size_t frame_bytes_max) : frame_bytes_max_(frame_bytes_max) {}

  void set_frame_bytes_max(size_t bytes) { frame_bytes_max_ = bytes; }

  // Where the next bytes from the socket should go (never empty); tell with commit() how many
  // arrived. Large frames are read straight into their own block.
  MutableByteView prepare();
  // Appends complete frames to `out`. kMalformed, kTooLarge: the connection must be closed (after
  // an error reply, if wanted).
  Status commit(size_t bytes, std::vector<Frame>& out);

  // Bytes of an incomplete frame that were received so far (a handed-over connection takes them
  // along).
  [[nodiscard]] bool mid_frame() const;

 private:
  Status take_small(std::vector<Frame>& out);

  size_t frame_bytes_max_;
  Buffer staging_;
  size_t staged_ = 0;
  Buffer large_;
  size_t large_filled_ = 0;
  FrameHeader large_header_;
};

// A frame to be sent: header and table in one small block, then parts that share memory with the
// log tail or a client batch.
struct OutFrame {
  Buffer head;  // frame header, table, padding
  std::vector<SharedBytes> payload;

  [[nodiscard]] size_t bytes() const;
};

// Builds header + padded table. `payload_bytes` is what the caller will add to OutFrame::payload.
OutFrame make_frame(FrameType type, bool reply, uint16_t shard, uint64_t correlation,
                    ByteView table, std::vector<SharedBytes> payload = {});

}  // namespace tidemark::protocol
