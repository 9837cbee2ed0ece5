// A segment file as it may lie on a damaged disk: recovery, the offline check and the reader say
// what they find and never crash, whatever it holds. A log that opens can be listed, read and
// appended to, and opens again.
//
// The input is a whole file, used twice: as it is, and with the hashes of its segment header and of
// every entry put right, so that what is behind them is reached as well.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "log/base/check.h"
#include "log/base/executor.h"
#include "log/file_names.h"
#include "log/log.h"
#include "log/segment_format.h"
#include "log/verify.h"
#include "tests/fuzz/segment_hashes.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace tidemark::log {

namespace {

constexpr size_t kInputBytesMax = 256 * limits::kKiB;

void use(Log& log, InlineExecutor& disk, SimClock& clock) {
  const Result<std::vector<EntryInfo>> entries = log.entries_from(log.first_position());
  if (entries.ok()) {
    LogPosition end = log.first_position();
    for (const EntryInfo& entry : *entries) {
      TIDEMARK_CHECK(entry.position >= end, "entries are listed in order");
      end = entry.position + entry_bytes(entry.payload_bytes);
      // Only what lies behind verify_from has to be whole.
      const Result<SharedBytes> payload = log.read_payload(entry);
      TIDEMARK_CHECK(!payload.ok() || payload->size() == entry.payload_bytes);
    }
    TIDEMARK_CHECK(end == log.next_position(), "the last entry ends where the log does");
  }
  uint64_t done = 0;
  log.append_vote({Term{99}, NodeId{3}}, [&] { ++done; });
  for (int i = 0; i < 3; ++i) {
    disk.run_all();
    log.tick(clock.monotonic());
  }
  TIDEMARK_CHECK(done == 1 && log.failure().ok(), log.failure().to_string());
}

void open_and_use(const std::vector<uint8_t>& file, LogPosition verify_from) {
  SimFileSystem fs(1);
  TIDEMARK_CHECK(fs.create_directories("log").ok());
  LogOptions options;
  options.directory = "log";
  options.segment_bytes = 16 * limits::kKiB;
  options.incarnation_seed = 1;
  SegmentHeader header;
  header.sequence = 1;
  if (file.size() >= kSegmentHeaderBytes) {
    const auto decoded = decode_segment_header(ByteView(file).first(kSegmentHeaderBytes));
    if (decoded.ok()) {
      header = decoded->header;
    }
  }
  options.cluster_id = header.cluster_id;
  options.shard = header.shard;
  fs.put("log/" + segment_file_name(header.sequence, header.first_position), file);
  TIDEMARK_CHECK(verify_log(fs, "log").ok());

  InlineExecutor disk;
  SimClock clock;
  RecoveryReport report;
  Vote vote;
  LogPosition end;
  {
    Result<std::unique_ptr<Log>> log = Log::open(fs, disk, clock, options, verify_from, &report);
    if (!log) {
      return;
    }
    use(**log, disk, clock);
    vote = (*log)->vote();
    end = (*log)->next_position();
  }
  fs.crash();
  Result<std::unique_ptr<Log>> again = Log::open(fs, disk, clock, options, verify_from, &report);
  TIDEMARK_CHECK(again.ok(), again.error().to_string());
  TIDEMARK_CHECK((*again)->next_position() == end && (*again)->vote().term == vote.term);
}

}  // namespace

void check_file(std::vector<uint8_t> file) {
  if (file.size() > kInputBytesMax) {
    return;
  }
  open_and_use(file, LogPosition{0});
  put_hashes_right(file);
  open_and_use(file, LogPosition{0});
  open_and_use(file, LogPosition{UINT64_MAX});
}

}  // namespace tidemark::log

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::log::check_file({data, data + size});
  return 0;
}
