#include "log/base/compression.h"

#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include <zstd.h>

#include "log/base/check.h"
#include "log/base/coding.h"
#include "log/base/limits.h"

namespace tidemark {
namespace {

constexpr int kLevelMin = 1;
constexpr int kLevelMax = 19;
// 2^23 bytes = 8 MiB: the largest window of levels 1 to 19.
constexpr int kWindowLogMax = 23;
// First allocation for a frame that does not say how much comes out.
constexpr size_t kUnknownSizeStartBytes = 64 * limits::kKiB;

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// A context is some hundred KiB of tables; one per thread, made when the thread first needs it.
ZSTD_CCtx* thread_compressor() {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeCompressor> context(ZSTD_createCCtx());
  TIDEMARK_CHECK(context != nullptr, "out of memory");
  return context.get();
}

ZSTD_DCtx* thread_decompressor() {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context([] {
    ZSTD_DCtx* made = ZSTD_createDCtx();
    TIDEMARK_CHECK(made != nullptr, "out of memory");
    TIDEMARK_CHECK(!ZSTD_isError(ZSTD_DCtx_setParameter(made, ZSTD_d_windowLogMax, kWindowLogMax)));
    return made;
  }());
  return context.get();
}

Status bad_level(int level) {
  return Status(ErrorCode::kInvalidArgument, "zstd level " + std::to_string(level) +
                                                 "; allowed are " + std::to_string(kLevelMin) +
                                                 " to " + std::to_string(kLevelMax));
}

Status inflated_too_large(size_t size_max) {
  return Status(ErrorCode::kTooLarge, "zstd data inflates to more than the limit of " +
                                          std::to_string(size_max) + " bytes");
}

Status bad_frame(std::string_view why) {
  return Status(ErrorCode::kCorrupted, "zstd frame: " + std::string(why));
}

// Inflates frame after frame into one growing block. The block may become one byte larger than the
// limit: that byte shows that a frame goes on, without guessing from zstd's state.
class Inflater {
 public:
  Inflater(ByteView compressed, size_t size_max)
      : rest_(compressed), size_max_(std::min(size_max, std::numeric_limits<size_t>::max() - 1)) {}

  Result<Buffer> run() {
    if (rest_.empty()) {
      return bad_frame("no data");
    }
    while (!rest_.empty()) {
      RETURN_IF_ERROR(one_frame());
    }
    block_.shrink(used_);
    return std::move(block_);
  }

 private:
  Status one_frame() {
    RETURN_IF_ERROR(reserve_for_frame());
    ZSTD_DCtx* const context = thread_decompressor();
    ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
    ZSTD_inBuffer in{rest_.data(), rest_.size(), 0};
    while (true) {
      ZSTD_outBuffer out{block_.data(), block_.size(), used_};
      const size_t left = ZSTD_decompressStream(context, &out, &in);
      if (ZSTD_isError(left)) {
        return bad_frame(ZSTD_getErrorName(left));
      }
      used_ = out.pos;
      if (used_ > size_max_) {
        return inflated_too_large(size_max_);
      }
      if (left == 0) {
        break;
      }
      if (used_ == block_.size()) {
        grow(used_ + 1);  // more may wait inside the context
      } else if (in.pos == in.size) {
        return bad_frame("cut short");
      }
    }
    rest_ = rest_.subspan(in.pos);
    return {};
  }

  // A frame that says its size gets all its room at once: zstd then writes straight into the block,
  // without a window.
  Status reserve_for_frame() {
    // Old formats and skippable frames have other numbers; nobody who writes record batches uses
    // them.
    if (rest_.size() < sizeof(uint32_t) || load_le<uint32_t>(rest_.data()) != ZSTD_MAGICNUMBER) {
      return bad_frame("wrong magic number");
    }
    const unsigned long long claimed = ZSTD_getFrameContentSize(rest_.data(), rest_.size());
    if (claimed == ZSTD_CONTENTSIZE_ERROR) {
      return bad_frame("bad header");
    }
    if (claimed == ZSTD_CONTENTSIZE_UNKNOWN) {
      grow(used_ + 1);
      return {};
    }
    if (claimed > size_max_ - used_) {
      return Status(ErrorCode::kTooLarge, "zstd frame claims " + std::to_string(claimed) +
                                              " bytes after " + std::to_string(used_) +
                                              "; the limit is " + std::to_string(size_max_));
    }
    grow(used_ + static_cast<size_t>(claimed));
    return {};
  }

  // Makes the block hold at least `need` bytes, which is at most size_max_ + 1. Never shrinks it.
  void grow(size_t need) {
    if (need <= block_.size()) {
      return;
    }
    size_t wanted = need;
    if (need == used_ + 1) {  // size unknown: double
      wanted = std::min(std::max(2 * need, kUnknownSizeStartBytes), size_max_ + 1);
    }
    Buffer larger(wanted);
    if (used_ != 0) {
      std::memcpy(larger.data(), block_.data(), used_);
    }
    block_ = std::move(larger);
  }

  ByteView rest_;
  const size_t size_max_;
  Buffer block_;
  size_t used_ = 0;
};

}  // namespace

Result<size_t> zstd_compress_into(ByteView plain, int level, MutableByteView out) {
  if (level < kLevelMin || level > kLevelMax) {
    return bad_level(level);
  }
  const size_t size = ZSTD_compressCCtx(thread_compressor(), out.data(), out.size(), plain.data(),
                                        plain.size(), level);
  if (ZSTD_isError(size)) {
    if (ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall) {
      return Status(ErrorCode::kTooLarge,
                    "zstd output does not fit into " + std::to_string(out.size()) + " bytes");
    }
    return Status(ErrorCode::kInternal,
                  std::string("zstd compression: ") + ZSTD_getErrorName(size));
  }
  return size;
}

Result<std::vector<uint8_t>> zstd_compress(ByteView plain, int level) {
  std::vector<uint8_t> out(ZSTD_compressBound(plain.size()));
  ASSIGN_OR_RETURN(const size_t size, zstd_compress_into(plain, level, out));
  out.resize(size);
  return out;
}

Result<Buffer> zstd_inflate(ByteView compressed, size_t size_max) {
  return Inflater(compressed, size_max).run();
}

Result<std::vector<uint8_t>> zstd_decompress(ByteView compressed, size_t size_max) {
  ASSIGN_OR_RETURN(const Buffer plain, zstd_inflate(compressed, size_max));
  return std::vector<uint8_t>(plain.view().begin(), plain.view().end());
}

}  // namespace tidemark
