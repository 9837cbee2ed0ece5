// Configuration of the daemon: one table of keys; each is a flag (--segment-bytes 64MiB) and a line
// of the TOML file (segment-bytes = "64MiB") with the same text and the same checks. A flag beats
// the file, the file beats the default.
//
// Errors: kInvalidArgument, one sentence that names the key, what was wrong and what is allowed;
// for an unknown key the nearest known one.
//
// Thread: values and pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/file_system.h"
#include "log/base/limits.h"
#include "log/base/logging.h"
#include "log/base/result.h"
#include "log/log.h"

namespace tidemark::broker {

inline constexpr uint64_t kWriteBufferBytesDefault = 256 * limits::kMiB;
inline constexpr uint64_t kTailCacheBytesDefault = 256 * limits::kMiB;
inline constexpr uint64_t kWheelMemoryBytesDefault = 64 * limits::kMiB;
inline constexpr uint32_t kShardsPerCoreDefault = 2;
inline constexpr uint32_t kLoopsMax = 256;

struct Config {
  std::string data_dir = "./data";
  std::string listen = "127.0.0.1:9470";
  std::string advertise;                       // empty: what `listen` came out as
  std::string http_listen = "127.0.0.1:9471";  // empty: off
  uint32_t shards = 0;  // 0: as the data directory says; a new one gets two per core
  uint32_t loops = 0;   // 0: one per core, at most one per shard
  log::FsyncPolicy fsync;
  uint64_t segment_bytes = limits::kSegmentBytesDefault;
  // For the whole broker; the shards get equal parts.
  uint64_t write_buffer_bytes = kWriteBufferBytesDefault;
  uint64_t tail_cache_bytes = kTailCacheBytesDefault;
  uint64_t wheel_memory_bytes = kWheelMemoryBytesDefault;
  uint64_t checkpoint_bytes = limits::kCheckpointLogBytes;  // per shard
  int64_t checkpoint_interval_ms = limits::kCheckpointIntervalMs;
  int64_t retention_interval_ms = limits::kRetentionIntervalMs;
  int64_t txn_pending_age_ms = limits::kTxnPendingAgeMsDefault;
  int64_t txn_outcome_age_ms = limits::kTxnOutcomeAgeMsDefault;
  LogLevel log_level = LogLevel::kInfo;
};

struct ConfigKey {
  std::string_view name;
  std::string_view value;  // what to write: "HOST:PORT", "BYTES"
  std::string_view help;
  // Checks `text` and sets the field; on error the configuration is unchanged. The error does not
  // name the key.
  Status (*set)(Config& config, std::string_view text);
  std::string (*get)(const Config& config);
};

// In the order of --help and --print-config.
std::span<const ConfigKey> config_keys();

// Sets one key. `source` begins the error: "flag", "tidemarkd.toml:3".
Status set_config_key(Config& config, std::string_view key, std::string_view text,
                      std::string_view source);

// Sets every key of a TOML document. `name` is what errors call it.
Status apply_config_text(Config& config, std::string_view toml, std::string_view name);
// The same from a file of at most kConfigFileBytesMax.
inline constexpr uint64_t kConfigFileBytesMax = 1 * limits::kMiB;
Status apply_config_file(Config& config, FileSystem& fs, const std::string& path);

// A TOML document that sets every key to what it is.
std::string to_toml(const Config& config);

// "did you mean 'segment-bytes'?" for a name that is like one of `known`, else "".
std::string suggestion(std::string_view name, const std::vector<std::string>& known);

// "64MiB" -> 67108864; plain numbers are bytes; KiB, MiB, GiB.
Result<uint64_t> parse_bytes(std::string_view text);
std::string format_bytes(uint64_t bytes);
// "60s" -> 60000; ms, s, m, h.
Result<int64_t> parse_milliseconds(std::string_view text);
std::string format_milliseconds(int64_t ms);

}  // namespace tidemark::broker
