// Turns fetched bytes into messages: verifies and decodes some record batches at a time.
//
// Thread: one at a time. The messages are views into the chunk and into inflated blocks held here:
// valid until the next read().
#pragma once

#include <cstdint>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/result.h"
#include "log/format/record_batch.h"
#include "tidemark/message.h"

namespace tidemark::client_core {

class ChunkReader {
 public:
  // Record batches in order; messages before `from` are skipped. The broker may have left out
  // messages that a filter does not want.
  void open(SharedBytes bytes, uint64_t from);

  // Nothing left.
  [[nodiscard]] bool done() const { return at_ == bytes_.size(); }

  // Decodes whole batches until at least `enough` messages are there or the chunk ends. An error
  // concerns the batch at next_offset(); messages() before it are good; the rest of the chunk is
  // dropped.
  Status read(size_t enough);

  // What was not decoded yet.
  [[nodiscard]] SharedBytes rest() const { return bytes_.slice(at_, bytes_.size() - at_); }

  [[nodiscard]] const std::vector<client::ReceivedMessage>& messages() const { return messages_; }

  // Behind the last message decoded and what was left out behind it; `from` before the first.
  [[nodiscard]] uint64_t next_offset() const { return next_offset_; }

 private:
  Status read_batch(ByteView batch);

  SharedBytes bytes_;
  size_t at_ = 0;
  uint64_t next_offset_ = 0;
  std::vector<format::BatchReader> readers_;  // hold inflated blocks
  std::vector<client::ReceivedMessage> messages_;
  std::vector<client::Header> headers_;

  // Headers of a message as a range of headers_, set as spans when headers_ grows no more.
  struct HeaderRange {
    size_t message = 0;
    size_t first = 0;
    size_t count = 0;
  };

  std::vector<HeaderRange> ranges_;
};

}  // namespace tidemark::client_core
