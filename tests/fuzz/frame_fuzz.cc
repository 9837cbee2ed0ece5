// The byte stream of a connection from anybody: the input as it is and with its first header's
// check made right, cut in several ways. Any cut gives the same frames and the same end; nothing is
// set aside for a frame over the limit.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "broker/protocol/frame.h"
#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::protocol {
namespace {

constexpr size_t kFrameBytesMax = 256 * 1024;

struct Outcome {
  std::vector<Frame> frames;
  ErrorCode end = ErrorCode::kOk;
};

Outcome parse(ByteView stream, size_t piece) {
  Outcome outcome;
  FrameParser parser(kFrameBytesMax);
  while (!stream.empty()) {
    const MutableByteView room = parser.prepare();
    TIDEMARK_CHECK(!room.empty() && room.size() <= kFrameBytesMax);
    const size_t n = std::min({room.size(), stream.size(), piece});
    std::memcpy(room.data(), stream.data(), n);
    stream = stream.subspan(n);
    const Status status = parser.commit(n, outcome.frames);
    if (!status.ok()) {
      TIDEMARK_CHECK(status.code() == ErrorCode::kMalformed ||
                     status.code() == ErrorCode::kTooLarge);
      outcome.end = status.code();
      break;
    }
  }
  return outcome;
}

void try_stream(ByteView stream) {
  const Outcome whole = parse(stream, stream.size());
  for (const size_t piece : {size_t{1}, size_t{31}, size_t{4096}}) {
    const Outcome cut = parse(stream, piece);
    TIDEMARK_CHECK(cut.end == whole.end);
    TIDEMARK_CHECK(cut.frames.size() == whole.frames.size());
    for (size_t i = 0; i < cut.frames.size(); ++i) {
      const ByteView a = cut.frames[i].bytes.view();
      const ByteView b = whole.frames[i].bytes.view();
      TIDEMARK_CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
    }
  }
  for (const Frame& frame : whole.frames) {
    TIDEMARK_CHECK(frame.bytes.size() == frame.header.frame_bytes);
    TIDEMARK_CHECK(frame.table().size() == frame.header.table_bytes);
    TIDEMARK_CHECK(frame.table().size() + frame.payload().size() + kFrameHeaderBytes <=
                   frame.bytes.size());
    // What was decoded encodes to the same header, unless it is of another version with bits that
    // we do not know.
    if (frame.header.version == kProtocolVersion) {
      std::vector<uint8_t> header(kFrameHeaderBytes);
      encode_frame_header(frame.header, header);
      TIDEMARK_CHECK(std::equal(header.begin(), header.end(), frame.bytes.data()));
    }
  }
}

}  // namespace
}  // namespace tidemark::protocol

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace protocol = tidemark::protocol;
  protocol::try_stream({data, size});
  if (size >= protocol::kFrameHeaderBytes) {
    std::vector<uint8_t> repaired(data, data + size);
    tidemark::store_le<uint32_t>(repaired.data(), protocol::kFrameMagic);
    tidemark::store_le<uint32_t>(repaired.data() + 28,
                                 static_cast<uint32_t>(tidemark::xxh3({repaired.data(), 28})));
    protocol::try_stream(repaired);
  }
  return 0;
}
