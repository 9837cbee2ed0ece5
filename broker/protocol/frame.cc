#include "broker/protocol/frame.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::protocol {

namespace {

constexpr size_t kStagingBytes = 64 * limits::kKiB;
// An incomplete frame larger than this leaves the staging block for its own; a smaller one waits
// there for its rest.
constexpr size_t kStagedFrameBytesMax = 16 * limits::kKiB;
static_assert(kStagedFrameBytesMax < kStagingBytes, "prepare() always has room to give");

// A frame is a heap block of its own, so its table begins where numbers of eight bytes may lie.
static_assert(kFrameHeaderBytes % 8 == 0 && __STDCPP_DEFAULT_NEW_ALIGNMENT__ >= 8);

constexpr size_t kCheckedHeaderBytes = 28;
constexpr uint8_t kFlagReply = 1;

constexpr size_t padded(size_t bytes) { return (bytes + 7) & ~size_t{7}; }

uint32_t header_check(const uint8_t* header) {
  return static_cast<uint32_t>(xxh3({header, kCheckedHeaderBytes}));
}

Status malformed(std::string text) {
  return {ErrorCode::kMalformed, "frame header: " + std::move(text)};
}

}  // namespace

bool is_known_request(uint16_t type) {
  switch (static_cast<FrameType>(type)) {
    case FrameType::kHello:
    case FrameType::kInitProducer:
    case FrameType::kMetadata:
    case FrameType::kTopicCreate:
    case FrameType::kTopicAlter:
    case FrameType::kTopicDelete:
    case FrameType::kProduce:
    case FrameType::kFetch:
    case FrameType::kListOffsets:
    case FrameType::kPartitionDescribe:
    case FrameType::kDelayCancel:
    case FrameType::kDelayReschedule:
    case FrameType::kDelayList:
    case FrameType::kDelayShow:
    case FrameType::kDelayStats:
    case FrameType::kTxnEnd:
    case FrameType::kTxnPoll:
    case FrameType::kTxnList:
    case FrameType::kTxnShow:
    case FrameType::kTxnRecheck:
    case FrameType::kTxnStats:
    case FrameType::kGroupHeartbeat:
    case FrameType::kGroupCommit:
    case FrameType::kGroupOffsets:
    case FrameType::kGroupList:
    case FrameType::kGroupDescribe:
    case FrameType::kGroupDelete:
    case FrameType::kQueueReceive:
    case FrameType::kQueueSettle:
    case FrameType::kQueueDescribe:
    case FrameType::kQueueRedrive:
    case FrameType::kQueueUnsettled:
      return true;
    case FrameType::kError:
      return false;
  }
  return false;
}

std::string_view frame_type_name(FrameType type) {
  switch (type) {
    case FrameType::kHello:
      return "Hello";
    case FrameType::kInitProducer:
      return "InitProducer";
    case FrameType::kMetadata:
      return "Metadata";
    case FrameType::kTopicCreate:
      return "TopicCreate";
    case FrameType::kTopicAlter:
      return "TopicAlter";
    case FrameType::kTopicDelete:
      return "TopicDelete";
    case FrameType::kProduce:
      return "Produce";
    case FrameType::kFetch:
      return "Fetch";
    case FrameType::kListOffsets:
      return "ListOffsets";
    case FrameType::kPartitionDescribe:
      return "PartitionDescribe";
    case FrameType::kDelayCancel:
      return "DelayCancel";
    case FrameType::kDelayReschedule:
      return "DelayReschedule";
    case FrameType::kDelayList:
      return "DelayList";
    case FrameType::kDelayShow:
      return "DelayShow";
    case FrameType::kDelayStats:
      return "DelayStats";
    case FrameType::kTxnEnd:
      return "TxnEnd";
    case FrameType::kTxnPoll:
      return "TxnPoll";
    case FrameType::kTxnList:
      return "TxnList";
    case FrameType::kTxnShow:
      return "TxnShow";
    case FrameType::kTxnRecheck:
      return "TxnRecheck";
    case FrameType::kTxnStats:
      return "TxnStats";
    case FrameType::kGroupHeartbeat:
      return "GroupHeartbeat";
    case FrameType::kGroupCommit:
      return "GroupCommit";
    case FrameType::kGroupOffsets:
      return "GroupOffsets";
    case FrameType::kGroupList:
      return "GroupList";
    case FrameType::kGroupDescribe:
      return "GroupDescribe";
    case FrameType::kGroupDelete:
      return "GroupDelete";
    case FrameType::kQueueReceive:
      return "QueueReceive";
    case FrameType::kQueueSettle:
      return "QueueSettle";
    case FrameType::kQueueDescribe:
      return "QueueDescribe";
    case FrameType::kQueueRedrive:
      return "QueueRedrive";
    case FrameType::kQueueUnsettled:
      return "QueueUnsettled";
    case FrameType::kError:
      return "Error";
  }
  return "unknown";
}

