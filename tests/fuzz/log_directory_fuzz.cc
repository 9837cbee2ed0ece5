// A log directory as it may lie on a damaged disk: several segments, some missing, twice, torn or
// of another log, and files that are none. Opening it says what is wrong and leaves it as it was,
// or gives a log that lists, reads and appends, and opens again with the same end.
//
// The input: a byte of what is verified (bit 0: everything), then files: a byte of flags (bit 0:
// the hashes are put right, bit 1: named after its own header), the name with its size (two bytes)
// in front, the content: bytes with their size in front and a number of zeros (two bytes) behind
// them, again and again until both are 0.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "log/base/check.h"
#include "log/base/executor.h"
#include "log/file_names.h"
#include "log/log.h"
#include "log/segment_format.h"
#include "log/verify.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/segment_hashes.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace tidemark::log {
namespace {

constexpr size_t kFilesMax = 8;
constexpr size_t kBytesMax = 64 * limits::kKiB;  // of a file

using Files = std::map<std::string, std::vector<uint8_t>>;

std::string name_of(ByteView content, std::string_view given) {
  if (content.size() >= kSegmentHeaderBytes) {
    const auto decoded = decode_segment_header(content.first(kSegmentHeaderBytes));
    if (decoded.ok()) {
      return segment_file_name(decoded->header.sequence, decoded->header.first_position);
    }
  }
  return std::string(given);
}

bool is_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

std::vector<uint8_t> read_content(testing::FuzzInput& input) {
  std::vector<uint8_t> content;
  while (content.size() < kBytesMax && !input.done()) {
    const ByteView bytes = input.sized();
    const auto zeros = input.number<uint16_t>();
    if (bytes.empty() && zeros == 0) {
      break;
    }
    content.insert(content.end(), bytes.begin(), bytes.end());
    content.resize(std::min(content.size() + zeros, kBytesMax));
  }
  return content;
}

Files read_files(testing::FuzzInput& input) {
  Files files;
  for (size_t i = 0; i < kFilesMax && !input.done(); ++i) {
    const auto flags = input.number<uint8_t>();
    const std::string given(as_text(input.sized()));
    std::vector<uint8_t> content = read_content(input);
    if ((flags & 1) != 0) {
      put_hashes_right(content);
    }
    const std::string name = (flags & 2) != 0 ? name_of(content, given) : given;
    if (is_name(name)) {
      files[name] = std::move(content);
    }
  }
  return files;
}

// What belongs to the log of the first segment, so that not everything is another log's.
LogOptions options_of(const Files& files) {
  LogOptions options;
  options.directory = "log";
  options.segment_bytes = 16 * limits::kKiB;
  options.incarnation_seed = 1;
  for (const auto& [name, content] : files) {
    if (parse_segment_file_name(name) && content.size() >= kSegmentHeaderBytes) {
      const auto decoded = decode_segment_header(ByteView(content).first(kSegmentHeaderBytes));
      if (decoded.ok()) {
        options.cluster_id = decoded->header.cluster_id;
        options.shard = decoded->header.shard;
        break;
      }
    }
  }
  return options;
}

void use(Log& log, InlineExecutor& disk, SimClock& clock) {
  const auto entries = log.entries_from(log.first_position());
  if (entries.ok()) {
    LogPosition end = log.first_position();
    for (const EntryInfo& entry : *entries) {
      TIDEMARK_CHECK(entry.position >= end, "entries are listed in order");
      end = entry.position + entry_bytes(entry.payload_bytes);
      const auto payload = log.read_payload(entry);
      TIDEMARK_CHECK(!payload.ok() || payload->size() == entry.payload_bytes);
    }
    TIDEMARK_CHECK(end == log.next_position(), "the last entry ends where the log does");
  }
  bool done = false;
  log.append_vote({Term{99}, NodeId{3}}, [&] { done = true; });
  for (int i = 0; i < 3; ++i) {
    disk.run_all();
    log.tick(clock.monotonic());
  }
  TIDEMARK_CHECK(done && log.failure().ok(), log.failure().to_string());
}

void try_directory(const Files& files, LogPosition verify_from) {
  SimFileSystem fs(1);
  TIDEMARK_CHECK(fs.create_directories("log").ok());
  for (const auto& [name, content] : files) {
    fs.put("log/" + name, content);
  }
  const LogOptions options = options_of(files);
  const auto verified = verify_log(fs, "log");
  TIDEMARK_CHECK(verified.ok(), verified.error().to_string());
  InlineExecutor disk;
  SimClock clock;
  RecoveryReport report;
  LogPosition end;
  {
    auto log = Log::open(fs, disk, clock, options, verify_from, &report);
    if (!log.ok()) {
      TIDEMARK_CHECK(!log.error().context().empty());
      if (log.error().code() == ErrorCode::kCorrupted) {
        for (const auto& [name, content] : files) {
          TIDEMARK_CHECK(fs.content("log/" + name) == content, "a damaged log stays as it was");
        }
      }
      return;
    }
    use(**log, disk, clock);
    end = (*log)->next_position();
  }
  fs.crash();
  auto again = Log::open(fs, disk, clock, options, verify_from, &report);
  TIDEMARK_CHECK(again.ok(), again.error().to_string());
  TIDEMARK_CHECK((*again)->next_position() == end && (*again)->vote().term == Term{99});
}

}  // namespace

void check_directory(ByteView bytes) {
  testing::FuzzInput input(bytes);
  const bool everything = (input.number<uint8_t>() & 1) != 0;
  const Files files = read_files(input);
  try_directory(files, everything ? LogPosition{0} : LogPosition{UINT64_MAX});
}

}  // namespace tidemark::log

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::log::check_directory({data, size});
  return 0;
}
