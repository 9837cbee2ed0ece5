#include "broker/config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace tidemark::broker {

// Some wrong documents ("[:") get as far as the parser's own assertions; they too must end in an
// error, not in an abort.
struct TomlAssertion {};

[[noreturn]] static void toml_assertion_failed() { throw TomlAssertion(); }

}  // namespace tidemark::broker

#define TOML_ASSERT(expression) \
  ((expression) ? void(0) : ::tidemark::broker::toml_assertion_failed())
#include <toml++/toml.h>

#include "broker/net/address.h"

namespace tidemark::broker {

namespace {

// What turns an address off that may be absent.
constexpr std::string_view kOff = "off";

constexpr int64_t kSecondMs = 1'000;
constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kDayMs = 24 * kHourMs;
constexpr int64_t kTxnAgeMsMax = 90 * kDayMs;

Status invalid(std::string text) { return {ErrorCode::kInvalidArgument, std::move(text)}; }

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

struct Unit {
  std::string_view suffix;
  uint64_t factor;
};

// The largest first: the first that divides is the one to print.
constexpr std::array kByteUnits = {Unit{"GiB", 1ull << 30}, Unit{"MiB", 1ull << 20},
                                   Unit{"KiB", 1ull << 10}, Unit{"", 1}};
constexpr std::array kTimeUnits = {Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1'000},
                                   Unit{"ms", 1}};

// A whole number and one of the suffixes.
template <size_t kCount>
Result<uint64_t> parse_with_unit(std::string_view text, const std::array<Unit, kCount>& units,
                                 std::string_view example) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  for (const Unit& unit : units) {
    if (error == std::errc() && suffix == unit.suffix && number <= UINT64_MAX / unit.factor) {
      return number * unit.factor;
    }
  }
  return invalid(quoted(text) + " is not " + std::string(example));
}

template <size_t kCount>
std::string format_with_unit(uint64_t value, const std::array<Unit, kCount>& units) {
  for (const Unit& unit : units) {
    if (value % unit.factor == 0 && value >= unit.factor) {
      return std::to_string(value / unit.factor) + std::string(unit.suffix);
    }
  }
  return std::to_string(value) + std::string(units.back().suffix);
}

Status set_bytes(uint64_t& field, std::string_view text, uint64_t low, uint64_t high) {
  ASSIGN_OR_RETURN(const uint64_t bytes, parse_bytes(text));
  if (bytes < low || bytes > high) {
    return invalid(quoted(text) + " is out of range: " + format_bytes(low) + " to " +
                   format_bytes(high));
  }
  field = bytes;
  return {};
}

Status set_milliseconds(int64_t& field, std::string_view text, int64_t low, int64_t high) {
  ASSIGN_OR_RETURN(const int64_t ms, parse_milliseconds(text));
  if (ms < low || ms > high) {
    return invalid(quoted(text) + " is out of range: " + format_milliseconds(low) + " to " +
                   format_milliseconds(high));
  }
  field = ms;
  return {};
}

Status set_count(uint32_t& field, std::string_view text, uint32_t high, std::string_view zero) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number > high) {
    return invalid(quoted(text) + " is out of range: 1 to " + std::to_string(high) + ", or 0 for " +
                   std::string(zero));
  }
  field = number;
  return {};
}

Status set_address(std::string& field, std::string_view text) {
  RETURN_IF_ERROR(net::parse_host_port(text).status());
  field = std::string(text);
  return {};
}

// `nothing` or an empty text clears the field.
Status set_optional_address(std::string& field, std::string_view text, std::string_view nothing) {
  if (text.empty() || text == nothing) {
    field.clear();
    return {};
  }
  return set_address(field, text);
}

struct LevelName {
  std::string_view name;
  LogLevel level;
};

constexpr std::array kLevels = {
    LevelName{"debug", LogLevel::kDebug}, LevelName{"info", LogLevel::kInfo},
    LevelName{"warning", LogLevel::kWarning}, LevelName{"error", LogLevel::kError}};

Status set_level(LogLevel& field, std::string_view text) {
  for (const LevelName& one : kLevels) {
    if (one.name == text) {
      field = one.level;
      return {};
    }
  }
  return invalid(quoted(text) + " is not one of debug, info, warning, error");
}

std::string level_name(LogLevel level) {
  for (const LevelName& one : kLevels) {
    if (one.level == level) {
      return std::string(one.name);
    }
  }
  return "info";
}

