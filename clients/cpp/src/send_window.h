// The batches of one partition that have a sequence number and no outcome yet: at most a handful,
// in order.
//
// Owner: ProduceEngine. Thread: the I/O thread. Pure: no clock, no network.
//
// How order is kept under retries (the broker takes a batch only if its sequence is the next one,
// or knows it as a duplicate):
//   (1) a batch is sent only if every batch before it is under way and none after it is;
//   (2) a batch that was refused for its sequence was not applied; it is sent again after the one
//   before it; (3) a batch whose request broke off is `maybe_applied`: it keeps identity and
//   sequence until an answer settles it; (4) if a batch before it is known as not applied, a batch
//   was not applied either; (5) what is new goes at most `batches_max` batches beyond the oldest
//   one without an outcome, settled ones counted: the broker knows so many as duplicates, and one
//   that it no longer knows would be refused for its sequence although it is stored.
// A hole (a batch given up, or a broker that forgot the producer) makes the numbers useless:
// needs_identity(). Then nothing new is taken; what is maybe_applied is settled under the old
// identity; what is known as not applied is numbered anew under the next one.
//
// Invariants: batches are in the order of take(); between holes, sequences are contiguous;
// needs_identity() or every waiting batch carries identity().
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "clients/cpp/src/backoff.h"
#include "clients/cpp/src/batch.h"
#include "clients/cpp/src/channel.h"
#include "log/base/random.h"

namespace tidemark::client_core {

struct WindowOptions {
  uint32_t batches_max = 5;  // 1 without idempotence
  bool idempotent = true;
  bool fail_fast_on_disk_full = false;
  format::Codec codec = format::Codec::kNone;
  int zstd_level = 1;
  int64_t backoff_min_ns = 20 * kNsPerMs;
  int64_t backoff_max_ns = 1'000 * kNsPerMs;
};

class SendWindow {
 public:
  explicit SendWindow(const WindowOptions& options);

  // --- filling ---
  // Whether take() is allowed: room, an identity, and nothing that has to be sent first.
  [[nodiscard]] bool has_room() const;
  // Encodes the batch for its target, under the identity and the next sequence. An error: the batch
  // cannot be encoded and comes back in `batch`; nothing changed.
  Status take(std::unique_ptr<Batch>& batch, uint64_t serial);

  // --- identity ---
  // Something waits (or could be taken) and has no valid identity, and nothing is unsettled:
  // set_identity() may be called.
  [[nodiscard]] bool wants_identity() const;

  [[nodiscard]] const Identity& identity() const { return identity_; }

  // Numbers everything in the window anew, from 0. Requires: wants_identity().
  void set_identity(Identity identity);

  // --- sending ---
  // The next batch that rule (1) lets go at `now`; null if none. It stays in the window.
  Batch* next_to_send(MonotonicTime now);
  void on_sent(Batch& batch);

  // --- answers ---
  // A batch that left the window, with its outcome.
  struct Settled {
    std::unique_ptr<Batch> batch;
    Status status;
    bool outcome_unknown = false;
  };

  // The answer to a batch under way; retryable ones keep it in the window (nullopt), as does an
  // unknown serial. `final_error`: the caller knows that trying again is of no use.
  std::optional<Settled> on_answer(uint64_t serial, const Status& status, uint32_t retry_after_ms,
                                   MonotonicTime now, Random& random, bool final_error = false);
  // Gives up what was created at or before this time.
  void expire(MonotonicTime created_until, int64_t timeout_ms, std::vector<Settled>& out);
  // Gives up everything, with this status.
  void give_up(const Status& why, std::vector<Settled>& out);

  // --- state ---
  [[nodiscard]] bool empty() const { return batches_.empty(); }

  [[nodiscard]] const std::deque<std::unique_ptr<Batch>>& batches() const { return batches_; }

  // Not before this time; past if there is no pause.
  [[nodiscard]] MonotonicTime retry_at() const { return retry_at_; }

 private:
  size_t find(uint64_t serial) const;
  Settled remove(size_t at, Status status, bool outcome_unknown);
  void on_hole();
  void settle_followers();
  void retry(Batch& batch, const Status& status, uint32_t retry_after_ms, MonotonicTime now,
             Random& random);

  WindowOptions options_;
  Backoff backoff_;
  std::deque<std::unique_ptr<Batch>> batches_;
  Identity identity_;
  bool needs_identity_;
  int32_t next_sequence_ = 0;
  uint64_t next_number_ = 0;
  MonotonicTime retry_at_{std::numeric_limits<int64_t>::min()};
};

}  // namespace tidemark::client_core