Result<FrameHeader> decode_frame_header(ByteView header, size_t frame_bytes_max) {
  if (header.size() < kFrameHeaderBytes) {
    return malformed(std::to_string(header.size()) + " bytes, needs " +
                     std::to_string(kFrameHeaderBytes));
  }
  const uint8_t* at = header.data();
  if (load_le<uint32_t>(at) != kFrameMagic) {
    return malformed("does not begin with TDMK");
  }
  if (load_le<uint32_t>(at + 28) != header_check(at)) {
    return malformed("check does not match");
  }
  FrameHeader out;
  out.frame_bytes = load_le<uint32_t>(at + 4);
  out.version = at[8];
  out.reply = (at[9] & kFlagReply) != 0;
  out.type = load_le<uint16_t>(at + 10);
  out.shard = load_le<uint16_t>(at + 12);
  out.correlation = load_le<uint64_t>(at + 16);
  out.table_bytes = load_le<uint32_t>(at + 24);
  // Another version may give the flags and the reserved bytes a meaning; it is answered, not cut
  // off.
  if (out.version == kProtocolVersion &&
      ((at[9] & ~kFlagReply) != 0 || load_le<uint16_t>(at + 14) != 0)) {
    return malformed("reserved bits are set");
  }
  if (out.frame_bytes > frame_bytes_max) {
    return Status(ErrorCode::kTooLarge, "frame of " + std::to_string(out.frame_bytes) +
                                            " bytes, the limit is " +
                                            std::to_string(frame_bytes_max));
  }
  if (out.frame_bytes < kFrameHeaderBytes ||
      padded(out.table_bytes) > out.frame_bytes - kFrameHeaderBytes) {
    return malformed("table of " + std::to_string(out.table_bytes) + " bytes in a frame of " +
                     std::to_string(out.frame_bytes));
  }
  return out;
}

void encode_frame_header(const FrameHeader& header, MutableByteView out) {
  TIDEMARK_CHECK(out.size() >= kFrameHeaderBytes);
  uint8_t* at = out.data();
  store_le<uint32_t>(at, kFrameMagic);
  store_le<uint32_t>(at + 4, header.frame_bytes);
  at[8] = header.version;
  at[9] = header.reply ? kFlagReply : uint8_t{0};
  store_le<uint16_t>(at + 10, header.type);
  store_le<uint16_t>(at + 12, header.shard);
  store_le<uint16_t>(at + 14, 0);
  store_le<uint64_t>(at + 16, header.correlation);
  store_le<uint32_t>(at + 24, header.table_bytes);
  store_le<uint32_t>(at + 28, header_check(at));
}

ByteView Frame::payload() const {
  return bytes.view().subspan(kFrameHeaderBytes + padded(header.table_bytes));
}

MutableByteView FrameParser::prepare() {
  if (large_.size() != 0) {
    return large_.mutable_view().subspan(large_filled_);
  }
  if (staging_.size() == 0) {
    staging_ = Buffer(kStagingBytes);
  }
  return staging_.mutable_view().subspan(staged_);
}

Status FrameParser::commit(size_t bytes, std::vector<Frame>& out) {
  if (large_.size() != 0) {
    TIDEMARK_CHECK(bytes <= large_.size() - large_filled_, "more than prepare() gave room for");
    large_filled_ += bytes;
    if (large_filled_ == large_.size()) {
      out.push_back({large_header_, SharedBytes(std::move(large_))});
      large_ = Buffer();
      large_filled_ = 0;
    }
    return {};
  }
  TIDEMARK_CHECK(bytes <= staging_.size() - staged_, "more than prepare() gave room for");
  staged_ += bytes;
  RETURN_IF_ERROR(take_small(out));
  if (staged_ == 0) {
    // A connection that is idle or in the middle of a large frame keeps no staging block.
    staging_ = Buffer();
  }
  return {};
}

bool FrameParser::mid_frame() const { return staged_ != 0 || large_.size() != 0; }

Status FrameParser::take_small(std::vector<Frame>& out) {
  size_t at = 0;
  while (staged_ - at >= kFrameHeaderBytes) {
    const ByteView rest = staging_.view().subspan(at, staged_ - at);
    ASSIGN_OR_RETURN(const FrameHeader header, decode_frame_header(rest, frame_bytes_max_));
    if (rest.size() >= header.frame_bytes) {
      out.push_back({header, SharedBytes(Buffer::copy_of(rest.first(header.frame_bytes)))});
      at += header.frame_bytes;
      continue;
    }
    if (header.frame_bytes > kStagedFrameBytesMax) {
      large_ = Buffer(header.frame_bytes);
      std::memcpy(large_.data(), rest.data(), rest.size());
      large_filled_ = rest.size();
      large_header_ = header;
      staged_ = 0;
      return {};
    }
    break;
  }
  if (at != 0) {
    std::memmove(staging_.data(), staging_.data() + at, staged_ - at);
    staged_ -= at;
  }
  return {};
}

size_t OutFrame::bytes() const {
  size_t total = head.size();
  for (const SharedBytes& part : payload) {
    total += part.size();
  }
  return total;
}

OutFrame make_frame(FrameType type, bool reply, uint16_t shard, uint64_t correlation,
                    ByteView table, std::vector<SharedBytes> payload) {
  OutFrame frame;
  frame.payload = std::move(payload);
  frame.head = Buffer(kFrameHeaderBytes + padded(table.size()));
  const size_t frame_bytes = frame.bytes();
  TIDEMARK_CHECK(frame_bytes <= limits::kFrameBytesMax,
                 "the sender keeps to the limit it is held to");
  FrameHeader header;
  header.frame_bytes = static_cast<uint32_t>(frame_bytes);
  header.reply = reply;
  header.type = static_cast<uint16_t>(type);
  header.shard = shard;
  header.correlation = correlation;
  header.table_bytes = static_cast<uint32_t>(table.size());
  encode_frame_header(header, frame.head.mutable_view());
  uint8_t* at = frame.head.data() + kFrameHeaderBytes;
  if (!table.empty()) {
    std::memcpy(at, table.data(), table.size());
  }
  std::fill(at + table.size(), frame.head.data() + frame.head.size(), uint8_t{0});
  return frame;
}

}  // namespace tidemark::protocol