constexpr std::array kKeys = {
    ConfigKey{"data-dir", "DIR", "where everything is stored; created if absent",
              [](Config& config, std::string_view text) -> Status {
                if (text.empty() || text.find('\0') != std::string_view::npos) {
                  return invalid("must name a directory");
                }
                config.data_dir = std::string(text);
                return {};
              },
              [](const Config& config) { return config.data_dir; }},
    ConfigKey{
        "listen", "HOST:PORT", "address for clients; port 0 takes a free one",
        [](Config& config, std::string_view text) { return set_address(config.listen, text); },
        [](const Config& config) { return config.listen; }},
    ConfigKey{"advertise", "HOST:PORT",
              "address that clients are told to connect to (default: as listen)",
              [](Config& config, std::string_view text) {
                return set_optional_address(config.advertise, text, "");
              },
              [](const Config& config) { return config.advertise; }},
    ConfigKey{"http-listen", "HOST:PORT", "address for /metrics, /healthz and /readyz, or off",
              [](Config& config, std::string_view text) {
                return set_optional_address(config.http_listen, text, kOff);
              },
              [](const Config& config) {
                return config.http_listen.empty() ? std::string(kOff) : config.http_listen;
              }},
    ConfigKey{"shards", "N", "shards of a new data directory, fixed for its life; 0: two per core",
              [](Config& config, std::string_view text) {
                return set_count(config.shards, text, limits::kShardsMax,
                                 "the stored number, or two per core");
              },
              [](const Config& config) { return std::to_string(config.shards); }},
    ConfigKey{"loops", "N", "threads that serve; 0: one per core",
              [](Config& config, std::string_view text) {
                return set_count(config.loops, text, kLoopsMax, "one per core");
              },
              [](const Config& config) { return std::to_string(config.loops); }},
    ConfigKey{"fsync", "POLICY",
              "when a write is acknowledged: batch (on disk), interval:MS, never",
              [](Config& config, std::string_view text) -> Status {
                ASSIGN_OR_RETURN(config.fsync, log::FsyncPolicy::parse(text));
                return {};
              },
              [](const Config& config) { return config.fsync.to_string(); }},
    ConfigKey{"segment-bytes", "BYTES", "size of a segment file of the log",
              [](Config& config, std::string_view text) {
                return set_bytes(config.segment_bytes, text, limits::kSegmentBytesMin,
                                 limits::kSegmentBytesMax);
              },
              [](const Config& config) { return format_bytes(config.segment_bytes); }},
    ConfigKey{"write-buffer-bytes", "BYTES",
              "accepted and not yet on disk, of the whole broker; more is refused as overloaded",
              [](Config& config, std::string_view text) {
                return set_bytes(config.write_buffer_bytes, text, 16 * limits::kMiB,
                                 65'536 * limits::kMiB);
              },
              [](const Config& config) { return format_bytes(config.write_buffer_bytes); }},
    ConfigKey{"tail-cache-bytes", "BYTES",
              "newest part of the logs kept in memory, of the whole broker",
              [](Config& config, std::string_view text) {
                return set_bytes(config.tail_cache_bytes, text, 16 * limits::kMiB,
                                 1'048'576 * limits::kMiB);
              },
              [](const Config& config) { return format_bytes(config.tail_cache_bytes); }},
    ConfigKey{"wheel-memory-bytes", "BYTES",
              "what the timing wheels of delayed messages keep in memory, of the whole broker",
              [](Config& config, std::string_view text) {
                return set_bytes(config.wheel_memory_bytes, text, limits::kMiB,
                                 65'536 * limits::kMiB);
              },
              [](const Config& config) { return format_bytes(config.wheel_memory_bytes); }},
    ConfigKey{"checkpoint-bytes", "BYTES", "log of a shard after which its views are checkpointed",
              [](Config& config, std::string_view text) {
                return set_bytes(config.checkpoint_bytes, text, limits::kMiB,
                                 16'384 * limits::kMiB);
              },
              [](const Config& config) { return format_bytes(config.checkpoint_bytes); }},
    ConfigKey{
        "checkpoint-interval", "TIME", "time after which anything new is checkpointed",
        [](Config& config, std::string_view text) {
          return set_milliseconds(config.checkpoint_interval_ms, text, kSecondMs, kDayMs);
        },
        [](const Config& config) { return format_milliseconds(config.checkpoint_interval_ms); }},
    ConfigKey{
        "retention-interval", "TIME", "how often retention looks for what may go",
        [](Config& config, std::string_view text) {
          return set_milliseconds(config.retention_interval_ms, text, 100, kHourMs);
        },
        [](const Config& config) { return format_milliseconds(config.retention_interval_ms); }},
    ConfigKey{"txn-max-pending-age", "TIME",
              "age at which a transaction whose outcome nobody knows is parked for an operator",
              [](Config& config, std::string_view text) {
                return set_milliseconds(config.txn_pending_age_ms, text, kSecondMs, kTxnAgeMsMax);
              },
              [](const Config& config) { return format_milliseconds(config.txn_pending_age_ms); }},
    ConfigKey{"txn-outcome-age", "TIME",
              "how long the outcome of a transaction is remembered, for calls that come twice",
              [](Config& config, std::string_view text) {
                return set_milliseconds(config.txn_outcome_age_ms, text, kSecondMs, kTxnAgeMsMax);
              },
              [](const Config& config) { return format_milliseconds(config.txn_outcome_age_ms); }},
    ConfigKey{
        "log-level", "LEVEL", "least level that is logged: debug, info, warning, error",
        [](Config& config, std::string_view text) { return set_level(config.log_level, text); },
        [](const Config& config) { return level_name(config.log_level); }},
};

// Insertions, removals and replacements that turn one into the other.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string toml_string(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string place(std::string_view name, const toml::source_region& region) {
  return std::string(name) + ":" + std::to_string(region.begin.line);
}

Status apply_node(Config& config, std::string_view key, const toml::node& node,
                  const std::string& source) {
  if (const auto* text = node.as_string()) {
    return set_config_key(config, key, text->get(), source);
  }
  if (const auto* number = node.as_integer()) {
    return set_config_key(config, key, std::to_string(number->get()), source);
  }
  // An unknown name is the likelier mistake.
  Config scratch = config;
  if (const Status status = set_config_key(scratch, key, "", source);
      status.context().find("unknown key") != std::string_view::npos) {
    return status;
  }
  return invalid(source + ": key " + quoted(key) + " must be a string or a whole number");
}

}  // namespace

std::span<const ConfigKey> config_keys() { return kKeys; }

std::string suggestion(std::string_view name, const std::vector<std::string>& known) {
  // A name of any length from a stranger is compared up to a bound only.
  name = name.substr(0, 64);
  size_t best = name.size() / 3 + 1;
  std::string_view found;
  for (const std::string& one : known) {
    if (const size_t distance = edit_distance(name, one); distance < best) {
      best = distance;
      found = one;
    }
  }
  return found.empty() ? "" : "did you mean " + quoted(found) + "?";
}

Result<uint64_t> parse_bytes(std::string_view text) {
  return parse_with_unit(text, kByteUnits, "a number of bytes such as 67108864, 64MiB or 1GiB");
}

std::string format_bytes(uint64_t bytes) { return format_with_unit(bytes, kByteUnits); }

Result<int64_t> parse_milliseconds(std::string_view text) {
  ASSIGN_OR_RETURN(const uint64_t ms,
                   parse_with_unit(text, kTimeUnits, "a time such as 500ms, 60s, 5m or 1h"));
  return static_cast<int64_t>(std::min<uint64_t>(ms, INT64_MAX));
}

std::string format_milliseconds(int64_t ms) {
  return format_with_unit(static_cast<uint64_t>(ms), kTimeUnits);
}

Status set_config_key(Config& config, std::string_view key, std::string_view text,
                      std::string_view source) {
  std::vector<std::string> known;
  for (const ConfigKey& one : kKeys) {
    if (one.name == key) {
      const Status status = one.set(config, text);
      if (status.ok()) {
        return {};
      }
      return {status.code(),
              std::string(source) + ": " + std::string(key) + ": " + std::string(status.context())};
    }
    known.emplace_back(one.name);
  }
  const std::string hint = suggestion(key, known);
  return invalid(std::string(source) + ": unknown key " + quoted(key.substr(0, 64)) +
                 (hint.empty() ? "" : "; " + hint));
}

Status apply_config_text(Config& config, std::string_view toml, std::string_view name) {
  toml::table table;
  try {
    table = toml::parse(toml, name);
  } catch (const toml::parse_error& error) {
    return invalid(place(name, error.source()) + ": " + std::string(error.description()));
  } catch (const TomlAssertion&) {
    return invalid(std::string(name) + ": is no TOML document");
  }
  for (const auto& [key, node] : table) {
    RETURN_IF_ERROR(apply_node(config, key.str(), node, place(name, node.source())));
  }
  return {};
}

Status apply_config_file(Config& config, FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.open(path, OpenMode::kReadOnly));
  ASSIGN_OR_RETURN(const uint64_t size, file->size());
  if (size > kConfigFileBytesMax) {
    return {ErrorCode::kTooLarge,
            path + ": a configuration file has at most " + format_bytes(kConfigFileBytesMax)};
  }
  Buffer text(static_cast<size_t>(size));
  RETURN_IF_ERROR(file->read(0, text.mutable_view()));
  return apply_config_text(config, as_text(text.view()), path);
}

std::string to_toml(const Config& config) {
  std::string out;
  for (const ConfigKey& key : kKeys) {
    out += "# " + std::string(key.help) + "\n" + std::string(key.name) + " = " +
           toml_string(key.get(config)) + "\n";
  }
  return out;
}

}  // namespace tidemark::broker
