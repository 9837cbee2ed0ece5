#include "broker/shard/fetch_op.h"

#include <string>
#include <utility>

#include "log/format/batch_select.h"
#include "log/format/message_properties.h"

namespace tidemark::shard {

namespace {

// Ends with the first millisecond that is `ttl_ms` after the message was received.
bool has_expired(const FetchOp::Part& part, int64_t age_ms, Offset base,
                 const format::RecordView& record) {
  int64_t ttl_ms = part.ttl_ms;
  if (base < part.ttl_end && record.header_count > 0) {
    const std::optional<int64_t> own = format::read_properties(record).ttl_ms;
    // What dies brings its headers along, but does not die again by them; what was sent back does.
    if (own.has_value() && !format::is_dead_letter(record)) {
      ttl_ms = *own;
    }
  }
  return ttl_ms >= 0 && age_ms >= ttl_ms;
}

}  // namespace

void FetchOp::select() {
  for (Part& part : parts) {
    for (size_t i = part.settled; i < part.pieces.size(); ++i) {
      Piece& piece = part.pieces[i];
      if (piece.walk && piece.bytes.has_value()) {
        select(part, piece);
      }
    }
  }
}

void FetchOp::select(const Part& part, Piece& piece) const {
  const int64_t age_ms = now_ms - piece.ref.received_ms;
  piece.walked_bytes = piece.bytes->size();
  const auto keep = [&](const format::RecordView& record) {
    if (piece.ref.base + record.offset_delta < part.resume) {
      return false;  // the reader has it
    }
    const bool expired = has_expired(part, age_ms, piece.ref.base, record);
    const bool wanted = !expired && (filter == nullptr || filter->matches(record));
    if (!wanted) {
      ++(expired ? piece.expired : piece.filtered);
    }
    return wanted;
  };
  Result<format::Selection> selection = format::select_records(piece.bytes->view(), keep);
  if (selection.ok()) {
    piece.messages = selection->kept;
    if (selection->batch.size() > 0) {
      piece.bytes = SharedBytes(std::move(selection->batch));
    }
  } else if (selection.error().code() == ErrorCode::kTooLarge) {
    // Its producer compressed harder than we do: better all of it than none.
    piece.messages = piece.ref.count;
    piece.filtered = piece.expired = 0;
  } else {
    piece.damage =
        Status(ErrorCode::kCorrupted, "record batch at log position " +
                                          std::to_string(piece.ref.position.value()) + ": " +
                                          std::string(selection.error().context()));
  }
}

void FetchOp::settle() {
  ++rounds;
  for (Part& part : parts) {
    size_t i = part.settled;
    while (i < part.pieces.size() && settle(part, part.pieces[i])) {
      ++i;
    }
    part.pieces.erase(part.pieces.begin() + static_cast<std::ptrdiff_t>(i), part.pieces.end());
    const auto left_out = [](const Piece& piece) { return piece.messages == 0; };
    part.pieces.erase(
        std::remove_if(part.pieces.begin() + static_cast<std::ptrdiff_t>(part.settled),
                       part.pieces.end(), left_out),
        part.pieces.end());
    part.settled = part.pieces.size();
    part.found.reset();
    part.next = part.status.ok() ? part.resume : part.next;
  }
  bytes = settled_bytes;
}

// False: this piece and what lies behind it are not taken in.
bool FetchOp::settle(Part& part, Piece& piece) {
  if (!piece.damage.ok()) {
    // What lies before a damaged batch is delivered; the reader meets the error when it asks for
    // that batch itself, and is told where to go on behind it.
    failed = true;
    if (part.resume == part.offset) {
      part.status = piece.damage;
      part.next = piece.ref.end();
    }
    return false;
  }
  if (piece.outlived) {
    walked_bytes += piece.ref.bytes;
    part.expired += static_cast<uint32_t>(piece.ref.end() - std::max(piece.ref.base, part.resume));
    part.resume = piece.ref.end();
    return true;
  }
  if (!piece.bytes.has_value()) {
    return false;  // the read ended before it
  }
  walked_bytes += std::max<size_t>(piece.walked_bytes, piece.ref.bytes);
  const size_t sent = piece.messages > 0 ? piece.bytes->size() : 0;
  if ((sent > 0 && settled_bytes > 0 && settled_bytes + sent > bytes_max) ||
      (sent > 0 && part.settled_bytes > 0 && part.settled_bytes + sent > part.bytes_max)) {
    failed = true;
    return false;
  }
  settled_bytes += sent;
  part.settled_bytes += sent;
  part.filtered += piece.filtered;
  part.expired += piece.expired;
  part.resume = piece.ref.end();
  return true;
}

}  // namespace tidemark::shard
