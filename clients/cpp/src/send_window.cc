#include "clients/cpp/src/send_window.h"

#include <algorithm>
#include <utility>

#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

constexpr size_t kNotThere = ~size_t{0};

// Codes after which the same batch may be accepted although the table does not call them retryable:
// the window mends the cause.
bool is_mendable(ErrorCode code) {
  return code == ErrorCode::kOutOfOrderSequence || code == ErrorCode::kUnknownProducer ||
         code == ErrorCode::kUnknownTopic || code == ErrorCode::kUnknownPartition;
}

format::BatchBuilder::Producer wire_producer(const Identity& identity, int32_t sequence) {
  return {
      .id = static_cast<int64_t>(identity.id), .epoch = identity.epoch, .base_sequence = sequence};
}

}  // namespace

SendWindow::SendWindow(const WindowOptions& options)
    : options_(options),
      backoff_(options.backoff_min_ns, options.backoff_max_ns),
      needs_identity_(options.idempotent) {}

bool SendWindow::has_room() const {
  if (needs_identity_ ||
      (!batches_.empty() && next_number_ - batches_.front()->number >= options_.batches_max)) {
    return false;
  }
  return std::all_of(batches_.begin(), batches_.end(),
                     [](const auto& batch) { return batch->in_flight; });
}

Status SendWindow::take(std::unique_ptr<Batch>& batch, uint64_t serial) {
  TIDEMARK_CHECK(has_room(), "take() into a window that has no room");
  format::BatchBuilder::Producer producer;
  if (options_.idempotent) {
    producer = wire_producer(identity_, next_sequence_);
  }
  if (!batch->encoded.empty()) {
    // Was encoded early, without a producer, to be handed back.
    renumber_batch(*batch, producer);
  } else {
    RETURN_IF_ERROR(encode_batch(*batch, options_.codec, options_.zstd_level, producer));
  }
  batch->serial = serial;
  batch->number = next_number_++;
  if (options_.idempotent) {
    batch->base_sequence = next_sequence_;
    next_sequence_ = sequence_after(next_sequence_, batch->records);
  }
  batches_.push_back(std::move(batch));
  return {};
}

bool SendWindow::wants_identity() const {
  return needs_identity_ && std::none_of(batches_.begin(), batches_.end(), [](const auto& batch) {
           return batch->in_flight || batch->maybe_applied;
         });
}

void SendWindow::set_identity(Identity identity) {
  TIDEMARK_CHECK(wants_identity(), "a batch of unknown outcome keeps its number");
  identity_ = identity;
  needs_identity_ = false;
  next_sequence_ = 0;
  next_number_ = 0;
  for (auto& batch : batches_) {
    batch->number = next_number_++;
    renumber_batch(*batch, wire_producer(identity_, next_sequence_));
    batch->base_sequence = next_sequence_;
    next_sequence_ = sequence_after(next_sequence_, batch->records);
  }
}

Batch* SendWindow::next_to_send(MonotonicTime now) {
  if (now < retry_at_) {
    return nullptr;
  }
  Batch* next = nullptr;
  for (auto& batch : batches_) {
    if (next == nullptr && !batch->in_flight) {
      next = batch.get();
    } else if (next != nullptr && batch->in_flight) {
      return nullptr;  // its answer comes first
    }
  }
  if (next != nullptr && needs_identity_ && !next->maybe_applied) {
    return nullptr;  // waits for its new number
  }
  return next;
}

void SendWindow::on_sent(Batch& batch) {
  batch.in_flight = true;
  ++batch.attempts;
}

