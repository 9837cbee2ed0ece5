// A run of batch references, delta-packed: the unit in which the index of a partition lies in the
// store.
//
//   u8 version = 1, varint count, then for each reference: varint gap to the previous end offset,
//   varint count, varint bytes, varint zigzag(position - previous position), varint received_ms -
//   previous (never negative); last 8 bytes XXH3-64 of all before. About 8 to 12 bytes per
//   reference.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "broker/partition/batch_ref.h"
#include "log/base/result.h"

namespace tidemark::partition {

inline constexpr size_t kChunkRefsMax = 512;

// Requires: 1 to kChunkRefsMax references in offset order.
std::string encode_chunk(std::span<const BatchRef> refs);
// kCorrupted if the hash or the structure is wrong.
Result<std::vector<BatchRef>> decode_chunk(std::string_view bytes);

// Makes `next` a part of the dead reference before it, if it is dead as well and begins where that
// one ends. False: it stays on its own.
bool join_dead(BatchRef& ref, const BatchRef& next);

}  // namespace tidemark::partition
