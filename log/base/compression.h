// zstd with a bound on what comes out.
#pragma once

#include <cstdint>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/result.h"

namespace tidemark {

// Compresses at `level` (1 to 19; 1 is the default of the client). kInvalidArgument for another
// level.
Result<std::vector<uint8_t>> zstd_compress(ByteView plain, int level);
// The same into the caller's memory; gives the bytes written, or kTooLarge if they do not fit into
// `out`.
Result<size_t> zstd_compress_into(ByteView plain, int level, MutableByteView out);

// Inflates one or more frames; kTooLarge as soon as more than `size_max` bytes would come out,
// kCorrupted on a bad or cut frame, on trailing garbage and on no frame at all. Memory use is
// bounded by size_max plus a window of 8 MiB: a frame that does not say its size and asks for a
// larger window is refused. Nothing is allocated for bytes that a frame only claims beyond
// size_max.
Result<std::vector<uint8_t>> zstd_decompress(ByteView compressed, size_t size_max);
// The same without the zero-fill of a vector.
Result<Buffer> zstd_inflate(ByteView compressed, size_t size_max);

}  // namespace tidemark