std::optional<SendWindow::Settled> SendWindow::on_answer(uint64_t serial, const Status& status,
                                                         uint32_t retry_after_ms, MonotonicTime now,
                                                         Random& random, bool final_error) {
  const size_t at = find(serial);
  if (at == kNotThere) {
    return std::nullopt;  // given up meanwhile
  }
  Batch& batch = *batches_[at];
  batch.in_flight = false;
  if (status.ok()) {
    backoff_.reset();
    retry_at_ = now;
    return remove(at, Status(), false);
  }
  const ErrorCode code = status.code();
  if (code == ErrorCode::kOutOfOrderSequence) {
    batch.maybe_applied = false;
    batch.last_error = status;
    if (at == 0 && options_.idempotent) {
      // Nothing before it can still arrive, so the numbers do not match what the broker remembers.
      on_hole();
    }
    settle_followers();
    return std::nullopt;
  }
  if (code == ErrorCode::kUnknownProducer && at > 0 && !batch.maybe_applied) {
    // The broker has not taken the first batch of this producer yet: the one before this one will
    // be sent again.
    batch.last_error = status;
    settle_followers();
    return std::nullopt;
  }
  if (code == ErrorCode::kUnknownProducer) {
    on_hole();
    if (batch.maybe_applied) {
      return remove(at,
                    Status(ErrorCode::kOutcomeUnknown,
                           "the broker forgot this producer: " + std::string(status.context())),
                    true);
    }
    batch.last_error = status;
    settle_followers();
    return std::nullopt;
  }
  if (error_outcome_unknown(code)) {
    batch.maybe_applied = true;
  }
  const bool disk_full = code == ErrorCode::kDiskFull && options_.fail_fast_on_disk_full;
  if (final_error || disk_full || !(error_is_retryable(code) || is_mendable(code))) {
    const bool unknown = batch.maybe_applied;
    on_hole();
    Settled settled = remove(at, status, unknown);
    settle_followers();
    return settled;
  }
  retry(batch, status, retry_after_ms, now, random);
  settle_followers();
  return std::nullopt;
}

void SendWindow::retry(Batch& batch, const Status& status, uint32_t retry_after_ms,
                       MonotonicTime now, Random& random) {
  batch.last_error = status;
  // Batches that fail together (a lost connection) pause once.
  if (retry_at_ <= now) {
    const int64_t asked_for = int64_t{retry_after_ms} * kNsPerMs;
    retry_at_ = {now.ns + std::max(asked_for, backoff_.next_ns(random))};
  }
}

void SendWindow::expire(MonotonicTime created_until, int64_t timeout_ms,
                        std::vector<Settled>& out) {
  while (!batches_.empty() && batches_.front()->created <= created_until) {
    const Batch& batch = *batches_.front();
    const bool unknown = batch.in_flight || batch.maybe_applied;
    std::string text = "not delivered within " + std::to_string(timeout_ms) + " ms";
    if (!batch.last_error.ok()) {
      text += "; last error: " + batch.last_error.to_string();
    }
    on_hole();
    out.push_back(remove(0, Status(ErrorCode::kTimedOut, std::move(text)), unknown));
  }
}

void SendWindow::give_up(const Status& why, std::vector<Settled>& out) {
  while (!batches_.empty()) {
    const bool unknown = batches_.front()->in_flight || batches_.front()->maybe_applied;
    on_hole();
    out.push_back(remove(0, why, unknown));
  }
}

size_t SendWindow::find(uint64_t serial) const {
  for (size_t i = 0; i < batches_.size(); ++i) {
    // Only what is under way can be answered.
    if (batches_[i]->serial == serial && batches_[i]->in_flight) {
      return i;
    }
  }
  return kNotThere;
}

SendWindow::Settled SendWindow::remove(size_t at, Status status, bool outcome_unknown) {
  Settled settled{std::move(batches_[at]), std::move(status), outcome_unknown};
  batches_.erase(batches_.begin() + static_cast<ptrdiff_t>(at));
  return settled;
}

void SendWindow::on_hole() { needs_identity_ = options_.idempotent; }

// Rule (4).
void SendWindow::settle_followers() {
  if (!options_.idempotent) {
    return;
  }
  bool not_applied = false;
  for (auto& batch : batches_) {
    if (!batch->in_flight && !batch->maybe_applied) {
      not_applied = true;
    } else if (not_applied && !batch->in_flight) {
      batch->maybe_applied = false;
    }
  }
}

}  // namespace tidemark::client_core
