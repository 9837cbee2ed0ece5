// MessageReader: the bytes of batches as readers get them: from memory or from disk, and for a
// reference batch (log/format/reference_batch.h) the message that it stands for.
//
//   batches: memory | one read of the source --> references: bodies of some of them, from memory |
//   one read of the source --> resolved on a worker --> bodies of the next ones ...
//
// Owner: the shard; outlives its reads. Thread: its loop; messages are taken out of their bodies on
// a worker, since a body may have to be inflated. Bounds: batches by what the caller asks for,
// bodies in memory for a read by kBodyBytesPerStep and one batch more.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "broker/partition/batch_ref.h"
#include "broker/shard/batch_source.h"
#include "log/base/bytes.h"
#include "log/base/function.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::shard {

class MessageReader {
 public:
  // Bodies are read and kept for so many bytes at a time.
  static constexpr size_t kBodyBytesPerStep = 4 * limits::kMiB;

  explicit MessageReader(BatchSource& source) : source_(source) {}

  using Done = MoveOnlyFunction<void(std::vector<Result<SharedBytes>>)>;
  // One result for each reference, in order; base offsets are as stored (not stamped). kCorrupted
  // for a batch that is damaged, or stands for one that is: then the error names the log position
  // of that one. Other errors of the source keep their code. `done` is called inside the call when
  // everything is in memory and nothing is a reference batch, else at a later turn.
  void read(std::vector<partition::BatchRef> refs, Done done);

  // The same, but no further bodies are read once the results have `bytes_max` bytes: the results
  // may be fewer than the references, at least one if there is one.
  void read(std::vector<partition::BatchRef> refs, size_t bytes_max, Done done);

  // Reads that memory could not serve, since start.
  [[nodiscard]] uint64_t cold_reads() const { return cold_reads_; }

 private:
  struct Reading;

  void resolve(std::unique_ptr<Reading> reading);
  void read_bodies(std::unique_ptr<Reading> reading);
  void take_messages(std::unique_ptr<Reading> reading);

  BatchSource& source_;
  uint64_t cold_reads_ = 0;
};

}  // namespace tidemark::shard
